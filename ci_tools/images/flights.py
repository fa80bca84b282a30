"""Blobs on their way into one registry: each is moved once, however many images want it.

The first repository that wants a blob is sent its bytes; the others wait for that, and
have it mounted from there where the registry mounts, and sent again where it does not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from ci_tools.images import blobs
from ci_tools.images.blobs import Blob, How
from ci_tools.images.registry import Registry


class Tally(NamedTuple):
    """moved: blobs whose bytes went through here; bytes: theirs. there: found there."""

    moved: int
    bytes: int
    mounted: int
    there: int


class Flights:
    """From one registry to another. Safe to use from several threads.

    pool: where blobs are moved; nothing in it waits for anything else in it.
    alive: called before each piece; what it raises ends the move.
    told: is given a repository, a blob of it, and how that came there.
    """

    def __init__(
        self,
        source: Registry,
        destination: Registry,
        pool: ThreadPoolExecutor,
        *,
        alive: Callable[[], object],
        told: Callable[[str, Blob, How], object],
    ) -> None:
        self._source, self._destination, self._pool = source, destination, pool
        self._alive, self._told = alive, told
        self._lock = threading.Lock()
        self._first: dict[str, Future[str]] = {}  # digest -> the repository that has it
        self._further: dict[tuple[str, str], Future[str]] = {}  # of (repository, digest)
        self._done: list[tuple[Blob, How]] = []

    def bring(self, path: str, repository: str, wanted: Collection[Blob]) -> None:
        """Return when all of them are in `repository` of the destination.

        path: the source's repository that has them.
        Raises RegistryError, CredentialsError, PushError, and what `alive` raises.
        """
        largest_first = sorted(wanted, key=lambda blob: (-blob.size, blob.digest))
        flights = [(blob, self._flight(path, repository, blob)) for blob in largest_first]
        further = [
            self._flight(path, repository, blob, mount=at)
            for blob, flight in flights
            if (at := flight.result()) != repository
        ]
        for flight in further:
            flight.result()

    @property
    def tally(self) -> Tally:
        with self._lock:
            ways = [how for _, how in self._done]
            moved = sum(blob.size for blob, how in self._done if how == "moved")
        return Tally(ways.count("moved"), moved, ways.count("mounted"), ways.count("there"))

    def _flight(
        self, path: str, repository: str, blob: Blob, mount: str | None = None
    ) -> Future[str]:
        with self._lock:
            if mount is None:
                flight = self._first.get(blob.digest)
            else:
                flight = self._further.get((repository, blob.digest))
            if flight is None:
                flight = self._pool.submit(self._carry, path, repository, blob, mount)
                if mount is None:
                    self._first[blob.digest] = flight
                else:
                    self._further[repository, blob.digest] = flight
            return flight

    def _carry(self, path: str, repository: str, blob: Blob, mount: str | None) -> str:
        self._alive()
        how = blobs.copy(
            (self._source, path),
            (self._destination, repository),
            blob,
            mount=mount,
            alive=self._alive,
        )
        with self._lock:
            self._done.append((blob, how))
        self._told(repository, blob, how)
        return repository
