"""Logs of runs and compilations, for whoever watches the file."""

from __future__ import annotations

import os
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


def write_everything_to(log: str) -> None:
    """File descriptors 1 and 2 become the log, for this process and its libraries."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
