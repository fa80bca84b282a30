"""Which databases are mirrored to where, and what is asked of a registry for it."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ci import mirror as stage
from ci.cli import cli
from ci.workspace import Workspace
from ci_tools.components.references import split
from ci_tools.errors import ConfigError, CredentialsError, PushError, RegistryError
from ci_tools.images import copying
from ci_tools.images.copying import Held, Manifest, Place
from ci_tools.images.registry import Registry
from ci_tools.scanner import mirroring
from ci_tools.scanner.mirroring import Name

ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
ALL: list[Name] = ["trivy-db", "trivy-java-db", "trivy-checks"]
DIGEST = f"sha256:{'a' * 64}"


def test_aquas_own_by_default_and_its_mirror_next() -> None:
    """As `trivy image --help` of 0.76 lists them."""
    made = mirroring.wanted("reg.example.com/a/b/trivy-db", [], ALL)
    assert [(one.target, one.sources) for one in made] == [
        ("reg.example.com/a/b/trivy-db:2",
         ("ghcr.io/aquasecurity/trivy-db:2", "mirror.gcr.io/aquasec/trivy-db:2")),
        ("reg.example.com/a/b/trivy-java-db:1",
         ("ghcr.io/aquasecurity/trivy-java-db:1", "mirror.gcr.io/aquasec/trivy-java-db:1")),
        ("reg.example.com/a/b/trivy-checks:2",
         ("ghcr.io/aquasecurity/trivy-checks:2", "mirror.gcr.io/aquasec/trivy-checks:2")),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("to", "target", "java"),
    [
        ("h.io/db", "h.io/db:2", "h.io/trivy-java-db:1"),
        ("h.io/x/db:today", "h.io/x/db:today", "h.io/x/trivy-java-db:1"),
        ("localhost:5000/x/db", "localhost:5000/x/db:2", "localhost:5000/x/trivy-java-db:1"),
        ("[::1]:5000/x", "[::1]:5000/x:2", "[::1]:5000/trivy-java-db:1"),
    ],
)
def test_a_tag_is_the_vulnerability_databases(to: str, target: str, java: str) -> None:
    assert [one.target for one in mirroring.wanted(to, [], ALL)][:2] == [target, java]


def test_a_source_may_be_a_digest() -> None:
    made = mirroring.wanted("h.io/db", [f"s.io/x/db@{DIGEST}"], ALL)
    assert [one.sources for one in made] == [
        (f"s.io/x/db@{DIGEST}",), ("s.io/x/trivy-java-db:1",), ("s.io/x/trivy-checks:2",),
    ]  # fmt: skip


BAD = [
    "", "db", "host/db", "h.io/", "h.io/../x", "h.io/x/../y", "h.io//x", "h.io/X", "h.io/x?y=1",
    "h.io/x#y", "h.io/x y", "h.io/x:a/b:", "h.io/x@sha256:12", "u@h.io/x", "h.io/x\n",
    "https://h.io/x", "-h.io/x:a b", "h.io/x%2f", "user:password@h.io/x",
]  # fmt: skip


@pytest.mark.parametrize("reference", BAD)
def test_a_name_that_cannot_be_meant(reference: str) -> None:
    with pytest.raises(ConfigError):
        mirroring.wanted(reference, [], ALL)
    with pytest.raises(ConfigError):
        mirroring.wanted("h.io/x", [reference], ALL)


def test_a_target_is_no_digest() -> None:
    with pytest.raises(ConfigError, match="names a digest"):
        mirroring.wanted(f"h.io/x@{DIGEST}", [], ALL)


@given(st.text(max_size=30))
def test_what_is_taken_stays_below_its_registry(text: str) -> None:
    try:
        made = mirroring.wanted(f"h.io/{text}", [], ALL)
    except ConfigError:
        return
    for one in made:
        parts = split(one.target)
        assert parts.registry == "h.io"
        assert not {"..", "", "."} & set(parts.path.split("/"))
        assert not set("?#%@ \\") & set(parts.path + parts.tag)


def test_a_dry_run_asks_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def asked(*_: object, **__: object) -> None:
        raise AssertionError("a registry was asked")

    monkeypatch.setattr("ci_tools.images.transport.Transport.ask", asked)
    options = ["scan", "db", "--to", f"{ECR}/x/trivy-db", "--dry-run", "--json"]
    done = CliRunner().invoke(cli, [*options, "--repo", str(tmp_path), "--checks"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["would"] == [
        f"copy ghcr.io/aquasecurity/trivy-{name}:2 or else mirror.gcr.io/aquasec/trivy-{name}:2 "
        f"to {ECR}/x/trivy-{name}:2"
        for name in ("db", "checks")
    ]


# What is asked of registries


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Copies that are written down. errors: source -> what it says instead."""

    class Copies(list[tuple[str, str]]):
        errors: dict[str, Exception] = {}
        made: list[tuple[str, str, bool]] = []

    copies = Copies()
    copies.errors, copies.made = {}, []

    def copy(source: Place, target: Place, **_: object) -> str:
        copies.append((str(source), str(target)))
        if str(source) in copies.errors:
            raise copies.errors[str(source)]
        return DIGEST

    def ensure(registry: Registry, name: str, *, mutable: bool = False) -> None:
        copies.made.append((registry.host, name, mutable))

    monkeypatch.setattr(copying, "copy", copy)
    monkeypatch.setattr(Registry, "ensure_repository", ensure)
    monkeypatch.setattr(mirroring, "_date", lambda _: "")
    return copies


def mirror(tmp_path: Path, to: str, *sources: str) -> stage.Mirror:
    workspace = Workspace(repository=tmp_path, build=tmp_path / "build")
    return stage.mirror(workspace, stage.wanted(to, sources, java=False, checks=False))


def test_on_ecr_the_repository_is_made_and_its_tags_move(copied: Any, tmp_path: Path) -> None:
    result = mirror(tmp_path, f"{ECR}/x/trivy-db")
    assert copied.made == [(ECR, "x/trivy-db", True)]
    assert copied == [("ghcr.io/aquasecurity/trivy-db:2", f"{ECR}/x/trivy-db:2")]
    assert stage.lines(result) == [f"trivy-db  {ECR}/x/trivy-db@{DIGEST}"]


def test_a_source_that_fails_is_followed_by_the_next(copied: Any, tmp_path: Path) -> None:
    copied.errors["a.io/x:2"] = RegistryError("a is away", "wait")
    copied.errors["b.io/x:2"] = CredentialsError("b knows us not", "log in")
    (one,) = mirror(tmp_path, "t.io/x", "a.io/x", "b.io/x", "c.io/x").databases
    assert one.source == "c.io/x:2"
    with pytest.raises(RegistryError, match="cannot be mirrored: a is away; b knows us not"):
        mirror(tmp_path, "t.io/x", "a.io/x", "b.io/x")
    with pytest.raises(CredentialsError, match="cannot be mirrored: b knows us not"):
        mirror(tmp_path, "t.io/x", "b.io/x")


def test_a_target_that_fails_is_not_tried_again(copied: Any, tmp_path: Path) -> None:
    copied.errors["a.io/x:2"] = PushError("t takes no push", "see to it")
    with pytest.raises(PushError):
        mirror(tmp_path, "t.io/x", "a.io/x", "b.io/x")
    assert len(copied) == 1


def test_the_environments_registry_is_as_declared(tmp_path: Path) -> None:
    (tmp_path / "ci.yaml").write_text(
        "environments: {dev: {registry: {host: 'reg.example.com:5000', plain_http: true}}}\n"
    )
    workspace = Workspace(repository=tmp_path, build=tmp_path / "b", environment_name="dev")
    assert stage._registry(workspace, "reg.example.com:5000").plain_http
    assert not stage._registry(workspace, "other.example.com").plain_http
    assert stage._registry(workspace, "docker.io").host == "registry-1.docker.io"


# The date


def archive(files: dict[str, bytes], kind: str = "gz") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=f"w:{kind}") as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


METADATA = b'{"UpdatedAt": "2026-11-20T06:12:00.123456789Z", "Version": 2}'


@pytest.mark.parametrize(
    ("content", "date"),
    [
        (archive({"trivy.db": bytes(100_000), "metadata.json": METADATA}), "2026-11-20T06:12:00"),
        (archive({"./metadata.json": METADATA}), "2026-11-20T06:12:00"),
        (archive({"metadata.json": b"{}"}), ""),
        (archive({"metadata.json": b"["}), ""),
        (archive({"metadata.json": METADATA + b" " * 70_000}), ""),
        (archive({"other": METADATA}), ""),
        (archive({"trivy.db": bytes(100_000), "metadata.json": METADATA})[:-40], ""),
        (archive({"metadata.json": METADATA}, ""), ""),
        (b"", ""),
    ],
)
def test_the_database_tells_its_date(
    monkeypatch: pytest.MonkeyPatch, content: bytes, date: str
) -> None:
    layer = copying.Descriptor(digest=DIGEST, size=len(content))
    held = Held(DIGEST, b"", "", Manifest(layers=[layer]))
    monkeypatch.setattr(copying, "manifest", lambda _: held)
    pieces: Callable[..., Any] = lambda *_: (content[i : i + 7] for i in range(0, len(content), 7))  # noqa: E731
    monkeypatch.setattr(mirroring.blobs, "pieces", pieces)
    told = mirroring._date(Place(Registry("h.io"), "x", "2"))
    assert told.startswith(date)
    assert bool(told) == bool(date)


@pytest.mark.parametrize(
    ("created", "date"),
    [
        ("2026-11-20T06:12:00Z", "2026-11-20T06:12:00Z"),
        ("2026-11-20T07:12:00+01:00", "2026-11-20T06:12:00Z"),
        ("\x1b[31mtoday", ""),
    ],
)
def test_the_manifest_tells_its_date(
    monkeypatch: pytest.MonkeyPatch, created: str, date: str
) -> None:
    annotations = {"org.opencontainers.image.created": created}
    held = Held(DIGEST, b"", "", Manifest(annotations=annotations))
    monkeypatch.setattr(copying, "manifest", lambda _: held)
    assert mirroring._date(Place(Registry("h.io"), "x", "2")) == date


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"{}", b"{", b'{"layers": []}',
        b'{"config": {"digest": "sha256:12", "size": 1}}',
        b'{"config": {"digest": "sha512:' + b"a" * 128 + b'", "size": 1}}',
        b'{"layers": [{"digest": "../../x", "size": 1}]}',
        b'{"layers": [{"digest": "sha256:' + b"a" * 64 + b'", "size": -1}]}',
        b'{"manifests": [{"digest": "sha256:' + b"a" * 64 + b'/x", "size": 1}]}',
        b" " * (5 << 20),
    ],
)  # fmt: skip
def test_a_manifest_that_is_none(content: bytes) -> None:
    from ci_tools.images.direct import Answer

    registry = Registry("h.io")
    registry.http.get = lambda *_, **__: Answer(200, {}, content)  # type: ignore[method-assign]
    with pytest.raises(RegistryError, match="no manifest that can be copied"):
        copying.manifest(Place(registry, "x", "2"))
