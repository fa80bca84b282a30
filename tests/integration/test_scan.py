"""The scan gate on real parts: planted findings, and databases of the tests' own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration import trivy_database
from tests.integration.images import CREDENTIALS, DEBIAN, KEY_ID, SECRET, debian
from tests.integration.repositories import (
    BASE,
    Machine,
    Repository,
    Spy,
    component,
    in_registry,
    inspected,
    machine,
)

pytestmark = pytest.mark.integration

OLD, NEW = "2026-01-01T00:00:00Z", "2026-02-02T00:00:00Z"
AGELESS = {"database_days": 36500}  # the dates above are what is tested, not their age
CVE = "CVE-2099-0001"


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Machine]:
    """An environment for one test: its vulnerability database is nobody else's."""
    with machine(tmp_path / "home") as running:
        yield running


def with_database(running: Machine, path: Path, name: str = "trivy-db") -> Repository:
    return running.repository(
        path,
        component("one", DEBIAN, **debian()),
        scan={"database": f"{running.registry}/{name}", **AGELESS},
    )


def an_hour_later(running: Machine) -> None:
    """Trivy asks for a newer database no sooner than an hour after a download."""
    (path,) = (running.endpoints.home / "trivy").glob("vulnerabilities-*/current/db/metadata.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "DownloadedAt": OLD}))


def test_a_planted_secret_is_refused_and_never_told(machine: Machine, tmp_path: Path) -> None:
    repository = machine.repository(
        tmp_path / "r",
        {
            **component("leaky", BASE + "COPY credentials /root/.aws/\n", credentials=CREDENTIALS),
            **component("good"),
            "component_specs/leaky.yaml": "implementation: {container: {image: leaky}}\n",
        },
    )
    raw, report = (repository.build / "reports" / n for n in ("leaky/trivy.json", "scan.html"))
    answer = repository.built()
    answer.refused(22, "'leaky'", "aws-access-key-id", "/root/.aws/credentials", str(report))

    key = next(c["key"] for c in repository.read("plan.json")["components"] if c["name"] == "leaky")
    assert not in_registry(repository.tagged("leaky", key))
    assert list(repository.images) == ["good"]
    assert inspected(repository.reference("good"))["Digest"] == repository.images["good"]["digest"]

    found = [s for r in json.loads(raw.read_text())["Results"] for s in r.get("Secrets", [])]
    assert {one["RuleID"] for one in found} >= {"aws-access-key-id"}
    for path in repository.build.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
            assert KEY_ID.encode() not in path.read_bytes(), path
    assert SECRET not in answer.out + answer.err
    assert KEY_ID not in answer.out + answer.err

    # Nothing goes on from there.
    repository.ci("pin").refused(22, "'leaky'")
    assert not (repository.build / "component_specs").exists()
    assert not (repository.build / "pins.json").exists()


def test_a_secret_in_the_images_configuration_is_refused(machine: Machine, tmp_path: Path) -> None:
    files = component("leaky", BASE + f"ENV AWS_ACCESS_KEY_ID={KEY_ID}\n")
    repository = machine.repository(tmp_path / "r", files)
    answer = repository.built()
    answer.refused(22, "'leaky'", "aws-access-key-id")
    assert KEY_ID not in answer.out + answer.err
    report = (repository.build / "reports/scan.html").read_text()
    assert KEY_ID not in report


def test_without_a_database_local_goes_on_loudly_and_dev_refuses(
    machine: Machine, tmp_path: Path
) -> None:
    repository = machine.repository(
        tmp_path / "r",
        component("one"),
        environments={"dev": {"registry": {"host": machine.registry, "prefix": "dev"}}},
    )
    local = repository.built().done()
    assert "WARNING: " in local.err
    assert "INCOMPLETE" in local.err
    verdict = repository.images["one"]["verdict"]
    assert (verdict["status"], verdict["database"]) == ("incomplete", None)
    assert "database" in verdict["reason"]

    dev = {"KFP_CI_ENVIRONMENT": "dev"}
    repository.built(env=dev).refused(23, "'one'", "not scanned completely", "scan.database")
    assert repository.images == {}
    key = repository.read("plan.json")["components"][0]["key"]
    assert not in_registry(f"{machine.registry}/dev/{repository.project}/one:{key}")

    # An image that `local` pushed with such a verdict is no way around the gate,
    # nor is the verdict that stands in its lock.
    same = {"dev": {"registry": {"host": machine.registry}}}
    repository.write({"ci.yaml": json.dumps({**repository.config, "environments": same})})
    repository.built(env=dev).refused(23, "'one'")
    assert repository.images == {}
    repository.built().done()
    repository.built(env=dev).refused(23, "'one'")
    assert repository.images == {}


def test_a_vulnerability_that_is_mended_elsewhere_is_refused(
    apart: Machine, tmp_path: Path
) -> None:
    trivy_database.publish(
        apart.registry, "trivy-db", updated=OLD, advisories={"planted": {CVE: "1.0-2"}}
    )
    repository = with_database(apart, tmp_path / "r")
    repository.built().refused(22, "'one'", f"{CVE} in planted 1.0-1 (fixed in 1.0-2)")
    assert repository.images == {}

    repository.write(component("one", DEBIAN, **debian(version="1.0-2")))
    assert "INCOMPLETE" not in repository.built().done().err
    verdict = repository.images["one"]["verdict"]
    assert (verdict["status"], verdict["counts"]) == ("pass", {})
    assert verdict["database"].startswith("2026-01-01T00:00:00")
    sbom = json.loads((repository.build / verdict["sbom"]).read_text())
    assert {c["name"] for c in sbom["components"]} >= {"planted"}


def test_what_the_policy_does_not_count_passes(apart: Machine, tmp_path: Path) -> None:
    trivy_database.publish(
        apart.registry, "trivy-db", updated=OLD, advisories={"planted": {CVE: ""}}
    )
    repository = with_database(apart, tmp_path / "r")
    repository.built().done()  # nobody has mended it: by default that does not count
    assert repository.images["one"]["verdict"]["status"] == "pass"

    strict = {**repository.config["scan"], "ignore_unfixed": False}
    repository.write({"ci.yaml": json.dumps({**repository.config, "scan": strict})})
    repository.built().refused(22, CVE)


def test_a_new_database_asks_for_new_verdicts_and_no_new_images(
    apart: Machine, tmp_path: Path, spy: Spy
) -> None:
    trivy_database.publish(apart.registry, "trivy-db", updated=OLD, advisories={})
    repository = with_database(apart, tmp_path / "r")
    repository.built().done()
    digest = repository.images["one"]["digest"]
    assert repository.images["one"]["verdict"]["status"] == "pass"

    trivy_database.publish(
        apart.registry, "trivy-db", updated=NEW, advisories={"planted": {CVE: "2.0"}}
    )
    an_hour_later(apart)
    repository.write(component("another"))
    path = {"PATH": f"{spy.directory}:{repository.environment()['PATH']}"}
    repository.built(env=path).refused(22, "'one'", CVE)
    assert len(spy.builds) == 1
    assert list(repository.images) == ["another"]
    assert repository.images["another"]["verdict"]["database"].startswith("2026-02-02T00:00:00")
    assert in_registry(f"{apart.registry}/{repository.project}/one@{digest}")


def test_a_run_that_builds_nothing_learns_of_new_vulnerabilities(
    apart: Machine, tmp_path: Path
) -> None:
    trivy_database.publish(apart.registry, "trivy-db", updated=OLD, advisories={})
    repository = with_database(apart, tmp_path / "r")
    repository.write({".trivyignore": f"{CVE}\n"})  # nobody's, without an end: no waiver
    repository.commit()
    repository.built().done()
    trivy_database.publish(
        apart.registry, "trivy-db", updated=NEW, advisories={"planted": {CVE: "2.0"}}
    )
    an_hour_later(apart)
    repository.built().refused(22, "'one'", CVE)


def test_five_scans_at_once_do_not_hinder_each_other(apart: Machine, tmp_path: Path) -> None:
    trivy_database.publish(
        apart.registry, "trivy-db", updated=OLD, advisories={"other": {CVE: "2.0"}}
    )
    files: dict[str, str | bytes] = {}
    for number in range(5):
        files |= component(f"image-{number}", DEBIAN, **debian(version=f"1.0-{number}"))
    repository = apart.repository(
        tmp_path / "r", files, scan={"database": f"{apart.registry}/trivy-db", **AGELESS}
    )
    repository.built("--jobs", "5").done()
    verdicts = {name: image["verdict"]["status"] for name, image in repository.images.items()}
    assert verdicts == {f"image-{number}": "pass" for number in range(5)}
    for name in repository.images:
        report = json.loads((repository.build / "reports" / name / "trivy.json").read_text())
        (package,) = report["Results"][0]["Packages"]
        assert package["Version"] == f"1.0-{name[-1]}"[:3]
        assert (
            "in use by another process"
            not in (repository.build / "logs" / f"{name}.log").read_text()
        )


def test_misconfigurations_and_licences_count_where_the_policy_says_so(
    apart: Machine, tmp_path: Path
) -> None:
    trivy_database.publish(apart.registry, "trivy-db", updated=OLD, advisories={})
    files = component(
        "one",
        DEBIAN + "COPY METADATA /usr/lib/python3/site-packages/copyleft-1.0.dist-info/METADATA\n",
        **debian(),
        METADATA="Metadata-Version: 2.1\nName: copyleft\nVersion: 1.0\nLicense: GPL-3.0\n",
    )
    scan = {"database": f"{apart.registry}/trivy-db", **AGELESS}
    repository = apart.repository(tmp_path / "r", files, scan=scan)
    repository.built().done()
    kinds = json.loads((repository.build / "reports/one/findings.json").read_text())["kinds"]
    assert kinds == ["vulnerability", "secret"]

    def counting(**more: object) -> None:
        repository.write({"ci.yaml": json.dumps({**repository.config, "scan": {**scan, **more}})})

    counting(severities={"license": ["HIGH", "CRITICAL"]})
    repository.built().refused(22, "licence GPL-3.0-only of copyleft")
    # Trivy's own checks: an image without USER runs as root.
    counting(severities={"misconfiguration": ["HIGH"]})
    repository.built().refused(22, "DS-0002")
    # A bundle of one's own that cannot be had is not replaced by others.
    counting(severities={"misconfiguration": ["HIGH"]}, checks=f"{apart.registry}/no-checks:1")
    answer = repository.built()
    answer.done()
    assert "the bundle of checks cannot be had" in answer.err
    verdict = repository.images["one"]["verdict"]
    assert (verdict["status"], "misconfiguration" in verdict["reason"]) == ("incomplete", True)
