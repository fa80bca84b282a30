"""Which components go to which shard, so that several agents build one plan.

A component that must wait for a build of another is in that one's shard: shards
never wait for each other. A parent that is built already binds nobody, for its
image is in the registry, and most graphs have one base under everything.
(Should the scan gate refuse such a parent, then `merge` fails its children too.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ci_tools.components import graph
from ci_tools.documents import Plan, PlannedComponent
from ci_tools.errors import MissingInputError

_GOOD_ENOUGH = 1.1  # `fewest`: a slower wall time that saves an agent


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


def assign(components: Sequence[PlannedComponent], count: int, jobs: int) -> dict[str, int]:
    """Component -> shard, 1..count; the same for the same components in any order.

    Groups are packed by their `expected` wall time with `jobs` at once, the
    longest first, each into the shard that is then done first (Graham's LPT
    rule; on one job that is the least loaded one). Those that are built already
    and wait for nobody are dealt out evenly. Fewer groups than shards leave
    some shards empty.
    """
    together = _groups(components)
    assigned: dict[str, int] = {}
    loads = [_Load() for _ in range(count)]
    for group in _longest_first(together, components, jobs):
        after = [load.plus(group) for load in loads]
        number = min(
            range(count),
            key=lambda n: (after[n].wall(jobs), after[n].work, after[n].components, n),
        )
        loads[number] = after[number]
        assigned |= dict.fromkeys(group.names, number + 1)
    looked_at = sorted({component.name for component in components} - set(assigned))
    # From the last shard on: when there is little to build, that is the idle one.
    return assigned | {name: count - n % count for n, name in enumerate(looked_at)}


def fewest(components: Sequence[PlannedComponent], most: int, jobs: int) -> int:
    """The fewest shards, at most `most`, that take hardly longer than `most` would.

    Every shard costs an agent and its set-up, so a tenth more wall time is
    accepted for one agent less.
    """
    enough = _GOOD_ENOUGH * slowest(components, assign(components, most, jobs), jobs)
    return next(
        count
        for count in range(1, most + 1)
        if count == most or slowest(components, assign(components, count, jobs), jobs) <= enough
    )


def slowest(
    components: Sequence[PlannedComponent], assigned: Mapping[str, int], jobs: int
) -> float:
    """Expected seconds until the last shard is done."""
    shards: dict[int, list[PlannedComponent]] = {}
    for component in components:
        shards.setdefault(assigned[component.name], []).append(component)
    return max((wall(part, jobs) for part in shards.values()), default=0.0)


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

    A parent of theirs is one of them or is built: then the plan has its digest.
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


def _groups(components: Sequence[PlannedComponent]) -> list[list[str]]:
    """The names to be built, with all that must wait for them, those bound together."""
    missing = {component.name for component in components if component.state != "built"}
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
