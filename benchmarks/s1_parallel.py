"""S1: a scan of 20 images on one base, against Trivy by hand."""

from __future__ import annotations

from measure import Side, Table, at_most, fastest, in_turn
from scanned import Project, Raw, project, small
from shared import Bench, Ours

NAMES = [f"component-{number:02}" for number in range(20)]
SERIAL = "serial `trivy image` && `trivy convert`"
BARE = "serial `trivy image`, no SBOM"
BASE = "one image alone"


def run(bench: Bench) -> Table:
    images = project(bench, "s1", small(NAMES))
    table = Table(f"S1: scan of {len(NAMES)} images on one base: `ci build --plan`")
    cold(bench, images, table)
    warm(bench, images, table)
    table.notes.append(images.work)
    return table


def cold(bench: Bench, images: Project, table: Table) -> None:
    ours = Ours(bench, images.repository)
    tuned = by_hand(images, warm=False)
    sides = {
        "ours": ours.side(images.forget_all, images.check_ours),
        SERIAL: Raw(images, 1).side,
        BARE: Raw(images, 1, lists=False).side,
        BASE: Raw(images, 1, names=NAMES[:1]).side,
        **tuned,
    }
    taken = in_turn(sides, bench.runs)
    best = fastest(taken, list(tuned))
    table.compare(f"no layer known, against {SERIAL}", taken["ours"], taken[SERIAL], at_most(0.5))
    table.compare(f"no layer known, against {BARE}", taken["ours"], taken[BARE])
    table.compare(f"no layer known, against {best}", taken["ours"], taken[best], at_most(1.1))
    table.compare(f"for scale: {BASE}, against {SERIAL}", taken[BASE], taken[SERIAL])
    table.compare(f"for scale: {best}, against {SERIAL}", taken[best], taken[SERIAL])
    table.notes.append(f"no layer known: {ours}")


def warm(bench: Bench, images: Project, table: Table) -> None:
    ours = Ours(bench, images.repository)
    tuned = by_hand(images, warm=True)
    sides = {
        "ours": ours.side(images.forget_verdicts, images.check_ours),
        SERIAL: Raw(images, 1, warm=True).side,
        **tuned,
    }
    taken = in_turn(sides, bench.runs)
    best = fastest(taken, list(tuned))
    table.compare(f"layers known, against {SERIAL}", taken["ours"], taken[SERIAL])
    table.compare(f"layers known, against {best}", taken["ours"], taken[best])
    table.notes.append(f"layers known: {ours}")


def by_hand(images: Project, *, warm: bool) -> dict[str, Side]:
    """The ways to do it at once; the first image alone matters only where nothing is known."""
    sides: dict[str, Side] = {}
    for jobs in (2, 4):
        sides[f"xargs -P{jobs}, a cache each"] = Raw(images, jobs, warm=warm).side
        sides[f"xargs -P{jobs}, one server"] = Raw(images, jobs, served=True, warm=warm).side
        if not warm:
            name = f"one image, then xargs -P{jobs}, one server"
            sides[name] = Raw(images, jobs, served=True, first=True).side
    return sides
