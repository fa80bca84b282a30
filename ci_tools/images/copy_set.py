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
from typing import NamedTuple, TypeVar

from ci_tools import process
from ci_tools.errors import CancelledError, RegistryError
from ci_tools.images import artifacts, tagging
from ci_tools.images.blobs import Blob, How
from ci_tools.images.bringing import Bringing, Event
from ci_tools.images.flights import Flights
from ci_tools.images.registry import Registry
from ci_tools.images.tagging import Tag

__all__ = ["Copied", "Event", "Wanted", "copy_all"]

T = TypeVar("T")
R = TypeVar("R")

_IMAGES_AT_ONCE = 16  # they wait for blobs most of the time
_BLOBS_AT_ONCE = 8  # each takes a piece of 8 MB of memory, or two


class Wanted(NamedTuple):
    """One image: its repositories, without host, and the digest of its manifest or index."""

    source: str
    destination: str
    digest: str


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
        len(run.bringing.put),
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
        self.skipped = 0
        self.flights = Flights(
            source, destination, self._blobs, alive=self._alive, told=self._blob_told
        )
        self.bringing = Bringing(source, destination, self.flights, alive=self._alive, told=told)

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
        kinds = self._all(lambda one: self.bringing.kind(one.destination, one.digest), images)
        known = dict(zip(images, kinds, strict=True))
        missing = [one for one, kind in known.items() if kind is None]
        repositories = sorted({one.destination for one in missing})
        self._all(self._destination.ensure_repository, repositories)
        for one in sorted(set(images) - set(missing)):
            self._told(Event("skipped", one.destination, one.digest))
        self.skipped = len(images) - len(missing)
        self._all(lambda one: self.bringing.bring(*one, kind=known[one]), images)
        self._all(self.bringing.compare, sorted(self.bringing.put))
        self._all(self.bringing.name, untagged)

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

    def _blob_told(self, repository: str, blob: Blob, how: How) -> None:
        if how != "there":
            self._told(Event(how, repository, blob.digest, blob.size if how == "moved" else 0))
