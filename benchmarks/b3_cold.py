"""B3: cold build and push of 20 small images; a nonce in each makes every layer new."""

from __future__ import annotations

from measure import Side, Table, at_most, fastest, in_turn
from shared import SBOM, SCAN, Bench, Ours, freshen, raw_push, small_components, xargs

NAMES = [f"component-{number:02}" for number in range(20)]
SCANNED, LISTED = "&& trivy image", "&& trivy image && trivy convert"


def run(bench: Bench) -> Table:
    repository = bench.repository("b3", small_components(NAMES))
    nonce = ""

    def change() -> None:
        nonlocal nonce
        nonce = freshen(repository, NAMES)

    def peer(jobs: int, *after: str) -> Side:
        prefix = f"b3-{jobs}-{len(after)}"

        def act() -> None:
            image = f"{bench.host}/{prefix}/$1:{nonce}"
            steps = [raw_push(image, "components/$1"), *after]
            bench.shell(xargs(jobs, NAMES, " && ".join(steps)), repository)

        return Side(act, change, bench.pushed(f"{prefix}/", len(NAMES)))

    ours, stubbed = Ours(bench, repository), Ours(bench, repository, stub=True)
    pushed = bench.pushed("b3/", len(NAMES))
    raw = {f"xargs -P{jobs} docker buildx build --push": peer(jobs) for jobs in (1, 2, 4)}
    scanned = {f"xargs -P{jobs} ... {SCANNED}": peer(jobs, SCAN) for jobs in (2, 4)}
    listed = {f"xargs -P{jobs} ... {LISTED}": peer(jobs, SCAN, SBOM) for jobs in (2, 4)}
    sides = {
        "ours": ours.side(change, pushed),
        **raw,
        "stubbed": stubbed.side(change, pushed),
        **scanned,
        **listed,
    }
    taken = in_turn(sides, bench.runs)
    table = Table(f"B3: cold build and push of {len(NAMES)} small images: `ci build --plan`")
    for title, mine, peers in (
        ("Trivy stubbed", "stubbed", raw),
        ("with scan and SBOM", "ours", raw),
        ("with scan and SBOM", "ours", scanned),
        ("with scan and SBOM", "ours", listed),
    ):
        best = fastest(taken, list(peers))
        goal = None if (mine, peers) == ("ours", raw) else at_most(1.05)
        what = f"{title}, against {best}"
        table.compare(what, taken[mine], taken[best], goal)
    table.notes += [f"with scan and SBOM: {ours}", f"Trivy stubbed: {stubbed}"]
    return table
