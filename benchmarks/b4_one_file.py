"""B4: one file of one of 50 images that are in the registry changes."""

from __future__ import annotations

from pathlib import Path

from measure import Side, Table, at_most, in_turn
from shared import SMALL_DOCKERFILE, Bench, Ours, freshen, raw_push, small_components

NAMES = [f"component-{number:02}" for number in range(50)]
SMALL, SLOW = NAMES[7], NAMES[8]
SLOW_SECONDS = 10  # more; a step that installs something takes that and longer
PEER = "docker buildx build --push of that image"


def run(bench: Bench) -> Table:
    files = small_components(NAMES)
    sleeps = f'RUN ["/bin/busybox", "sleep", "{SLOW_SECONDS}"]\n'
    files[f"components/{SLOW}/Dockerfile"] = SMALL_DOCKERFILE + sleeps
    repository = bench.repository("b4", files)
    Ours(bench, repository, stub=True)()  # now all 50 are in the registry
    table = Table("B4: one file of one of 50 images changed: `ci build --plan`")
    one(bench, table, repository, SMALL, "a small image")
    one(bench, table, repository, SLOW, f"one that takes {SLOW_SECONDS} s more")
    return table


def one(bench: Bench, table: Table, repository: Path, name: str, what: str) -> None:
    nonce = ""

    def change() -> None:
        nonlocal nonce
        nonce = freshen(repository, [name])

    def raw() -> None:
        reference = f"{bench.host}/b4-raw-{name}/{name}:{nonce}"
        bench.shell(raw_push(reference, f"components/{name}"), repository)

    ours, stubbed = Ours(bench, repository), Ours(bench, repository, stub=True)
    pushed = bench.pushed("b4/", 1)
    sides = {
        "ours": ours.side(change, pushed),
        "raw": Side(raw, change, bench.pushed(f"b4-raw-{name}/", 1)),
        "stubbed": stubbed.side(change, pushed),
    }
    taken = in_turn(sides, bench.runs)
    for title, mine in (("with scan and SBOM", "ours"), ("Trivy stubbed", "stubbed")):
        row = f"{what}, {title}, against {PEER}"
        table.compare(row, taken[mine], taken["raw"], at_most(1.2))
    table.notes += [
        f"{what}, with scan and SBOM: {ours}",
        f"{what}, Trivy stubbed: {stubbed}",
    ]
