"""A compiled pipeline for another registry: the same one, with its images' names moved.

Production takes the IR that was tested and compiles nothing. Only the scalars that name
an executor's image are rewritten, in the text itself: comments, order and layout stay,
so that a person who compares the two files sees just that. What came out is then parsed
and proven to be what went in, by code that shares nothing with the rewriting.

Pure functions of text; the copy of the images themselves is `images.copy_set`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import yaml

from ci_tools import yaml_safe
from ci_tools.errors import MissingInputError, UnpinnedImageError
from ci_tools.kubeflow import ir
from ci_tools.kubeflow.ir import Ir

_DIGEST = re.compile(r"[^@\s]+@(sha256:[0-9a-f]{64})")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*")
_PROPERTIES = re.compile(r"(?:[&!]\S*\s+)*")  # an anchor or a tag before a scalar
_IMAGE_KEYS = ("image", "imageUri")
_AGAIN = "Compile the pipeline again and release that"


def relocate(
    text: str, moves: Mapping[str, str], allowed: Collection[str] = (), *, name: str = "pipeline"
) -> str:
    """The IR with each image of `moves` under its other name, proven equal otherwise.

    text:    of an IR file, one or two documents.
    moves:   reference `host/repository@sha256:...` -> the same image's elsewhere.
    allowed: references, by digest too, that stay.
    name:    of the file, in errors.

    Raises UnpinnedImageError for an image that is in neither, a move to another digest,
    and where the outcome would differ in anything else; MissingInputError for no IR.
    """
    _same_digests(moves)
    with _finite(name):
        ir.prove(ir.parse(text, name), set(moves), set(allowed), name)
    moved = text
    for node in sorted(_image_nodes(text, name), key=lambda one: -one.start_mark.index):
        if node.value in moves:
            moved = _replaced(moved, node, moves[node.value])
    prove_relocated(text, moved, moves, name=name)
    ir.prove(ir.parse(moved, name), set(moves.values()), set(allowed), name)
    return moved


def prove_relocated(
    before: str, after: str, moves: Mapping[str, str], *, name: str = "pipeline"
) -> None:
    """`after` is `before` with the images of `moves` under their other names, and else
    the same, to every parameter and argument.

    The names are moved in the parsed `before`, rather than back in `after`, where two
    registries' copies of one image would have become one.

    Raises UnpinnedImageError where it is not; MissingInputError for no IR.
    """
    _same_digests(moves)
    with _finite(name):
        wanted, found = _moved(ir.parse(before, name), moves), ir.parse(after, name)
        same = ir.canonical_sha256(wanted) == ir.canonical_sha256(found)
    # Which the canonical content leaves out, as no part of the pipeline.
    if not same or wanted.spec.get("sdkVersion") != found.spec.get("sdkVersion"):
        raise UnpinnedImageError(
            f"{name}: with its images under their other names it is another pipeline", _AGAIN
        )


@contextmanager
def _finite(name: str) -> Iterator[None]:
    """YAML may hold itself, by an alias."""
    try:
        yield
    except (RecursionError, ValueError) as error:  # the latter is json's word for it
        raise MissingInputError(f"{name} holds itself", _AGAIN) from error


def _same_digests(moves: Mapping[str, str]) -> None:
    for one, other in moves.items():
        digests = [found[1] for found in map(_DIGEST.fullmatch, (one, other)) if found]
        if len(digests) != 2 or digests[0] != digests[1]:
            raise UnpinnedImageError(
                f"'{other}' is not '{one}' under another name", "Name both by the same digest"
            )


def _moved(whole: Ir, moves: Mapping[str, str]) -> Ir:
    """The parsed pipeline with its executors' images moved; the given one stays as it is."""

    def images(node: Any) -> Any:
        if isinstance(node, dict):
            return {
                key: moves.get(value, value)
                if key in _IMAGE_KEYS and isinstance(value, str)
                else images(value)
                for key, value in node.items()
            }
        return [images(item) for item in node] if isinstance(node, list) else node

    def executor(body: Any) -> Any:
        starts_none = isinstance(body, dict) and "importer" in body
        return body if starts_none else images(body)

    def executors(part: Any) -> Any:
        return _with(part, "deploymentSpec", lambda one: _with(one, "executors", _each(executor)))

    platforms = _with(whole.platforms, "platforms", _each(executors))
    return Ir(executors(whole.spec), platforms)


def _with(part: Any, key: str, change: Callable[[Any], Any]) -> Any:
    if isinstance(part, dict) and key in part:
        return {**part, key: change(part[key])}
    return part


def _each(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def changed(part: Any) -> Any:
        if not isinstance(part, dict):
            return part
        return {name: change(value) for name, value in part.items()}

    return changed


def _image_nodes(text: str, name: str) -> list[yaml.ScalarNode]:
    """The scalars that name an executor's image, each once."""
    try:
        documents = [one for one in yaml_safe.compose_all(text) if one is not None]
    except (yaml.YAMLError, RecursionError) as error:
        raise MissingInputError(f"{name} is not YAML", _AGAIN) from error
    parts = [documents[0]]
    for other in documents[1:]:
        parts += [part for _, part in _entries(_under(other, "platforms"))]
    found: dict[int, yaml.ScalarNode] = {}
    for part in parts:
        for _, body in _entries(_under(_under(part, "deploymentSpec"), "executors")):
            if _under(body, "importer") is None:
                found |= {id(node): node for node in _images_below(body, set())}
    return list(found.values())


def _images_below(node: yaml.Node | None, seen: set[int]) -> Iterator[yaml.ScalarNode]:
    if id(node) in seen:  # an alias, which may even lead back
        return
    seen.add(id(node))
    for key, value in _entries(node):
        if key in _IMAGE_KEYS and isinstance(value, yaml.ScalarNode):
            yield value
        else:
            yield from _images_below(value, seen)
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _images_below(item, seen)


def _entries(node: yaml.Node | None) -> list[tuple[str, yaml.Node]]:
    if not isinstance(node, yaml.MappingNode):
        return []
    return [(str(key.value), value) for key, value in node.value]


def _under(node: yaml.Node | None, wanted: str) -> yaml.Node | None:
    return next((value for key, value in _entries(node) if key == wanted), None)


def _replaced(text: str, node: yaml.ScalarNode, image: str) -> str:
    start, end = node.start_mark.index, node.end_mark.index
    properties = _PROPERTIES.match(text, start, end)
    start = properties.end() if properties else start
    style = node.style or ""  # the quote, "|", ">", or nothing
    quote, line_end = ("", "\n") if style in ("|", ">") else (style, "")
    scalar = f"{quote}{image}{quote}" if _PLAIN.fullmatch(image) else json.dumps(image)
    scalar += line_end
    return f"{text[:start]}{scalar}{text[end:]}"
