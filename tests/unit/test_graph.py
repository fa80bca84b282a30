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
