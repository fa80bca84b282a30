"""JSON and plain values as a type of ours, in any thread.

msgspec learns a type when it first meets it, and runs Python code for that. Another thread
that decodes the same type meanwhile reads what is half made, and the process ends with a
segmentation fault (msgspec 0.22). So types are learnt here, one at a time; to decode
needs no lock.
"""

from __future__ import annotations

import threading
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_LEARNING = threading.Lock()
_learnt: dict[Any, msgspec.json.Decoder[Any]] = {}


def decode(content: bytes | str | msgspec.Raw, kind: type[T]) -> T:
    """JSON as `kind`. Raises msgspec.MsgspecError for what is none, and none of that kind.

    msgspec by itself lets a UnicodeError out for a text that is not UTF-8, and a
    RecursionError for one that is nested too deeply.
    """
    try:
        decoded: T = _decoder(kind).decode(content)
    except (UnicodeError, RecursionError) as error:
        raise msgspec.DecodeError(f"{error}") from error
    return decoded


def convert(value: Any, kind: type[T]) -> T:
    """Dicts, lists and what is in them as `kind`. Raises msgspec.ValidationError."""
    _decoder(kind)
    return msgspec.convert(value, kind)


def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    if kind not in _learnt:
        with _LEARNING:
            _learnt[kind] = msgspec.json.Decoder(kind)
    return _learnt[kind]
