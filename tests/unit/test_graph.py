"""Order of components."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_tools.components import graph
from ci_tools.errors import CycleError


def test_parents_first_then_by_name() -> None:
    parents = {"z": [], "b": ["z"], "a": ["z"], "c": ["a", "b"], "d": []}
    assert graph.ordered(parents) == ["d", "z", "a", "b", "c"]


def test_a_circle_is_named_in_the_order_of_from() -> None:
    with pytest.raises(CycleError) as caught:
        graph.ordered({"a": ["b"], "b": ["c"], "c": ["a"], "d": []})
    circle = caught.value.what.partition(": ")[2].split(" -> ")
    assert sorted(circle[:-1]) == ["a", "b", "c"]
    assert circle[0] == circle[-1]
    # a is built from b, so b follows a
    assert circle[circle.index("a", 0, -1) + 1] == "b"


def test_from_itself() -> None:
    with pytest.raises(CycleError, match="a -> a"):
        graph.ordered({"a": ["a"]})


@given(st.dictionaries(st.integers(0, 12), st.lists(st.integers(0, 12), max_size=4)))
def test_every_component_comes_after_its_parents(edges: dict[int, list[int]]) -> None:
    # an edge only to a smaller number: no circle
    parents = {str(n): [str(p) for p in ps if p < n and p in edges] for n, ps in edges.items()}
    order = graph.ordered(parents)
    assert sorted(order) == sorted(parents)
    position = {name: number for number, name in enumerate(order)}
    assert all(position[p] < position[n] for n, ps in parents.items() for p in ps)


@st.composite
def dags(draw: st.DrawFn) -> tuple[dict[str, list[str]], dict[str, float]]:
    """A random graph of at most eight components, in any order, with seconds."""
    size = draw(st.integers(0, 8))
    edges = draw(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=16))
    names = draw(st.permutations("abcdefgh"))
    parents: dict[str, list[str]] = {names[n]: [] for n in draw(st.permutations(range(size)))}
    for child, parent in edges:
        if parent < child < size:
            parents[names[child]].append(names[parent])
    # Halves: sums of them are exact, whatever the order.
    seconds = {name: draw(st.integers(0, 40)) / 2 for name in parents}
    return parents, seconds


def chains(parents: dict[str, list[str]], name: str) -> list[list[str]]:
    """Every chain from a component down to one without children."""
    children = [child for child, ps in parents.items() if name in ps]
    return [[name, *rest] for child in children for rest in chains(parents, child)] or [[name]]


def simulated(parents: dict[str, list[str]], seconds: dict[str, float], jobs: int) -> float:
    """The wall time of a schedule that starts the longest chain first."""
    first = graph.critical(parents, seconds)
    waiting, done = set(parents), set[str]()
    running: dict[str, float] = {}
    now = 0.0
    while waiting or running:
        ready = [name for name in waiting if done.issuperset(parents[name])]
        for name in sorted(ready, key=lambda n: (-first[n], n))[: jobs - len(running)]:
            waiting.remove(name)
            running[name] = now + seconds[name]
        now = min(running.values())
        ended = {name for name, end in running.items() if end == now}
        done |= ended
        running = {name: end for name, end in running.items() if name not in ended}
    return now


@given(dags())
def test_the_longest_chain_is_that_of_all_chains(
    drawn: tuple[dict[str, list[str]], dict[str, float]],
) -> None:
    parents, seconds = drawn
    assert graph.critical(parents, seconds) == {
        name: max(sum(seconds[n] for n in chain) for chain in chains(parents, name))
        for name in parents
    }


@given(dags(), st.integers(1, 4))
def test_no_schedule_is_faster_and_the_longest_first_is_never_twice_as_slow(
    drawn: tuple[dict[str, list[str]], dict[str, float]], jobs: int
) -> None:
    parents, seconds = drawn
    estimate = graph.remaining(parents, seconds, jobs)
    assert estimate <= simulated(parents, seconds, jobs) <= 2 * estimate
    if jobs == 1:
        assert estimate == sum(seconds.values())


def test_parents_outside_bind_nothing_and_unknown_work_is_none() -> None:
    assert graph.critical({"b": ["a"], "c": ["b", "a"]}, {"a": 100.0, "c": 2.0}) == {
        "b": 2.0,
        "c": 2.0,
    }
    assert graph.remaining({}, {}, 2) == 0.0


def test_work_under_way_and_done_shortens_what_is_left() -> None:
    parents = {"a": [], "b": ["a"], "c": ["a"]}
    assert graph.remaining(parents, {"a": 10.0, "b": 5.0, "c": 4.0}, 2) == 15.0
    assert graph.remaining(parents, {"a": 4.0, "b": 5.0, "c": 4.0}, 2) == 9.0
    assert graph.remaining(parents, {"b": 5.0, "c": 4.0}, 1) == 9.0


def test_a_circle_has_no_longest_chain() -> None:
    with pytest.raises(CycleError):
        graph.critical({"a": ["b"], "b": ["a"]}, {})
