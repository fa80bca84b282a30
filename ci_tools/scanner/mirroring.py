"""Trivy's databases in a registry of one's own.

Names and tags are those that Trivy 0.76 looks for (`trivy image --help`).
"""

from __future__ import annotations

import contextlib
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Literal, NamedTuple, cast

import msgspec

from ci_tools import typed
from ci_tools.components.references import DIGEST, split
from ci_tools.errors import CIError, ConfigError, CredentialsError, RegistryError
from ci_tools.images import blobs, copying
from ci_tools.images.blobs import Blob
from ci_tools.images.copying import Place
from ci_tools.images.registry import Registry

Name = Literal["trivy-db", "trivy-java-db", "trivy-checks"]
TAGS: dict[Name, str] = {"trivy-db": "2", "trivy-java-db": "1", "trivy-checks": "2"}
SOURCES = ("ghcr.io/aquasecurity/trivy-db", "mirror.gcr.io/aquasec/trivy-db")
_CREATED = "org.opencontainers.image.created"
_METADATA = "metadata.json"
_LARGEST = 1 << 16  # bytes of it
_HOST = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?")
# Source: OCI distribution specification 1.1, "Pulling manifests".
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


class Wanted(NamedTuple):
    """One artifact to mirror. sources: references, the first to be asked first."""

    name: Name
    sources: tuple[str, ...]
    target: str


class Mirrored(msgspec.Struct, kw_only=True):
    """What is in the mirror now.

    reference: by digest, as `scan.database` takes it.
    date: when it was made (RFC 3339), "" where it does not say.
    """

    name: Name
    source: str
    reference: str
    tag: str
    date: str


class _Metadata(msgspec.Struct):
    updated: datetime | None = msgspec.field(name="UpdatedAt", default=None)


def wanted(to: str, sources: Sequence[str], names: Sequence[Name]) -> list[Wanted]:
    """What to copy from where to where.

    to: HOST/REPOSITORY[:TAG] of the vulnerability database. The others are looked
    for, and put, beside it: under their own name and tag instead of its last part.
    sources: of the vulnerability database; none means Aqua Security's.

    Raises ConfigError for a name that cannot be meant.
    """
    for reference in (to, *sources):
        parts = split(reference)
        if not (
            _HOST.fullmatch(parts.registry)
            and _PATH.fullmatch(parts.path)
            and _TAG.fullmatch(parts.tag or "latest")
            and DIGEST.fullmatch(parts.digest or f"sha256:{'0' * 64}")
        ):
            raise ConfigError(
                f"'{reference}' does not name a registry and a repository",
                "Write HOST/REPOSITORY[:TAG], as registry.example.com/security/trivy-db",
            )
    if split(to).digest:
        raise ConfigError(f"'{to}' names a digest, which is its content's", "Leave it out")
    return [
        Wanted(name, tuple(_named(one, name) for one in sources or SOURCES), _named(to, name))
        for name in names
    ]


def _named(reference: str, name: Name) -> str:
    """The reference of an artifact beside (or as) that of the vulnerability database."""
    parts = split(reference)
    own = name == "trivy-db"
    if own and (parts.digest or parts.tag):
        return reference
    path = parts.path if own else "/".join([*parts.path.split("/")[:-1], name])
    return f"{parts.registry}/{path}:{TAGS[name]}"


def mirror(
    one: Wanted,
    registry: Callable[[str], Registry],
    *,
    told: Callable[[str], None] = lambda _: None,
) -> Mirrored:
    """Copy an artifact from the first of its sources that gives it.

    registry: of a host. told: as `copying.copy` has it.

    Raises RegistryError with what each source said, or CredentialsError where all
    want to know us better; PushError and WriteError.
    """
    target = place(one.target, registry)
    target.registry.ensure_repository(target.repository, mutable=True)
    failed: list[RegistryError | CredentialsError] = []
    for reference in one.sources:
        source = place(reference, registry)
        try:
            digest = copying.copy(source, target, told=told)
        except (RegistryError, CredentialsError) as error:
            failed.append(error)
            told(f"{reference}: {error.what}")
            continue
        date = ""
        with contextlib.suppress(RegistryError):  # it is there all the same
            date = _date(target._replace(reference=digest))
        return Mirrored(
            name=one.name,
            source=reference,
            reference=f"{target.registry.host}/{target.repository}@{digest}",
            tag=target.reference,
            date=date,
        )
    said = "; ".join(error.what for error in failed)
    kind: type[CIError] = RegistryError
    if all(isinstance(error, CredentialsError) for error in failed):
        kind = CredentialsError
    raise kind(f"{one.name} cannot be mirrored: {said}", failed[-1].todo)


def place(reference: str, registry: Callable[[str], Registry]) -> Place:
    parts = split(reference)
    return Place(registry(parts.registry), parts.path, parts.digest or parts.tag)


def _date(mirrored: Place) -> str:
    """When it was made: as its manifest says, else as the database itself does."""
    read = copying.manifest(mirrored).read
    created = (read.annotations or {}).get(_CREATED)
    if created:
        with contextlib.suppress(msgspec.ValidationError):
            return _rfc3339(msgspec.convert(created, datetime))
    for layer in read.layers:
        blob = Blob(layer.digest, layer.size)
        content = blobs.pieces(mirrored.registry, mirrored.repository, blob)
        updated = _updated(content)
        if updated is not None:
            return _rfc3339(updated)
    return ""


def _rfc3339(moment: datetime) -> str:
    known = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    return known.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")


def _updated(content: Iterator[bytes]) -> datetime | None:
    """UpdatedAt of metadata.json in a gzipped tar; None where there is none."""
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", _Stream(content)), mode="r|gz") as tar:
            for member in tar:
                if Path(member.name).name == _METADATA and member.size <= _LARGEST:
                    file = tar.extractfile(member)
                    raw = file.read() if file else b"{}"
                    return typed.decode(raw, _Metadata).updated
    except (tarfile.TarError, OSError, EOFError, msgspec.MsgspecError):
        return None
    return None


class _Stream:
    """Pieces as a file that is read from its beginning to its end."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""

    def read(self, size: int) -> bytes:
        while len(self._left) < size:
            piece = next(self._pieces, b"")
            if not piece:
                break
            self._left += piece
        given, self._left = self._left[:size], self._left[size:]
        return given
