"""What is attached to a manifest in its registry, of whatever kind, and how it is listed there.

There are two ways: artifacts whose `subject` it is, which the registry or an index
under the tag `sha256-<hex>` lists (`referrers`), and cosign's own, manifests under the
tags `sha256-<hex>.sig`, `.att` and `.sbom` that name no subject.

Source: OCI distribution specification 1.1, "Listing Referrers"; cosign's
SIGNATURE_SPEC.md, "Discovery".
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from ci_tools import typed
from ci_tools.errors import CredentialsError, PushError
from ci_tools.images import artifacts, referrers, referrers_tag
from ci_tools.images.artifacts import Descriptor
from ci_tools.images.attempts import persistently
from ci_tools.images.copying import Held
from ci_tools.images.registry import Registry

COSIGN = (".sig", ".att", ".sbom")
_ATTEMPTS = 5
_TAGS = 1000  # of a page


class _Tags(msgspec.Struct):
    tags: list[str] | None = None


class Attachments(NamedTuple):
    """referrers: digests, sorted. tags: cosign's tag -> digest."""

    referrers: tuple[str, ...]
    tags: dict[str, str]


class Attached:
    """What a registry's manifests have attached. Safe to use from several threads.

    Most have nothing, which a repository's list of tags tells at once for all of them,
    as of when it was read; a list of more than a page is not read to its end.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._reading: dict[str, threading.Lock] = {}  # repository -> whoever reads its list
        self._tags: dict[str, frozenset[str] | None] = {}  # None where there are too many

    def to(self, repository: str, subject: str) -> Attachments:
        """All that is attached to the manifest `subject`, as the registry's lists claim.

        Raises RegistryError, CredentialsError.
        """
        own = artifacts.tag(subject)
        names = [own + kind for kind in COSIGN]
        if self._registry.ecr is not None:  # one call for all
            digests = self._registry.digests([(repository, name) for name in names])
            return self._told(repository, subject, {one: digests[repository, one] for one in names})
        tags = self._tags_of(repository)
        here = [name for name in names if tags is None or name in tags]
        found = {name: self._registry.digest(repository, name) for name in here}
        if self._registry.lists_referrers is False and tags is not None and own not in tags:
            return Attachments((), _there(found))
        return self._told(repository, subject, found)

    def _told(self, repository: str, subject: str, found: Mapping[str, str | None]) -> Attachments:
        digests = listed(self._registry, repository, subject)
        return Attachments(tuple(sorted(digests)), _there(found))

    def _tags_of(self, repository: str) -> frozenset[str] | None:
        with self._lock:
            reading = self._reading.setdefault(repository, threading.Lock())
        with reading:
            if repository not in self._tags:
                self._tags[repository] = self._read_tags(repository)
            return self._tags[repository]

    def _read_tags(self, repository: str) -> frozenset[str] | None:
        try:
            answer = self._registry.http.ask("GET", f"/v2/{repository}/tags/list?n={_TAGS}")
        except CredentialsError:  # whoever may pull may not always list
            return None
        if not answer.ok or answer.headers.get("Link"):
            return None
        try:
            return frozenset(typed.decode(answer.content, _Tags).tags or ())
        except msgspec.MsgspecError:
            return None


def _there(found: Mapping[str, str | None]) -> dict[str, str]:
    return {name: digest for name, digest in found.items() if digest is not None}


def listed(registry: Registry, repository: str, subject: str) -> set[str]:
    """The digests that are listed as artifacts of `subject`: one request.

    Raises RegistryError, CredentialsError.
    """
    return {one.digest for one in referrers.attached(registry, repository, subject, None)}


def entry(held: Held, subject: str) -> Descriptor | None:
    """How an artifact stands in the list of `subject`; None where it does not refer to it.

    Source: OCI distribution specification 1.1, "Listing Referrers": the type is the
    manifest's artifactType or else that of its config.
    """
    read = held.read
    if read.subject is None or read.subject.digest != subject:
        return None
    config = read.config.media_type if read.config is not None else ""
    return Descriptor(
        media_type=held.media_type,
        digest=held.digest,
        size=len(held.content),
        artifact_type=read.artifact_type or config,
        annotations=read.annotations or {},
    )


def list_all(
    registry: Registry, repository: str, subject: str, entries: Sequence[Descriptor]
) -> None:
    """See that the list of `subject` has all of these, which are there.

    A registry that keeps the lists itself may take a moment; else we write it.
    Raises PushError where it is not listed in the end; RegistryError, CredentialsError.
    """

    if not registry.lists_referrers:
        referrers_tag.add(registry, repository, subject, entries)

    def look() -> None:
        missing = {one.digest for one in entries} - listed(registry, repository, subject)
        if missing:
            raise PushError(
                f"{registry.host}/{repository} does not list {min(missing)} as attached to "
                f"{subject}, though it took it",
                "Run it again; if that does not help, look into the registry's log",
                again=True,
            )

    persistently(look, attempts=_ATTEMPTS, told=lambda _: None)
