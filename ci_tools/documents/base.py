"""What all documents have in common."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import msgspec

SCHEMA = 1

JsonValue = Any  # msgspec reads no recursive type; what is read is plain JSON
Json = dict[str, JsonValue]


class ByHand(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """That somebody launched this by hand: no stage of CI made it, and no release holds it.

    by:       who.
    commit:   whose images CI built were used.
    unpinned: component -> the image that was used instead of CI's, by digest, or by id
              where the engine has it. named: the same as the person called it.
    """

    by: str
    commit: str
    unpinned: dict[str, str] = {}
    named: dict[str, str] = {}


class Document(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a stage writes, with the version of its schema.

    launched: not in the files that stages write.
    """

    schema: int = SCHEMA
    launched: ByHand | msgspec.UnsetType = msgspec.UNSET


class Source(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Where a build comes from. commit is None outside git."""

    commit: str | None = None
    branch: str | None = None
    dirty: bool = False


def timestamp(at: datetime | None = None) -> str:
    """A moment as documents have it: RFC 3339 in UTC, to the second. at: None for now."""
    return (at or datetime.now(timezone.utc)).isoformat(timespec="seconds")
