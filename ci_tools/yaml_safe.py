"""YAML as data only: the safe loader, in C where PyYAML was built with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # a PyYAML built without libyaml
    from yaml import SafeLoader  # type: ignore[assignment]

_DEEPEST = 500  # libyaml's composer recurses: at some 20,000 it takes the process down
_LARGEST = 1_000_000  # values, aliases written out: nine short lines can stand for 400 million


def load(text: str, *, unique_keys: bool = False) -> object:
    """Parse one YAML document. Raises yaml.YAMLError; never builds objects.

    unique_keys: refuse a key that is there twice. YAML forbids it, PyYAML
    silently takes the last, and a person reads the first.
    """
    _check_size(text)
    loader = _UniqueKeys if unique_keys else SafeLoader
    with _as_yaml_errors():
        return yaml.load(text, Loader=loader)  # noqa: S506 - both are safe loaders


def load_all(text: str) -> list[object]:
    """Parse a stream of YAML documents. Raises yaml.YAMLError."""
    _check_size(text)
    with _as_yaml_errors():
        return list(yaml.load_all(text, Loader=SafeLoader))


def compose(text: str) -> yaml.Node | None:
    """The node tree of one document, with the position of every node in `text`."""
    _check_size(text)
    return yaml.compose(text, Loader=SafeLoader)


def compose_all(text: str) -> list[yaml.Node | None]:
    """The node trees of a stream of documents, with positions. Raises yaml.YAMLError."""
    _check_size(text)
    return list(yaml.compose_all(text, Loader=SafeLoader))


class _UniqueKeys(SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key '{key.value}' is there twice", problem_mark=key.start_mark
                )
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


@contextmanager
def _as_yaml_errors() -> Iterator[None]:
    """PyYAML lets a scalar that is no value of its type (2026-02-30, a number of ten
    thousand digits) out as a bare ValueError."""
    try:
        yield
    except ValueError as error:
        raise yaml.MarkedYAMLError(problem=str(error)) from error


def _check_size(text: str) -> None:
    """Raises yaml.YAMLError for a document that is nested deeper, or with its aliases
    larger, than anybody writes, or that holds an alias of what it stands in."""
    if len(text) <= _DEEPEST and "*" not in text:
        return
    values = 0
    begun: list[tuple[str | None, int]] = []  # anchor, and the values before it
    sizes: dict[str, int] = {}  # anchor -> values
    for event in yaml.parse(text, Loader=SafeLoader):
        problem = ""
        if isinstance(event, yaml.StreamStartEvent | yaml.DocumentStartEvent):
            sizes.clear()
        elif isinstance(event, yaml.CollectionStartEvent):
            begun.append((event.anchor, values))
            values += 1
            problem = "nested too deeply" if len(begun) > _DEEPEST else ""
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = begun.pop()
            if anchor is not None:
                sizes[anchor] = values - before
        elif isinstance(event, yaml.AliasEvent):
            values += sizes.get(event.anchor or "", 1)
            if any(event.anchor == anchor for anchor, _ in begun):
                problem = f"the alias '*{event.anchor}' stands in what it stands for"
        elif isinstance(event, yaml.ScalarEvent):
            values += 1
        if problem or values > _LARGEST:
            raise yaml.MarkedYAMLError(
                problem=problem or "too large with its aliases written out",
                problem_mark=event.start_mark,  # type: ignore[arg-type]
            )
