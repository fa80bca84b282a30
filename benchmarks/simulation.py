"""The Jenkins job in simulated time: discrete events over recorded durations, no engine.

Decisions are the product's own: `shards.fewest` says how many shards, `shards.assign`
which component goes where. Inside a shard images go as `ci/build.py` and `ci/schedule.py`
take them: the longest chain of remaining work first, of one image the later phase
first, `jobs` phases at once. Nothing here measures; j1_scaling.py prints.
"""

from __future__ import annotations

import heapq
import json
import random
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ci_tools.components import graph, scaling, shards
from ci_tools.documents import PlannedComponent

DATA = Path(__file__).with_name("data")
PHASES = ("push", "check", "build")  # in order of urgency within an image


class Image(NamedTuple):
    """What an image took: seconds of its phases. check: its tests and the scan."""

    parents: tuple[str, ...]
    build: float
    check: float
    push: float

    @property
    def seconds(self) -> float:
        return self.build + self.check + self.push


Images = Mapping[str, Image]


class Site(NamedTuple):
    """Where the job runs. All in seconds but agents and jobs.

    ready: until an agent has started, checked out and set up. pull: more for the
    first image on an agent that has no layer and no vulnerability database yet.
    notice: until a lost agent's shard is started elsewhere. p: how likely an agent is
    lost during a shard. stages: the stages around the build, each on an agent.
    """

    agents: int
    jobs: int = 4
    ready: float = 60.0
    pull: float = 20.0
    notice: float = 60.0
    p: float = 0.0
    stages: tuple[float, ...] = (10.0, 15.0, 10.0, 300.0)  # plan, compile, upload, training tests

    @property
    def costs(self) -> scaling.Costs:
        return scaling.Costs(agent=self.ready)


class Outcome(NamedTuple):
    """shards: as decided. build: seconds from plan to lock. busy: seconds of agents."""

    shards: int
    build: float
    busy: float
    lost: int = 0

    def whole(self, site: Site) -> float:
        """Seconds of the job: every stage, each on an agent that is made ready. The one
        that merges, or builds where there is one shard, too."""
        return sum(site.stages) + site.ready * (len(site.stages) + 1) + self.build


def load(name: str) -> Images:
    """A file of data/, without what its images took apart."""
    recorded = json.loads((DATA / f"{name}.json").read_text())["components"]
    return {
        component: Image(tuple(one["parents"]), one["build"], one["check"], one["push"])
        for component, one in recorded.items()
    }


def planned(images: Images, done: Collection[str] = ()) -> list[PlannedComponent]:
    """As `plan` would have it. done: what the registry has."""
    return [
        PlannedComponent(
            name=name, dockerfile="", context="", key=name, parents=list(one.parents), templates=[],
            state="built" if name in done else "missing",
            expected=0.0 if name in done else one.seconds,
        )
        for name, one in images.items()
    ]  # fmt: skip


def schedule(
    images: Images,
    jobs: int,
    *,
    local_parents: bool = True,
    checks: int | None = None,
    guessed: bool = False,
) -> dict[str, float]:
    """Image -> second at which it is pushed, where all of `images` are built together.

    A parent that is not among them is in the registry. local_parents: a child starts
    as soon as its parent is built; else (a remote builder) when it is pushed.
    checks: at most so many at once, beside `jobs`. guessed: no earlier build tells how
    long images take, so that all count alike.
    """
    parents = {name: [p for p in one.parents if p in images] for name, one in images.items()}
    longest = graph.critical(
        parents, {name: 1.0 if guessed else one.seconds for name, one in images.items()}
    )
    after: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for name, above in parents.items():
        first = "build" if local_parents else "push"
        after[name, "build"] = {(parent, first) for parent in above}
        after[name, "check"] = {(name, "build")}
        after[name, "push"] = {(name, "check"), *((parent, "push") for parent in above)}
    waits: dict[tuple[str, str], list[tuple[str, str]]] = {task: [] for task in after}
    left = {task: len(before) for task, before in after.items()}
    for task, before in after.items():
        for one in before:
            waits[one].append(task)

    def rank(task: tuple[str, str]) -> tuple[float, int, str]:
        return -longest[task[0]], PHASES.index(task[1]), task[0]

    ready = sorted((rank(task), task) for task, count in left.items() if not count)
    running: list[tuple[float, tuple[str, str]]] = []
    now, checking, pushed = 0.0, 0, {}
    while ready or running:
        held = []
        while ready and len(running) < jobs:
            place, task = heapq.heappop(ready)
            if task[1] == "check" and checks is not None:
                if checking == checks:
                    held.append((place, task))
                    continue
                checking += 1
            heapq.heappush(running, (now + getattr(images[task[0]], task[1]), task))
        for waiting in held:
            heapq.heappush(ready, waiting)
        now, task = heapq.heappop(running)
        if task[1] == "check":
            checking -= 1
        if task[1] == "push":
            pushed[task[0]] = now
        for more in waits[task]:
            left[more] -= 1
            if not left[more]:
                heapq.heappush(ready, (rank(more), more))
    return pushed


class Parts(NamedTuple):
    """What the product decides. first: built before the shards, on the agent that plans."""

    first: dict[str, Image]
    shards: list[dict[str, Image]]


def divided(images: Images, site: Site, *, first: bool = True) -> Parts:
    """first: whether anything may be built before the shards."""
    components = planned(images)
    chosen = scaling.divided(components, site.agents, jobs=site.jobs, costs=site.costs, first=first)
    assigned = shards.assign(components, chosen.agents, site.jobs, chosen.first)
    parts: list[dict[str, Image]] = [{} for _ in range(chosen.agents + 1)]
    for name, number in assigned.items():
        parts[number][name] = images[name]
    return Parts(parts[0], parts[1:])


def fan_out(images: Images, site: Site, *, first: bool = True) -> Outcome:
    """From the plan to the lock, on the agents of `site`, of which none is lost."""
    return runs(images, site, [0], first=first)[0]


def runs(images: Images, site: Site, seeds: Sequence[int], *, first: bool = True) -> list[Outcome]:
    """The same job, once a seed: which agents are lost differs."""
    parts = divided(images, site, first=first)
    if len(parts.shards) == 1:
        took = site.pull + longest(parts.shards[0], site.jobs)
        return [Outcome(1, took, took)] * len(seeds)
    before = site.pull + longest(parts.first, site.jobs) if parts.first else 0.0
    pushed = [schedule(part, site.jobs) for part in parts.shards]
    after = [run(parts.shards, pushed, site, seed) for seed in seeds]
    return [one._replace(build=before + one.build, busy=before + one.busy) for one in after]


def longest(images: Images, jobs: int) -> float:
    """Seconds until the last of them is pushed."""
    return max(schedule(images, jobs).values(), default=0.0)


def run(
    parts: Sequence[Images], pushed: Sequence[Mapping[str, float]], site: Site, seed: int
) -> Outcome:
    """Shards on agents. One whose agent is lost runs again on the next that is free, and
    goes on with what its first run had not pushed; a lost agent is replaced.

    pushed: of each shard, what `schedule` says.
    """
    chance = random.Random(seed)  # noqa: S311 - no secret
    free = [0.0] * site.agents
    queue = [(0.0, number, dict(one)) for number, one in enumerate(pushed)]
    heapq.heapify(queue)
    ends, busy, lost = [0.0], 0.0, 0
    while queue:
        since, number, ready = heapq.heappop(queue)
        begun = max(heapq.heappop(free), since)
        before = site.ready + site.pull
        took = before + max(ready.values(), default=0.0)
        if chance.random() < site.p:
            gone = chance.uniform(0.0, took)
            left = {name: parts[number][name] for name, at in ready.items() if at + before > gone}
            again = schedule(left, site.jobs)
            heapq.heappush(queue, (begun + gone + site.notice, number, again))
            took, lost = gone, lost + 1
        else:
            ends.append(begun + took)
        busy += took
        heapq.heappush(free, begun + took)
    return Outcome(len(parts), max(ends) + site.costs.merge, busy, lost)


def remote(images: Images, site: Site) -> Outcome:
    """One agent, and `site.agents` BuildKit builders with `jobs` builds each. Tests and
    scans stay on the agent, `jobs` at once; a child waits for its parent's push."""
    pushed = schedule(images, site.agents * site.jobs, local_parents=False, checks=site.jobs)
    took = site.pull + max(pushed.values(), default=0.0)
    return Outcome(1, took, took)


def floor(images: Images, site: Site) -> scaling.Floor:
    """What no division and no schedule is faster than. A child waits for its parent's
    build only, so a chain is of builds, and the check and push of its last image."""
    with_children = {parent for one in images.values() for parent in one.parents}
    chains = graph.critical(
        {name: one.parents for name, one in images.items()},
        {name: one.build if name in with_children else one.seconds for name, one in images.items()},
    )
    share = scaling.floor(planned(images), agents=site.agents, jobs=site.jobs).share
    return scaling.Floor(max(chains.values(), default=0.0), share)


def on_one_base(images: Images, seconds: float = 90.0) -> Images:
    """The same project on a base of its own, which is to be built too."""
    based = {n: one._replace(parents=one.parents or ("base",)) for n, one in images.items()}
    return {"base": Image((), seconds, 10.0, 10.0), **based}
