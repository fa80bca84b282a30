"""What is wrong with a declaration, in words that a person can act on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from ci_tools.errors import ConfigError

_UNKNOWN = re.compile(r"unknown field `(?P<field>[^`]*)`(?: - at `\$\.?(?P<path>[^`]*)`)?")
# What YAML makes of a text that its author thinks to be one: 2026-01-31, 1.10, yes.
_UNQUOTED = re.compile(r"got `(date|datetime)`|Expected `str( \| null)?`, got `(int|float|bool)`")


def explained(name: str, kind: type[Any], message: str, schema: str | None = None) -> ConfigError:
    """msgspec's sentence, with the nearest valid name for an unknown key.

    schema: what `python -m ci schema` calls this kind, if not `name`.
    """
    match = _UNKNOWN.search(message)
    if not match:
        quotes = "Put it in quotes, to make it a text" if _UNQUOTED.search(message) else "Mend it"
        return ConfigError(
            f"{name}: {message.replace('`', chr(39)).replace('$.', '')}",
            f"{quotes}; 'python -m ci schema {schema or name}' prints what it may hold",
        )
    field, path = match["field"], match["path"] or ""
    valid = _fields_at(kind, path)
    where = f"{path}.{field}" if path else field
    return ConfigError(
        f"{name}: unknown key '{where}'",
        did_you_mean(field, valid) or f"Valid here: {', '.join(valid) or 'nothing'}",
    )


def did_you_mean(word: str, valid: list[str]) -> str:
    """The sentence that names the nearest of `valid`; "" where none is near."""
    near = difflib.get_close_matches(word, valid, n=1, cutoff=0.5)
    return f"Did you mean '{near[0]}'" if near else ""


def name_one(word: str, valid: Iterable[str]) -> str:
    """What to do about a name that is none of `valid`: the nearest of them, or all."""
    there = list(valid)
    return did_you_mean(word, there) or f"Name one of: {', '.join(there) or '(there is none)'}"


def _fields_at(kind: type[Any], path: str) -> list[str]:
    """Field names of the struct that msgspec's error path points to."""
    info = msgspec.inspect.type_info(kind)
    for step in re.findall(r"[^.\[\]]+|\[[^\]]*\]", path):
        info = _struct_in(info, step)
    if isinstance(info, msgspec.inspect.StructType):
        return [field.encode_name for field in info.fields]
    return []


def _struct_in(info: msgspec.inspect.Type, step: str) -> msgspec.inspect.Type:
    if isinstance(info, msgspec.inspect.StructType):
        info = next(f.type for f in info.fields if f.encode_name == step)
    elif isinstance(info, msgspec.inspect.DictType):
        info = info.value_type
    elif isinstance(info, msgspec.inspect.ListType):
        info = info.item_type
    if isinstance(info, msgspec.inspect.UnionType):
        # Only one of them has keys that can be unknown.
        structs = [t for t in info.types if isinstance(t, msgspec.inspect.StructType)]
        others = [t for t in info.types if not isinstance(t, msgspec.inspect.NoneType)]
        info = (structs or others)[0]
    return info
