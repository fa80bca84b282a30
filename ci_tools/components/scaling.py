"""How long a divided plan is expected to take on so many agents. Pure.

The model, in seconds from a plan to the one lock:

    one shard      W(1)
    N shards       A + max W(i) + M          as many agents as shards, at the same time

W(i) is what shard i needs with `jobs` images at once (`shards.wall`), A what makes an
agent ready, M the merge. One shard is built by the agent that would merge, which is
there anyway. With fewer agents than shards an agent takes the next shard when it is
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
    parts: dict[int, list[PlannedComponent]] = {}
    for component in components:
        parts.setdefault(assigned[component.name], []).append(component)
    if len(parts) <= 1:
        return shards.slowest(components, assigned, jobs)
    free = [0.0] * agents
    for number in sorted(parts):  # in the order in which they are started
        ready = heapq.heappop(free) + costs.agent
        heapq.heappush(free, ready + shards.wall(parts[number], jobs))
    return max(free) + costs.merge


def floor(components: Sequence[PlannedComponent], *, agents: int, jobs: int) -> Floor:
    """The lower bound of the builds alone, however they are divided."""
    seconds = {component.name: component.expected for component in components}
    parents = {component.name: component.parents for component in components}
    chains = graph.critical(parents, seconds).values()
    return Floor(max(chains, default=0.0), math.fsum(seconds.values()) / (agents * jobs))
