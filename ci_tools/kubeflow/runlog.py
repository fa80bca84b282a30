"""Logs of runs and compilations, for whoever watches the file."""

from __future__ import annotations

from pathlib import Path

from ci_tools import process, storage
from ci_tools.documents import timestamp


class RunLog:
    """A log that starts empty; every `tell` is in the file when it returns.

    Raises WriteError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        storage.write_bytes(path, b"")

    def tell(self, line: str) -> None:
        now = timestamp()
        process.append(self._path, f"{now} {line}")
