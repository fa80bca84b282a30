"""What was promoted to an environment: records in its registry, each naming the one before.

    ml/promotions:prod                  the last one
    ml/promotions:release-prod__<hash>  each of them, so that no clean-up takes it
    ml/promotions:release-prod__<hash>.dsse     its signature, where there is a key

The environment runs what the last record says whose outcome is "done"; each other one
names that (`standing`). Moving the tag is what makes a promotion happened.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from ci_tools import storage, typed
from ci_tools.documents import SCHEMA, Promotion
from ci_tools.errors import RegistryError
from ci_tools.images import moving
from ci_tools.images.registry import Registry

REPOSITORY = "promotions"
TYPE = "application/vnd.kfp-ci.promotion.v1+json"
SIGNATURE = "application/vnd.kfp-ci.promotion-signature.v1+json"
_MOST = 1000  # records that are walked back: more is a circle or an attack


class Kept(NamedTuple):
    """A record, the digest of its manifest, and its own bytes."""

    digest: str
    record: Promotion
    content: bytes


class Records:
    """The records of one environment.

    Every method raises RegistryError, also for a damaged record, and CredentialsError.
    """

    def __init__(self, registry: Registry, repository: str, environment: str) -> None:
        self.registry, self.repository, self.environment = registry, repository, environment
        self._tag = moving.tag_of(environment)
        self._known: dict[str, Kept] = {}  # by digest, which stands for the same for ever

    def head(self) -> Kept | None:
        """The last record, whatever became of it; None where nothing ever was promoted."""
        digest = self.registry.digest(self.repository, self._tag)
        return None if digest is None else self.at(digest)

    def standing(self, head: Kept | None) -> Kept | None:
        """The record of what the environment runs."""
        if head is None or head.record.outcome == "done":
            return head
        return self.at(head.record.standing) if head.record.standing else None

    def at(self, digest: str) -> Kept:
        """The record with this digest."""
        if digest not in self._known:
            self._known[digest] = self._read(digest)
        return self._known[digest]

    def _read(self, digest: str) -> Kept:
        content = moving.get(self.registry, self.repository, digest, TYPE)
        try:
            found = typed.decode(content or b"", Promotion)
        except msgspec.MsgspecError as error:
            why = "it is gone" if content is None else str(error)
            raise self._damaged(digest, why) from error
        if found.schema != SCHEMA or found.environment != self.environment:
            raise self._damaged(digest, "it is of another environment or schema version")
        return Kept(digest, found, content or b"")

    def walked(self) -> Iterator[Kept]:
        """The records, newest first, each read when it is asked for."""
        seen: set[str] = set()
        kept = self.head()
        while kept is not None and len(seen) < _MOST:
            seen.add(kept.digest)
            yield kept
            if kept.record.previous in seen:
                raise self._damaged(kept.digest, "it comes after itself")
            kept = self.at(kept.record.previous) if kept.record.previous else None

    def known(self) -> tuple[list[Kept], str]:
        """The records that can be read, newest first, and why there are no older ones, ""
        where these are all."""
        found: list[Kept] = []
        try:
            found.extend(self.walked())
        except RegistryError as error:
            if not found:
                raise
            return found, error.what
        return found, ""

    def put(self, record: Promotion, sign: Callable[[bytes], bytes] | None = None) -> Kept:
        """Make it the last one. It is there under a name of its own before the tag moves,
        and so is its signature. sign: makes that of the record's bytes; None for none."""
        content = storage.encode(record)
        own = self._own(content)
        moving.put(self.registry, self.repository, own, TYPE, content)
        if sign is not None:
            signature = sign(content)
            moving.put(self.registry, self.repository, f"{own}.dsse", SIGNATURE, signature)
        digest = moving.put(self.registry, self.repository, self._tag, TYPE, content)
        self._known[digest] = Kept(digest, record, content)
        return self._known[digest]

    def signature(self, kept: Kept) -> bytes | None:
        """The envelope that is said to sign a record; None where there is none."""
        tag = f"{self._own(kept.content)}.dsse"
        return moving.get(self.registry, self.repository, tag, SIGNATURE)

    def _own(self, content: bytes) -> str:
        """The tag of a record's own; `release-*` never expires on ECR."""
        return f"release-{self._tag[:90]}__{hashlib.sha256(content).hexdigest()[:16]}"

    def _damaged(self, digest: str, why: str) -> RegistryError:
        return RegistryError(
            f"the record {self.registry.host}/{self.repository}@{digest} cannot be read ({why})",
            "Look at who may push there; the tag must name the last sound record",
        )


def before(history: Sequence[Promotion]) -> Promotion | None:
    """The record of what a roll-back without a name goes to: what the environment ran before
    it was given what it runs. Pure.

    history: newest first, the oldest may be missing: then it is the same one, or None. What
    was rolled back from does not count, so that two roll-backs go back two releases.
    """
    stack: list[Promotion] = []
    for record in reversed(history):
        if record.outcome != "done":
            continue
        if record.action == "rollback":
            while stack and stack[-1].release != record.release:
                stack.pop()
        if stack and stack[-1].release == record.release:
            stack.pop()
        stack.append(record)
    return stack[-2] if len(stack) > 1 else None
