"""One promotion of an environment at a time, on any machine.

On one machine a file lock of the kernel does it. Between machines it is a claim in the
environment's registry: a tag that follows from the last record, so that whoever finishes
a promotion frees the next claim without deleting anything.

    ml/promotions-claims:prod__<12 hex of the last record>-1

Where tags are immutable (ECR) the registry gives it to one alone. Elsewhere the last who
pushes has it; each reads it again after a while, and again before every step, so that of
two who pushed within that while one stops before its first step, or, if it was slower
than that, before its next one. A registry with mutable tags can do no better.

Who holds a claim says every so often that he lives. One who has not for `ttl` seconds,
or who was a process of this very machine (whose file lock we hold now), is taken over
from by claiming `-2`.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from ci_tools import locks, storage
from ci_tools.errors import CIError, PromotionUnderWayError
from ci_tools.images import moving
from ci_tools.images.registry import Registry

T = TypeVar("T")
TYPE = "application/vnd.kfp-ci.promotion-claim.v1+json"
SUFFIX = "-claims"  # of the repository, whose tags are immutable where that can be
_MOST = 100  # take-overs of one promotion
_NEIGHBOUR = "another process of this machine"


class Timing(NamedTuple):
    """Seconds. ttl: without a sign of life. beat: between two. settle: before a claim is
    read again, where tags are mutable. look: between two looks while waiting."""

    ttl: float = 180.0
    beat: float = 20.0
    settle: float = 0.3
    look: float = 5.0


TIMING = Timing()


class Claim(msgspec.Struct, kw_only=True):
    """machine: of the state directory that holds the file lock. at: Unix seconds."""

    nonce: str
    who: str
    release: str
    machine: str
    at: float


class Beat(msgspec.Struct, kw_only=True):
    """The last sign of life of a claim. over: it was given back."""

    nonce: str
    at: float
    over: bool = False


@dataclass
class Lease:
    """registry, repository: of the records. directory: state of this machine."""

    registry: Registry
    repository: str
    environment: str
    directory: Path
    timing: Timing = TIMING
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep

    @contextmanager
    def held(
        self,
        head: Callable[[], str],
        *,
        who: str,
        release: str,
        wait: float = 0.0,
        take: bool = False,
        told: Callable[[str], None] = lambda _: None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Iterator[Callable[[], None]]:
        """Hold it while the block runs. Yields what raises where we hold it no more.

        head: digest of the last record now, "" for none. wait: seconds.
        take: take it over from whoever has it. meanwhile: done while nobody knows yet
        whether a claim of ours holds; it may change nothing.

        Raises PromotionUnderWayError where another one has it, RegistryError,
        CredentialsError, WriteError.
        """
        until = self.now() + wait
        try:
            local = locks.held(self.directory / f"{self.environment}.lock", seconds=wait)
            with local:
                claim = Claim(
                    nonce=uuid.uuid4().hex, who=who, release=release,
                    machine=self._machine(), at=self.now(),
                )  # fmt: skip
                tag = self._claimed(head, claim, until, take, told, meanwhile)
                stop = threading.Event()
                beating = threading.Thread(target=self._beat, args=(claim, stop), daemon=True)
                beating.start()
                try:
                    yield lambda: self._check(tag, claim)
                finally:
                    stop.set()
                    beating.join()
                    with contextlib.suppress(CIError):  # it runs out by itself
                        self._say(Beat(nonce=claim.nonce, at=self.now(), over=True))
        except locks.HeldElsewhereError:
            raise self.under_way(_NEIGHBOUR) from None

    def holder(self, head: str) -> str:
        """Who holds it now, as far as looking tells; "" for nobody who lives.

        head: as in `held`. Raises RegistryError, CredentialsError, WriteError.
        """
        try:
            with locks.held(self.directory / f"{self.environment}.lock", seconds=0):
                ours = self._machine()
        except locks.HeldElsewhereError:
            return _NEIGHBOUR
        base, last = self._base(head), None
        for number in range(1, _MOST):
            found = self._read(f"{base}-{number}")
            if found is None:
                break
            last = found
        return "" if last is None or self._is_over(last, ours) else _named(last)

    def under_way(self, who: str) -> PromotionUnderWayError:
        """The error for what another one holds."""
        return PromotionUnderWayError(
            f"{who} is promoting to '{self.environment}'",
            "Wait for it (--wait SECONDS), or, where you know that it is dead, --break-lock",
        )

    def _claimed(
        self,
        head: Callable[[], str],
        claim: Claim,
        until: float,
        take: bool,
        told: Callable[[str], None],
        meanwhile: Callable[[], None],
    ) -> str:
        """The tag of our claim, once we have it."""
        waited_for = ""
        while True:
            base = self._base(head())
            holder = None
            for number in range(1, _MOST):
                tag = f"{base}-{number}"
                holder = self._read(tag)
                if holder is not None and (take or self._is_over(holder, claim.machine)):
                    continue
                if holder is None and self._mine(tag, claim, meanwhile):
                    return tag
                break
            holder = holder or self._read(tag)
            who = _named(holder) if holder else "somebody"
            if self.now() >= until:
                raise self.under_way(who)
            if who != waited_for:
                told(f"waiting for {who}, who promotes to '{self.environment}'")
                waited_for = who
            self.sleep(self.timing.look)

    def _mine(self, tag: str, claim: Claim, meanwhile: Callable[[], None]) -> bool:
        content = storage.encode(claim)
        if not moving.claim(self.registry, self.repository + SUFFIX, tag, TYPE, content):
            return False
        settled = self.now() + self.timing.settle
        self._say(Beat(nonce=claim.nonce, at=self.now()))
        meanwhile()
        if self.registry.ecr is None:
            self.sleep(max(0.0, min(settled - self.now(), self.timing.settle)))
        held = self._read(tag)
        return held is not None and held.nonce == claim.nonce

    def _check(self, tag: str, claim: Claim) -> None:
        """Raises PromotionUnderWayError where somebody took it over."""
        held = self._read(tag)
        if held is None or held.nonce != claim.nonce:
            raise self.under_way(held.who if held else "somebody")
        after = self._read(f"{tag.rpartition('-')[0]}-{int(tag.rpartition('-')[2]) + 1}")
        if after is not None:
            raise self.under_way(f"{after.who}, who took the lock over,")

    def _is_over(self, holder: Claim, machine: str) -> bool:
        """machine: ours, whose file lock nobody else has."""
        if holder.machine == machine:
            return True  # it had that lock
        content = moving.get(self.registry, self.repository, self._beats, TYPE)
        last = _decoded(content, Beat)
        if last is not None and last.nonce == holder.nonce:
            return last.over or last.at + self.timing.ttl < self.now()
        return holder.at + self.timing.ttl < self.now()

    def _beat(self, claim: Claim, stop: threading.Event) -> None:
        while not stop.wait(self.timing.beat):
            with contextlib.suppress(CIError):  # the next one may get through
                self._say(Beat(nonce=claim.nonce, at=self.now()))

    def _say(self, beat: Beat) -> None:
        moving.put(self.registry, self.repository, self._beats, TYPE, storage.encode(beat))

    def _read(self, tag: str) -> Claim | None:
        return _decoded(moving.get(self.registry, self.repository + SUFFIX, tag, TYPE), Claim)

    @property
    def _beats(self) -> str:
        return moving.tag_of(f"{self.environment}__lease")

    def _machine(self) -> str:
        """Names the directory of the file lock, wherever it is mounted."""
        path = self.directory / "machine"
        if not path.exists():
            storage.write_bytes(path, uuid.uuid4().hex.encode())
        return path.read_text(encoding="ascii", errors="replace")

    def _base(self, head: str) -> str:
        """What the tags of the claims after a record begin with."""
        return moving.tag_of(f"{self.environment}__{head[7:19] or 'first'}")


def _named(holder: Claim) -> str:
    return f"{holder.who} with {holder.release[:20]}"


def _decoded(content: bytes | None, kind: type[T]) -> T | None:
    """What lies there; None where it is nothing of ours."""
    try:
        return None if content is None else msgspec.json.decode(content, type=kind)
    except msgspec.MsgspecError:
        return None
