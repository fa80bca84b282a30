"""Images and other artifacts from registry to registry, byte for byte.

    copy(Place(here, "aquasecurity/trivy-db", "2"), Place(there, "mirror/trivy-db", "2"))

Blobs come first, then the manifests of an index, then its own, and the tag with it:
a copy that breaks off is seen by nobody, and one made again moves what is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import msgspec

from ci_tools import typed
from ci_tools.errors import PushError, RegistryError
from ci_tools.images import artifacts, blobs, manifests, upload
from ci_tools.images.blobs import Blob
from ci_tools.images.direct import Answer
from ci_tools.images.registry import Registry

_AT_ONCE = 4  # blobs
_DEPTH = 4  # indexes in indexes


class Place(NamedTuple):
    """reference: a tag or a digest."""

    registry: Registry
    repository: str
    reference: str

    def __str__(self) -> str:
        mark = "@" if ":" in self.reference else ":"
        return f"{self.registry.host}/{self.repository}{mark}{self.reference}"


class Held(NamedTuple):
    """A manifest as its registry gave it. media_type: what it is to be sent as."""

    digest: str
    content: bytes
    media_type: str
    read: Manifest


class Descriptor(msgspec.Struct, rename="camel"):
    digest: str
    size: int
    media_type: str = ""
    urls: list[str] | None = None


class Manifest(msgspec.Struct, rename="camel"):
    """What of a manifest or an index matters to who copies it."""

    media_type: str = ""
    artifact_type: str = ""
    config: Descriptor | None = None
    layers: list[Descriptor] = []
    manifests: list[Descriptor] = []
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None

    @property
    def blobs(self) -> set[Blob]:
        """What it is made of, less layers with `urls`: those are somebody else's to
        give away, and in no registry but his."""
        parts = (*self.layers, *filter(None, [self.config]))
        return {Blob(one.digest, one.size) for one in parts if not one.urls}


def copy(
    source: Place,
    target: Place,
    *,
    told: Callable[[str], None] = lambda _: None,
) -> str:
    """Copy what `source` names, with all that it refers to, and name it; its digest.

    target: its reference is a tag, or the digest itself. On ECR the repository is
    there already. What is there is not sent again; blobs are mounted within one
    registry that lets us.
    told: is given a line for every blob that was moved, from several threads.

    Raises RegistryError where the source has nothing of that name, or other bytes
    than were named; PushError where the target does not take it; CredentialsError.
    """
    held = manifest(source)
    if target.registry.digest(target.repository, target.reference) == held.digest:
        return held.digest
    _send(source, target, held, told, 0)
    now = target.registry.digest(target.repository, target.reference)
    if now != held.digest:
        raise PushError(
            f"{target} names {now or 'nothing'} after {held.digest} was pushed to it",
            "See whether its tags are immutable, or somebody else pushes there",
        )
    return held.digest


def manifest(place: Place) -> Held:
    """What a place holds. Raises RegistryError, also where it holds nothing; CredentialsError."""
    held = found(place)
    if held is None:
        raise RegistryError(f"{place} does not exist", "Mend its name")
    return held


def found(place: Place) -> Held | None:
    """What a place holds, None for nothing. Raises RegistryError, also for what is not of
    its digest or no manifest; CredentialsError."""
    answer = place.registry.http.get(
        f"/v2/{place.repository}/manifests/{place.reference}",
        headers={"Accept": manifests.ACCEPTED},
    )
    if answer is None:
        return None
    content = answer.content
    digest = artifacts.digest_of(content)
    if ":" in place.reference and digest != place.reference:
        raise RegistryError(
            f"{place} is not what its digest says", "Check the registry and any proxy before it"
        )
    try:
        if len(content) > manifests.LARGEST:
            raise ValueError("it is too large")
        read = typed.decode(content, Manifest)
        for one in (*read.layers, *read.manifests, *filter(None, [read.config])):
            if not artifacts.is_digest(one.digest) or one.size < 0:
                raise ValueError(f"the digest {one.digest[:80]} is of no kind we know")
        if read.config is None and not read.manifests and not read.layers:
            raise ValueError("it names nothing")
    except ValueError as error:  # msgspec's own too
        raise RegistryError(
            f"{place} is no manifest that can be copied ({error})", "Name an image or an index"
        ) from error
    kind = read.media_type or answer.headers.get("Content-Type", "").partition(";")[0]
    return Held(digest, content, kind or manifests.MANIFEST, read)


def put(target: Place, held: Held) -> Answer:
    """Put a manifest whose parts are there. Raises PushError, CredentialsError, RegistryError."""
    registry, repository, reference = target
    if held.read.subject is not None and reference == held.digest:
        answer = upload.attachment(registry, repository, held.content, held.media_type)
    else:
        answer = upload.manifest(registry, repository, reference, held.content, held.media_type)
    if not answer.ok:
        raise upload.refused(registry, repository, answer, PushError)
    return answer


def _send(
    source: Place,
    target: Place,
    held: Held,
    told: Callable[[str], None],
    depth: int,
) -> None:
    """Send a manifest after all that it refers to."""
    if depth > _DEPTH:
        raise RegistryError(f"{source} is an index in too many indexes", "Name one of its images")
    for entry in held.read.manifests:
        child, place = (
            source._replace(reference=entry.digest),
            target._replace(reference=entry.digest),
        )
        if target.registry.digest(target.repository, entry.digest) is None:
            _send(child, place, manifest(child), told, depth + 1)

    def moved(blob: Blob) -> None:
        if blobs.copy(source[:2], target[:2], blob) == "moved":
            told(f"{target.repository}: {blob.size / 1e6:.1f} MB of {blob.digest[:19]} copied")

    pool = ThreadPoolExecutor(max_workers=_AT_ONCE)
    try:
        for _ in pool.map(moved, sorted(held.read.blobs)):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
    put(target, held)
