"""What is wrong with a declaration, in words that a person can act on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

import msgspec
import yaml

from ci_tools import typed, yaml_safe
from ci_tools.errors import ConfigError

# What YAML makes of a text that its author thinks to be one: 2026-01-31, 1.10, yes.
_UNQUOTED = re.compile(r"got `(date|datetime)`|Expected `str( \| null)?`, got `(int|float|bool)`")
_UNKNOWN = re.compile(r"unknown field `(?P<field>[^`]*)`")
_AT = re.compile(r"`\$(?P<path>[^`]*)`$")
_STEP = re.compile(r"\.([^.\[]+)|\[([^\]]*)\]")
_ANY = "..."  # how msgspec writes the key of an entry
_KEY = " - at `key`"  # and that the key itself is wrong

Step = str | int


def explained(
    name: str,
    kind: type[Any],
    message: str,
    schema: str | None = None,
    data: object = None,
    text: str = "",
) -> ConfigError:
    """msgspec's sentence, with the entry that it is of, its line, and the nearest valid
    name for an unknown key.

    schema: what `python -m ci schema` calls this kind, if not `name`.
    data: what was to be converted. text: the YAML that it comes from, if it does.
    """
    at = _AT.search(message)
    path = _narrowed(kind, message, data, _steps(at["path"]) if at else [])
    shown = _shown(path)
    unknown = _UNKNOWN.search(message)
    if unknown:
        field = unknown["field"]
        valid = _fields_at(kind, at["path"] if at else "")
        where = f"{shown}.{field}" if shown else field
        return ConfigError(
            f"{name}: unknown key '{where}'{_line(text, [*path, field])}",
            did_you_mean(field, valid) or f"Valid here: {', '.join(valid) or 'nothing'}",
        )
    said, place = (message[: at.start()], [*path]) if at else (message, [])
    if _KEY in said:
        bad = _guilty(kind, message, data, path)
        said = said.replace(_KEY, f" - at the key '{bad}'" if bad is not None else " - at a key")
        place += [bad] if bad is not None else []
    sentence = (
        f"{said}'{shown}'" if at and shown else said.removesuffix(" - at ").removesuffix(" in ")
    )
    quotes = "Put it in quotes, to make it a text" if _UNQUOTED.search(message) else "Mend it"
    return ConfigError(
        f"{name}: {sentence.replace('`', chr(39))}{_line(text, place)}",
        f"{quotes}; 'python -m ci schema {schema or name}' prints what it may hold",
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


def _steps(path: str) -> list[Step]:
    """`.a[...].b[0]` -> ["a", "...", "b", 0]."""
    found = (match[1] or match[2] for match in _STEP.finditer(path))
    return [int(step) if step.isdecimal() else step for step in found]


def _shown(path: list[Step]) -> str:
    """As a person writes it: `environments.prod.keys[0]`."""
    told = (f"[{step}]" if isinstance(step, int) or step == _ANY else f".{step}" for step in path)
    return "".join(told).removeprefix(".")


def _narrowed(kind: type[Any], message: str, data: object, path: list[Step]) -> list[Step]:
    """The path with the key of each entry that msgspec leaves out; some stay left out
    where nobody can tell."""
    found: list[Step] = []
    for at, step in enumerate(path):
        key = _guilty(kind, message, data, found) if step == _ANY else step
        if key is None:
            return found + path[at:]
        if step == _ANY:
            data = _only(data, found, key)
        found.append(key)
    return found


def _guilty(kind: type[Any], message: str, data: Any, path: list[Step]) -> Any:
    """The key of the mapping at `path` that by itself gives the very same error."""
    entries = data
    try:
        for step in path:
            entries = entries[step]
    except (LookupError, TypeError):
        return None
    for key in entries if isinstance(entries, dict) else ():
        try:
            typed.convert(_only(data, path, key), kind)
        except msgspec.ValidationError as error:
            if str(error) == message:
                return key
    return None


def _only(data: Any, path: list[Step], key: Any) -> Any:
    """A copy in which the mapping at `path` has no other key."""
    if not path:
        return {key: data[key]}
    copy: Any = list(data) if isinstance(data, list) else dict(data)
    copy[path[0]] = _only(copy[path[0]], path[1:], key)
    return copy


def _line(text: str, path: list[Step]) -> str:
    """` (line 3)`: of the key or item at `path`, or of the nearest around it."""
    node = yaml_safe.compose(text) if text else None
    line = None
    for step in path:
        if isinstance(node, yaml.MappingNode):
            pairs = {
                key.value: (key, value)
                for key, value in node.value
                if isinstance(key, yaml.ScalarNode)
            }
            if step not in pairs:
                break
            key, node = pairs[step]
            line = key.start_mark.line
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
            line = node.start_mark.line
        else:
            break
    return "" if line is None else f" (line {line + 1})"
