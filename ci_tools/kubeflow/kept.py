"""Compilations that need not be done again, because nothing that they read has changed.

One file a pipeline file, in a directory of this machine; in each the last few, for a
branch, main and a dry run take turns. What is kept is the IR, to the byte, with what
is known of it, so that neither kfp nor a YAML parser has to run.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from ci_tools import storage, typed
from ci_tools.documents import Json
from ci_tools.errors import WriteError
from ci_tools.kubeflow import reads
from ci_tools.kubeflow.ir import TaskImage

_LAST = 4
_CODE = ("archives.py", "compile_child.py", "reads.py", "ir.py", "kept.py")


class Pipeline(msgspec.Struct, frozen=True):
    """One compiled pipeline: its IR (`text`) and what `ir` says of it.

    function: that defines it. name: its own, in the IR.
    images:   of all its executors. parameters: name -> default, None without one.
    """

    function: str
    name: str
    text: str
    sha256: str
    images: list[TaskImage]
    parameters: Json
    description: str


class _Entry(msgspec.Struct):
    salt: str
    reads: list[tuple[str, str, str]]
    pipelines: list[Pipeline]


class Kept:
    """What is kept of one repository.

    home:  the directory, None to keep nothing. specs: the pinned templates.
    write: whether what is new may be written there.
    """

    def __init__(self, home: Path | None, repository: Path, specs: Path, *, write: bool) -> None:
        self._home, self._repository, self._specs = home, repository, specs
        self._write = write
        self._salt = secrets.token_hex(8)
        self._worlds: dict[str, reads.World] = {}

    @property
    def places(self) -> reads.Places:
        """What `reads.Watch` needs, for what is compiled now."""
        return reads.Places(self._repository, self._specs, self._salt)

    def find(self, file: str, functions: Mapping[str, str]) -> list[Pipeline] | None:
        """The pipelines of a file, if everything is as it was when it was compiled."""
        for entry in self._entries(self._path(file, functions)):
            world = self._worlds.setdefault(
                entry.salt, reads.World(self.places._replace(salt=entry.salt))
            )
            if reads.hold(entry.reads, world):
                return entry.pipelines
        return None

    def keep(
        self,
        file: str,
        functions: Mapping[str, str],
        read: list[tuple[str, str, str]],
        pipelines: list[Pipeline],
    ) -> None:
        """Remember a compilation. A full disk costs the next one its time, and no more."""
        path = self._path(file, functions)
        if path is None or not self._write:
            return
        entries = [_Entry(self._salt, read, pipelines), *self._entries(path)][:_LAST]
        try:
            storage.write_bytes(path, msgspec.json.encode(entries))
        except WriteError:
            return

    def _path(self, file: str, functions: Mapping[str, str]) -> Path | None:
        if self._home is None:
            return None
        what = msgspec.json.encode(
            [_fingerprint(), str(self._repository), file, sorted(functions.items())]
        )
        return self._home / f"{hashlib.sha256(what).hexdigest()}.json"

    @staticmethod
    def _entries(path: Path | None) -> list[_Entry]:
        """Those of a file; none of one that is damaged."""
        if path is None:
            return []
        try:
            return typed.decode(path.read_bytes(), list[_Entry])
        except (OSError, msgspec.MsgspecError):
            return []


@functools.cache
def _fingerprint() -> str:
    """Of what compiles: Python, what is installed, and this code."""
    said = [sys.version, platform.machine(), os.environ.get("PYTHONPATH", "")]
    for folder in sys.path:
        if folder.endswith(("site-packages", "dist-packages")) and Path(folder).is_dir():
            with os.scandir(folder) as entries:
                said += sorted(
                    f"{entry.name} {entry.stat().st_mtime_ns}"
                    for entry in entries
                    if entry.name.endswith((".dist-info", ".egg-info", ".pth"))
                )
    here = Path(__file__).parent
    said += [hashlib.sha256((here / name).read_bytes()).hexdigest() for name in _CODE]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()
