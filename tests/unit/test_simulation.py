"""The simulation of benchmarks/: what it may say of a job, whatever the durations."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import simulation
from benchmarks.simulation import Image, Site


@st.composite
def projects(draw: st.DrawFn) -> dict[str, Image]:
    """Up to ten images, each on up to two earlier ones."""
    seconds = st.integers(0, 40).map(float)
    made: dict[str, Image] = {}
    for number in range(draw(st.integers(1, 10))):
        parents = draw(st.lists(st.sampled_from(sorted(made)), max_size=2)) if made else []
        made[f"i{number}"] = Image(
            tuple(sorted(set(parents))), draw(seconds), draw(seconds), draw(seconds)
        )
    return made


def ways(images: dict[str, Image], name: str) -> float:
    """The longest chain of whole images that ends with this one, by trying all."""
    one = images[name]
    return one.seconds + max((ways(images, parent) for parent in one.parents), default=0.0)


@given(projects(), st.integers(1, 4), st.booleans())
def test_a_shard_keeps_to_what_any_schedule_must_and_list_scheduling_does(
    images: dict[str, Image], jobs: int, local: bool
) -> None:
    pushed = simulation.schedule(images, jobs, local_parents=local)
    assert pushed.keys() == images.keys()
    work = math.fsum(one.seconds for one in images.values())
    chain = max(ways(images, name) for name in images)
    last = max(pushed.values())
    assert last >= simulation.floor(images, Site(1, jobs)).seconds - 1e-9
    # R. L. Graham, Bounds for certain multiprocessing anomalies, 1966.
    assert last <= work / jobs + (1 - 1 / jobs) * chain + 1e-9
    if jobs == 1:
        assert last == pytest.approx(work)
    for name, one in images.items():
        assert pushed[name] >= one.seconds - 1e-9
        for parent in one.parents:  # in the lock only after its parent
            assert pushed[name] >= pushed[parent] + one.push - 1e-9
            if not local:
                assert pushed[name] >= pushed[parent] + one.seconds - 1e-9


def test_phases_of_one_image_after_each_other_and_of_two_at_once() -> None:
    one = {"a": Image((), 10.0, 5.0, 2.0), "b": Image(("a",), 10.0, 5.0, 2.0)}
    assert simulation.schedule(one, 4) == {"a": 17.0, "b": 27.0}  # b is built beside a's check
    assert simulation.schedule(one, 4, local_parents=False) == {"a": 17.0, "b": 34.0}
    assert simulation.schedule(one, 1) == {"a": 17.0, "b": 34.0}
    two = {"a": Image((), 1.0, 8.0, 0.0), "b": Image((), 1.0, 8.0, 0.0)}
    assert max(simulation.schedule(two, 2).values()) == 9.0
    assert max(simulation.schedule(two, 2, checks=1).values()) == 17.0


@settings(max_examples=50)
@given(projects(), st.integers(1, 5), st.integers(1, 2), st.integers(0, 9))
def test_no_job_is_faster_than_the_lower_bound_and_none_forgets_an_image(
    images: dict[str, Image], agents: int, jobs: int, seed: int
) -> None:
    site = Site(agents, jobs, ready=5.0, pull=1.0, notice=3.0, p=0.3)
    parts = simulation.divided(images, site)
    names = [name for part in [parts.first, *parts.shards] for name in part]
    assert sorted(names) == sorted(images)
    (lossy,) = simulation.runs(images, site, [seed])
    clean = simulation.fan_out(images, site._replace(p=0.0))
    floor = simulation.floor(images, site).seconds
    assert clean.build >= floor - 1e-9
    assert lossy.build >= floor - 1e-9
    assert simulation.runs(images, site, [seed]) == [lossy]
    if not lossy.lost:
        assert lossy == clean


@pytest.mark.parametrize("name", ["example", "made-up-20", "made-up-100", "made-up-300"])
def test_recorded_durations_are_of_a_graph(name: str) -> None:
    images = simulation.load(name)
    for one in images.values():
        assert one.build > 0
        assert set(one.parents) <= images.keys()
