"""Releases made, promoted, refused and gone back to with every part real, by the command line.

`production` says what the parts are. Oracles: `skopeo` and `cosign`, the services' own
answers over HTTP, boto3, and the files of production's registry.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml

from ci_tools.errors import PromotionRefusedError, PromotionUnderWayError
from tests.integration import production
from tests.integration.production import NEWS, SERVICE, WAIVED, Project
from tests.integration.repositories import Spy, inspected, skopeo
from tests.integration.test_release import ROOT
from tests.integration.test_scan import an_hour_later

pytestmark = pytest.mark.integration

REFUSED = PromotionRefusedError.exit_code
SCAN = "application/vnd.kfp-ci.scan.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"


@dataclass(frozen=True)
class Promoted:
    """A project of which production ran a first release, and runs a second. public: the key
    of both."""

    project: Project
    first: str
    second: str
    records: list[dict[str, Any]]
    public: Path

    @property
    def record(self) -> dict[str, Any]:
        """Of the second's promotion."""
        return self.records[1]

    def images(self) -> Iterator[tuple[str, str]]:
        """Each image of the second release: where it was tested, and in production."""
        for name, one in self.project.dev.read("release.json")["images"].items():
            yield one["reference"], self.record["images"][name]


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Promoted]:
    folder = tmp_path_factory.mktemp("promoted")
    with production.project(folder) as project:
        names, records = [], []
        for version in ("1", "2"):
            names.append(project.released(version))
            project.fetch()
            records.append(project.promote(names[-1], "--json").done().document)
            assert project.answer() == version
        yield Promoted(project, *names, records, folder / "release.pub")


def raw(reference: str) -> dict[str, Any]:
    found = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{reference}"))
    assert isinstance(found, dict)
    return found


def attached(reference: str) -> dict[str, str]:
    """Digest -> type of all that refers to an image, as its registry lists it."""
    name, _, digest = reference.partition("@")
    listed = raw(f"{name}:{digest.replace(':', '-')}")["manifests"]
    return {one["digest"]: one["artifactType"] for one in listed}


def test_production_runs_the_very_bytes_that_were_tested(promoted: Promoted) -> None:
    pairs = list(promoted.images())
    assert len(pairs) == 2
    for tested, live in pairs:
        assert live.startswith(f"{promoted.project.prod.machine.registry}/live/ml/")
        assert inspected(live)["Digest"] == inspected(tested)["Digest"] == tested.partition("@")[2]
        assert raw(live) == raw(tested)
        # By its release's tag too, which no clean-up takes.
        name = f"{live.partition('@')[0]}:{promoted.second}"
        assert inspected(name)["Digest"] == tested.partition("@")[2]
    served = promoted.record["images"]["servable"]
    running = docker.from_env().containers.list(
        filters={"label": f"com.amazonaws.ecs.task-definition-family={SERVICE}"},
        ignore_removed=True,
    )
    assert served in [one.attrs["Config"]["Image"] for one in running]
    version = promoted.record["pipelines"]["training"]
    catalogue = promoted.project.prod.machine.endpoints.home / "catalogue"
    ir = (catalogue / version["pipeline"] / f"{version['version']}.yaml").read_text()
    executors = next(yaml.safe_load_all(ir))["deploymentSpec"]["executors"].values()
    assert [one["container"]["image"] for one in executors] == [promoted.record["images"]["train"]]


def test_sboms_and_attestations_come_along_and_cosign_believes_them_there(
    promoted: Promoted, tmp_path: Path
) -> None:
    (tmp_path / "root.json").write_text(ROOT)
    for tested, live in promoted.images():
        there = attached(live)
        assert sorted(there.values()) == [BUNDLE, BUNDLE, SCAN]
        assert there == attached(tested)
        for kind in ("slsaprovenance1", "cyclonedx"):
            subprocess.run(
                ["cosign", "verify-attestation", "--insecure-ignore-tlog=true",
                 "--new-bundle-format", "--trusted-root", tmp_path / "root.json",
                 "--key", promoted.public, "--type", kind, live],
                check=True, capture_output=True,
            )  # fmt: skip


def test_the_same_again_moves_nothing_and_scans_nothing(promoted: Promoted, spy: Spy) -> None:
    project = promoted.project
    before = project.world()
    path = f"{spy.directory}:{project.prod.environment()['PATH']}"
    project.promote(promoted.second, env={"PATH": path}).done()
    images = production.journal(project)["steps"][0]["result"]
    assert (images["moved"], images["bytes"], images["manifests"]) == (0, 0, 0)
    assert images["skipped"] == 2
    assert not (project.prod.build / "reports/promote/scan.html").exists()  # all is well
    assert [
        call for call in spy.calls if call.startswith("trivy") and "--version" not in call
    ] == []
    after = project.world()
    assert {**after, "files": 0} == {**before, "files": 0}
    assert project.answer() == "2"


def test_a_waiver_that_has_expired_refuses(promoted: Promoted, tmp_path: Path) -> None:
    later = production.apart(
        promoted.project, tmp_path, **{"scan-policy.yaml": production.policy("2026-01-31")}
    )
    before = later.world()
    answer = later.promote(promoted.first)
    answer.refused(
        REFUSED, promoted.first, "image 'servable' does not pass today's scan",
        f"{WAIVED} in waived 1.0-1 (fixed in 9), whose waiver expired on 2026-01-31",
    )  # fmt: skip
    assert "'train'" not in answer.err
    assert (later.prod.build / "reports/promote/scan.html").exists()
    assert WAIVED in later.promote(promoted.first, "--dry-run").refused(REFUSED).out
    assert later.world() == before


def test_one_that_is_killed_while_the_service_changes_is_put_back(promoted: Promoted) -> None:
    project = promoted.project
    before, last = project.service(), project.history()["records"][0]
    with subprocess.Popen(
        project.prod.command("promote", promoted.first, "--to", "prod"),
        cwd=project.prod.path, env=project.prod.environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        until = time.monotonic() + 600
        while project.service()["taskDefinition"] == before["taskDefinition"]:
            assert child.poll() is None, child.communicate()
            assert time.monotonic() < until
            time.sleep(0.05)
        child.kill()
    assert child.returncode == -signal.SIGKILL
    other = project.rollback()
    other.refused(PromotionUnderWayError.exit_code, promoted.first, "unfinished", "--undo")
    undone = project.prod.ci("promote", "--undo", "--to", "prod").done()
    assert "service servable" in undone.out
    assert project.service()["taskDefinition"] == before["taskDefinition"]
    assert project.answer() == "2"
    now = project.history()
    assert (now["runs"], now["records"][0]["outcome"]) == (promoted.second, "undone")
    assert now["records"][1] == last
    assert project.prod.ci("promote", "--undo", "--to", "prod").done().out == (
        "no promotion is unfinished\n"
    )


def test_an_advisory_of_today_refuses_what_a_way_back_only_warns_of(promoted: Promoted) -> None:
    """The last one: what was found stays beside the images."""
    project = promoted.project
    before = project.world()
    project.publish_database("2026-06-01T00:00:00Z", planted={NEWS: "2.0"})
    an_hour_later(project.prod.machine)
    for _ in range(2):  # the second time by the record that the first one left
        answer = project.promote(promoted.first)
        answer.refused(REFUSED, promoted.first, "image 'train' does not pass", NEWS, "planted 1.0")
        assert "'servable'" not in answer.err
        assert project.world() == before

    answer = project.rollback().done()
    (warning,) = [line for line in answer.err.splitlines() if "WARNING: " in line]
    assert "going back all the same: image 'train' does not pass today's scan" in warning
    assert NEWS in warning
    assert project.answer() == "1"
    now = project.history()
    assert (now["runs"], now["records"][0]["action"]) == (promoted.first, "rollback")
    assert now["records"][0]["images"] == promoted.records[0]["images"]
