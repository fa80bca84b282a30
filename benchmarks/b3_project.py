"""B3, on this repository's own project: a base image and five on it, with their tests."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from measure import Side, Table, at_most, fastest, in_turn
from shared import BUILD, ROOT, SCAN, Bench, Ours, call, commit, raw_push, write, xargs

from ci_tools.images import buildx

PROJECT = "clinical-ml"
BASE = "base_images/python"
ON_IT = ["components/evaluate", "components/extract", "components/preprocess",
         "components/train", "servable"]  # fmt: skip
RUNS = 3  # a run takes about a minute


def run(bench: Bench) -> Table:
    """The nonce is in what the base installs and in its sources, so that each of
    its steps and all that builds on it is done again; pip's cache mount stays.
    """
    files = call(["git", "ls-files", BASE, *ON_IT, "component_specs"], ROOT).splitlines()
    sources = {file: (ROOT / file).read_text() for file in files}
    repository = bench.repository(PROJECT, sources)
    nonce = ""

    def change() -> None:
        nonlocal nonce
        nonce = secrets.token_hex(6)
        requirements = sources[f"{BASE}/requirements.txt"]
        write(repository, {f"{BASE}/requirements.txt": f"{requirements}# {nonce}\n",
                           f"{BASE}/src/nonce.txt": nonce})  # fmt: skip
        commit(repository)

    stand_ins = external_bases(bench, repository)  # made once, untimed

    def peer(jobs: int, *after: str) -> Side:
        prefix = f"project-{jobs}-{len(after)}"

        def act() -> None:
            base = f"{bench.host}/{prefix}/python:{nonce}"
            on_it = f"--build-context {PROJECT}/python=docker-image://{base}"
            bench.shell(
                f"set -- {BASE} && {script(prefix, stand_ins, *after)} && "
                + xargs(jobs, ON_IT, script(prefix, on_it, *after)),
                repository,
            )

        def script(prefix: str, contexts: str, *after: str) -> str:
            options = f"--secret id=ca-bundle,src={buildx.ca_bundle()} {contexts}"
            image = f"{bench.host}/{prefix}/$1:{nonce}"
            return " && ".join(
                [
                    "WHERE=$1 && set -- ${1##*/}",
                    raw_push(image, "$WHERE", options),
                    f"{BUILD} {options} --output type=cacheonly --target test $WHERE",
                    *after,
                ]
            )

        return Side(act, change, bench.pushed(f"{prefix}/", 1 + len(ON_IT)))

    Ours(bench, repository, stub=True)()  # fills pip's cache mount
    ours, stubbed = Ours(bench, repository), Ours(bench, repository, stub=True)
    pushed = bench.pushed(f"{PROJECT}/", 1 + len(ON_IT))
    raw = {f"xargs -P{jobs} docker buildx build --push": peer(jobs) for jobs in (1, 2, 4)}
    scanned = {"xargs -P2 ... && trivy image": peer(2, SCAN)}
    sides = {
        "ours": ours.side(change, pushed),
        **scanned,
        "stubbed": stubbed.side(change, pushed),
        **raw,
    }
    taken = in_turn(sides, min(bench.runs, RUNS), warm=False)
    best, [scan] = fastest(taken, list(raw)), scanned
    runs = f"{min(bench.runs, RUNS)} runs"
    table = Table(f"B3: cold build and push of this project ({runs}): `ci build --plan`")
    table.compare(f"Trivy stubbed, against {best}", taken["stubbed"], taken[best], at_most(1.05))
    table.compare(f"with scan and SBOM, against {scan}", taken["ours"], taken[scan], at_most(1.05))
    table.notes += [f"with scan and SBOM: {ours}", f"Trivy stubbed: {stubbed}"]
    return table


def external_bases(bench: Bench, repository: Path) -> str:
    """Options that give a raw build the very bases that ours gets."""
    bench.ci(repository, "plan")
    plan = json.loads((repository / "build" / "plan.json").read_bytes())
    bases = {name: image for one in plan["components"] for name, image in one["bases"].items()}
    return " ".join(
        f"--build-context {name}=docker-image://{image}" for name, image in bases.items()
    )
