"""What runs, held against a newer database; and what is new since a branch's last build."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ci_tools.documents import Release, ScanReport, Source
from ci_tools.documents.release import ReleasedImage, ReleasedPipeline, ReleasedServable
from tests.integration import trivy_database
from tests.integration.repositories import Machine, Repository, Spy, component, git, machine
from tests.integration.test_scan import AGELESS, CVE, DEBIAN, NEW, OLD, an_hour_later, debian

pytestmark = pytest.mark.integration


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Machine]:
    """An environment for one test: its vulnerability database is nobody else's."""
    with machine(tmp_path / "home") as running:
        yield running


def released(repository: Repository, path: Path) -> Path:
    """A release of the images of the last build: a pipeline each, and a service of `one`."""
    lock = repository.read("images.lock.json")
    images = {
        name: ReleasedImage(
            reference=f"{image['repository']}@{image['digest']}",
            digest=image["digest"],
            key=image["key"],
            verdict=msgspec.convert(image["verdict"], type=Any),
            tests="none",
        )
        for name, image in lock["components"].items()
    }
    whole = Release(
        name="release-1",
        project=repository.project,
        environment="local",
        source=Source(commit="c"),
        images=images,
        pipelines={f"of-{n}": ReleasedPipeline(
            sha256="h", file="pipelines/x.yaml", components=[n]) for n in images},
        servables={
            "prediction": ReleasedServable(
                service="prediction", file="servables/x.yaml", image=images["one"].reference
            )
        },
    )  # fmt: skip
    path.write_bytes(msgspec.json.encode(whole))
    return path


def test_what_runs_is_held_against_todays_database(
    apart: Machine, tmp_path: Path, spy: Spy
) -> None:
    trivy_database.publish(apart.registry, "trivy-db", updated=OLD, advisories={})
    repository = apart.repository(
        tmp_path / "r",
        {
            **component("one", DEBIAN, **debian()),
            **component("two", DEBIAN, **debian(package="other")),
        },
        scan={"database": f"{apart.registry}/trivy-db", **AGELESS},
    )
    repository.built().done()
    release = released(repository, tmp_path / "release.json")
    path = {"PATH": f"{spy.directory}:{repository.environment()['PATH']}"}
    live = ("scan", "live", "--release", str(release))
    assert "0 do not pass" in repository.ci(*live, env=path).done().out

    trivy_database.publish(
        apart.registry, "trivy-db", updated=NEW, advisories={"planted": {CVE: "2.0"}}
    )
    an_hour_later(apart)
    answer = repository.ci(*live, env=path)
    page = repository.build / "reports/live/scan.html"
    answer.refused(22, "what runs does not pass the scan: one", str(page))
    assert "runs in: pipeline of-one, service prediction" in answer.out
    assert f"{CVE} in planted 1.0-1 (fixed in 2.0)" in answer.out
    assert "of-two" not in answer.out
    assert not [call for call in spy.calls if call.startswith("trivy image --image-src")]
    assert sum(call.startswith("trivy sbom") for call in spy.calls) == 2
    report = json.loads((repository.build / "reports/live/scan.json").read_text())
    assert report["database"].startswith(NEW[:10])
    (affected,) = [one for one in report["images"] if one["verdict"]["status"] == "fail"]
    assert (affected["pipelines"], affected["services"]) == (["of-one"], ["prediction"])

    # One morning it is about one of them, whatever the policy counts.
    asked = repository.build / "reports/live/asked/scan.html"
    repository.ci(*live, "--id", CVE.lower()).refused(22, "one", str(asked))
    answer = repository.ci(*live, "--id", "CVE-2021-44228").done()
    assert "0 do not pass" in answer.out
    assert "reports/live/asked/scan.html" in answer.out
    # That it was asked for alone makes the other one no news.
    repository.ci(*live, env=path).refused(22)
    assert "nothing new" in page.read_text().lower()

    # Of an image that something else fails it may not be known whether it has this one.
    strict = {**repository.config, "scan": {"database": f"{apart.registry}/trivy-db"}}
    repository.write({"ci.yaml": json.dumps(strict)})
    repository.ci(*live, "--id", CVE).refused(22, "one")
    answer = repository.ci(*live, "--id", "CVE-2021-44228").done()  # as local lets it
    assert "one  incomplete" in answer.out
    assert "2 do not pass" in answer.out


def test_an_image_that_is_gone_is_told_and_hides_no_other(apart: Machine, tmp_path: Path) -> None:
    trivy_database.publish(
        apart.registry, "trivy-db", updated=OLD, advisories={"planted": {CVE: ""}}
    )
    repository = apart.repository(
        tmp_path / "r",
        component("one", DEBIAN, **debian()),
        scan={"database": f"{apart.registry}/trivy-db", **AGELESS},
    )
    repository.built().done()
    release = released(repository, tmp_path / "release.json")
    document = json.loads(release.read_text())
    gone = document["images"]["one"]["reference"].rpartition("@")[0] + "@sha256:" + "0" * 64
    document["images"]["gone"] = {**document["images"]["one"], "reference": gone}
    release.write_text(json.dumps(document))
    answer = repository.ci("scan", "live", "--release", str(release))
    answer.refused(11, gone, "not in its registry")
    assert "1 image, 0 do not pass, 1 not looked at" in answer.out
    # A finding weighs more than what could not be looked at.
    repository.ci("scan", "live", "--release", str(release), "--id", CVE).refused(22, "one")


def test_releases_that_cannot_be_read(machine: Machine, tmp_path: Path) -> None:
    repository = machine.repository(tmp_path / "r", component("one"))
    repository.ci("scan", "live").refused(8, "release.json")
    (tmp_path / "other.json").write_text("{}")
    repository.ci("scan", "live", "--release", str(tmp_path / "other.json")).refused(
        8, "other.json"
    )


def test_another_agent_tells_what_is_new_since_the_branchs_last_build(
    apart: Machine, tmp_path: Path
) -> None:
    trivy_database.publish(
        apart.registry,
        "trivy-db",
        updated=OLD,
        advisories={"planted": {CVE: "2.0"}, "other": {"CVE-2099-0009": "2.0"}},
    )
    repository = apart.repository(
        tmp_path / "r",
        component("one", DEBIAN, **debian()),
        scan={"database": f"{apart.registry}/trivy-db", **AGELESS},
    )
    git(repository.path, "checkout", "-q", "-b", "main")
    repository.built().refused(22, CVE)
    first = (repository.build / "reports/scan.html").read_text()
    assert CVE in first

    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(repository.path), str(clone))
    again = Repository(clone, apart, repository.config)
    git(clone, "checkout", "-q", "-b", "feature/x")
    again.write(component("two", DEBIAN, **debian(package="other")))
    again.commit()
    answer = again.built()
    answer.refused(22, "one", "two (scan)", str(clone / "build/reports/scan.html"))
    assert "CVE-2099-0009 in other 1.0-1 (fixed in 2.0)" in answer.err
    found = msgspec.json.decode((clone / "build/reports/scan.json").read_bytes(), type=ScanReport)
    assert {image.component for image in found.images} == {"one", "two"}
    page = (clone / "build/reports/scan.html").read_text()
    news = page[page.index("<h2>Since the last build") : page.index("<h2>Each image")]
    assert "CVE-2099-0009" in news
    assert CVE in page
    assert CVE not in news  # main's last build had it
