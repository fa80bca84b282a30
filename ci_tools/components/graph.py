"""Which component is built from which, and in what order."""

from __future__ import annotations

import graphlib
from collections.abc import Mapping, Sequence

from ci_tools.errors import CycleError


def ordered(parents: Mapping[str, Sequence[str]]) -> list[str]:
    """Component names, parents first, otherwise by name.

    Raises CycleError, naming the circle.
    """
    sorter = graphlib.TopologicalSorter(parents)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise CycleError(
            f"components are built from each other in a circle: {circle}",
            "Take one of these FROM lines out",
        ) from None
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        order.extend(ready)
        sorter.done(*ready)
    return order
