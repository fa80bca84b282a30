"""Copies between two of distribution's own registries; skopeo and Trivy say what is true."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ci_tools.errors import CredentialsError, PushError, RegistryError
from ci_tools.images import blobs, copying
from ci_tools.images.copying import Place
from ci_tools.images.registry import Registry
from tests.integration import registries, trivy_database
from tests.integration.between import Asked, Between, between
from tests.integration.contents import MANIFEST, absent, holds, image, index, manifest, raw, whole

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
LARGE = random.Random(1).randbytes(20_000_000)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    home = tmp_path_factory.mktemp("registries")
    with registries.registry(home / "a") as one, registries.registry(home / "b") as other:
        yield one, other


@pytest.fixture
def source(hosts: tuple[str, str]) -> Iterator[Between]:
    with between(hosts[0]) as made:
        yield made


@pytest.fixture
def target(hosts: tuple[str, str]) -> Iterator[Between]:
    with between(hosts[1]) as made:
        yield made


def place(at: Between | str, repository: str, reference: str) -> Place:
    return Place(Registry(at if isinstance(at, str) else at.host), repository, reference)


def test_an_index_with_all_its_images_keeps_its_digest(
    hosts: tuple[str, str], source: Between, target: Between, tmp_path: Path
) -> None:
    one = image(hosts[0], "all", LARGE, b"amd")
    other = image(hosts[0], "all", LARGE, b"arm", architecture="arm64")
    inner = index(
        hosts[0], "all", "", {**other, "platform": {"os": "linux", "architecture": "arm64"}}
    )
    both = index(
        hosts[0], "all", "v1", {**one, "platform": {"os": "linux", "architecture": "amd64"}}, inner
    )
    told: list[str] = []
    copied = copying.copy(
        place(source, "all", "v1"), place(target, "a/copy", "v2"), told=told.append
    )
    assert copied == both["digest"]
    assert raw(hosts[1], "a/copy", "v2") == raw(hosts[0], "all", "v1")
    for number, part in enumerate((one, inner)):  # skopeo copies no index in an index
        assert whole(hosts[1], "a/copy", part["digest"], tmp_path / str(number)) >= 4
    for child in (one, other, inner):
        assert raw(hosts[1], "a/copy", child["digest"]) == raw(hosts[0], "all", child["digest"])
    assert len(told) == 5  # two configs, two small layers, the large one once
    assert sum("20.0 MB" in line for line in told) == 1
    # The tag is the last of all, and all before it are by digest.
    puts = [one.path for one in target.asked if one.method == "PUT"]
    assert puts[-1] == "/v2/a/copy/manifests/v2"
    assert sum("/manifests/" in path for path in puts) == 4
    assert all("@" not in path for path in puts)
    pieces = [one.range for one in source.asked if one.blob and one.method == "GET"]
    assert "bytes=0-8388607" in pieces
    assert "bytes=16777216-19999999" in pieces

    source.asked.clear()
    target.asked.clear()
    assert copying.copy(place(source, "all", "v1"), place(target, "a/copy", "v2")) == copied
    assert [(one.method, one.blob) for one in source.asked] == [("GET", False)]
    assert [one.method for one in target.asked] == ["HEAD"]
    # Another tag of the same: one manifest.
    copying.copy(place(source, "all", copied), place(target, "a/copy", "v3"))
    assert target.count("PUT") == 1
    assert target.count("POST") == 0


def test_within_one_registry_blobs_are_mounted(hosts: tuple[str, str], source: Between) -> None:
    made = image(hosts[0], "from/here", LARGE, tag="v1")
    told: list[str] = []
    copied = copying.copy(
        place(source, "from/here", "v1"), place(source, "to/there", "v1"), told=told.append
    )
    assert copied == made["digest"]
    assert told == []
    assert not any(one.blob and one.method in ("GET", "PUT") for one in source.asked)
    assert source.count("POST", "mount=sha256%3A") == 2


def test_a_copy_that_broke_off_is_seen_by_nobody_and_goes_on(
    hosts: tuple[str, str], source: Between, target: Between, tmp_path: Path
) -> None:
    made = image(hosts[0], "broken", LARGE, b"x" * 3_000_000, tag="v1")
    large = f"sha256:{hashlib.sha256(LARGE).hexdigest()}"

    def harm(asked: Asked) -> str:
        return "refuse" if asked.method == "PUT" and large[7:] in asked.path else ""

    target.harm = harm
    with pytest.raises(PushError, match="takes no push"):
        copying.copy(place(source, "broken", "v1"), place(target, "broken", "v1"))
    assert absent(hosts[1], "broken", "v1")
    assert absent(hosts[1], "broken", made["digest"])
    target.harm = lambda _: ""
    told: list[str] = []
    source.asked.clear()
    copying.copy(place(source, "broken", "v1"), place(target, "broken", "v1"), told=told.append)
    assert large[:19] in told[-1] or large[:19] in "".join(told)
    assert len(told) < 3
    assert whole(hosts[1], "broken", "v1", tmp_path / "dir")


@pytest.mark.parametrize("private", [False, True])
def test_a_connection_that_drops_mid_blob(
    hosts: tuple[str, str], target: Between, tmp_path: Path, monkeypatch: Any, private: bool
) -> None:
    repository = f"dropped-{private}".lower()
    image(hosts[0], repository, LARGE, tag="v1")
    with between(hosts[0], registries.PASSWORD if private else "") as source:
        config = registries.docker_config(tmp_path / "docker", source.host)
        monkeypatch.setenv("DOCKER_CONFIG", str(config))
        dropped: list[str] = []

        def harm(asked: Asked) -> str:
            later = asked.blob and asked.method == "GET" and asked.range.startswith("bytes=8388608")
            if later and len(dropped) < 2:
                dropped.append(asked.range)
                return "cut"
            return ""

        source.harm = harm
        copying.copy(place(source, repository, "v1"), place(target, repository, "v1"))
    assert len(dropped) == 2
    assert whole(hosts[1], repository, "v1", tmp_path / "dir")
    assert sum(one.range.startswith("bytes=0-8388607") for one in source.asked) == 1


def test_one_that_always_drops_is_told(
    hosts: tuple[str, str], source: Between, target: Between, monkeypatch: Any
) -> None:
    monkeypatch.setattr(blobs, "_ATTEMPTS", 2)
    image(hosts[0], "drops", LARGE, tag="v1")
    source.harm = lambda asked: "cut" if asked.range.startswith("bytes=16777216") else ""
    with pytest.raises(RegistryError, match="does not answer"):
        copying.copy(place(source, "drops", "v1"), place(target, "drops", "v1"))
    assert absent(hosts[1], "drops", "v1")


def test_a_wrong_blob_is_given_to_nobody(
    hosts: tuple[str, str], source: Between, target: Between
) -> None:
    image(hosts[0], "wrong", LARGE[1:], tag="v1")
    large = f"sha256:{hashlib.sha256(LARGE[1:]).hexdigest()}"
    source.harm = lambda asked: "turn" if asked.range.startswith("bytes=16777216") else ""
    with pytest.raises(RegistryError, match="is not what its digest says"):
        copying.copy(place(source, "wrong", "v1"), place(target, "wrong", "v1"))
    # What it was sent of it lacked its last piece, so that the upload never ended.
    assert not any(large[7:] in one.path and one.method == "PUT" for one in target.done)
    assert not holds(hosts[1], "wrong", large)
    assert target.count("PUT", "/manifests/") == 0


def test_a_wrong_manifest_is_given_to_nobody(
    hosts: tuple[str, str], source: Between, target: Between
) -> None:
    made = image(hosts[0], "wrongly", b"x", tag="v1")
    source.harm = lambda asked: "turn" if "/manifests/" in asked.path else ""
    with pytest.raises(RegistryError, match="is not what its digest says"):
        copying.copy(place(source, "wrongly", made["digest"]), place(target, "wrongly", "v1"))
    with pytest.raises(RegistryError, match="is no manifest that can be copied"):
        copying.copy(place(source, "wrongly", "v1"), place(target, "wrongly", "v1"))
    assert target.asked == []


def test_a_registry_that_knows_no_ranges(
    hosts: tuple[str, str], source: Between, target: Between, tmp_path: Path
) -> None:
    image(hosts[0], "ranges", LARGE, b"", tag="v1")
    source.harm = lambda _: "whole"
    copying.copy(place(source, "ranges", "v1"), place(target, "ranges", "v1"))
    # The config and the large one; nobody need be asked for what is empty.
    assert sum(one.blob and one.method == "GET" for one in source.asked) == 2
    assert whole(hosts[1], "ranges", "v1", tmp_path / "dir")


def test_an_answer_that_gets_lost_after_a_push(
    hosts: tuple[str, str], source: Between, target: Between, tmp_path: Path
) -> None:
    image(hosts[0], "lost", LARGE[:5000], tag="v1")
    lost: list[str] = []

    def harm(asked: Asked) -> str:
        if asked.method == "PUT" and asked.path not in lost:
            lost.append(asked.path)
            return "lose"
        return ""

    target.harm = harm
    copying.copy(place(source, "lost", "v1"), place(target, "lost", "v1"))
    assert len(lost) == 3
    assert whole(hosts[1], "lost", "v1", tmp_path / "dir")


def test_a_private_registry_is_sent_the_whole_blob_with_our_login(
    hosts: tuple[str, str], source: Between, tmp_path: Path, monkeypatch: Any
) -> None:
    image(hosts[0], "private", LARGE, tag="v1")
    with between(hosts[1], registries.PASSWORD) as target:
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "nothing"))
        with pytest.raises(CredentialsError):
            copying.copy(place(source, "private", "v1"), place(target, "private", "v1"))
        config = registries.docker_config(tmp_path / "docker", target.host)
        monkeypatch.setenv("DOCKER_CONFIG", str(config))
        copying.copy(place(source, "private", "v1"), place(target, "private", "v1"))
    assert whole(hosts[1], "private", "v1", tmp_path / "dir")


def test_what_is_not_there_and_who_is_not_there(
    hosts: tuple[str, str], source: Between, target: Between
) -> None:
    with pytest.raises(RegistryError, match="does not exist"):
        copying.copy(place(source, "nothing", "v1"), place(target, "nothing", "v1"))
    nobody = Place(Registry("127.0.0.1:1"), "x", "v1")
    with pytest.raises(RegistryError, match="does not answer"):
        copying.copy(nobody, place(target, "nothing", "v1"))


def test_a_large_blob_needs_little_memory(hosts: tuple[str, str], tmp_path: Path) -> None:
    image(hosts[0], "memory", random.Random(2).randbytes(160_000_000), tag="v1")
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from ci_tools.images.copying import Place, copy\n"
        "from ci_tools.images.registry import Registry\n"
        # Not getrusage's, which begins with that of the process that started this one.
        "status = Path('/proc/self/status')\n"
        "own = lambda: int(status.read_text().split('VmHWM:')[1].split()[0])\n"
        "before = own()\n"
        "copy(*(Place(Registry(host), 'memory', 'v1') for host in sys.argv[1:]))\n"
        "print(own() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *hosts], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert int(done.stdout) < 60_000  # KiB


# `ci scan db`


def ci(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ci", "scan", "db", *arguments],
        cwd=cwd, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "KFP_CI_HOME": str(cwd / "home")},
    )  # fmt: skip


def downloaded(repository: str, cache: Path) -> dict[str, Any]:
    """What Trivy itself fetches from there: the database's metadata."""
    subprocess.run(
        ["trivy", "image", "--download-db-only", "--quiet", "--insecure",
         "--db-repository", repository, "--cache-dir", cache],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    found = json.loads((cache / "db/metadata.json").read_text())
    assert isinstance(found, dict)
    return found


def test_trivy_takes_the_mirrored_database_by_digest(
    hosts: tuple[str, str], tmp_path: Path
) -> None:
    name = "up/stream/trivy-db"
    advisories = {"planted": {"CVE-2026-0001": "2.0"}}
    trivy_database.publish(hosts[0], name, updated="2026-11-20T06:00:00Z", advisories=advisories)
    to = f"{hosts[1]}/security/trivy-db"
    options = ["--to", to, "--from", "127.0.0.1:1/none/trivy-db", "--from", f"{hosts[0]}/{name}"]
    done = ci(*options, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "127.0.0.1:1/none/trivy-db:2: the registry 127.0.0.1:1 does not answer" in done.stderr
    (told,) = json.loads(done.stdout)["databases"]
    assert told["reference"].startswith(f"{to}@sha256:")
    assert (told["tag"], told["date"]) == ("2", "2026-11-20T06:00:00Z")
    for reference in (told["reference"], to):
        metadata = downloaded(reference, tmp_path / str(len(reference)))
        assert metadata["UpdatedAt"] == "2026-11-20T06:00:00Z"
    again = ci(*options, cwd=tmp_path)
    assert again.stdout == f"trivy-db  {told['reference']}  of 2026-11-20T06:00:00Z\n"
    # A newer one: the tag moves, and what was pinned stays.
    trivy_database.publish(hosts[0], name, updated="2026-11-21T06:00:00Z", advisories=advisories)
    newer = ci(*options, cwd=tmp_path)
    assert "of 2026-11-21T06:00:00Z" in newer.stdout
    assert downloaded(to, tmp_path / "newer")["UpdatedAt"] == "2026-11-21T06:00:00Z"
    pinned = downloaded(told["reference"], tmp_path / "pinned")
    assert pinned["UpdatedAt"] == "2026-11-20T06:00:00Z"


def test_the_others_go_beside_it(hosts: tuple[str, str], tmp_path: Path) -> None:
    made = {
        f"trivy-{part}": manifest(hosts[0], f"beside/trivy-{part}", tag, {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": trivy_database._blob(hosts[0], f"beside/trivy-{part}", "a/b", b"{}"),
            "layers": [trivy_database._blob(
                hosts[0], f"beside/trivy-{part}", "a/b", part.encode()
            )],
            "annotations": {"org.opencontainers.image.created": f"2026-11-0{number}T00:00:00Z"},
        })
        for number, (part, tag) in enumerate([("db", "2"), ("java-db", "1"), ("checks", "2")], 1)
    }  # fmt: skip
    done = ci(
        "--to", f"{hosts[1]}/m/trivy-db:3", "--from", f"{hosts[0]}/beside/trivy-db",
        "--java", "--checks", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{name:<13}  {hosts[1]}/m/{name}@{made[name]['digest']}  of 2026-11-0{number}T00:00:00Z"
        for number, name in enumerate(made, 1)
    ]
    for name, tag in (("trivy-db", "3"), ("trivy-java-db", "1"), ("trivy-checks", "2")):
        assert Registry(hosts[1]).digest(f"m/{name}", tag) == made[name]["digest"]


def test_no_source_has_it(hosts: tuple[str, str], tmp_path: Path) -> None:
    to, nothing = f"{hosts[1]}/m/none", f"{hosts[0]}/no/such"
    done = ci("--to", to, "--from", nothing, "--from", "127.0.0.1:1/x", cwd=tmp_path)
    assert done.returncode == RegistryError.exit_code
    error = done.stderr.splitlines()[-1]
    assert error.startswith(f"ERROR: trivy-db cannot be mirrored: {nothing}:2 does not exist; ")
    assert "127.0.0.1:1 does not answer" in error
    with pytest.raises(urllib.request.HTTPError):
        urllib.request.urlopen(f"http://{hosts[1]}/v2/m/none/tags/list", timeout=10)


def test_a_target_that_is_read_only(hosts: tuple[str, str], tmp_path: Path) -> None:
    name = trivy_database.publish(
        hosts[0], "ro/trivy-db", updated="2026-11-20T06:00:00Z", advisories={}
    )
    closed = {"storage": {"maintenance": {"readonly": {"enabled": True}}}}
    with registries.registry(tmp_path / "closed", **closed) as host:
        done = ci("--to", f"{host}/x/trivy-db", "--from", name, "--from", name, cwd=tmp_path)
    assert done.returncode == PushError.exit_code
    assert f"ERROR: {host}/x/trivy-db takes no push" in done.stderr
