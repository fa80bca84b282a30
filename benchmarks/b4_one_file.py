"""B4: one file of one of 50 images that are in the registry changes."""

from __future__ import annotations

from measure import Side, Table, at_most, in_turn
from shared import Bench, Ours, freshen, raw_push, small_components

NAMES = [f"component-{number:02}" for number in range(50)]
PEER = "docker buildx build --push of that image"


def run(bench: Bench) -> Table:
    repository = bench.repository("b4", small_components(NAMES))
    one = NAMES[7]
    nonce = ""

    def change() -> None:
        nonlocal nonce
        nonce = freshen(repository, [one])

    def raw() -> None:
        reference = f"{bench.host}/b4-raw/{one}:{nonce}"
        bench.shell(raw_push(reference, f"components/{one}"), repository)

    ours, stubbed = Ours(bench, repository), Ours(bench, repository, stub=True)
    Ours(bench, repository, stub=True)()  # now all 50 are in the registry
    pushed = bench.pushed("b4/", 1)
    sides = {
        "ours": ours.side(change, pushed),
        "raw": Side(raw, change, bench.pushed("b4-raw/", 1)),
        "stubbed": stubbed.side(change, pushed),
    }
    taken = in_turn(sides, bench.runs)
    table = Table("B4: one file of one of 50 images changed: `ci plan && ci build`")
    table.compare(f"with scan and SBOM, against {PEER}", taken["ours"], taken["raw"], at_most(1.2))
    table.compare(f"Trivy stubbed, against {PEER}", taken["stubbed"], taken["raw"], at_most(1.2))
    table.notes += [f"with scan and SBOM: {ours}", f"Trivy stubbed: {stubbed}"]
    return table
