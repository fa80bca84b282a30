"""What `build` left for the stages after it: the lock, and whether its images failed."""

from __future__ import annotations

from pathlib import Path

from ci.workspace import Workspace
from ci_tools.documents import Lock
from ci_tools.errors import error_for

FILE = "images.lock.json"


def whole(workspace: Workspace) -> Lock:
    """The lock of a build without failures.

    Raises MissingInputError, and what `raise_failures` raises.
    """
    lock = workspace.read(FILE, Lock, made_by="build")
    raise_failures(lock)
    return lock


def raise_failures(lock: Lock) -> None:
    """Raise the error of the earliest step that failed, naming every failed image."""
    if not lock.failed:
        return
    name, first = min(lock.failed.items(), key=lambda item: (item[1].exit_code, item[0]))
    others = sorted(set(lock.failed) - {name})
    also = [f"{other} ({lock.failed[other].step})" for other in others]
    raise error_for(first.exit_code)(
        f"{first.message}; also failed: {', '.join(also)}" if also else first.message,
        first.todo,
        log=Path(first.log) if first.log else None,
    )
