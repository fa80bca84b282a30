"""S4: an image of two gigabytes: time and memory of its scan, against raw Trivy."""

from __future__ import annotations

import random
from collections.abc import Callable

import written
from measure import Side, Table, in_turn
from memory import Memory
from scanned import Project, Raw, project
from shared import Bench, Ours
from written import Layer

RUNS = 3  # a run takes up to a minute a side
RAW, SERVED = "`trivy image` && `trivy convert`", "the same, of a `trivy server`"
LIBRARIES, PARTS, MODULES, PACKAGES = 24, 15, 30_000, 400  # of 40 MiB, 40 MiB, 11 kB
SITE = "usr/local/lib/python3.11/site-packages"


def run(bench: Bench) -> Table:
    layers = large()
    table = Table("S4: an image of 2 GB: `ci build --plan`")
    # With two images ours has a server, with one it has none.
    one = project(bench, "s4", {"large": layers})
    measured(bench, one, table, "one image", {RAW: Raw(one, 1), SERVED: Raw(one, 1, served=True)})
    extra = written.layer({"extra": b"another\n"})
    two = project(bench, "s4-two", {"large": layers, "larger": [*layers, extra]})
    served = Raw(two, 2, served=True, first=True)
    measured(bench, two, table, "two on one base", {RAW: Raw(two, 1), SERVED: served})
    table.notes.append(
        f"{sum(len(layer.content) for layer in layers) / 1e9:.2f} GB compressed above the base: "
        f"{LIBRARIES} libraries and a model of random bytes, {MODULES} modules, "
        f"{PACKAGES} Python packages"
    )
    return table


def measured(bench: Bench, images: Project, table: Table, what: str, peers: dict[str, Raw]) -> None:
    ours = Ours(bench, images.repository)
    held: dict[str, list[Memory]] = {}

    def side(name: str, plain: Side) -> Side:
        held[name] = []

        def act() -> None:
            held[name].append(Memory(plain.act, "trivy"))
            held[name][-1]()

        return Side(act, plain.prepare, plain.check)

    plain = {"ours": ours.side(images.forget_all, images.check_ours)}
    plain |= {name: raw.side for name, raw in peers.items()}
    sides = {name: side(name, one) for name, one in plain.items()}
    taken = in_turn(sides, min(bench.runs, RUNS), warm=False)
    most = {name: max(runs, key=lambda one: one.peak) for name, runs in held.items()}
    for name in peers:
        table.compare(f"{what}, time, against {name}", taken["ours"], taken[name])
    for name in peers:
        ratio = most["ours"].peak / most[name].peak
        row = f"{what}, memory of all Trivy programs at once, against {name}"
        table.add(row, str(most["ours"]), str(most[name]), f"{ratio:.2f}", None)
    programs = ", ".join(f"{name} {one.together}" for name, one in most.items())
    table.notes += [f"{what}: {ours}", f"{what}: programs at the peak: {programs}", images.work]


def large() -> list[Layer]:
    """Layers as `pip install` of a framework and a model make them: 2 GB of files."""
    made = random.Random(4)  # noqa: S311 - the same bytes each time
    libraries = {f"{SITE}/torch/lib/lib{n}.so": made.randbytes(40 << 20) for n in range(LIBRARIES)}
    modules = {
        f"{SITE}/package{n % PACKAGES}/module{n}.py": _module(made.getrandbits)
        for n in range(MODULES)
    }
    modules |= {
        f"{SITE}/package{n}-1.{n}.dist-info/METADATA": (
            f"Metadata-Version: 2.1\nName: package{n}\nVersion: 1.{n}\n".encode()
        )
        for n in range(PACKAGES)
    }
    model = {"opt/model/weights.bin": b"".join(made.randbytes(40 << 20) for _ in range(PARTS))}
    return [written.layer(files, level=1) for files in (libraries, modules, model)]


def _module(bits: Callable[[int], int]) -> bytes:
    """Some 11 kB that look like a program."""
    lines = (f"def f_{bits(40):x}(x):\n    return x * {bits(200)}\n\n" for _ in range(110))
    return "".join(lines).encode()
