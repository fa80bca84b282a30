"""Dividing a plan among agents."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_tools.components import graph, shards
from ci_tools.documents import Plan, PlannedComponent, Source
from ci_tools.errors import MissingInputError


def planned(
    name: str, *parents: str, expected: float = 10.0, built: bool = False, shard: int | None = None
) -> PlannedComponent:
    return PlannedComponent(
        name=name, dockerfile="d", context=".", key=f"key of {name}", parents=list(parents),
        templates=[], state="built" if built else "missing", shard=shard,
        digest="sha256:1" if built else None, expected=0.0 if built else expected,
    )  # fmt: skip


@st.composite
def plans(draw: st.DrawFn) -> list[PlannedComponent]:
    """Up to nine components, parents before children or not, some built."""
    size = draw(st.integers(0, 9))
    edges = draw(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=8))
    names = draw(st.permutations("abcdefghi"))
    made = [
        planned(
            names[child],
            *sorted({names[p] for c, p in edges if c == child and p < child}),
            expected=draw(st.integers(0, 200)) / 4,
            built=draw(st.integers(0, 3)) == 0,
        )
        for child in range(size)
    ]
    return draw(st.permutations(made))


def walls(components: list[PlannedComponent], assigned: dict[str, int], jobs: int) -> list[float]:
    """Each shard's expected seconds, counted anew."""
    found = []
    for number in set(assigned.values()):
        inside = {c.name: c for c in components if assigned[c.name] == number}
        ways = graph.critical(
            {name: c.parents for name, c in inside.items()},
            {name: c.expected for name, c in inside.items()},
        )
        work = math.fsum(c.expected for c in inside.values())
        found.append(max(work / jobs, *ways.values()))
    return found


@given(plans(), st.integers(1, 5), st.integers(1, 3))
def test_every_component_has_one_shard_and_waits_for_no_other(
    components: list[PlannedComponent], count: int, jobs: int
) -> None:
    assigned = shards.assign(components, count, jobs)
    by_name = {component.name: component for component in components}
    assert assigned.keys() == by_name.keys()
    assert set(assigned.values()) <= set(range(1, count + 1))
    for component in components:
        for parent in component.parents:
            if by_name[parent].state != "built":
                assert assigned[parent] == assigned[component.name]


@given(plans(), st.integers(1, 5), st.integers(1, 3), st.randoms())
def test_the_order_of_components_changes_nothing(
    components: list[PlannedComponent], count: int, jobs: int, random: object
) -> None:
    shuffled = list(components)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert shards.assign(shuffled, count, jobs) == shards.assign(components, count, jobs)


@given(plans(), st.integers(1, 4), st.integers(1, 3))
def test_the_slowest_shard_keeps_to_the_bound_of_list_scheduling(
    components: list[PlannedComponent], count: int, jobs: int
) -> None:
    # Of a group only its chain and its work count: no shard is slower than the
    # longest chain, or than W/mj + (1 - 1/m) w/j for the largest work w of a group.
    slowest = max(walls(components, shards.assign(components, count, jobs), jobs), default=0.0)
    chain = max(
        graph.critical(
            {c.name: c.parents for c in components}, {c.name: c.expected for c in components}
        ).values(),
        default=0.0,
    )
    work = math.fsum(c.expected for c in components)
    largest = max(map(math.fsum, _works(components)), default=0.0)
    bound = work / (count * jobs) + (1 - 1 / count) * largest / jobs
    assert slowest <= max(chain, bound) + 1e-9


def _works(components: list[PlannedComponent]) -> list[list[float]]:
    """The work of each group of components bound together, found by merging labels."""
    state = {c.name: c.state for c in components}
    label = {c.name: number for number, c in enumerate(components)}
    for _ in components:
        for c in components:
            for parent in c.parents:
                if state[parent] != "built":
                    label[c.name] = label[parent] = min(label[c.name], label[parent])
    return [[c.expected for c in components if label[c.name] == n] for n in set(label.values())]


@settings(max_examples=60)
@given(st.lists(st.integers(1, 60), max_size=7), st.integers(1, 3))
def test_on_one_job_it_is_graham_s_rule(seconds: list[int], count: int) -> None:
    # R. L. Graham, Bounds on multiprocessing timing anomalies, 1969: LPT is
    # within 4/3 - 1/3m of the best, here found by trying every division.
    components = [planned(f"c{n}", expected=float(s)) for n, s in enumerate(seconds)]
    found = shards.slowest(components, shards.assign(components, count, 1), 1)
    best = min(
        max(sum(s for s, shard in zip(seconds, where, strict=True) if shard == n) for n in range(3))
        for where in itertools.product(range(count), repeat=len(seconds))
    )
    assert best <= found <= (4 / 3 - 1 / (3 * count)) * best + 1e-9


def test_a_built_base_binds_nobody() -> None:
    components = [planned("base", built=True), *(planned(n, "base") for n in "abcd")]
    assigned = shards.assign(components, 2, 1)
    assert sorted(assigned[n] for n in "abcd") == [1, 1, 2, 2]
    missing = [planned("base"), *(planned(n, "base") for n in "abcd")]
    assert len(set(shards.assign(missing, 2, 1).values())) == 1


def test_a_built_child_of_a_missing_parent_is_with_it() -> None:
    # Its key is there though its parent's is not: it still waits for the parent.
    components = [planned("p"), planned("c", "p", built=True), planned("x"), planned("y")]
    assigned = shards.assign(components, 3, 1)
    assert assigned["c"] == assigned["p"]
    assert len({assigned["p"], assigned["x"], assigned["y"]}) == 3


def test_several_jobs_count_a_chain_as_a_chain() -> None:
    # A chain of three leaves one of two jobs idle; five singles take 25 s on two,
    # and the sixth is then as well beside the chain.
    chain = [planned("a"), planned("b", "a"), planned("c", "b")]
    singles = [planned(f"s{n}") for n in range(6)]
    assigned = shards.assign([*chain, *singles], 2, 2)
    assert {assigned[name] for name in "abc"} == {1}
    assert [assigned[f"s{n}"] for n in range(6)] == [2, 2, 2, 2, 2, 1]
    assert shards.slowest([*chain, *singles], assigned, 2) == 30.0


def test_built_ones_are_dealt_out_evenly_and_the_idle_shard_first() -> None:
    components = [planned("x"), *(planned(f"b{n}", built=True) for n in range(7))]
    assigned = shards.assign(components, 3, 1)
    assert assigned["x"] == 1
    looked_at = [assigned[f"b{n}"] for n in range(7)]
    assert sorted(looked_at) == [1, 1, 2, 2, 3, 3, 3]


def test_no_more_shards_than_help() -> None:
    equal = [planned(f"c{n}") for n in range(4)]
    assert shards.fewest(equal, 8, 1) == 4
    assert shards.fewest(equal, 2, 1) == 2
    chain = [planned("a"), planned("b", "a")]
    assert shards.fewest(chain, 8, 1) == 1
    assert shards.fewest([], 8, 1) == 1
    # 52 s with two, 50 s with three: not worth another agent
    slight = [planned("a", expected=50.0), *(planned(n, expected=26.0) for n in "bc")]
    assert shards.fewest(slight, 3, 1) == 2


@given(plans(), st.integers(1, 5), st.integers(1, 3), st.integers(0, 60))
def test_the_fewest_are_hardly_slower_and_less_would_be(
    components: list[PlannedComponent], most: int, jobs: int, dividing: int
) -> None:
    # Of a group only chain and work count, so what is built binds no chain here.
    for component in components:
        if component.state == "built":
            component.parents = []

    def takes(count: int) -> float:
        assigned = shards.assign(components, count, jobs)
        return max(walls(components, assigned, jobs), default=0.0) + dividing * (count > 1)

    count = shards.fewest(components, most, jobs, dividing)
    enough = 1.1 * min(takes(1), takes(min(most, max(len(_works(components)), 1))))
    assert 1 <= count <= most
    assert takes(count) <= enough + 1e-9
    assert all(takes(less) > enough - 1e-9 for less in range(1, count))
    to_build = [c for c in components if c.state != "built"]
    assigned = shards.assign(components, count, jobs)
    assert {assigned[c.name] for c in to_build} == (set(range(1, count + 1)) if to_build else set())


def test_a_short_build_takes_no_second_agent() -> None:
    short = [planned(f"c{n}", expected=5.0) for n in range(8)]
    assert shards.fewest(short, 8, 2) == 4
    assert shards.fewest(short, 8, 2, dividing=65.0) == 1
    long = [planned(f"c{n}", expected=500.0) for n in range(8)]
    assert shards.fewest(long, 8, 2, dividing=65.0) == 4


def test_what_is_built_first_binds_nobody() -> None:
    components = [planned("base"), planned("mid", "base"), *(planned(n, "mid") for n in "abcd")]
    found = shards.assign(components, 2, 1, frozenset(["base", "mid"]))
    assert (found["base"], found["mid"]) == (0, 0)
    assert sorted(found[n] for n in "abcd") == [1, 1, 2, 2]
    assert shards.slowest(components, found, 1) == 40.0
    half = shards.assign(components, 2, 1, frozenset(["base"]))
    assert half["base"] == 0
    assert {half[n] for n in "abcd"} == {half["mid"]}


def test_which_shards_need_an_agent() -> None:
    assert shards.needed(plan(planned("a", shard=1))) == []
    assert shards.needed(plan(planned("a"))) == []
    assert shards.needed(plan()) == []
    built = [planned(n, built=True, shard=s) for n, s in (("a", 1), ("b", 2))]
    assert shards.needed(plan(*built, shards=2)) == []
    # `merge` asks for the lock of a shard in which there is only something to look at.
    some = plan(planned("x", shard=1), *built, planned("first", shard=0), shards=4)
    assert shards.needed(some) == [(1, 4), (2, 4)]


def plan(*components: PlannedComponent, shards: int = 1) -> Plan:
    return Plan(
        project="p", environment="e", source=Source(), components=list(components), shards=shards
    )


def names(found: list[PlannedComponent]) -> list[str]:
    return [component.name for component in found]


def test_members_of_a_shard() -> None:
    divided = plan(planned("a", shard=1), planned("b", shard=2), planned("c", shard=1), shards=3)
    assert names(shards.members(divided, (1, 3))) == ["a", "c"]
    assert names(shards.members(divided, (3, 3))) == []
    assert names(shards.members(divided, None)) == ["a", "b", "c"]
    whole = plan(planned("a"), planned("b"))
    assert names(shards.members(whole, (1, 1))) == ["a", "b"]


@pytest.mark.parametrize(
    "other",
    [plan(planned("a")), plan(planned("a", shard=1), shards=3), plan(planned("a"), shards=2)],
)
def test_a_plan_that_is_divided_otherwise(other: Plan) -> None:
    with pytest.raises(MissingInputError, match="not for 2 shards"):
        shards.members(other, (1, 2))
