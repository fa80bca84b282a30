"""Blobs of any size from one registry to another, in little memory.

A blob is read in pieces (HTTP ranges) into a temporary file, its digest compared,
and sent in one PUT, which every registry takes. What is not of its digest is sent
to nobody.

Source: OCI distribution specification 1.1, "Pulling Blobs", "POST then PUT",
"Mounting a blob from another repository".
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, cast
from urllib.parse import quote

from ci_tools.errors import PushError, RegistryError, WriteError
from ci_tools.images import upload
from ci_tools.images.attempts import persistently
from ci_tools.images.registry import Registry

_PIECE = 8 << 20  # bytes asked for at once
_SENT = 1 << 20  # bytes given to the connection at once
_ATTEMPTS = 4


class Blob(NamedTuple):
    """digest: `sha256:<64 hex>`. size: bytes, as the manifest says."""

    digest: str
    size: int


def pieces(registry: Registry, repository: str, blob: Blob) -> Iterator[bytes]:
    """A blob's content; a piece that does not come whole is asked for again.

    A registry that knows no ranges answers with all, which is then one piece.

    Raises RegistryError, also where the content is not of the size or digest that
    was named: before its last piece. CredentialsError.
    """
    sha256, offset = hashlib.sha256(), 0
    name = f"{registry.host}/{repository}@{blob.digest}"
    while offset < blob.size or offset == 0:
        piece = persistently(
            lambda at=offset: _piece(registry, repository, blob, at),  # type: ignore[misc]
            attempts=_ATTEMPTS,
            told=lambda _: None,
        )
        offset += len(piece)
        sha256.update(piece)
        if offset >= blob.size and f"sha256:{sha256.hexdigest()}" != blob.digest:
            raise RegistryError(
                f"{name} is not what its digest says", "Check the registry and any proxy before it"
            )
        yield piece
        if blob.size == 0:
            return


def copy(
    source: tuple[Registry, str], target: tuple[Registry, str], blob: Blob, room: Path | None
) -> bool:
    """Bring a blob into another repository; whether its bytes went through here.

    It is not moved where it is there already, nor within one registry that lets it
    be mounted. room: directory for the temporary file, None for the system's.

    Raises RegistryError, CredentialsError, PushError; WriteError without room.
    """
    (origin, path), (registry, repository) = source, target
    if upload.there(registry, repository, "blobs", blob.digest):
        return False
    if origin.host == registry.host:
        mount = f"?mount={quote(blob.digest, safe='')}&from={quote(path, safe='')}"
        if _begun(registry, repository, mount) is None:
            return False
    try:
        with tempfile.TemporaryFile(dir=room) as file:
            for piece in pieces(origin, path, blob):
                file.write(piece)
            file.flush()
            _push(registry, repository, blob, file)
    except OSError as error:
        raise WriteError(
            f"there is no room for a copy of {blob.size >> 20} MB ({error.strerror or error})",
            f"Free some space in {room or tempfile.gettempdir()}",
        ) from error
    return True


def _piece(registry: Registry, repository: str, blob: Blob, at: int) -> bytes:
    """What is at that place of a blob, or all of it. Raises RegistryError to be tried
    again, but not where there is no such blob."""
    last = min(at + _PIECE, blob.size) - 1
    headers = {"Range": f"bytes={at}-{last}"} if blob.size else {}
    path = f"/v2/{repository}/blobs/{blob.digest}"
    try:
        answer = registry.http.get(path, headers=headers)
    except RegistryError as error:
        raise RegistryError(error.what, error.todo, again=True) from error
    if answer is None:
        raise RegistryError(
            f"{registry.host}/{repository} holds no {blob.digest}, though its manifest names it",
            "Ask whoever keeps that registry",
        )
    content = answer.content if answer.status_code == 206 else answer.content[at:]
    wanted = last + 1 - at if answer.status_code == 206 else blob.size - at
    if len(content) != wanted:
        raise RegistryError(
            f"{registry.host} sends {len(content)} bytes of {blob.digest} instead of {wanted}",
            "Check the registry and any proxy before it",
            again=len(content) < wanted,
        )
    return content


class _Body:
    """A file as the body of a request, from its beginning each time it is sent: with
    other credentials, or once more because there was no answer."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._size = file, size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(0)
        while sent := self._file.read(_SENT):
            yield sent


def _push(registry: Registry, repository: str, blob: Blob, file: IO[bytes]) -> None:
    location = _begun(registry, repository)
    if location is None:
        return
    mark = "&" if "?" in location else "?"
    answer = registry.http.ask(
        "PUT",
        f"{location}{mark}digest={quote(blob.digest, safe='')}",
        headers={"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)},
        # urllib3 and requests send whatever can be iterated.
        data=cast("bytes", _Body(file, blob.size)) if blob.size else b"",
    )
    # A PUT that the transport repeats is refused if the first was done after all.
    if answer.status_code != 201 and not upload.there(registry, repository, "blobs", blob.digest):
        raise upload.refused(registry, repository, answer, PushError)


def _begun(registry: Registry, repository: str, mount: str = "") -> str | None:
    """Where to send a blob; None where it was mounted."""
    answer = registry.http.ask("POST", f"/v2/{repository}/blobs/uploads/{mount}")
    if answer.status_code == 201:
        return None
    location = answer.headers.get("Location", "")
    if answer.status_code != 202 or not location:
        raise upload.refused(registry, repository, answer, PushError)
    return location
