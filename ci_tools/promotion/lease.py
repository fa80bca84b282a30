"""One promotion of an environment at a time, on any machine.

On one machine a file lock of the kernel does it. Between machines it is a claim, in the
environment's bucket (`bucket_claims`) or in its registry (`claims`).

Who holds a claim says every so often that he lives, and looks before every step whether
it is still his. One who gave no sign of life for `ttl` seconds, or who was a process of
this very machine (whose file lock we hold now), is taken over from.
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
from typing import NamedTuple, Protocol

import msgspec

from ci_tools import locks, storage
from ci_tools.errors import CIError, PromotionUnderWayError

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

    def told(self) -> str:
        """Who has it, for people."""
        return f"{self.who} with {self.release[:20]}"


class Claims(Protocol):
    """Where claims of one environment are. Every method raises RegistryError and
    CredentialsError."""

    def claim(
        self,
        claim: Claim,
        head: Callable[[], str],
        /,
        *,
        take: bool,
        meanwhile: Callable[[], None],
    ) -> str:
        """ "" once it is ours; else who has it, for people.

        head: digest of the last record now, "" for none. take: whoever has it.
        meanwhile: done while nobody knows yet whether a claim of ours holds, if so.
        """

    def holder(self, machine: str, head: str) -> str:
        """Who has it now and lives, as far as looking tells; "" for nobody.

        machine: ours, whose file lock nobody else has.
        """

    def check(self, claim: Claim) -> str:
        """ "" while it is ours; else who has it."""

    def live(self, claim: Claim) -> None:
        """A sign of life. Called in another thread than the others are."""

    def leave(self, claim: Claim) -> None:
        """Give it back."""


@dataclass
class Lease:
    """directory: state of this machine."""

    claims: Claims
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
                self._wait_for(head, claim, until, take, told, meanwhile)
                stop = threading.Event()
                beating = threading.Thread(target=self._beat, args=(claim, stop), daemon=True)
                beating.start()
                try:
                    yield lambda: self._check(claim)
                finally:
                    stop.set()
                    beating.join()
                    with contextlib.suppress(CIError):  # it runs out by itself
                        self.claims.leave(claim)
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
        return self.claims.holder(ours, head)

    def under_way(self, who: str) -> PromotionUnderWayError:
        """The error for what another one holds."""
        return PromotionUnderWayError(
            f"{who} is promoting to '{self.environment}'",
            "Wait for it (--wait SECONDS), or "
            # The kernel frees what the dead held: whoever has it here lives.
            + ("end it" if who == _NEIGHBOUR else "where you know that it is dead, --break-lock"),
        )

    def _wait_for(
        self,
        head: Callable[[], str],
        claim: Claim,
        until: float,
        take: bool,
        told: Callable[[str], None],
        meanwhile: Callable[[], None],
    ) -> None:
        """Returns once it is ours."""
        waited_for = ""
        while True:
            who = self.claims.claim(claim, head, take=take, meanwhile=meanwhile)
            if not who:
                return
            if self.now() >= until:
                raise self.under_way(who)
            if who != waited_for:
                told(f"waiting for {who}, who promotes to '{self.environment}'")
                waited_for = who
            self.sleep(self.timing.look)

    def _check(self, claim: Claim) -> None:
        """Raises PromotionUnderWayError where somebody took it over."""
        who = self.claims.check(claim)
        if who:
            raise self.under_way(who)

    def _beat(self, claim: Claim, stop: threading.Event) -> None:
        while not stop.wait(self.timing.beat):
            with contextlib.suppress(CIError):  # the next one may get through
                self.claims.live(claim)

    def _machine(self) -> str:
        """Names the directory of the file lock, wherever it is mounted."""
        path = self.directory / "machine"
        if not path.exists():
            storage.write_bytes(path, uuid.uuid4().hex.encode())
        return path.read_text(encoding="ascii", errors="replace")
