"""Which components go to which shard, so that several agents build one plan.

A component that must wait for a build of another is in that one's shard: shards
never wait for each other. A parent that is built already binds nobody, for its
image is in the registry, and most graphs have one base under everything.
(Should the scan gate refuse such a parent, then `merge` fails its children too.)

So a base that is to be built would bind all to one shard. Where a plan says so, such
parents are in shard 0 (`FIRST`): one agent builds it before the others are started.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from ci_tools.components import graph
from ci_tools.documents import Plan, PlannedComponent
from ci_tools.errors import MissingInputError

FIRST = 0  # the number of the shard that is built before the others
GOOD_ENOUGH = 1.1  # a slower wall time that saves an agent


class _Group(NamedTuple):
    """Components that stay together. chain, work: seconds, the longest and all."""

    names: list[str]
    chain: float
    work: float


class _Load(NamedTuple):
    """What a shard has to do. chain: its longest; work: all of it, in seconds."""

    chain: float = 0.0
    work: float = 0.0
    components: int = 0

    def wall(self, jobs: int) -> float:
        return max(self.chain, self.work / jobs)

    def plus(self, group: _Group) -> _Load:
        return _Load(
            max(self.chain, group.chain),
            self.work + group.work,
            self.components + len(group.names),
        )


def _packed(groups: Sequence[_Group], count: int, jobs: int) -> tuple[list[int], float]:
    """The shard of each group, 0..count-1, and the seconds until the last shard is done.

    A shard with less work is looked at first, and looking ends at the first whose
    own chain does not count: no shard with more work is done sooner.
    """
    least = [(0.0, 0, number) for number in range(count)]  # work, components, shard: a heap
    loads = [_Load() for _ in range(count)]
    where: list[int] = []
    for group in groups:
        looked_at: list[tuple[float, int, int]] = []
        while least:
            looked_at.append(heapq.heappop(least))
            load = loads[looked_at[-1][2]]
            if load.chain <= max(group.chain, (load.work + group.work) / jobs):
                break
        after = {number: loads[number].plus(group) for _, _, number in looked_at}
        best = min(
            after, key=lambda n: (after[n].wall(jobs), after[n].work, after[n].components, n)
        )
        loads[best] = after[best]
        where.append(best)
        for _, _, number in looked_at:
            heapq.heappush(least, (loads[number].work, loads[number].components, number))
    return where, max((load.wall(jobs) for load in loads), default=0.0)


def assign(
    components: Sequence[PlannedComponent],
    count: int,
    jobs: int,
    first: Collection[str] = frozenset(),
) -> dict[str, int]:
    """Component -> shard, 1..count; the same for the same components in any order.

    first: what is in shard 0 instead, with all the parents that it waits for.

    Groups are packed by their `expected` wall time with `jobs` at once, the
    longest first, each into the shard that is then done first (Graham's LPT
    rule; on one job that is the least loaded one). Those that are built already
    and wait for nobody are dealt out evenly. Fewer groups than shards leave
    some shards empty.
    """
    groups = _longest_first(_groups(components, first), components, jobs)
    assigned = dict.fromkeys(first, FIRST)
    for group, number in zip(groups, _packed(groups, count, jobs)[0], strict=True):
        assigned |= dict.fromkeys(group.names, number + 1)
    looked_at = sorted({component.name for component in components} - set(assigned))
    # From the last shard on: when there is little to build, that is the idle one.
    return assigned | {name: count - n % count for n, name in enumerate(looked_at)}


def fewest(
    components: Sequence[PlannedComponent],
    most: int,
    jobs: int,
    dividing: float = 0.0,
    first: Collection[str] = frozenset(),
) -> int:
    """The fewest shards, at most `most`, that take hardly longer than the best number.

    dividing: seconds that more shards than one cost beside their builds, however
    many they are: agents are set up at the same time, and locks are joined.
    first: as for `assign`; their time is not looked at.
    A tenth more wall time is accepted for one agent less. Nothing to build is
    one shard, and no shard is without something to build.
    """
    groups = _longest_first(_groups(components, first), components, jobs)
    work = math.fsum(group.work for group in groups)
    most = max(min(most, len(groups)), 1)

    def takes(count: int) -> float:
        return _packed(groups, count, jobs)[1] + (dividing if count > 1 else 0.0)

    enough = GOOD_ENOUGH * min(takes(1), takes(most))
    if takes(1) <= enough:
        return 1
    # Where not even an equal share is short enough, no packing is tried.
    least = math.floor(work / jobs / (enough - dividing))
    return next(n for n in range(max(least, 2), most + 1) if n == most or takes(n) <= enough)


def needed(plan: Plan) -> list[tuple[int, int]]:
    """The shards that an agent each is started for, as `members` takes them; not the
    one that is built first.

    None where one agent does all (`build` without a shard): there is one shard, or
    nothing to build. Else those with any component, for `merge` asks their locks.
    """
    if plan.shards == 1 or all(component.state == "built" for component in plan.components):
        return []
    there = {component.shard for component in plan.components}
    return [(number, plan.shards) for number in range(1, plan.shards + 1) if number in there]


def slowest(
    components: Sequence[PlannedComponent], assigned: Mapping[str, int], jobs: int
) -> float:
    """Expected seconds until the last shard is done, each on an agent that is ready."""
    walls = {number: wall(part, jobs) for number, part in apart(components, assigned).items()}
    return walls.pop(FIRST, 0.0) + max(walls.values(), default=0.0)


def apart(
    components: Sequence[PlannedComponent], assigned: Mapping[str, int]
) -> dict[int, list[PlannedComponent]]:
    """Shard -> its components, of those shards that have any."""
    parts: dict[int, list[PlannedComponent]] = {}
    for component in components:
        parts.setdefault(assigned[component.name], []).append(component)
    return parts


def assigned(plan: Plan) -> dict[str, int]:
    """Component -> shard, as the plan has it; 1 for all of one that is not divided."""
    return {one.name: 1 if one.shard is None else one.shard for one in plan.components}


def wall(components: Sequence[PlannedComponent], jobs: int) -> float:
    """Expected seconds for these components, `jobs` at once."""
    return graph.remaining(
        {component.name: component.parents for component in components},
        {component.name: component.expected for component in components},
        jobs,
    )


def label(shard: tuple[int, int]) -> str:
    """(1, 4) -> `1/4`: as in a lock and on the command line."""
    return f"{shard[0]}/{shard[1]}"


def file_of(shard: tuple[int, int] | None, file: str) -> str:
    """A shard's own file: `images.lock.json` -> `images.lock.1-of-4.json`.

    None is the whole: the name as it is. `file` may be a path.
    """
    if shard is None:
        return file
    stem, dot, extension = file.rpartition(".")
    return f"{stem}.{shard[0]}-of-{shard[1]}{dot}{extension}"


def report_of(shard: tuple[int, int] | None, file: str) -> str:
    """A shard's own report: `reports/images.xml` -> `reports/shards/images.1-of-4.xml`.

    Not beside that of the whole: who counts `reports/*.xml` would count it twice.
    """
    if shard is None:
        return file
    folder, _, name = file.rpartition("/")
    return file_of(shard, f"{folder}/shards/{name}")


def members(plan: Plan, shard: tuple[int, int] | None) -> list[PlannedComponent]:
    """The components of shard (i, N), or all of them for None.

    A parent of theirs is one of them, or is built (then the plan has its digest), or
    in shard 0 of N, which is built before.
    Raises MissingInputError when the plan is not one of N shards.
    """
    if shard is None or (shard == (1, 1) and plan.shards == 1):
        return list(plan.components)
    number, count = shard
    if plan.shards != count or any(component.shard is None for component in plan.components):
        raise MissingInputError(
            f"plan.json is not for {count} shards (it has {plan.shards})",
            f"Run 'python -m ci plan --shards {count}' once, and give its plan.json to every shard",
        )
    return [component for component in plan.components if component.shard == number]


def _groups(components: Sequence[PlannedComponent], first: Collection[str]) -> list[list[str]]:
    """The names to be built, with all that must wait for them, those bound together.
    What is built first binds as little as what is built."""
    missing = {one.name for one in components if one.state != "built"}.difference(first)
    bound: dict[str, set[str]] = {name: set() for name in missing}
    for component in components:
        for parent in missing.intersection(component.parents):
            bound.setdefault(component.name, set()).add(parent)
            bound[parent].add(component.name)
    groups: list[list[str]] = []
    seen: set[str] = set()
    for name in sorted(bound):
        if name in seen:
            continue
        group, left = {name}, [name]
        while left:
            new = bound[left.pop()] - group
            group |= new
            left.extend(new)
        seen |= group
        groups.append(sorted(group))
    return groups


def _longest_first(
    groups: Sequence[list[str]], components: Sequence[PlannedComponent], jobs: int
) -> list[_Group]:
    by_name = {component.name: component for component in components}
    longest = graph.critical(
        {name: by_name[name].parents for group in groups for name in group},
        {name: component.expected for name, component in by_name.items()},
    )
    # fsum: a sum that does not depend on the order.
    weighed = [
        _Group(
            names,
            max(longest[name] for name in names),
            math.fsum(by_name[name].expected for name in names),
        )
        for names in groups
    ]
    return sorted(
        weighed, key=lambda group: (-max(group.chain, group.work / jobs), -group.work, group.names)
    )
