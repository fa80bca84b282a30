"""Which component is built from which, and in what order."""

from __future__ import annotations

import graphlib
import math
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


def critical(
    parents: Mapping[str, Sequence[str]], seconds: Mapping[str, float]
) -> dict[str, float]:
    """Component -> seconds of the longest chain of work that begins with it.

    That is its own work and then, child by child, that of all that must wait for
    it: the component with the longest chain is the one to start first.

    parents: a part of the graph too; a parent that is not a key of it binds
    nothing. seconds: of each component's own work, 0 where it is not named.
    Raises CycleError.
    """
    longest = dict.fromkeys(parents, 0.0)  # at first: of the children alone
    within = {name: [one for one in ps if one in parents] for name, ps in parents.items()}
    for name in reversed(ordered(within)):
        longest[name] += seconds.get(name, 0.0)
        for parent in within[name]:
            longest[parent] = max(longest[parent], longest[name])
    return longest


def remaining(
    parents: Mapping[str, Sequence[str]], seconds: Mapping[str, float], jobs: int
) -> float:
    """An estimate of the wall time left, in seconds, with `jobs` images at once.

    No schedule is faster than its longest chain, or than all of its work divided
    by the jobs; one that starts the longest chain first comes close to the larger.

    parents: as in `critical`. seconds: of the work that is still to do, less for
    what is under way, 0 or nothing for what is done. Raises CycleError.
    """
    work = math.fsum(seconds.get(name, 0.0) for name in parents)
    return max([work / jobs, *critical(parents, seconds).values()])
