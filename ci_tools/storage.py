"""Files are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from ci_tools import typed
from ci_tools.documents import SCHEMA, Document
from ci_tools.errors import MissingInputError, WriteError

D = TypeVar("D", bound=Document)


def write_bytes(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write `data` to `path` atomically: readers see the old file or the new.

    Raises WriteError; the old file, if any, is then untouched.
    """
    _replace_all({path: data}, mode)


def rewrite_all(files: Mapping[Path, bytes]) -> None:
    """Give files that are there other bytes, all of them or none; modes stay.

    Raises WriteError; those already written have their old bytes again.
    """
    _replace_all(files, None)


def _replace_all(files: Mapping[Path, bytes], mode: int | None) -> None:
    """mode: None for that of the file that is there."""
    temporaries: dict[Path, Path] = {}
    done: dict[Path, bytes] = {}
    path = Path()
    try:
        for path, data in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            temporaries[path] = Path(name)
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporaries[path].chmod(path.stat().st_mode & 0o7777 if mode is None else mode)
        for path in files:
            old = path.read_bytes() if len(files) > 1 else b""
            temporaries[path].replace(path)
            del temporaries[path]
            done[path] = old
    except BaseException as error:  # not only an OSError: Ctrl-C too
        if len(files) > 1:
            for written, old in done.items():
                written.write_bytes(old)
        if not isinstance(error, OSError):
            raise
        raise WriteError(
            f"{path} could not be written ({error.strerror or error})",
            "Free some disk space or mend the permissions, then run the stage again",
        ) from error
    finally:
        for temporary in temporaries.values():
            with contextlib.suppress(OSError):
                temporary.unlink()


def encode(document: object) -> bytes:
    """Indented JSON with sorted keys, so that equal documents are equal bytes."""
    return msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=2) + b"\n"


def write(path: Path, document: Document) -> None:
    """Write a document atomically. Raises WriteError."""
    write_bytes(path, encode(document))


def read(path: Path, kind: type[D], *, made_by: str) -> D:
    """Read a document that stage `made_by` wrote.

    Raises MissingInputError when it is missing, damaged or of another schema.
    """
    again = f"Run 'python -m ci {made_by}' to make it"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MissingInputError(f"{path} cannot be read ({error.strerror})", again) from error
    try:
        version = typed.decode(data, _Version).schema
        if version != SCHEMA:
            raise MissingInputError(
                f"{path} has schema version {version}, this tool reads {SCHEMA}", again
            )
        return typed.decode(data, kind)
    except msgspec.MsgspecError as error:
        raise MissingInputError(f"{path} is damaged ({error})", again) from error


def read_if_there(path: Path, kind: type[D], *, made_by: str) -> D | None:
    """As `read`, but None when there is no such file."""
    return read(path, kind, made_by=made_by) if path.exists() else None


class _Version(msgspec.Struct):
    schema: int
