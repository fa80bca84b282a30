"""Files that refer to an image: their manifest and the list of them. Pure: bytes in, bytes out.

Source: OCI image specification 1.1 (manifest.md, "Guidelines for Artifact
Usage"; image-index.md) and distribution specification 1.1 ("Listing Referrers",
"Referrers Tag Schema").
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timezone
from typing import TypeVar

import msgspec

from ci_tools import typed
from ci_tools.images.manifests import INDEX as INDEX
from ci_tools.images.manifests import MANIFEST as MANIFEST

EMPTY = "application/vnd.oci.empty.v1+json"
NOTHING = b"{}"  # the content of EMPTY
CREATED = "org.opencontainers.image.created"

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_FIRST = datetime.min.replace(tzinfo=timezone.utc)
T = TypeVar("T")


class Descriptor(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True, frozen=True):
    """Content, by digest. artifact_type and annotations: of an entry in a list."""

    media_type: str
    digest: str
    size: int
    artifact_type: str = ""
    annotations: dict[str, str] = {}


class Manifest(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=False):
    """A manifest of ours that is attached to nothing."""

    schema_version: int = 2
    media_type: str = MANIFEST
    artifact_type: str = ""
    config: Descriptor | None = None
    layers: list[Descriptor] = []


class Artifact(msgspec.Struct, kw_only=True, rename="camel"):
    """A manifest with a subject."""

    schema_version: int = 2
    media_type: str = MANIFEST
    artifact_type: str
    config: Descriptor
    layers: list[Descriptor]
    subject: Descriptor
    annotations: dict[str, str] = {}


class Attached(msgspec.Struct, kw_only=True, frozen=True):
    """What a list says of one artifact: a claim, which `referrers.fetch` verifies.

    digest: of its manifest. created: None where the annotation is missing or no time.
    """

    digest: str
    artifact_type: str
    annotations: dict[str, str]
    created: datetime | None

    @property
    def age(self) -> tuple[datetime, str]:
        """Sorts the newest last, and always alike."""
        return self.created or _FIRST, self.digest


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def is_digest(text: str) -> bool:
    """Whether it is one that we can verify, and safe in a path."""
    return _DIGEST.fullmatch(text) is not None


def tag(subject: str) -> str:
    """The tag of the list, where the registry makes none. No key looks like it: a
    key is hexadecimal throughout."""
    return subject.replace(":", "-")


def moment(text: str | None) -> datetime | None:
    """A time of RFC 3339 with its zone (UTC where it names none), or None."""
    try:
        found = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def described(media_type: str, content: bytes) -> Descriptor:
    return Descriptor(media_type=media_type, digest=digest_of(content), size=len(content))


def manifest(
    subject: Descriptor,
    artifact_type: str,
    files: Mapping[str, bytes],
    annotations: Mapping[str, str],
) -> bytes:
    """The manifest's bytes: the same for the same input, in whatever order the annotations are.

    files: media type -> content. Where there are none its only layer is the
    empty one, since the specification wants one.
    """
    layers = [described(*file) for file in files.items()] or [described(EMPTY, NOTHING)]
    return msgspec.json.encode(
        Artifact(
            artifact_type=artifact_type,
            config=described(EMPTY, NOTHING),
            layers=layers,
            subject=subject,
            annotations=dict(sorted(annotations.items())),
        )
    )


def read(content: bytes) -> Artifact | None:
    """A manifest with a subject, or None where it is none."""
    return _decoded(content, Artifact)


def entry(content: bytes) -> Descriptor:
    """How a manifest of ours stands in a list."""
    ours = typed.decode(content, Artifact)
    return Descriptor(
        media_type=MANIFEST,
        digest=digest_of(content),
        size=len(content),
        artifact_type=ours.artifact_type,
        annotations=ours.annotations,
    )


def listed(index: bytes) -> list[Attached] | None:
    """What a list says, less the entries that make no sense; None where it is no list."""
    whole = _index(index)
    if whole is None:
        return None
    return [told(one.digest, one) for _, one in whole[1] if one is not None]


def relisted(
    index: bytes | None,
    ours: Descriptor,
    drop: Callable[[Attached], bool],
) -> tuple[bytes, list[Attached]] | None:
    """A list with our entry at its end and without those of its type to be dropped.

    Whatever else it holds stays as it is, byte for byte. index: None where there
    is no list yet. Returns the list and what was dropped; None where `index` is
    no list.
    """
    whole = ({}, []) if index is None else _index(index)
    if whole is None:
        return None
    rest, entries = whole
    dropped: list[Attached] = []
    kept: list[msgspec.Raw] = []
    for raw, one in entries:
        if one is not None and one.digest == ours.digest:
            continue
        same = one is not None and one.artifact_type == ours.artifact_type
        if one is not None and same and drop(old := told(one.digest, one)):
            dropped.append(old)
        else:
            kept.append(raw)
    kept.append(msgspec.Raw(msgspec.json.encode(ours)))
    return _indexed(rest, kept), dropped


def without(index: bytes, gone: Collection[str]) -> bytes:
    """A list without the entries of those digests."""
    whole = _index(index)
    if whole is None:
        return index
    rest, entries = whole
    return _indexed(rest, [raw for raw, one in entries if one is None or one.digest not in gone])


def _indexed(rest: dict[str, msgspec.Raw], entries: list[msgspec.Raw]) -> bytes:
    head: dict[str, object] = {"schemaVersion": 2, "mediaType": INDEX}
    return msgspec.json.encode({**head, **rest, "manifests": entries})


def _index(
    content: bytes,
) -> tuple[dict[str, msgspec.Raw], list[tuple[msgspec.Raw, Descriptor | None]]] | None:
    """An index: its other fields, and its entries, each as it is and as we read it."""
    rest = _decoded(content, dict[str, msgspec.Raw])
    if rest is None or "manifests" not in rest:
        return None
    if "mediaType" in rest and _decoded(rest["mediaType"], str) != INDEX:
        return None
    entries = _decoded(rest.pop("manifests"), list[msgspec.Raw])
    if entries is None:
        return None
    return rest, [(raw, _sound(_decoded(raw, Descriptor))) for raw in entries]


def _sound(one: Descriptor | None) -> Descriptor | None:
    return one if one is not None and is_digest(one.digest) else None


def told(digest: str, one: Descriptor | Artifact) -> Attached:
    """What an entry of a list, or a manifest, tells of the artifact of that digest."""
    return Attached(
        digest=digest,
        artifact_type=one.artifact_type,
        annotations=one.annotations,
        created=moment(one.annotations.get(CREATED)),
    )


def _decoded(content: bytes | msgspec.Raw, kind: type[T]) -> T | None:
    """None for what is no JSON of that kind."""
    try:
        return typed.decode(content, kind)
    except msgspec.MsgspecError:
        return None
