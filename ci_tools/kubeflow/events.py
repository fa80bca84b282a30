"""Follows the tasks of a local run, which its process writes to a file as they change."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from ci_tools.kubeflow.progress import Task, Watch

_PAUSE = 0.2  # seconds between two looks at the file
_OPEN = frozenset({"PENDING", "RUNNING"})


class Events:
    """Reads a file of JSON lines, each a `Task`, while it is being written."""

    def __init__(self, path: Path) -> None:
        self._path, self._read = path, 0
        self._tasks: dict[str, Task] = {}
        self._since: dict[str, float] = {}

    def news(self) -> list[Task] | None:
        """All tasks, in the order in which they became known; None when nothing is new."""
        with self._path.open("rb") as stream:
            stream.seek(self._read)
            whole, newline, _ = stream.read().rpartition(b"\n")
        if not newline:  # the last line may still be written
            return None
        self._read += len(whole) + 1
        for line in whole.splitlines():
            task = Task(*json.loads(line))
            self._tasks[task.name] = task
            if task.state == "RUNNING":
                self._since.setdefault(task.name, time.monotonic() - (task.seconds or 0.0))
        return self._now()

    def end(self) -> list[Task] | None:
        """What the process left open, it did not end; None when it left nothing open."""
        if not any(task.state in _OPEN for task in self._tasks.values()):
            return None
        return [
            task._replace(state="CANCELED") if task.state in _OPEN else task for task in self._now()
        ]

    def _now(self) -> list[Task]:
        return [
            task._replace(seconds=round(time.monotonic() - self._since[name], 3))
            if task.state == "RUNNING"
            else task
            for name, task in self._tasks.items()
        ]


@contextlib.contextmanager
def following(path: Path, watch: Watch) -> Iterator[None]:
    """Tell `watch` from a thread until the block ends, and then of the end.

    What `watch` raises ends the following at once, and is raised at the block's end.
    """
    path.touch()
    events, over = Events(path), threading.Event()
    raised: list[BaseException] = []

    def look() -> None:
        try:
            if (tasks := events.news()) is not None:
                watch(tasks)
        except BaseException as error:
            raised.append(error)

    def follow() -> None:
        while not raised and not over.wait(_PAUSE):
            look()

    thread = threading.Thread(target=follow, name="follow-run", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if not raised:
        look()
    if raised:
        raise raised[0]
    if (tasks := events.end()) is not None:
        watch(tasks)
