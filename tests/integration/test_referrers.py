"""Artifacts beside an image in distribution's own registry; skopeo says what is true."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ci_tools.documents.scan import Finding, ScanRecord
from ci_tools.errors import RegistryError
from ci_tools.images import artifacts, upload
from ci_tools.images.referrers import attach, attached, fetch
from ci_tools.images.registry import Registry
from ci_tools.scanner import records
from tests.integration import registries
from tests.integration.repositories import skopeo

pytestmark = pytest.mark.integration

TYPE = "application/vnd.test.one.v1+json"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registries.registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def image(host: str, repository: str) -> str:
    """Push the smallest image there is, without an engine; its digest."""
    registry = Registry(host)
    config = json.dumps({"os": "linux", "architecture": "amd64", "name": repository}).encode()
    upload.blob(registry, repository, config)
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    described = artifacts.described("application/vnd.docker.container.image.v1+json", config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": {
            "mediaType": described.media_type,
            "digest": described.digest,
            "size": described.size,
        },
        "layers": [],
    }
    content = json.dumps(manifest).encode()
    assert upload.manifest(registry, repository, "k", content, kind).status_code == 201
    return artifacts.digest_of(content)


def raw(host: str, repository: str, reference: str) -> Any:
    mark = "@" if ":" in reference else ":"
    name = f"docker://{host}/{repository}{mark}{reference}"
    return json.loads(skopeo("inspect", "--raw", "--tls-verify=false", name))


def put(host: str, repository: str, subject: str, number: int) -> str:
    return attach(
        Registry(host),
        repository,
        subject,
        artifact_type=TYPE,
        files={"text/plain": f"number {number}".encode()},
        annotations={artifacts.CREATED: f"2026-11-{number:02}T00:00:00Z"},
    )


def test_what_skopeo_sees(host: str) -> None:
    subject = image(host, "seen/a")
    digest = put(host, "seen/a", subject, 1)
    index = raw(host, "seen/a", artifacts.tag(subject))
    manifest = raw(host, "seen/a", digest)
    assert index["mediaType"] == "application/vnd.oci.image.index.v1+json"
    (entry,) = index["manifests"]
    assert entry["digest"] == digest
    assert entry["artifactType"] == manifest["artifactType"] == TYPE
    assert entry["annotations"] == manifest["annotations"]
    assert manifest["subject"]["digest"] == subject
    assert manifest["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
    # The image is what it was, and its tags are its key and the list's.
    assert raw(host, "seen/a", "k")["schemaVersion"] == 2
    tags = json.loads(skopeo("list-tags", "--tls-verify=false", f"docker://{host}/seen/a"))
    assert set(tags["Tags"]) == {"k", artifacts.tag(subject)}


def test_skopeo_copies_the_artifact_as_it_is(host: str, tmp_path: Path) -> None:
    """Its digests and sizes are right, or skopeo would not."""
    subject = image(host, "copied/a")
    digest = put(host, "copied/a", subject, 1)
    skopeo(
        "copy",
        "--src-tls-verify=false",
        f"docker://{host}/copied/a@{digest}",
        f"dir:{tmp_path / 'copy'}",
    )
    blobs = {file.read_bytes() for file in (tmp_path / "copy").iterdir()}
    assert {b"{}", b"number 1"} <= blobs


def test_eight_threads_and_none_is_lost(host: str) -> None:
    subject = image(host, "threads/a")
    with ThreadPoolExecutor(max_workers=8) as pool:
        digests = list(pool.map(lambda one: put(host, "threads/a", subject, one), range(1, 9)))
    listed = raw(host, "threads/a", artifacts.tag(subject))["manifests"]
    assert {one["digest"] for one in listed} == set(digests)
    assert len(listed) == len(set(digests)) == 8
    registry = Registry(host)
    found = attached(registry, "threads/a", subject, TYPE)
    assert [one.digest for one in found] == digests[::-1]
    contents = [fetch(registry, "threads/a", subject, one) for one in found]
    assert contents == [{"text/plain": f"number {one}".encode()} for one in range(8, 0, -1)]


def test_agents_that_share_no_lock(host: str) -> None:
    """What is sure: what was there before stays, each agent saw its own entry, and what
    another one's stale list took out is put back by attaching it again."""
    subject = image(host, "agents/a")
    before = put(host, "agents/a", subject, 1)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=4, mp_context=context) as pool:
        futures = [pool.submit(put, host, "agents/a", subject, one) for one in range(2, 10)]
        digests = {before} | {future.result() for future in futures}
    listed = {one["digest"] for one in raw(host, "agents/a", artifacts.tag(subject))["manifests"]}
    assert before in listed
    assert listed <= digests
    assert len(listed) > 1
    for number in range(1, 10):
        put(host, "agents/a", subject, number)
    listed = {one["digest"] for one in raw(host, "agents/a", artifacts.tag(subject))["manifests"]}
    assert listed == digests


def test_old_ones_go_from_the_list_and_from_the_registry(host: str) -> None:
    subject = image(host, "old/a")
    old = [put(host, "old/a", subject, number) for number in (1, 2)]
    new = attach(
        Registry(host),
        "old/a",
        subject,
        artifact_type=TYPE,
        files={},
        annotations={},
        replaces=lambda one: True,
    )
    listed = raw(host, "old/a", artifacts.tag(subject))["manifests"]
    assert [one["digest"] for one in listed] == [new]
    for digest in old:
        with pytest.raises(subprocess.CalledProcessError):
            raw(host, "old/a", digest)


def test_an_entry_whose_artifact_is_gone_does_not_stop_the_list(host: str) -> None:
    """distribution refuses a list that names what is not there."""
    subject = image(host, "gone/a")
    gone = put(host, "gone/a", subject, 1)
    assert upload.delete(Registry(host), "gone/a", gone)
    kept = put(host, "gone/a", subject, 2)
    listed = raw(host, "gone/a", artifacts.tag(subject))["manifests"]
    assert [one["digest"] for one in listed] == [kept]


def test_what_else_is_under_the_tag_is_not_replaced(host: str) -> None:
    subject = image(host, "taken/a")
    Registry(host).tag("taken/a", subject, artifacts.tag(subject))
    with pytest.raises(RegistryError, match="is not the list"):
        put(host, "taken/a", subject, 1)
    assert "manifests" not in raw(host, "taken/a", artifacts.tag(subject))
    assert attached(Registry(host), "taken/a", subject, TYPE) == []


def test_a_list_of_another_tool_is_kept(host: str) -> None:
    """An artifact by hand, in a list with fields that we do not know."""
    subject, repository = image(host, "others/a"), "others/a"
    theirs = put(host, repository, subject, 1)
    registry = Registry(host)
    index = raw(host, repository, artifacts.tag(subject))
    index["manifests"][0] |= {"artifactType": "application/x", "x": 1}
    index["annotations"] = {"by": "another"}
    content = json.dumps(index).encode()
    tag = artifacts.tag(subject)
    assert upload.manifest(registry, repository, tag, content, artifacts.INDEX).status_code == 201
    ours = put(host, repository, subject, 2)
    now = raw(host, repository, tag)
    assert now["annotations"] == {"by": "another"}
    assert now["manifests"][0] == index["manifests"][0]
    assert [one["digest"] for one in now["manifests"]] == [theirs, ours]


def test_a_registry_that_deletes_nothing(tmp_path: Path) -> None:
    storage = {"filesystem": {"rootdirectory": str(tmp_path / "data")}}
    with registries.registry(tmp_path, storage={**storage, "delete": {"enabled": False}}) as host:
        subject = image(host, "keep/a")
        put(host, "keep/a", subject, 1)
        attach(
            Registry(host),
            "keep/a",
            subject,
            artifact_type=TYPE,
            files={},
            annotations={},
            replaces=lambda one: True,
        )
        assert len(attached(Registry(host), "keep/a", subject, TYPE)) == 1


def test_a_registry_that_wants_a_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then requests and oras ask, not urllib3 alone."""
    monkeypatch.setenv("HOME", str(tmp_path))
    with registries.registry(tmp_path / "r", auth=registries.private(tmp_path / "r")) as host:
        login = registries.docker_config(tmp_path / "docker", host)
        monkeypatch.setenv("DOCKER_CONFIG", str(login))
        subject = image(host, "private/a")
        digest = put(host, "private/a", subject, 1)
        registry = Registry(host)
        (one,) = attached(registry, "private/a", subject, TYPE)
        assert one.digest == digest
        assert fetch(registry, "private/a", subject, one) == {"text/plain": b"number 1"}


def test_a_scan_record_is_there_for_another_agent(host: str) -> None:
    subject = image(host, "records/a")
    sbom = json.dumps({"components": [{"name": str(number)} for number in range(50_000)]}).encode()
    for day in (1, 2):
        record = ScanRecord(
            image="sha256:" + "c" * 64,
            trivy="0.76.0",
            matched="0.76.0",
            kinds=["vulnerability"],
            database=f"2026-11-{day:02}T06:00:00Z",
            findings=[Finding(kind="vulnerability", id="CVE-2026-1", severity="HIGH")],
        )
        digest = records.publish(Registry(host), "records/a", subject, record, sbom)
    kept = records.newest(Registry(host), "records/a", subject)
    assert kept is not None
    assert (kept.digest, kept.record) == (digest, record)
    assert kept.sbom() == sbom
    listed = raw(host, "records/a", artifacts.tag(subject))["manifests"]
    assert [one["digest"] for one in listed] == [digest]
