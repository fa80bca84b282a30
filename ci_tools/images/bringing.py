"""One image brought to another registry with its children and attachments, whole.

Its blobs come first, then its manifests (those of an index before it), then what is
attached to each of them, and the list of that. Source: OCI distribution specification
1.1, "Pushing Manifests"; registries take no manifest before its parts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal, NamedTuple

from ci_tools.errors import PushError, RegistryError
from ci_tools.images import artifacts, attachments, copying, manifests, tagging
from ci_tools.images.artifacts import Descriptor
from ci_tools.images.attachments import Attached
from ci_tools.images.attempts import persistently
from ci_tools.images.copying import Held, Place
from ci_tools.images.flights import Flights
from ci_tools.images.registry import Registry
from ci_tools.images.tagging import Tag

_DEPTH = 4  # indexes in indexes; attachments of attachments
_ATTEMPTS = 4
# A manifest of these has no children.
_SINGLE = {artifacts.MANIFEST, manifests.DOCKER_MANIFEST}


class Event(NamedTuple):
    """Something that was done at the destination, or found there.

    what: "skipped": an image was there; "moved" or "mounted": a blob is there now;
          "manifest": one was put; "attached": one is now listed with its subject;
          "tagged": name is the tag; "left": name says why an attachment stayed behind.
    bytes: of what was moved or put.
    """

    what: Literal["skipped", "moved", "mounted", "manifest", "attached", "tagged", "left"]
    repository: str
    digest: str
    bytes: int = 0
    name: str = ""


class Bringing:
    """From one registry to another. Safe to use from several threads.

    alive: called before each step; what it raises ends it. told: of each event.
    Its methods raise RegistryError, PushError, CredentialsError, and what `alive` raises.
    """

    def __init__(
        self,
        source: Registry,
        destination: Registry,
        flights: Flights,
        *,
        alive: Callable[[], object],
        told: Callable[[Event], object],
    ) -> None:
        self._source, self._destination, self._flights = source, destination, flights
        self._alive, self._told = alive, told
        self._attached = Attached(source)
        self._lock = threading.Lock()
        self._looked_at: set[tuple[str, str]] = set()  # (repository, subject)
        self.put: set[tuple[str, str]] = set()  # (repository, digest) of manifests

    def bring(
        self,
        path: str,
        repository: str,
        digest: str,
        kind: str | None,
        depth: int = 0,
        held: Held | None = None,
    ) -> None:
        """One manifest of the source's repository `path`, whole and with its attachments.

        kind: its media type where the destination has it, None where it lacks it.
        depth: how many attachments it is away from an image of the set.
        held: the manifest, where it has been read.
        """
        self._alive()
        missing, all_of_it = self._tree(path, repository, digest, kind, 0, held)
        wanted = {blob for one in missing for blob in one.read.blobs}
        self._flights.bring(path, repository, wanted)
        for one in missing:
            self._put(repository, one)
        for part in all_of_it:
            self._attach(path, repository, part, depth)

    def _tree(
        self,
        path: str,
        repository: str,
        digest: str,
        kind: str | None,
        depth: int,
        held: Held | None = None,
    ) -> tuple[list[Held], list[str]]:
        """The manifests that the destination lacks, children first; the digests of all."""
        if kind in _SINGLE:
            return [], [digest]
        if depth > _DEPTH:
            raise RegistryError(
                f"{self._source.host}/{path}@{digest} is an index in too many indexes",
                "Name one of its images",
            )
        here = (self._source, path) if kind is None else (self._destination, repository)
        held = held or copying.manifest(Place(*here, digest))
        missing: list[Held] = []
        all_of_it: list[str] = []
        for child in dict.fromkeys(entry.digest for entry in held.read.manifests):
            its_kind = self.kind(repository, child)
            more, parts = self._tree(path, repository, child, its_kind, depth + 1)
            missing += more
            all_of_it += parts
        return [*missing, *([held] if kind is None else [])], [*all_of_it, digest]

    def _attach(self, path: str, repository: str, subject: str, depth: int) -> None:
        """All that the source has attached to a manifest, and the list of it."""
        with self._lock:
            if (repository, subject) in self._looked_at:  # a child of two indexes
                return
            self._looked_at.add((repository, subject))
        found = self._attached.to(path, subject)
        if depth >= _DEPTH and (found.referrers or found.tags):
            raise RegistryError(
                f"{self._source.host}/{path}@{subject} is attached to what is attached to "
                "something, too many times",
                "See what is listed there",
            )
        if found.referrers:
            known = self._listed(repository, subject)
            entries: list[Descriptor] = []
            for digest in found.referrers:
                kind = self.kind(repository, digest)
                held = None
                if digest not in known or kind is None:
                    believed = self._believed(path, repository, digest, subject)
                    if believed is None:
                        continue
                    held, entry = believed
                    entries.append(entry)
                self.bring(path, repository, digest, kind, depth + 1, held)
            if entries:
                attachments.list_all(self._destination, repository, subject, entries)
                for entry in entries:
                    self._told(Event("attached", repository, entry.digest, name=subject))
        for tag, digest in found.tags.items():
            kind = self.kind(repository, digest)
            self.bring(path, repository, digest, kind, depth + 1)
            if self._destination.digest(repository, tag) != digest:
                self.name(Tag(repository, digest, tag))

    def _listed(self, repository: str, subject: str) -> set[str]:
        """What the destination lists already; nothing for what has just come."""
        if (repository, subject) in self.put and self._destination.lists_referrers is not None:
            return set()
        return attachments.listed(self._destination, repository, subject)

    def _believed(
        self, path: str, repository: str, digest: str, subject: str
    ) -> tuple[Held, Descriptor] | None:
        """What the source lists as attached, if it is. Lists outlive what they name."""
        held = copying.found(Place(self._source, path, digest))
        entry = attachments.entry(held, subject) if held is not None else None
        if held is not None and entry is not None:
            return held, entry
        why = (
            "the source lists it, but has it no more"
            if held is None
            else f"it does not refer to {subject}, as the source's list says"
        )
        self._told(Event("left", repository, digest, name=why))
        return None

    def kind(self, repository: str, digest: str) -> str | None:
        """The media type of a manifest that the destination has, None where it has none."""
        self._alive()
        answer = self._destination.http.get(
            f"/v2/{repository}/manifests/{digest}",
            method="HEAD",
            headers={"Accept": manifests.ACCEPTED},
        )
        if answer is None:
            return None
        return str(answer.headers.get("Content-Type", "")).partition(";")[0].strip()

    def _put(self, repository: str, held: Held) -> None:
        self._alive()
        place = Place(self._destination, repository, held.digest)
        answer = persistently(
            lambda: copying.put(place, held), attempts=_ATTEMPTS, told=lambda _: None
        )
        if answer.headers.get("OCI-Subject"):
            self._destination.lists_referrers = True
        with self._lock:
            self.put.add((repository, held.digest))
        self._told(Event("manifest", repository, held.digest, len(held.content)))

    def compare(self, put: tuple[str, str]) -> None:
        """See that the destination has what was put: (repository, digest)."""
        repository, digest = put
        now = self._destination.digest(repository, digest)
        if now != digest:
            raise PushError(
                f"{self._destination.host}/{repository} holds {now or 'nothing'} where {digest} "
                "was pushed",
                "Check the registry and any proxy before it, and run it again",
            )

    def name(self, tag: Tag) -> None:
        """Let a tag name what is there."""
        self._alive()
        tagging.put(self._destination, tag)
        self._told(Event("tagged", tag.repository, tag.digest, name=tag.name))
