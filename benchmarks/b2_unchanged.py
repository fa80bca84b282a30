"""B2: nothing to do: 50 images that the registry has."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path

from measure import Side, Table, in_turn, nothing, times_faster
from shared import BUILD, Bench, Ours, small_components, xargs

NAMES = [f"component-{number:02}" for number in range(50)]


def run(bench: Bench) -> Table:
    repository = bench.repository("b2", small_components(NAMES))
    bake = bench.scratch / "docker-bake.json"
    bake.write_text(json.dumps(baked(bench.host)))
    one = f"{BUILD} --tag {bench.host}/b2-raw/$1:latest components/$1"
    peers = {
        "docker buildx bake": f"docker buildx bake --progress=quiet --file {bake}",
        "xargs -P2 docker buildx build": xargs(2, NAMES, one),
    }
    for script in peers.values():  # cold; the measured runs find everything cached
        bench.shell(script, repository)
    Ours(bench, repository, stub=True)()
    ours = Ours(bench, repository)
    sides = {"ours": ours.side(nothing, bench.pushed("b2/", 0))}
    for name, script in peers.items():
        sides[name] = Side(partial(bench.shell, script, repository))
    taken = in_turn(sides, bench.runs)
    table = Table(f"B2: {len(NAMES)} images, all in the registry: `ci build --plan`")
    for name in peers:
        table.compare(f"against {name}, all cached", taken["ours"], taken[name], times_faster(20))
    table.notes += [counts(bench, repository), str(ours)]
    table.notes.append(bench.profile(repository, "build", "--plan"))
    return table


def baked(host: str) -> dict[str, object]:
    """docker-bake.json of the same images."""
    targets = {
        name: {"context": f"components/{name}", "tags": [f"{host}/b2-bake/{name}:latest"]}
        for name in NAMES
    }
    return {"group": {"default": {"targets": NAMES}}, "target": targets}


def counts(bench: Bench, repository: Path) -> str:
    """Builds, scans and pushes of one more run, as spies and the registry's storage saw them."""
    started = time.time()
    calls = bench.spied(repository)
    builds = sum(line.startswith("docker buildx build") for line in calls)
    scans = sum(line.startswith("trivy image") for line in calls)
    return (
        f"builds {builds}, pushes {bench.writes_since(started)}, calls of trivy image {scans}, "
        f"programs started: {', '.join(calls) or 'none'}"
    )
