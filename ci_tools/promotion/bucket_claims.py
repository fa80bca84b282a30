"""Claims in the environment's bucket: one object, which is only ever replaced by condition.

    s3://bucket/prefix/locks/<project>/<environment>.json

S3 writes an object where there is none (`If-None-Match: *`), or in the place of the one
that was read (`If-Match` and its ETag), and refuses everybody else. So of any number who
claim at once one gets it, and who was taken over from is refused at the next sign of life.
Source: Amazon S3 user guide, conditional-writes.html.

Each writing differs from all others (nonce, beats), and with it its ETag: else who read
the object before a sign of life could still replace it after that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec

from ci_tools import storage, typed
from ci_tools.errors import RegistryError
from ci_tools.promotion.lease import TIMING, Claim, Timing

_TRIES = 5  # who is outrun that often is told that somebody has it


class Seen(NamedTuple):
    """An object as it was read. age: seconds since it was written, by S3's clock."""

    content: bytes
    etag: str
    age: float


class Slot(Protocol):
    """An object that is replaced by condition."""

    def read(self) -> Seen | None:
        """None where there is none."""

    def put(self, content: bytes, instead_of: str) -> str:
        """Its ETag; "" where it was refused.

        instead_of: ETag of the object that it replaces, "" for none being there. Where an
        answer was lost and the request repeated, a refusal may be of our own writing.
        """


class Held(Claim, kw_only=True):
    """The object. beats: signs of life so far. over: it was given back."""

    beats: int = 0
    over: bool = False


class BucketClaims:
    """Satisfies `lease.Claims`."""

    def __init__(self, slot: Slot, name: str, timing: Timing = TIMING) -> None:
        self._slot, self._name, self._timing = slot, name, timing
        self._lock = threading.Lock()  # of the two below: signs of life have their own thread
        self._etag = ""
        self._beats = 0

    def claim(
        self,
        claim: Claim,
        _head: Callable[[], str],
        /,
        *,
        take: bool,
        meanwhile: Callable[[], None],
    ) -> str:
        del meanwhile  # it holds at once
        who = "somebody"
        for _ in range(_TRIES):
            seen = self._slot.read()
            held = None if seen is None else _decoded(seen.content)
            if seen is not None and not (take or self._is_over(seen, held, claim.machine)):
                return held.told() if held is not None else "somebody"
            who = held.told() if held is not None else who
            content = _encoded(claim, beats=0)
            etag = self._slot.put(content, seen.etag if seen is not None else "")
            if etag:
                self._check_conditions(content)
                with self._lock:
                    self._etag, self._beats = etag, 0
                return ""
        return who

    def holder(self, machine: str, _head: str) -> str:
        seen = self._slot.read()
        if seen is None:
            return ""
        held = _decoded(seen.content)
        if self._is_over(seen, held, machine):
            return ""
        return held.told() if held is not None else "somebody"

    def check(self, claim: Claim) -> str:
        """As a sign of life is given: what follows has `ttl` from now."""
        return self._renew(claim, over=False)

    def live(self, claim: Claim) -> None:
        self._renew(claim, over=False)

    def leave(self, claim: Claim) -> None:
        self._renew(claim, over=True)

    def _check_conditions(self, content: bytes) -> None:
        """Raises RegistryError where the store passes over conditions, so that nobody may
        believe to be alone. Ours is there: another one where there is none cannot be."""
        if self._slot.put(content, ""):
            raise RegistryError(
                f"{self._name} is no lock: its store replaces objects whatever the condition",
                "Use Amazon S3, or a store that knows If-None-Match of PutObject",
            )

    def _renew(self, claim: Claim, *, over: bool) -> str:
        """Write it again; "" where that was done, else who has it."""
        with self._lock:
            who = "somebody"
            for _ in range(_TRIES):
                beats = self._beats + 1
                etag = self._slot.put(_encoded(claim, beats=beats, over=over), self._etag)
                if etag:
                    self._etag, self._beats = etag, beats
                    return ""
                seen = self._slot.read()
                held = None if seen is None else _decoded(seen.content)
                if seen is None or held is None or held.nonce != claim.nonce:
                    return f"{held.who}, who took the lock over," if held is not None else who
                # Ours, of a writing whose answer was lost.
                self._etag, self._beats = seen.etag, held.beats
            return who

    def _is_over(self, seen: Seen, held: Held | None, machine: str) -> bool:
        """Whether nobody lives who holds it. held: None for what is nothing of ours."""
        if held is not None and (held.over or held.machine == machine):
            # Of this machine: it had the file lock that we have now, or is our own writing,
            # whose answer was lost.
            return True
        return seen.age > self._timing.ttl


def _encoded(claim: Claim, *, beats: int, over: bool = False) -> bytes:
    return storage.encode(Held(**msgspec.structs.asdict(claim), beats=beats, over=over))


def _decoded(content: bytes) -> Held | None:
    try:
        return typed.decode(content, Held)
    except msgspec.MsgspecError:
        return None
