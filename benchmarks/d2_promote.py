"""D2: `ci promote` of what production runs already: 20 images, a pipeline and a service.

Everything is real but AWS and Kubeflow, as `tests/integration/production.py` has it: signed
releases, scan records and SBOMs beside the images, two registries, the service in ministack.
"""

from __future__ import annotations

import shlex
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from measure import Goal, Side, Table, in_turn, profiled_lines, seconds
from shared import CI, ROOT, Bench, call

from tests.integration import production
from tests.integration.production import Project

MORE = 18  # images beside those of the pipeline and the service
SKOPEO = (
    "skopeo copy --quiet --all --preserve-digests --src-tls-verify=false --dest-tls-verify=false"
)


def run(bench: Bench) -> Table:
    table = Table(f"D2: `ci promote` once more, {MORE + 2} images with all that is attached")
    with production.project(bench.scratch / "d2", MORE) as project:
        release = project.released("1")
        project.fetch()
        project.promote(release).done()
        again = Again(bench, project, release, held(project))
        sides = {
            "ours": Side(again.ours, check=again.check),
            "skopeo": Side(again.skopeo, check=again.check),
        }
        ours, peer = in_turn(sides, bench.runs).values()
        table.compare("against `skopeo copy` of the images, one after the other", ours, peer)
        goal = Goal(1.0, "< 1 s, 0 blobs")
        table.add("gate, lock, plan, records", seconds(ours), "", "", goal, statistics.median(ours))
        table.notes.append(
            "ours also verifies the signature, asks origin for the branch, judges what was found "
            "in each image by the day's database and policy, compares what is attached, and asks "
            "the service for an answer"
        )
        table.notes.append(again.profile())
    return table


@dataclass
class Again:
    """The sides. held: what there was of images before, and must be afterwards."""

    bench: Bench
    project: Project
    release: str
    held: set[str]

    @property
    def command(self) -> list[str]:
        return ["promote", self.release, "--to", "prod", "--quiet"]

    @property
    def environment(self) -> dict[str, str]:
        home = str(self.project.prod.machine.endpoints.home)
        return {**self.bench.environment(), "KFP_CI_HOME": home}

    def ours(self) -> None:
        call([*CI, *self.command], self.project.prod.path, self.environment)

    def skopeo(self) -> None:
        images = self.project.dev.read("release.json")["images"]
        host = self.project.prod.machine.registry
        pairs = [
            f"docker://{one['reference']} docker://{host}/live/ml/{name}:{self.release}"
            for name, one in images.items()
        ]
        lines = shlex.join(["printf", "%s\n", *pairs])
        call(["sh", "-c", f"{lines} | xargs -L1 {SKOPEO}"], self.bench.scratch)

    def check(self) -> None:
        """Our own word for it, and the files of the registry."""
        images = production.journal(self.project)["steps"][0]["result"]
        assert images["moved"] == images["bytes"] == images["mounted"] == images["manifests"] == 0
        assert images["skipped"] == MORE + 2
        assert held(self.project) == self.held

    def profile(self) -> str:
        file = self.bench.scratch / "d2-profile"
        command = [sys.executable, "-m", "cProfile", "-o", str(file), *CI[1:], *self.command]
        started = time.perf_counter()
        call(command, self.project.prod.path, self.environment)
        return f"{profiled_lines(file, ROOT)}, of {time.perf_counter() - started:.2f} s"


def held(project: Project) -> set[str]:
    """The registry's files about images and what is attached to them."""
    home = project.prod.machine.endpoints.home / "registry"
    images = [path.parent for path in home.rglob("_manifests") if "promotions" not in str(path)]
    return {str(path.relative_to(home)) for folder in images for path in Path(folder).rglob("link")}
