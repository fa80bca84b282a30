"""How long a divided plan is expected to take on so many agents. Pure.

The model, in seconds from a plan to the one lock:

    one shard      W(1)
    N shards       W(0) + A + max W(i) + M   as many agents as shards, at the same time

W(i) is what shard i needs with `jobs` images at once (`shards.wall`), A what makes an
agent ready, M the merge. One shard is built by the agent that would merge, which is
there anyway, as is the one that plans, and builds what is built first (W(0), most
often nothing). With fewer agents than shards an agent takes the next shard when it is
done with one, and is made ready again.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ci_tools.components import graph, shards
from ci_tools.documents import PlannedComponent

MERGE_SECONDS = 5.0  # fetching the shards' files, and `merge` itself


class Costs(NamedTuple):
    """What a division costs beside the builds, in seconds. agent: each time that one
    is made ready. merge: once."""

    agent: float = 0.0
    merge: float = MERGE_SECONDS

    @property
    def dividing(self) -> float:
        """Of any division among agents that are all there."""
        return self.agent + self.merge


class Floor(NamedTuple):
    """What no division is faster than. chain: the critical path. share: all work,
    divided by all that can be done at once. Both in seconds."""

    chain: float
    share: float

    @property
    def seconds(self) -> float:
        return max(self.chain, self.share)


def expected(
    components: Sequence[PlannedComponent],
    assigned: Mapping[str, int],
    *,
    agents: int,
    jobs: int,
    costs: Costs,
) -> float:
    """Seconds from the plan to the lock. assigned: component -> shard, 1 for all where
    it is not divided. agents: at least one. jobs: images at once on each."""
    parts = shards.apart(components, assigned)
    if len(parts) <= 1:
        return shards.slowest(components, assigned, jobs)
    free = [shards.wall(parts.pop(shards.FIRST, []), jobs)] * agents
    for number in sorted(parts):  # in the order in which they are started
        ready = heapq.heappop(free) + costs.agent
        heapq.heappush(free, ready + shards.wall(parts[number], jobs))
    return max(free) + costs.merge


class Divided(NamedTuple):
    """agents: how many, a shard each. first: what is built before, with its parents."""

    agents: int
    first: frozenset[str] = frozenset()


def divided(
    components: Sequence[PlannedComponent],
    most: int,
    *,
    jobs: int,
    costs: Costs,
    exactly: int | None = None,
    first: bool = False,
) -> Divided:
    """The division of at most `most` shards that is expected to take least, or hardly
    longer with fewer of them.

    exactly: that many shards instead. first: parents may be built before the shards,
    where that takes less: all that something waits for, down to the best depth.
    """
    found: list[tuple[float, Divided]] = []
    for before in _levels(components) if first else [frozenset[str]()]:
        count = exactly or shards.fewest(components, most, jobs, costs.dividing, before)
        assigned = shards.assign(components, count, jobs, before)
        seconds = expected(components, assigned, agents=count, jobs=jobs, costs=costs)
        found.append((seconds, Divided(count, before)))
    enough = shards.GOOD_ENOUGH * min(seconds for seconds, _ in found)
    return next(one for seconds, one in found if seconds <= enough)


def _levels(components: Sequence[PlannedComponent]) -> list[frozenset[str]]:
    """Nothing; those to be built that others wait for but that wait for nobody; these and
    those that wait for no other; and so on."""
    missing = {one.name: one for one in components if one.state != "built"}
    waits = {name: [p for p in one.parents if p in missing] for name, one in missing.items()}
    waited_for = {parent for parents in waits.values() for parent in parents}
    depth: dict[str, int] = {}
    for name in graph.ordered(waits):
        depth[name] = 1 + max((depth[parent] for parent in waits[name]), default=0)
    deepest = max((depth[name] for name in waited_for), default=0)
    return [
        frozenset(name for name in waited_for if depth[name] <= level)
        for level in range(deepest + 1)
    ]


def floor(components: Sequence[PlannedComponent], *, agents: int, jobs: int) -> Floor:
    """The lower bound of the builds alone, however they are divided."""
    seconds = {component.name: component.expected for component in components}
    parents = {component.name: component.parents for component in components}
    chains = graph.critical(parents, seconds).values()
    return Floor(max(chains, default=0.0), math.fsum(seconds.values()) / (agents * jobs))
