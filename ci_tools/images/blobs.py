"""Blobs of any size from one registry to another, in little memory and no file.

A blob is read in pieces (HTTP ranges), each of which goes on at once in one PUT, which
every registry takes. Its last piece is only sent when the digest of all of them is
right, so that the PUT of another content never ends: the registry keeps nothing of it.

Source: OCI distribution specification 1.1, "Pulling Blobs", "POST then PUT",
"Mounting a blob from another repository".
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple, cast
from urllib.parse import quote

from ci_tools.errors import CredentialsError, PushError, RegistryError
from ci_tools.images import upload
from ci_tools.images.attempts import persistently
from ci_tools.images.registry import Registry

_PIECE = 8 << 20  # bytes asked for at once
_ATTEMPTS = 4  # of a piece, and of a push

How = Literal["there", "mounted", "moved"]


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
        try:
            piece = persistently(
                lambda at=offset: _piece(registry, repository, blob, at),  # type: ignore[misc]
                attempts=_ATTEMPTS,
                told=lambda _: None,
            )
        except RegistryError as error:  # `again` has been done: whoever pushes need not
            raise RegistryError(error.what, error.todo) from error
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
    source: tuple[Registry, str],
    target: tuple[Registry, str],
    blob: Blob,
    *,
    mount: str | None = None,
    alive: Callable[[], object] = lambda: None,
) -> How:
    """Bring a blob into another repository; how it came there.

    Its bytes are not moved where it is there already, nor where the target mounts it.

    mount: a repository of the target registry that holds it; by default the source's
    own, where the two registries are one.
    alive: called before each piece; what it raises ends the copy.

    Raises RegistryError, CredentialsError, PushError.
    """
    (origin, path), (registry, repository) = source, target
    if mount is None and upload.there(registry, repository, "blobs", blob.digest):
        return "there"
    if mount is None and origin.host == registry.host:
        mount = path
    location = None
    if mount is not None:
        location = _begun(registry, repository, blob, mount)
        if location is None:
            return "mounted"
        if upload.there(registry, repository, "blobs", blob.digest):
            with contextlib.suppress(RegistryError, CredentialsError):  # it expires by itself
                registry.http.ask("DELETE", location)
            return "there"
    body = _Body(origin, path, blob, alive)
    begun = [location] if location else []

    def pushed() -> How:
        # An upload that broke off is not gone on with: not every registry can.
        return _pushed(registry, repository, body, begun.pop() if begun else None)

    return persistently(pushed, attempts=_ATTEMPTS, told=lambda _: None)


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


def _ahead(found: Iterator[bytes]) -> Iterator[bytes]:
    """The same pieces, of which the next is read while the last is being sent."""
    with ThreadPoolExecutor(1, "read-ahead") as pool:
        following = pool.submit(next, found, None)
        while (piece := following.result()) is not None:
            following = pool.submit(next, found, None)
            yield piece


class _Body:
    """A blob as the body of a request, from its beginning each time it is sent: with
    other credentials, or once more because there was no answer."""

    def __init__(
        self, origin: Registry, path: str, blob: Blob, alive: Callable[[], object]
    ) -> None:
        self._origin, self._path, self.blob, self._alive = origin, path, blob, alive
        self.failed = False  # the reading of it, and not the sending

    def __len__(self) -> int:
        return self.blob.size

    def __iter__(self) -> Iterator[bytes]:
        self.failed = True
        self._alive()
        found = pieces(self._origin, self._path, self.blob)
        for piece in _ahead(found) if self.blob.size > _PIECE else found:
            self.failed = False
            yield piece
            self.failed = True
            self._alive()
        self.failed = False


def _pushed(registry: Registry, repository: str, body: _Body, location: str | None) -> How:
    """Send a blob. location: of an upload that is begun. Raises what may be tried again."""
    blob = body.blob
    try:
        location = location or _begun(registry, repository, blob)
        if location is None:
            return "mounted"
        mark = "&" if "?" in location else "?"
        answer = registry.http.ask(
            "PUT",
            f"{location}{mark}digest={quote(blob.digest, safe='')}",
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Length": str(blob.size),
            },
            # urllib3 and requests send whatever can be iterated.
            data=cast("bytes", body) if blob.size else b"",
        )
        # A PUT that the transport repeats is refused if the first was done after all.
        if answer.status_code == 201 or upload.there(registry, repository, "blobs", blob.digest):
            return "moved"
    except RegistryError as error:
        raise RegistryError(error.what, error.todo, again=not body.failed) from error
    raise upload.refused(registry, repository, answer, PushError)


def _begun(registry: Registry, repository: str, blob: Blob, mount: str = "") -> str | None:
    """Where to send a blob; None where it was mounted."""
    path = f"/v2/{repository}/blobs/uploads/"
    if mount:
        wanted = f"?mount={quote(blob.digest, safe='')}&from={quote(mount, safe='')}"
        answer = registry.http.ask("POST", path + wanted)
        if answer.status_code == 201:
            return None
    # Who may not mount is told "accepted, send it"; some registries refuse instead.
    if not mount or answer.status_code != 202:
        answer = registry.http.ask("POST", path)
    location = answer.headers.get("Location", "")
    if answer.status_code != 202 or not location:
        raise upload.refused(registry, repository, answer, PushError)
    return location
