"""JSON of others, read so that whatever is wrong with it is one kind of error."""

from __future__ import annotations

from typing import TypeVar

import msgspec

T = TypeVar("T")


def decode(content: bytes | str | msgspec.Raw, kind: type[T]) -> T:
    """Raises msgspec.MsgspecError for what is not JSON, and what is not of that kind.

    msgspec by itself lets a UnicodeError out for a text that is not UTF-8, and
    a RecursionError for one that is nested too deeply.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except (UnicodeError, RecursionError) as error:
        raise msgspec.DecodeError(f"{error}") from error
