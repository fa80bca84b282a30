"""What all documents have in common."""

from __future__ import annotations

from typing import Any

import msgspec

SCHEMA = 1

JsonValue = Any  # msgspec reads no recursive type; what is read is plain JSON
Json = dict[str, JsonValue]


class Document(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A file under `build/`. Subclasses name their file in `FILE`."""

    schema: int = SCHEMA


class Source(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Where a build comes from. commit is None outside git."""

    commit: str | None = None
    branch: str | None = None
    dirty: bool = False
