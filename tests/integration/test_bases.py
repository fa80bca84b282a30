"""bases.lock against a real registry, with skopeo for what it holds."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import yaml

from tests.integration.repositories import (
    Answer,
    Machine,
    Repository,
    component,
    inspected,
    skopeo,
)

pytestmark = pytest.mark.integration

# Whoever asks an engine, a proxy or a name server from here gets no answer.
NOWHERE = {
    "DOCKER_HOST": "tcp://127.0.0.1:1",
    "HTTP_PROXY": "http://127.0.0.1:1",
    "HTTPS_PROXY": "http://127.0.0.1:1",
}


def push(reference: str, content: str, directory: Path, *, days_old: int = 0) -> str:
    """Push an image of one small file; the digest that skopeo then sees."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        member = tarfile.TarInfo("content.txt")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content.encode()))
    layout = directory / uuid.uuid4().hex
    (layout / "blobs/sha256").mkdir(parents=True)

    def blob(data: bytes, kind: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (layout / "blobs/sha256" / digest).write_bytes(data)
        media = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data)}

    tarball = blob(layer.getvalue(), "layer.v1.tar")
    created = datetime.now(timezone.utc) - timedelta(days=days_old, hours=1)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": created.isoformat(),
        "rootfs": {"type": "layers", "diff_ids": [tarball["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(config).encode(), "config.v1+json"),
        "layers": [tarball],
    }
    index = {
        "schemaVersion": 2,
        "manifests": [blob(json.dumps(manifest).encode(), "manifest.v1+json")],
    }
    (layout / "index.json").write_text(json.dumps(index))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    skopeo("copy", "--quiet", "--dest-tls-verify=false", f"oci:{layout}", f"docker://{reference}")
    return str(inspected(reference)["Digest"])


@pytest.fixture
def base(machine: Machine) -> str:
    return f"{machine.registry}/outside/base-{uuid.uuid4().hex[:8]}:1"


@pytest.fixture
def repository(machine: Machine, tmp_path: Path, base: str) -> Repository:
    return machine.repository(
        tmp_path / "repository",
        {
            **component("parent", f"FROM {base}\n"),
            **component("child", "FROM parent\n"),
            **component("apart", "FROM scratch\nCOPY Dockerfile /\n"),
        },
    )


def keys(answer: Answer) -> dict[str, tuple[str, bool]]:
    return {c["name"]: (c["key"], c["provisional"]) for c in answer.done().document["components"]}


def locked(repository: Repository) -> dict[str, str]:
    found = yaml.safe_load((repository.path / "bases.lock").read_text())
    assert isinstance(found, dict)
    return found


def test_a_base_moves_and_the_key_with_it_only_after_a_refresh(
    repository: Repository, base: str, tmp_path: Path
) -> None:
    first = push(base, "first", tmp_path)
    assert f"{base}: new" in repository.ci("bases", "refresh").done().out
    assert locked(repository) == {base: first}
    before = repository.ci("plan", "--json")
    assert "has moved" not in before.err
    assert "not in bases.lock" not in before.err
    # Without a network a dry run says what the real plan said, and says it for sure.
    assert keys(repository.ci("plan", "--dry-run", "--json", env=NOWHERE)) == keys(before)
    assert not any(provisional for _, provisional in keys(before).values())

    second = push(base, "second", tmp_path, days_old=3)
    assert second != first
    moved = repository.ci("plan", "--json")
    assert f"{base} has moved (to an image of 3 days ago): 2 components are behind" in moved.err
    assert keys(moved) == keys(before)
    assert "has moved" not in repository.ci("plan", "--no-drift").done().err

    told = repository.ci("bases", "refresh", "--json").done().document
    assert told["moved"] == {base: {"before": first, "after": second}}
    assert locked(repository) == {base: second}
    after = keys(repository.ci("plan", "--json"))
    assert {name for name, key in keys(before).items() if key != after[name]} == {"parent", "child"}
    assert "up to date" in repository.ci("bases", "refresh").done().out


def test_a_base_that_nobody_locked_is_resolved_and_said(
    repository: Repository, base: str, tmp_path: Path
) -> None:
    digest = push(base, "unlocked", tmp_path)
    dry = keys(repository.ci("plan", "--dry-run", "--json", env=NOWHERE))
    assert {name for name, (_, provisional) in dry.items() if provisional} == {"parent", "child"}
    planned = repository.ci("plan").done()
    assert f"not in bases.lock: {base}: run 'python -m ci bases refresh' and commit it" in (
        planned.err
    )
    parent = next(c for c in repository.read("plan.json")["components"] if c["name"] == "parent")
    assert parent["bases"] == {base: f"{base.rpartition(':')[0]}@{digest}"}
    assert not (repository.path / "bases.lock").exists()


def test_a_refresh_is_all_or_nothing_and_may_be_of_one(
    repository: Repository, machine: Machine, base: str, tmp_path: Path
) -> None:
    digest = push(base, "one", tmp_path)
    away = "127.0.0.1:1/away:1"
    repository.write(component("other", f"FROM {away}\n"))
    text = f"# ours\nold:1: sha256:{'0' * 64}\n"
    repository.write({"bases.lock": text})
    repository.ci("bases", "refresh").refused(11, away)
    assert (repository.path / "bases.lock").read_text() == text
    repository.ci("bases", "refresh", base[:-1] + "2").refused(3, f"Did you mean '{base}'")

    dry = repository.ci("bases", "refresh", "--dry-run", env=NOWHERE).done().out
    assert f"{away}: would ask 127.0.0.1:1" in dry
    assert "old:1: would be dropped" in dry
    assert (repository.path / "bases.lock").read_text() == text

    repository.ci("bases", "refresh", base).done()
    assert locked(repository) == {base: digest, "old:1": f"sha256:{'0' * 64}"}
    listed = repository.ci("bases", env=NOWHERE).done().out.splitlines()
    assert any(base in line and digest in line and "parent" in line for line in listed)
    assert any(away in line and "not locked" in line and "other" in line for line in listed)
    assert any("old:1" in line and "nobody" in line for line in listed)
    repository.write(component("other", "FROM scratch\nCOPY Dockerfile /\n"))
    assert "old:1: dropped" in repository.ci("bases", "refresh").done().out
    assert locked(repository) == {base: digest}
    assert "# ours" not in (repository.path / "bases.lock").read_text()
