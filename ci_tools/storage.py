"""Files are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TypeVar

import msgspec

from ci_tools.documents import SCHEMA, Document
from ci_tools.errors import MissingInputError, WriteError

D = TypeVar("D", bound=Document)


def write_bytes(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write `data` to `path` atomically: readers see the old file or the new.

    Raises WriteError; the old file, if any, is then untouched.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise WriteError(
            f"{path} could not be written ({error.strerror or error})",
            "Free some disk space or mend the permissions, then run the stage again",
        ) from error
    finally:
        if temporary is not None:  # not only after an OSError: Ctrl-C too
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
        version = msgspec.json.decode(data, type=_Version).schema
        if version != SCHEMA:
            raise MissingInputError(
                f"{path} has schema version {version}, this tool reads {SCHEMA}", again
            )
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise MissingInputError(f"{path} is damaged ({error})", again) from error


def read_if_there(path: Path, kind: type[D], *, made_by: str) -> D | None:
    """As `read`, but None when there is no such file."""
    return read(path, kind, made_by=made_by) if path.exists() else None


class _Version(msgspec.Struct):
    schema: int
