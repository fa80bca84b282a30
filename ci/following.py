"""A run's tasks on the console: a row on a terminal, a line a change elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from ci.console import Console
from ci_tools.kubeflow.progress import Task

_OVER = frozenset({"SUCCEEDED", "CACHED", "SKIPPED", "FAILED", "CANCELED"})


class Following:
    """What to give a run as its `watch`, while `label` is working.

    last: all its tasks, as they were last told.
    """

    def __init__(self, console: Console, label: str) -> None:
        self._console, self._label = console, label
        self._told: dict[str, str] = {}
        self.last: list[Task] = []

    def __call__(self, tasks: Sequence[Task]) -> None:
        self.last = list(tasks)
        for task in tasks:
            before = self._told.get(task.name, "PENDING")
            self._told[task.name] = task.state
            if task.state != before:
                self._console.detail(self._label, line(task))
        if summary := summed(tasks):
            self._console.detail(self._label, summary, minor=True)


def line(task: Task) -> str:
    """`train RUNNING 12 s`"""
    if not task.name:
        return f"the run is {task.state}"
    seconds = f" {task.seconds:.0f} s" if task.seconds else ""
    return f"{task.name} {task.state}{seconds}"


def summed(tasks: Sequence[Task]) -> str:
    """`2/4 train RUNNING, evaluate FAILED`: what there is to say of all tasks in one line."""
    named = [task for task in tasks if task.name]
    if not named:
        return ""
    over = sum(task.state in _OVER for task in named)
    busy = [line(task) for task in tasks if task.state in ("RUNNING", "FAILED", "PAUSED")]
    return f"{over}/{len(named)} {', '.join(busy)}".rstrip()
