"""How long a divided plan takes on so many agents: the model, and the division it chooses."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_tools.components import scaling, shards
from ci_tools.components.scaling import Costs
from ci_tools.documents import PlannedComponent
from tests.unit.test_shards import planned, plans

COSTS = st.builds(Costs, agent=st.integers(0, 90), merge=st.integers(0, 9))
FREE = Costs(agent=0.0, merge=0.0)


def takes(
    components: list[PlannedComponent], most: int, jobs: int, costs: Costs, first: bool
) -> float:
    """Expected seconds of what is chosen for at most so many agents."""
    chosen = scaling.divided(components, most, jobs=jobs, costs=costs, first=first)
    assigned = shards.assign(components, chosen.agents, jobs, chosen.first)
    return scaling.expected(components, assigned, agents=chosen.agents, jobs=jobs, costs=costs)


@given(plans(), st.integers(1, 6), st.integers(1, 3), COSTS, st.booleans())
def test_never_below_the_lower_bound(
    components: list[PlannedComponent], most: int, jobs: int, costs: Costs, first: bool
) -> None:
    chosen = scaling.divided(components, most, jobs=jobs, costs=costs, first=first)
    assigned = shards.assign(components, chosen.agents, jobs, chosen.first)
    work = math.fsum(c.expected for c in components)
    longest = max((_longest(components, c.name) for c in components), default=0.0)
    for agents in (1, chosen.agents, 9):
        seconds = scaling.expected(components, assigned, agents=agents, jobs=jobs, costs=costs)
        least = work / (min(agents, chosen.agents) * jobs)
        if chosen.agents > 1:
            least += costs.dividing
        assert seconds >= least - 1e-9
        floor = scaling.floor(components, agents=agents, jobs=jobs)
        assert floor.share == pytest.approx(work / (agents * jobs))
        assert floor.chain == pytest.approx(longest)
    if all(c.state != "built" for c in components):  # else a chain may go through what is built
        alone = scaling.expected(components, assigned, agents=9, jobs=jobs, costs=costs)
        assert alone >= longest - 1e-9


def _longest(components: list[PlannedComponent], name: str) -> float:
    """The longest way down to a component, by trying all."""
    one = next(c for c in components if c.name == name)
    return one.expected + max((_longest(components, p) for p in one.parents), default=0.0)


@given(plans(), st.integers(1, 5), st.integers(1, 3), COSTS, st.booleans())
def test_more_agents_are_hardly_ever_worse(
    components: list[PlannedComponent], most: int, jobs: int, costs: Costs, first: bool
) -> None:
    # LPT is monotone but for a tie; two tolerances of a tenth, of agents and of levels.
    fewer = takes(components, most, jobs, costs, first)
    assert takes(components, most + 1, jobs, costs, first) <= 1.1 * 1.1 * fewer + 1e-9


@given(plans(), st.integers(1, 5), st.integers(1, 3), COSTS)
def test_more_agents_for_the_same_shards_are_never_worse(
    components: list[PlannedComponent], count: int, jobs: int, costs: Costs
) -> None:
    assigned = shards.assign(components, count, jobs)
    seconds = [
        scaling.expected(components, assigned, agents=agents, jobs=jobs, costs=costs)
        for agents in range(1, count + 2)
    ]
    assert all(more <= less + 1e-9 for less, more in itertools.pairwise(seconds))
    assert seconds[-1] == pytest.approx(seconds[-2]) if count > 1 else True


@given(plans(), st.integers(1, 5), st.integers(1, 3), COSTS, st.booleans(), st.randoms())
def test_the_order_of_components_changes_nothing(
    components: list[PlannedComponent],
    most: int,
    jobs: int,
    costs: Costs,
    first: bool,
    random: object,
) -> None:
    chosen = scaling.divided(components, most, jobs=jobs, costs=costs, first=first)
    shuffled = list(components)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert scaling.divided(shuffled, most, jobs=jobs, costs=costs, first=first) == chosen


@given(plans(), st.integers(1, 5), st.integers(1, 3), COSTS, st.booleans())
def test_each_shard_has_all_that_it_waits_for(
    components: list[PlannedComponent], most: int, jobs: int, costs: Costs, first: bool
) -> None:
    chosen = scaling.divided(components, most, jobs=jobs, costs=costs, first=first)
    assigned = shards.assign(components, chosen.agents, jobs, chosen.first)
    by_name = {c.name: c for c in components}
    assert 1 <= chosen.agents <= most
    assert assigned.keys() == by_name.keys()
    assert {name for name, number in assigned.items() if number == 0} == chosen.first
    assert chosen.agents > 1 or not chosen.first
    for c in components:
        assert 0 <= assigned[c.name] <= chosen.agents
        for parent in c.parents:
            if by_name[parent].state != "built":
                assert assigned[parent] in (0, assigned[c.name])
    if chosen.agents > 1:  # no agent for nothing
        wanted = {assigned[c.name] for c in components if c.state != "built"}
        assert wanted >= set(range(1, chosen.agents + 1))


def test_the_model_in_figures() -> None:
    components = [planned(f"c{n}", expected=30.0) for n in range(6)]
    assigned = {f"c{n}": 1 + n % 3 for n in range(6)}
    costs = Costs(agent=10.0, merge=5.0)

    def expected(agents: int, jobs: int = 1) -> float:
        return scaling.expected(components, assigned, agents=agents, jobs=jobs, costs=costs)

    assert expected(3) == 10 + 60 + 5
    assert expected(2) == 2 * (10 + 60) + 5  # an agent takes the third, and is made ready again
    assert expected(1) == 3 * (10 + 60) + 5
    assert expected(3, jobs=2) == 10 + 30 + 5
    one = dict.fromkeys(assigned, 1)
    assert scaling.expected(components, one, agents=8, jobs=1, costs=costs) == 180.0
    assert scaling.expected([], {}, agents=8, jobs=1, costs=costs) == 0.0
    first = [planned("base", expected=40.0), *(planned(n, "base") for n in "ab")]
    apart = {"base": 0, "a": 1, "b": 2}
    assert scaling.expected(first, apart, agents=2, jobs=1, costs=costs) == 40 + 10 + 10 + 5


def test_a_base_that_all_wait_for_is_built_first_where_that_pays() -> None:
    many = [planned("base"), *(planned(f"c{n:02}", "base", expected=60.0) for n in range(40))]
    costs = Costs(agent=60.0, merge=5.0)
    assert scaling.divided(many, 10, jobs=2, costs=costs).agents == 1
    chosen = scaling.divided(many, 10, jobs=2, costs=costs, first=True)
    assert chosen.first == {"base"}
    assert chosen.agents == 10
    exact = scaling.divided(many, 10, jobs=2, costs=costs, first=True, exactly=3)
    assert exact == scaling.Divided(3, frozenset({"base"}))
    few = many[:4]
    assert scaling.divided(few, 10, jobs=2, costs=costs, first=True) == scaling.Divided(1)


def test_bases_on_a_base_are_built_first_together() -> None:
    two = [planned("root"), planned("gpu", "root"), planned("cpu", "root")]
    many = [planned(f"c{n:02}", "gpu" if n % 2 else "cpu", expected=60.0) for n in range(40)]
    chosen = scaling.divided([*two, *many], 8, jobs=2, costs=FREE, first=True)
    assert chosen.first == {"root", "gpu", "cpu"}
    # What nobody waits for is not among them, however early it could be.
    alone = [planned(f"x{n}", expected=60.0) for n in range(10)]
    assert scaling.divided([*two, *many, *alone], 8, jobs=2, costs=FREE, first=True).first == {
        "root", "gpu", "cpu",
    }  # fmt: skip


def test_a_built_parent_is_not_built_first() -> None:
    many = [planned("base", built=True), *(planned(f"c{n}", "base") for n in range(9))]
    assert not scaling.divided(many, 4, jobs=1, costs=FREE, first=True).first
