"""Locks between processes of one machine, given back by the kernel however a holder ends."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOOK_SECONDS = 0.05


class HeldElsewhereError(Exception):
    """Another process holds the lock, and did not give it back in time."""


@contextmanager
def held(path: Path, *, seconds: float) -> Iterator[int]:
    """Hold a lock file, which stays: others may wait on it. Yields its descriptor: a
    child that inherits it holds the lock too, and as long as it lives.

    seconds: how long it is waited for; 0 asks once.
    Raises HeldElsewhereError, and OSError where the file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _acquire(handle, time.monotonic() + seconds)
        yield handle
    finally:
        os.close(handle)


def _acquire(handle: int, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise HeldElsewhereError from None
            time.sleep(_LOOK_SECONDS)
        else:
            return
