"""The logs of images that failed, where a CI server can archive them by their path."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from ci_tools.documents import Lock
from ci_tools.errors import WriteError

FAILED = Path("logs") / "failed"  # no image's log: those end in `.log`


def keep_failed(build: Path, components: Iterable[str], lock: Lock) -> None:
    """Leave `logs/failed/` with a log for each image of `lock` that failed, and none for
    the other `components`; those of other shards stay. build: the build directory.

    Raises WriteError.
    """
    folder = build / FAILED
    try:
        for name in components:
            (folder / f"{name}.log").unlink(missing_ok=True)
        for name in lock.failed:
            log = build / "logs" / f"{name}.log"
            if log.is_file():
                folder.mkdir(parents=True, exist_ok=True)
                _link(log, folder / log.name)
    except OSError as error:
        raise WriteError(
            f"{folder} could not be written ({error.strerror})",
            "Free some disk space or mend the permissions, then run the stage again",
        ) from error


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
