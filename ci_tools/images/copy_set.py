"""A whole set of images from one registry to another, by digest and byte for byte, with
all that is attached to them.

    copy_all([Wanted("team/train", "prod/train", "sha256:...")], source, destination)

An image is brought in this order: its blobs, its manifests (those of an index first),
what is attached to each of them, and the list of that. So what can be seen is whole.
Tags come last of all, when the set is there and has been compared.

Nothing is remembered from run to run: a destination that has a manifest has all that it
names, since registries take none before its parts. A run after one that broke off, or
was killed, therefore moves what is missing and no more. What is attached can be added
later to an image that is there, so that it is compared by listing, each time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Literal, NamedTuple, TypeVar

from ci_tools import process
from ci_tools.errors import CancelledError, PushError, RegistryError
from ci_tools.images import artifacts, attachments, copying, manifests, tagging
from ci_tools.images.artifacts import Descriptor
from ci_tools.images.attempts import persistently
from ci_tools.images.blobs import Blob, How
from ci_tools.images.copying import Held, Place
from ci_tools.images.flights import Flights
from ci_tools.images.registry import Registry
from ci_tools.images.tagging import Tag

T = TypeVar("T")
R = TypeVar("R")

_IMAGES_AT_ONCE = 16  # they wait for blobs most of the time
_BLOBS_AT_ONCE = 6  # each takes a piece of 8 MB of memory, or two
_DEPTH = 4  # indexes in indexes; attachments of attachments
_ATTEMPTS = 4
# A manifest of these has no children.
_SINGLE = {artifacts.MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"}


class Wanted(NamedTuple):
    """One image: its repositories, without host, and the digest of its manifest or index."""

    source: str
    destination: str
    digest: str


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


class Copied(NamedTuple):
    """What a run did. moved, bytes: blobs that were sent, and their bytes; mounted: blobs
    that the destination took from another repository of its own; manifests: put;
    skipped: images of the set that were there, whole. seconds: of the clock on the wall.
    """

    moved: int
    bytes: int
    mounted: int
    manifests: int
    skipped: int
    seconds: float


def copy_all(
    wanted: Sequence[Wanted],
    source: Registry,
    destination: Registry,
    *,
    tags: Mapping[str, Sequence[str]] | None = None,
    on_event: Callable[[Event], object] = lambda _: None,
) -> Copied:
    """Bring every image of a set to the destination, with its children and attachments.

    source, destination: each with its own login, renewed as it runs out; on ECR a
    repository that is missing is made, as the registry's settings say.
    tags: digest -> tags that name it at the destination in the end, such as `release-*`,
    which keep ECR from expiring it. They are never moved from another digest.
    on_event: called from several threads.

    The first failure ends it: no tag is set, and what is there by then stays, whole.
    Raises RegistryError where the source lacks something or gives other bytes than were
    named; PushError where the destination takes something not, or a tag of it names
    another digest; CredentialsError.
    """
    started = time.monotonic()
    images = sorted({Wanted(*one) for one in wanted})
    for one in images:
        if not artifacts.is_digest(one.digest):
            raise RegistryError(
                f"'{one.digest}' of {source.host}/{one.source} is no sha256 digest",
                "Name images by the digest of their manifest or index",
            )
    run = _Run(source, destination, on_event)
    try:
        run.copy(images, tags or {})
    finally:
        run.close()
    tally = run.flights.tally
    return Copied(
        tally.moved,
        tally.bytes,
        tally.mounted,
        len(run.put),
        run.skipped,
        time.monotonic() - started,
    )


class _Run:
    """One call of `copy_all`: what its threads share."""

    def __init__(
        self, source: Registry, destination: Registry, told: Callable[[Event], object]
    ) -> None:
        self._source, self._destination, self._told = source, destination, told
        self._images = ThreadPoolExecutor(_IMAGES_AT_ONCE, "copy-image")
        self._blobs = ThreadPoolExecutor(_BLOBS_AT_ONCE, "copy-blob")
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._looked_at: set[tuple[str, str]] = set()  # (repository, subject)
        self.put: set[tuple[str, str]] = set()  # (repository, digest) of manifests
        self.skipped = 0
        self.flights = Flights(
            source, destination, self._blobs, alive=self._alive, told=self._blob_told
        )

    def close(self) -> None:
        """Nothing is begun any more; returns when what was under way has ended."""
        self._stop.set()
        for pool in (self._blobs, self._images):
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in (self._blobs, self._images):
            pool.shutdown()

    def copy(self, images: Sequence[Wanted], tags: Mapping[str, Sequence[str]]) -> None:
        """See copy_all."""
        named = [
            Tag(one.destination, one.digest, name)
            for one in images
            for name in sorted(set(tags.get(one.digest, ())))
        ]
        untagged = tagging.unset(self._destination, named)  # before anything moves
        kinds = self._all(lambda one: self._kind(one.destination, one.digest), images)
        known = dict(zip(images, kinds, strict=True))
        missing = [one for one, kind in known.items() if kind is None]
        repositories = sorted({one.destination for one in missing})
        self._all(self._destination.ensure_repository, repositories)
        for one in sorted(set(images) - set(missing)):
            self._told(Event("skipped", one.destination, one.digest))
        self.skipped = len(images) - len(missing)
        self._all(lambda one: self._bring(*one, kind=known[one]), images)
        self._all(self._compare, sorted(self.put))
        self._all(self._name, untagged)

    def _all(self, action: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """What `action` returns for each. Raises the first failure at once."""
        futures: list[Future[R]] = [self._images.submit(action, item) for item in items]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:  # Ctrl-C too
            self._stop.set()
            raise
        return [future.result() for future in futures]

    def _alive(self) -> None:
        if self._stop.is_set() or process.stopping():
            raise CancelledError("the copy was given up", "Run it again: it goes on")

    def _bring(
        self, path: str, repository: str, digest: str, kind: str | None, depth: int = 0
    ) -> None:
        """One manifest of the source's repository `path`, whole and with its attachments.

        kind: its media type where the destination has it, None where it lacks it.
        depth: how many attachments it is away from an image of the set.
        """
        self._alive()
        missing, all_of_it = self._tree(path, repository, digest, kind, 0)
        self.flights.bring(path, repository, {blob for held in missing for blob in held.read.blobs})
        for held in missing:
            self._put(repository, held)
        for part in all_of_it:
            self._attach(path, repository, part, depth)

    def _tree(
        self, path: str, repository: str, digest: str, kind: str | None, depth: int
    ) -> tuple[list[Held], list[str]]:
        """The manifests that the destination lacks, children first; the digests of all."""
        if kind in _SINGLE:
            return [], [digest]
        if depth > _DEPTH:
            raise RegistryError(
                f"{self._source.host}/{path}@{digest} is an index in too many indexes",
                "Name one of its images",
            )
        if kind is None:
            held = copying.manifest(Place(self._source, path, digest))
        else:
            held = copying.manifest(Place(self._destination, repository, digest))
        missing: list[Held] = []
        all_of_it: list[str] = []
        for child in dict.fromkeys(entry.digest for entry in held.read.manifests):
            its_kind = self._kind(repository, child)
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
        found = attachments.of(self._source, path, subject)
        if depth >= _DEPTH and (found.referrers or found.tags):
            raise RegistryError(
                f"{self._source.host}/{path}@{subject} is attached to what is attached to "
                "something, too many times",
                "See what is listed there",
            )
        if found.referrers:
            known = attachments.listed(self._destination, repository, subject)
            entries: list[Descriptor] = []
            for digest in found.referrers:
                kind = self._kind(repository, digest)
                if digest not in known or kind is None:
                    entry = self._believed(path, repository, digest, subject)
                    if entry is None:
                        continue
                    entries.append(entry)
                self._bring(path, repository, digest, kind, depth + 1)
            if entries:
                attachments.list_all(self._destination, repository, subject, entries)
                for entry in entries:
                    self._told(Event("attached", repository, entry.digest, name=subject))
        for tag, digest in found.tags.items():
            kind = self._kind(repository, digest)
            self._bring(path, repository, digest, kind, depth + 1)
            if self._destination.digest(repository, tag) != digest:
                self._name(Tag(repository, digest, tag))

    def _believed(self, path: str, repository: str, digest: str, subject: str) -> Descriptor | None:
        """What the source lists as attached, if it is. Lists outlive what they name."""
        if self._source.digest(path, digest) is None:
            why = "the source lists it, but has it no more"
        else:
            held = copying.manifest(Place(self._source, path, digest))
            entry = attachments.entry(held, subject)
            if entry is not None:
                return entry
            why = f"it does not refer to {subject}, as the source's list says"
        self._told(Event("left", repository, digest, name=why))
        return None

    def _kind(self, repository: str, digest: str) -> str | None:
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

    def _compare(self, put: tuple[str, str]) -> None:
        repository, digest = put
        now = self._destination.digest(repository, digest)
        if now != digest:
            raise PushError(
                f"{self._destination.host}/{repository} holds {now or 'nothing'} where {digest} "
                "was pushed",
                "Check the registry and any proxy before it, and run it again",
            )

    def _name(self, tag: Tag) -> None:
        self._alive()
        tagging.put(self._destination, tag)
        self._told(Event("tagged", tag.repository, tag.digest, name=tag.name))

    def _blob_told(self, repository: str, blob: Blob, how: How) -> None:
        if how != "there":
            self._told(Event(how, repository, blob.digest, blob.size if how == "moved" else 0))
