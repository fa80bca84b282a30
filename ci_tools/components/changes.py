"""What differs between two keys: their ingredients, recorded and compared.

A lock keeps the ingredients of every key in it. So that it stays small, a hash
is cut to 16 hex digits and a large context is kept by directories. Neither
decides anything: that two keys differ is known from the keys, and this only
says where. Two contents of one path that agree in 64 bits would go unnamed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from ci_tools.documents import Ingredients

LIMIT = 2000  # files: 100 kB of a lock for one image
_HEX = 16

Kind = Literal[
    "recipe",
    "dockerfile",
    "file",
    "directory",
    "argument",
    "target",
    "platform",
    "syntax",
    "base",
    "parent",
    "forced",
]
_ENGINE = "(the engine's own)"
_SOURCES = "nothing"
_BECAME = {"file": "a plain file", "exec": "executable", "link": "a link", "special": "special"}


class Change(msgspec.Struct, kw_only=True, frozen=True):
    """One ingredient that is not what it was.

    name:   a path in the context, an argument, or a reference as written.
    before: its value, digest, key or "type:hash"; None where it was not there.
    after:  likewise; for a base None also means that nobody knows its digest.
    """

    kind: Kind
    how: Literal["added", "removed", "changed"]
    name: str = ""
    before: str | None = None
    after: str | None = None

    def __str__(self) -> str:
        what = f"{self.kind} {self.name!r}" if _odd(self.name) else f"{self.kind} {self.name}"
        if self.kind == "file" and self.before and self.after:
            return f"{what} {_file_change(self.before, self.after)}"
        if self.kind == "directory" and self.how == "changed":
            return f"files in {what} changed"
        if self.kind == "recipe":
            return f"the recipe of keys changed: {self.before} → {self.after}"
        if self.kind == "dockerfile":
            return f"Dockerfile {self.name} changed"
        if self.kind == "syntax":
            return f"frontend: {self.before or _ENGINE} → {self.after or _ENGINE}"
        if self.kind in ("target", "platform"):
            return f"{self.kind}: {self.before or '(the last)'} → {self.after or '(the last)'}"
        if self.kind == "forced":
            return f"built again by force: {self.before or _SOURCES} → {self.after or _SOURCES}"
        if self.kind in ("argument", "base") and self.how == "changed":
            return f"{what}: {self.before} → {self.after or 'not known, it is in no bases.lock'}"
        return f"{what} {self.how}"


def recorded(made_of: Ingredients, *, limit: int = LIMIT) -> Ingredients:
    """The ingredients as a lock keeps them: shortened hashes, printable paths, and
    no more than `limit` entries, by folding the deepest directories first."""
    files = {_printable(path): _short(entry) for path, entry in made_of.files.items()}
    depth = None
    if len(files) > limit:
        for depth in range(max(path.count("/") for path in files), -1, -1):
            files = _folded(files, depth)
            if len(files) <= limit:
                break
    return msgspec.structs.replace(
        made_of, dockerfile=made_of.dockerfile[:_HEX], files=files, depth=depth
    )


def between(
    before: Ingredients, after: Ingredients, *, dockerfile: str, context: str
) -> list[Change]:
    """What changed from one record to the other; empty when all of it is equal.

    before, after: as `recorded` gives them; where one keeps directories and the
    other files, directories are compared.
    dockerfile, context: paths in the repository; a Dockerfile that is in its
    own context is named once.
    """
    changes: list[Change] = []
    if before.recipe != after.recipe:
        changes.append(_changed("recipe", "", str(before.recipe), str(after.recipe)))
    if before.dockerfile != after.dockerfile:
        changes.append(_changed("dockerfile", dockerfile, before.dockerfile, after.dockerfile))
    folder = "" if context == "." else f"{context}/"
    own = _printable(dockerfile[len(folder) :]) if dockerfile.startswith(folder) else None
    for change in _files(before, after):
        told = before.dockerfile != after.dockerfile and change.name == own
        if not (told and change.before and _type(change.before) == _type(change.after or "")):
            changes.append(change)
    changes += _compared("argument", before.args, after.args)
    if before.target != after.target:
        changes.append(_changed("target", "", before.target, after.target))
    if before.syntax != after.syntax and before.dockerfile == after.dockerfile:
        changes.append(_changed("syntax", "", before.syntax, after.syntax))
    if before.platform != after.platform:
        changes.append(_changed("platform", "", before.platform, after.platform))
    changes += _compared("base", before.bases, after.bases)
    changes += _compared("parent", before.parents, after.parents)
    if before.forced != after.forced:
        changes.append(_changed("forced", "", before.forced or None, after.forced or None))
    return changes


def _files(before: Ingredients, after: Ingredients) -> Iterator[Change]:
    old, new = before.files, after.files
    depths = [one.depth for one in (before, after) if one.depth is not None]
    if depths:
        old, new = _folded(old, min(depths)), _folded(new, min(depths))
    for change in _compared("file", old, new):
        if change.name.endswith("/"):
            yield msgspec.structs.replace(change, kind="directory")
        else:
            yield change


def _compared(
    kind: Kind, old: Mapping[str, str | None], new: Mapping[str, str | None]
) -> list[Change]:
    found = []
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if name not in old:
            found.append(Change(kind=kind, how="added", name=name, after=after))
        elif name not in new:
            found.append(Change(kind=kind, how="removed", name=name, before=before))
        elif before != after:
            found.append(_changed(kind, name, before, after))
    return found


def _changed(kind: Kind, name: str, before: str | None, after: str | None) -> Change:
    return Change(kind=kind, how="changed", name=name, before=before, after=after)


def _folded(files: Mapping[str, str], depth: int) -> dict[str, str]:
    """`files` with everything in a directory of that depth as one entry.

    A directory's hash is made of its own entries' and its directories' hashes,
    so that folding twice gives what folding once would.
    """
    kept: dict[str, str] = {}
    directories: dict[str, dict[str, str]] = {}
    for path, entry in files.items():
        parts = path.rstrip("/").split("/")
        if len(parts) <= depth or path == "./":
            kept[path] = entry
        else:
            directory = "/".join(parts[:depth]) or "."
            directories.setdefault(f"{directory}/", {})[_below(path, depth)] = entry
    return kept | {name: _directory(inside) for name, inside in directories.items()}


def _directory(files: Mapping[str, str]) -> str:
    inside = sorted(_folded(files, 1).items())
    return f"dir:{hashlib.sha256(msgspec.json.encode(inside)).hexdigest()[:_HEX]}"


def _below(path: str, depth: int) -> str:
    return path.split("/", depth)[depth]


def _short(entry: str) -> str:
    kind, _, content = entry.partition(":")
    return f"{kind}:{content[:_HEX]}"


def _type(entry: str) -> str:
    return entry.partition(":")[0]


def _file_change(before: str, after: str) -> str:
    old, new = _type(before), _type(after)
    if old == new:
        return "changed" if old != "link" else "points elsewhere"
    if {old, new} != {"file", "exec"}:
        return f"became {_BECAME.get(new, new)}"
    bit = "became executable" if new == "exec" else "is no longer executable"
    return bit if before.partition(":")[2] == after.partition(":")[2] else f"changed and {bit}"


def _printable(path: str) -> str:
    """A file name need not be UTF-8: other bytes as \\xNN, a backslash as two."""
    return (
        path.replace("\\", "\\\\")
        .encode("utf-8", "surrogateescape")
        .decode("utf-8", "backslashreplace")
    )


def _odd(name: str) -> bool:
    return not name.isprintable()
