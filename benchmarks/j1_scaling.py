"""J1: from 1 to 20 agents, simulated over recorded durations, and the simulation against
real shards on this machine.

Decisions are the product's (see simulation.py). The lower bound is the larger of the
critical path and of all work divided by all that can be done at once; it has no set-up.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence

import simulation
from measure import Table
from shared import BUSYBOX, CI, Bench, freshen, write
from simulation import Image, Images, Site

AGENTS = (1, 2, 4, 8, 16, 20)
LOST = 0.05  # how likely an agent is lost during a shard
LOSSES = 300  # so many jobs with such agents
PROJECTS = ("example", "made-up-20", "made-up-100", "made-up-300")
# name -> parents and seconds of sleep, for the real run.
REAL: dict[str, tuple[tuple[str, ...], int]] = {
    "a0": ((), 6), "a1": (("a0",), 5), "a2": (("a1",), 4),
    "b0": ((), 8), "b1": (("b0",), 6), "c0": ((), 9), "d0": ((), 7), "e0": ((), 6),
    "f0": ((), 5), "g0": ((), 4), "h0": ((), 4), "i0": ((), 3),
}  # fmt: skip
REAL_JOBS = 2


def run(bench: Bench) -> Table:
    table = Table(
        "J1: agents, simulated: seconds from plan to lock (shards)",
        head=("what", *(f"{agents} agent{'s' * (agents > 1)}" for agents in AGENTS)),
    )
    site = Site(1)
    for name in PROJECTS:
        simulated(table, name, simulation.load(name), site)
    large = simulation.load("made-up-300")
    simulated(table, "made-up-300 on one base", simulation.on_one_base(large), site)
    simulated(table, "made-up-300, 2 at once", large, site._replace(jobs=2))
    table.notes += [
        f"each agent: {site.jobs} at once, ready after {site.ready:g} s, {site.pull:g} s more for "
        "its first image; warm: ready after 10 s, and nothing more; merge "
        f"{site.costs.merge:g} s",
        f"lost: each agent is lost in {100 * LOST:g} of 100 shards, the shard starts elsewhere "
        f"{site.notice:g} s later; mean of {LOSSES} jobs, and the 95th of 100",
        "speed-up: against one agent; efficiency: speed-up by agents that were started; bound: "
        "how much longer than the lower bound",
        "remote: one agent, and a BuildKit builder for each agent of the column, with as many "
        "builds at once; scans and tests stay on the one agent",
        f"the whole job: with plan, compile, upload and training tests of {sum(site.stages):g} s, "
        f"each on an agent that is ready after {site.ready:g} s",
        recorded(),
        *real(bench),
    ]
    return table


def simulated(table: Table, name: str, images: Images, like: Site) -> None:
    """The rows of one project. like: what each agent is like."""
    sites = [like._replace(agents=agents) for agents in AGENTS]
    work = sum(one.seconds for one in images.values())
    chain = simulation.floor(images, sites[0]).chain
    outcomes = [simulation.fan_out(images, site) for site in sites]
    bounds = [simulation.floor(images, site).seconds for site in sites]
    alone = outcomes[0].build

    def row(what: str, cells: Sequence[str]) -> None:
        table.rows.append((what, *cells))

    title = f"**{name}**: {len(images)} images, {work:.0f} s of work, path {chain:.0f} s"
    row(title, [f"{one.build:.0f} ({one.shards})" for one in outcomes])
    ratios = [alone / one.build for one in outcomes]
    row("speed-up", [f"{ratio:.2f}" for ratio in ratios])
    efficient = [ratio / one.shards for ratio, one in zip(ratios, outcomes, strict=True)]
    row("efficiency", [f"{share:.0%}" for share in efficient])
    row("bound", [f"{one.build / low:.2f}x" for one, low in zip(outcomes, bounds, strict=True)])
    if "base" in images:
        without = [simulation.fan_out(images, site, first=False) for site in sites]
        row("without `--first`", [f"{one.build:.0f} ({one.shards})" for one in without])
    row("lost agents", [lossy(images, site) for site in sites])
    warm = [simulation.fan_out(images, site._replace(ready=10.0, pull=0.0)) for site in sites]
    row("warm agents", [f"{one.build:.0f} ({one.shards})" for one in warm])
    row("remote builders", [f"{simulation.remote(images, site).build:.0f}" for site in sites])
    whole = [one.whole(site) for one, site in zip(outcomes, sites, strict=True)]
    row("the whole job", [f"{seconds:.0f}" for seconds in whole])


def lossy(images: Images, site: Site) -> str:
    outcomes = simulation.runs(images, site._replace(p=LOST), range(LOSSES))
    took = [one.build for one in outcomes]
    if outcomes[0].shards == 1:
        return f"{took[0]:.0f}"  # the stage's own agent: Jenkins runs the stage again
    return f"{statistics.mean(took):.0f}, {statistics.quantiles(took, n=20)[-1]:.0f}"


def recorded() -> str:
    """The build that data/example.json was recorded of, against its simulation."""
    took = json.loads((simulation.DATA / "example.json").read_bytes())["took"]
    images = simulation.load("example")
    alike = max(simulation.schedule(images, 4, guessed=True).values())
    known = max(simulation.schedule(images, 4).values())
    return (
        f"example, as it was recorded, with no earlier build to tell how long images take: "
        f"{took:.1f} s, simulated {alike:.1f} s; where that is known, simulated {known:.1f} s"
    )


def real(bench: Bench) -> list[str]:
    """What the simulation says of a real build of 1 and of 2 shards, and what they took.

    The seconds of each image come from a build before. Trivy is stubbed and images
    sleep, for two shards share this machine's processors.
    """
    files: dict[str, str | bytes] = {}
    for name, (parents, seconds) in REAL.items():
        parent = f"j1/{parents[0]}" if parents else "scratch"
        busybox = "" if parents else "COPY busybox /bin/busybox\n"
        sleep = f'RUN ["/bin/busybox", "sleep", "{seconds}"]\n'
        files |= {
            f"components/{name}/Dockerfile": f"FROM {parent}\n{busybox}COPY src /src\n{sleep}",
            f"components/{name}/src/nonce": name,
            f"components/{name}/busybox": BUSYBOX,
        }
    repository = bench.repository("j1", files)
    build = repository / "build"
    jobs = f"--jobs={REAL_JOBS}"
    bench.ci(repository, "plan", jobs)
    bench.ci(repository, "build", jobs, stub=True)  # tells what each image takes
    write(bench.scratch, {"j1.lock.json": (build / "images.lock.json").read_bytes()})
    recorded = _images(json.loads((build / "images.lock.json").read_bytes()))
    told: list[str] = []
    for count in (1, 2):
        freshen(repository, list(REAL))
        timings = f"--timings={bench.scratch / 'j1.lock.json'}"
        bench.ci(repository, "plan", jobs, f"--shards={count}", timings)
        plan = json.loads((build / "plan.json").read_bytes())
        where = {one["name"]: one["shard"] for one in plan["components"]}
        expected = _slowest(recorded, where)
        started = time.perf_counter()
        running = [
            subprocess.Popen(
                [*CI, "build", f"--shard={number}/{count}", jobs, "--quiet"],
                cwd=repository,
                env=bench.environment(bench.stub),
                stdout=subprocess.DEVNULL,
            )
            for number in range(1, count + 1)
        ]
        codes = [one.wait() for one in running]
        if any(codes):
            raise SystemExit("j1: a shard failed")
        took = time.perf_counter() - started
        made: dict[str, Image] = {}
        for number in range(1, count + 1):
            lock = build / f"images.lock.{number}-of-{count}.json"
            made |= _images(json.loads(lock.read_bytes()))
        own = _slowest(made, where)
        told.append(
            f"real `ci build --shard I/{count}`, {len(REAL)} images that sleep, {REAL_JOBS} at "
            f"once, a process a shard: {took:.1f} s; simulated over what the build before took "
            f"{expected:.1f} s ({took / expected - 1:+.0%}), over what this one took "
            f"{own:.1f} s ({took / own - 1:+.0%}; a process takes about 1 s to begin and end)"
        )
    return told


def _slowest(images: Images, where: Mapping[str, int]) -> float:
    """Seconds until the last shard is done. where: image -> shard."""
    parts = [{n: images[n] for n in where if where[n] == shard} for shard in set(where.values())]
    return max(simulation.longest(part, REAL_JOBS) for part in parts)


def _images(lock: dict[str, dict[str, dict[str, object]]]) -> dict[str, Image]:
    from durations import of_lock

    recorded = of_lock(lock, "")["components"]
    return {
        name: Image(tuple(one["parents"]), one["build"], one["check"], one["push"])
        for name, one in recorded.items()
    }
