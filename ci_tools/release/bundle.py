"""The bytes of one release: release.json, the files that travel with it, its signatures.

    release/release.json              canonical JSON
    release/pipelines/training.yaml   the IR as it was compiled
    release/servables/servable.yaml   the declaration as it was deployed
    release/signatures/0.dsse.json    a DSSE envelope

The same in one file is an uncompressed tar. Bytes stay bytes until `release` is
asked for, so that they can be verified before anything reads them.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import msgspec

from ci_tools import storage, typed
from ci_tools.documents import SCHEMA, Release
from ci_tools.errors import ReleaseNotFoundError, ReleaseSignatureError, WriteError
from ci_tools.release import canonical

CONTENT = "release.json"
LARGEST = 64 << 20  # bytes of one file; a compiled pipeline is below one
FOLDERS = ("pipelines", "servables")
_SIGNATURES = "signatures"
_MOST = 1000  # files: more is a fault or an attack
_AGAIN = "Take it from where it was published, and ask who could write there"
_NAME = re.compile(r"(pipelines|servables)/[A-Za-z0-9_][A-Za-z0-9._-]{0,199}\.(yaml|json)")
_RELEASE = re.compile(r"release-[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


@dataclass(frozen=True)
class Bundle:
    """content: of release.json. files: name -> bytes. envelopes: DSSE, as JSON.

    wanted: the name or commit that it was asked for by, which `release` holds it to.
    """

    content: bytes
    files: Mapping[str, bytes]
    envelopes: Sequence[bytes] = ()
    wanted: str = ""

    @cached_property
    def release(self) -> Release:
        """What the bytes say: a release that has its content's name, with all its files
        and no other ones, and that is the one that was asked for.

        Raises ReleaseSignatureError where it is not so.
        """
        return _read(self)

    @property
    def sha256(self) -> str:
        """Of release.json: 64 hex."""
        return _sha256(self.content)

    def signed(self, *envelopes: bytes) -> Bundle:
        """The same release with these signatures beside those that it has."""
        new = [one for one in envelopes if one not in self.envelopes]
        return replace(self, envelopes=[*self.envelopes, *new])


def of(release: Release, files: Mapping[str, bytes]) -> Bundle:
    """The bytes of a release that is to be made: its files are hashed and it is named.

    Raises ValueError where it holds what JSON has not.
    """
    for name in files:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a file of a release")
    release = msgspec.structs.replace(
        release, files={name: _sha256(data) for name, data in sorted(files.items())}, name=""
    )
    release.name = content_name(release)
    return Bundle(content=canonical.encode(msgspec.to_builtins(release)), files=dict(files))


def content_name(release: Release) -> str:
    """`release-` and the sha256 of the canonical JSON of everything in it but the name.

    Anybody can compute it from release.json. Raises ValueError as `canonical` does.
    """
    content = msgspec.to_builtins(release)
    del content["name"]
    return f"release-{_sha256(canonical.encode(content))}"


def is_name(text: str) -> bool:
    """Whether it looks like the name of a release."""
    return _RELEASE.fullmatch(text) is not None


def is_commit(text: str) -> bool:
    """Whether it looks like a whole commit: of SHA-1 or SHA-256."""
    return _COMMIT.fullmatch(text) is not None


def read(path: Path) -> Bundle:
    """A bundle from a folder, or from one file, as `write` leaves it.

    Raises ReleaseNotFoundError where there is none, ReleaseSignatureError where there
    is more than a release can be.
    """
    try:
        if path.is_dir():
            return _joined(_in_folder(path), os.fspath(path))
        return unpacked(path.read_bytes(), os.fspath(path))
    except OSError as error:
        raise _unreadable(os.fspath(path), error.strerror or str(error)) from error


def unpacked(content: bytes, name: str, *, wanted: str = "") -> Bundle:
    """A bundle from the bytes of one file. name: for people. wanted: see `Bundle`.

    Raises as `read`.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            return replace(_joined(_in_archive(archive), name), wanted=wanted)
    except tarfile.TarError as error:
        raise _unreadable(name, str(error)) from error


def write(bundle: Bundle, path: Path) -> None:
    """Write a bundle: as one file where the name ends in `.tar`, else as a folder.

    Equal bundles are equal bytes. In a folder release.json comes last, and what an
    earlier release left there is gone before: there is never half of one.

    Raises WriteError.
    """
    if path.suffix == ".tar":
        storage.write_bytes(path, packed(bundle))
        return
    try:
        (path / CONTENT).unlink(missing_ok=True)
        for old in _files_in(path):
            old.unlink()
    except OSError as error:
        raise WriteError(
            f"{path} could not be emptied ({error.strerror})", "Mend the permissions, or remove it"
        ) from error
    for name, data in _beside(bundle).items():
        storage.write_bytes(path / name, data)
    storage.write_bytes(path / CONTENT, bundle.content)


def packed(bundle: Bundle) -> bytes:
    """A bundle as the bytes of one file: equal for equal bundles."""
    room = io.BytesIO()
    with tarfile.open(fileobj=room, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in sorted({CONTENT: bundle.content, **_beside(bundle)}.items()):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return room.getvalue()


def _beside(bundle: Bundle) -> dict[str, bytes]:
    """All files but release.json."""
    signatures = {
        f"{_SIGNATURES}/{number:03}.dsse.json": envelope
        for number, envelope in enumerate(bundle.envelopes)
    }
    return {**bundle.files, **signatures}


def _files_in(path: Path) -> list[Path]:
    """What a bundle's folder holds beside release.json, without what is somebody else's."""
    return sorted(
        one
        for folder in (*FOLDERS, _SIGNATURES)
        for one in (path / folder).glob("*")
        if one.is_file() and not one.name.startswith(".")
    )


def _in_folder(path: Path) -> Iterator[tuple[str, bytes]]:
    for one in (path / CONTENT, *_files_in(path)):
        with one.open("rb") as stream:
            yield one.relative_to(path).as_posix(), stream.read(LARGEST + 1)


def _in_archive(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in archive:
        stream = archive.extractfile(member) if member.isfile() else None
        if stream is None:
            raise tarfile.TarError(f"{member.name!r} is no plain file")
        yield member.name, stream.read(LARGEST + 1)


def _joined(inside: Iterable[tuple[str, bytes]], name: str) -> Bundle:
    found: dict[str, bytes] = {}
    for one, data in inside:
        if len(found) >= _MOST or len(data) > LARGEST or one in found:
            raise ReleaseSignatureError(f"{name} is no release: it holds too much", _AGAIN)
        found[one] = data
    if CONTENT not in found:
        raise _unreadable(name, f"it holds no {CONTENT}")
    signatures = sorted(one for one in found if one.startswith(f"{_SIGNATURES}/"))
    envelopes = [found.pop(one) for one in signatures]
    return Bundle(content=found.pop(CONTENT), files=found, envelopes=envelopes)


def _unreadable(name: str, why: str) -> ReleaseNotFoundError:
    return ReleaseNotFoundError(
        f"{name} cannot be read as a release ({why})",
        "Name the folder or the file that 'python -m ci release' left",
    )


def _read(bundle: Bundle) -> Release:
    try:
        release = typed.decode(bundle.content, Release)
        name = _named(bundle.content)
    except (ValueError, RecursionError) as error:
        raise ReleaseSignatureError(f"{CONTENT} is damaged ({error})", _AGAIN) from error
    if release.schema != SCHEMA:
        raise ReleaseSignatureError(
            f"{CONTENT} has schema version {release.schema}, this tool reads {SCHEMA}",
            "Use the version of this tool that made it",
        )
    # Every byte counts: also those that a reader of JSON passes over.
    if release.name != name:
        raise ReleaseSignatureError(
            f"what calls itself {release.name[:80]!r} is not the content of that name", _AGAIN
        )
    held = {name: _sha256(data) for name, data in bundle.files.items()}
    odd = sorted({name for name, _ in held.items() ^ release.files.items()})
    odd += [name for name in held if not _NAME.fullmatch(name)]
    if odd:
        raise ReleaseSignatureError(
            f"{release.name} has not the files that it names ({', '.join(map(repr, odd[:5]))})",
            _AGAIN,
        )
    if bundle.wanted and bundle.wanted not in (release.name, release.source.commit):
        raise ReleaseSignatureError(
            f"there is {release.name} in the place of {bundle.wanted}", _AGAIN
        )
    return release


def _named(content: bytes) -> str | None:
    """The name that these bytes have; None where they are not canonical JSON."""
    data = json.loads(content)  # msgspec reads whole numbers beyond 64 bits as floats
    if canonical.encode(data) != content:
        return None
    del data["name"]
    return f"release-{_sha256(canonical.encode(data))}"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
