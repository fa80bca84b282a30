"""S2: nothing new to know: 50 images with verdicts that stand."""

from __future__ import annotations

import shutil

from measure import Goal, Table, in_turn, nothing, seconds
from scanned import project, small
from shared import Bench, Ours

NAMES = [f"component-{number:02}" for number in range(50)]
HERE, ELSEWHERE = "same build directory", "another agent: verdicts from the registry"
LIMIT = Goal(50, "<= 50 ms an image")
NO_PROGRAM = Goal(0, "0")


def run(bench: Bench) -> Table:
    images = project(bench, "s2", small(NAMES))
    build = images.repository / "build"

    def fresh() -> None:
        shutil.rmtree(build)

    here, elsewhere = Ours(bench, images.repository), Ours(bench, images.repository)
    sides = {
        HERE: here.side(nothing, nothing),
        ELSEWHERE: elsewhere.side(fresh, images.check_unscanned),
    }
    taken = in_turn(sides, bench.runs)
    table = Table(f"S2: {len(NAMES)} images whose verdicts stand: `ci build --plan`")
    for name, prepare in ((HERE, nothing), (ELSEWHERE, fresh)):
        each = 1000 * sorted(taken[name])[bench.runs // 2] / len(NAMES)
        table.add(name, seconds(taken[name]), "", f"{each:.0f} ms an image", LIMIT, each)
        calls = bench.spied(images.repository, prepare)
        scans = sum(call.startswith("trivy") for call in calls)
        row = f"{name}: Trivy programs started"
        table.add(row, str(scans), "", "", NO_PROGRAM, scans)
        table.notes.append(f"{name}: programs started: {', '.join(calls) or 'none'}")
    table.notes += [f"{HERE}: {here}", f"{ELSEWHERE}: {elsewhere}"]
    fresh()
    table.notes.append(f"{ELSEWHERE}: {bench.profile(images.repository, 'build', '--plan')}")
    return table
