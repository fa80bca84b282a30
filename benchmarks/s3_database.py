"""S3: a newer database: 20 SBOMs are matched again, against looking into 20 images."""

from __future__ import annotations

import shutil

from measure import Side, Table, in_turn
from scanned import Raw, move_database, project, small
from shared import Bench, Ours

NAMES = [f"component-{number:02}" for number in range(20)]
COLD, WARM = "a full scan, no layer known", "a full scan, layers known"
HERE, ELSEWHERE = "matched, same build directory", "matched, another agent"
BY_HAND = "xargs -P2 trivy sbom"


def run(bench: Bench) -> Table:
    images = project(bench, "s3", small(NAMES))
    reports, apart = images.repository / "build" / "reports", bench.scratch / "s3-sboms"
    shutil.copytree(reports, apart)

    def moved() -> None:
        move_database(bench)
        images.drop_reports()

    def elsewhere() -> None:
        move_database(bench)
        shutil.rmtree(images.repository / "build")

    ours = {name: Ours(bench, images.repository) for name in (HERE, ELSEWHERE, COLD, WARM)}
    raw = Raw(images, 2, match=apart)
    sides = {
        HERE: ours[HERE].side(moved, images.check_matched),
        ELSEWHERE: ours[ELSEWHERE].side(elsewhere, images.check_matched),
        COLD: ours[COLD].side(images.forget_all, images.check_ours),
        WARM: ours[WARM].side(images.forget_verdicts, images.check_ours),
        BY_HAND: Side(raw, raw.prepare, raw.check),
    }
    taken = in_turn(sides, bench.runs)
    table = Table(f"S3: a newer database, {len(NAMES)} images: `ci build --plan`")
    for mine in (HERE, ELSEWHERE):
        for other in (COLD, WARM, BY_HAND):
            table.compare(f"{mine}, against {other}", taken[mine], taken[other])
    table.notes += [f"{name}: {one}" for name, one in ours.items()]
    table.notes.append(images.work)
    return table
