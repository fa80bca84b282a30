"""Claims in an environment's registry: who may promote, where no bucket is at hand.

A claim is a tag that follows from the last record, so that whoever finishes a promotion
frees the next claim without deleting anything.

    ml/promotions-claims:prod__<12 hex of the last record>-1

Where tags are immutable (ECR) the registry gives it to one alone. Elsewhere the last who
pushes has it; each reads it again after a while, and again before every step, so that of
two who pushed within that while one stops before its first step, or, if it was slower
than that, before its next one. A registry with mutable tags can do no better.

Signs of life are beside the records. One who gave none for `ttl` seconds is taken over
from by claiming `-2`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import msgspec

from ci_tools import storage, typed
from ci_tools.images import moving
from ci_tools.images.registry import Registry
from ci_tools.promotion.lease import TIMING, Claim, Timing

T = TypeVar("T")
TYPE = "application/vnd.kfp-ci.promotion-claim.v1+json"
SUFFIX = "-claims"  # of the repository, whose tags are immutable where that can be
_MOST = 100  # take-overs of one promotion


class Beat(msgspec.Struct, kw_only=True):
    """The last sign of life of a claim. at: Unix seconds. over: it was given back."""

    nonce: str
    at: float
    over: bool = False


class RegistryClaims:
    """Satisfies `lease.Claims`. repository: of the records. Raises RegistryError,
    CredentialsError."""

    def __init__(
        self,
        registry: Registry,
        repository: str,
        environment: str,
        timing: Timing = TIMING,
        *,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._registry, self._repository = registry, repository
        self._environment, self._timing = environment, timing
        self._now, self._sleep = now, sleep
        self._tag = ""  # of our claim, once we have it

    def claim(
        self,
        claim: Claim,
        head: Callable[[], str],
        /,
        *,
        take: bool,
        meanwhile: Callable[[], None],
    ) -> str:
        base = self._base(head())
        holder = None
        for number in range(1, _MOST):
            tag = f"{base}-{number}"
            holder = self._read(tag)
            if holder is not None and (take or self._is_over(holder, claim.machine)):
                continue
            if holder is None and self._mine(tag, claim, meanwhile):
                self._tag = tag
                return ""
            break
        holder = holder or self._read(tag)
        return holder.told() if holder else "somebody"

    def holder(self, machine: str, head: str) -> str:
        base, last = self._base(head), None
        for number in range(1, _MOST):
            found = self._read(f"{base}-{number}")
            if found is None:
                break
            last = found
        return "" if last is None or self._is_over(last, machine) else last.told()

    def check(self, claim: Claim) -> str:
        held = self._read(self._tag)
        if held is None or held.nonce != claim.nonce:
            return held.who if held else "somebody"
        base, _, number = self._tag.rpartition("-")
        after = self._read(f"{base}-{int(number) + 1}")
        return f"{after.who}, who took the lock over," if after else ""

    def live(self, claim: Claim) -> None:
        self._say(Beat(nonce=claim.nonce, at=self._now()))

    def leave(self, claim: Claim) -> None:
        self._say(Beat(nonce=claim.nonce, at=self._now(), over=True))

    def _mine(self, tag: str, claim: Claim, meanwhile: Callable[[], None]) -> bool:
        content = storage.encode(claim)
        if not moving.claim(self._registry, self._repository + SUFFIX, tag, TYPE, content):
            return False
        settled = self._now() + self._timing.settle
        self.live(claim)
        meanwhile()
        if self._registry.ecr is None:
            self._sleep(max(0.0, min(settled - self._now(), self._timing.settle)))
        held = self._read(tag)
        return held is not None and held.nonce == claim.nonce

    def _base(self, head: str) -> str:
        """What the tags of the claims after a record begin with."""
        return moving.tag_of(f"{self._environment}__{head[7:19] or 'first'}")

    def _is_over(self, holder: Claim, machine: str) -> bool:
        if holder.machine == machine:
            return True  # it had the file lock that we have now
        content = moving.get(self._registry, self._repository, self._beats, TYPE)
        last = _decoded(content, Beat)
        if last is not None and last.nonce == holder.nonce:
            return last.over or last.at + self._timing.ttl < self._now()
        return holder.at + self._timing.ttl < self._now()

    def _say(self, beat: Beat) -> None:
        moving.put(self._registry, self._repository, self._beats, TYPE, storage.encode(beat))

    def _read(self, tag: str) -> Claim | None:
        return _decoded(moving.get(self._registry, self._repository + SUFFIX, tag, TYPE), Claim)

    @property
    def _beats(self) -> str:
        return moving.tag_of(f"{self._environment}__lease")


def _decoded(content: bytes | None, kind: type[T]) -> T | None:
    """What lies there; None where it is nothing of ours."""
    try:
        return None if content is None else typed.decode(content, kind)
    except msgspec.MsgspecError:
        return None
