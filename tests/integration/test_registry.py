"""The registry client on distribution's own registry; skopeo and buildx say what is true."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from ci_tools.errors import CredentialsError, PushError, RegistryError
from ci_tools.images.registry import Registry
from tests.integration import registries
from tests.integration.repositories import forget_images, inspected, skopeo

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registries.registry(tmp_path_factory.mktemp("registry")) as running:
        yield running
    forget_images(running)


def pushed(host: str, repository: str, content: bytes, platform: str = "linux/amd64") -> str:
    """Push an image with one file, by skopeo; its digest."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        entry = tarfile.TarInfo("file")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    client = docker.from_env()
    name = f"{host}/{repository}"
    tag = platform.replace("/", "-")
    answer = client.api._post(
        client.api._url("/images/create"),
        data=stream.getvalue(),
        params={"fromSrc": "-", "repo": name, "tag": tag, "platform": platform},
    )
    answer.raise_for_status()
    client.images.push(name, tag=tag)
    return str(inspected(f"{name}:{tag}")["Digest"])


def uploads(data: Path) -> list[Path]:
    """Uploads that were begun and not ended. (distribution 2.8 leaves a directory
    with a hash of nothing of those that were cancelled.)"""
    return list(data.glob("docker/registry/v2/repositories/**/_uploads/*/startedat"))


def test_a_push_that_would_be_taken_leaves_nothing(tmp_path: Path) -> None:
    with registries.registry(tmp_path) as host:
        names = [f"preflight/{number}" for number in range(40)]
        assert Registry(host).preflight(names) == []
        begun = list((tmp_path / "data").glob("docker/registry/v2/repositories/preflight/*"))
        assert len(begun) == 40  # the registry was asked for each
        assert uploads(tmp_path / "data") == []
        Registry(host)._http.ask("POST", "/v2/preflight/0/blobs/uploads/")
        assert len(uploads(tmp_path / "data")) == 1  # what it looks like when it is left


def test_a_registry_that_lets_nobody_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with registries.registry(tmp_path / "r", auth=registries.private(tmp_path / "r")) as host:
        for known in (None, "wrong"):
            if known:
                login = registries.docker_config(tmp_path / "docker", host, known)
                monkeypatch.setenv("DOCKER_CONFIG", str(login))
            with pytest.raises(CredentialsError) as caught:
                Registry(host).preflight(["p/train", "p/serve"])
            assert f"{host}/p/serve" in caught.value.what  # the first by name
            assert f"docker login {host}" in caught.value.todo
            assert "correct" not in str(caught.value)


@pytest.mark.parametrize("variable", [True, False])
def test_dockers_own_login_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: bool
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    with registries.registry(tmp_path / "r", auth=registries.private(tmp_path / "r")) as host:
        directory = registries.docker_config(
            tmp_path / ("elsewhere" if variable else ".docker"), host
        )
        if variable:
            monkeypatch.setenv("DOCKER_CONFIG", str(directory))
        registry = Registry(host)
        assert registry.preflight(["p/train"]) == []
        assert registry.digests([("p/train", "k"), ("p/serve", "k")]) == {
            ("p/train", "k"): None,
            ("p/serve", "k"): None,
        }


def test_credentials_of_our_own_are_renewed_when_refused(tmp_path: Path) -> None:
    renewed: list[tuple[str, str]] = []

    class Own(Registry):
        def credentials(self) -> tuple[str, str]:
            return (registries.USER, "an old one")

        def renew(self, refused: tuple[str, str]) -> tuple[str, str]:
            renewed.append(refused)
            return (registries.USER, registries.PASSWORD)

    with registries.registry(tmp_path, auth=registries.private(tmp_path)) as host:
        assert Own(host).preflight(["p/train"]) == []
    assert renewed
    assert set(renewed) == {(registries.USER, "an old one")}


def test_a_registry_that_is_read_only(tmp_path: Path) -> None:
    storage = {"maintenance": {"readonly": {"enabled": True}}}
    with (
        registries.registry(tmp_path, storage=_stored(tmp_path) | storage) as host,
        pytest.raises(PushError, match=rf"{host}/p/train takes no push: .* read-only"),
    ):
        Registry(host).preflight(["p/train"])


def _stored(home: Path) -> dict[str, object]:
    return {"filesystem": {"rootdirectory": str(home / "data")}}


def test_nobody_is_there_to_push_to() -> None:
    with pytest.raises(RegistryError, match="does not answer"):
        Registry("127.0.0.1:1").preflight(["p/train"])


def test_a_tag_is_one_more_name_for_the_same_bytes(host: str) -> None:
    digest = pushed(host, "tags/a", b"one")
    registry = Registry(host)
    assert registry.tag("tags/a", digest, "release-1") == digest
    seen = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{host}/tags/a:release-1")
    by_digest = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{host}/tags/a@{digest}")
    assert seen == by_digest
    assert inspected(f"{host}/tags/a:release-1")["Digest"] == digest
    assert registry.tag("tags/a", digest, "release-1") == digest  # again


def test_a_tag_of_nothing(host: str) -> None:
    with pytest.raises(PushError, match="to tag"):
        Registry(host).tag("tags/none", f"sha256:{'0' * 64}", "release-1")


def test_the_images_of_an_index(host: str) -> None:
    parts = {
        "linux/amd64": pushed(host, "index/a", b"amd"),
        "linux/arm64": pushed(host, "index/a", b"arm", "linux/arm64/v8"),
        "linux/arm/v7": pushed(host, "index/a", b"small", "linux/arm/v7"),
    }
    name = f"{host}/index/a"
    subprocess.run(
        ["docker", "buildx", "imagetools", "create", f"--tag={name}:all"]
        + [f"{name}@{digest}" for digest in parts.values()],
        check=True,
        capture_output=True,
    )
    raw = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}:all"))
    assert len(raw["manifests"]) == 3
    registry = Registry(host)
    images = registry.images("index/a", "all")
    assert {platform: image.digest for platform, image in images.items()} == parts
    assert all(image.config and image.size > 0 for image in images.values())
    assert registry.images("index/a", "none") == {}
    one = registry.images("index/a", parts["linux/arm64"])
    assert {platform: image.digest for platform, image in one.items()} == {
        "linux/arm64": parts["linux/arm64"]
    }
    index = inspected(f"{name}:all")["Digest"]
    assert registry.tag("index/a", index, "release-1") == index
    assert inspected(f"{name}:release-1")["Digest"] == index


def test_attestations_are_no_images(host: str, tmp_path: Path) -> None:
    """An index as BuildKit writes it with provenance, made by hand of real parts."""
    digest = pushed(host, "attested/a", b"one")
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{host}/attested/a@{digest}")
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    image = {
        "mediaType": kind,
        "digest": digest,
        "size": len(raw.encode()),
        "platform": {"os": "linux", "architecture": "amd64"},
    }
    attestation = {
        **image,
        "platform": {"os": "unknown", "architecture": "unknown"},
        "annotations": {"vnd.docker.reference.type": "attestation-manifest"},
    }
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [image, attestation],
    }
    answer = Registry(host)._http.ask(
        "PUT",
        "/v2/attested/a/manifests/all",
        headers={"Content-Type": index["mediaType"]},
        data=json.dumps(index).encode(),
    )
    assert answer.status_code == 201
    assert set(Registry(host).images("attested/a", "all")) == {"linux/amd64"}
