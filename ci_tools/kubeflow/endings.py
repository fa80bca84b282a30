"""What a run's end means: which task failed, of what, and whose doing it was. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ci_tools.documents import TaskEnd
from ci_tools.kubeflow import infrastructure
from ci_tools.kubeflow.aftermath import FailedTask
from ci_tools.kubeflow.progress import Task

_LINES = 12  # of a task's log that reach a message
_KEPT = 50  # that are kept with the task; the run's log has all that are known
_LINE_LIMIT = 500  # characters


class Ending(NamedTuple):
    """tasks: every task of the run. message: for a person, "" for a success.
    infrastructure: whose reason explains every failure, or ""."""

    tasks: list[TaskEnd]
    message: str
    infrastructure: str


def of(
    tasks: Sequence[Task], details: Iterable[Any] | None, failures: Sequence[FailedTask], error: str
) -> Ending:
    """The end of a run.

    details:  the server's, for the errors that a later one may tell.
    failures: what the cluster and the logs say; may be nothing.
    error:    the server's own word on the run, or "".
    """
    said: dict[str, list[FailedTask]] = {}
    for it in [*_told(details), *failures]:
        said.setdefault(_base(it.task), []).append(it)
    ends = []
    for task in tasks:
        of_it = said.get(_base(task.name), []) if task.state == "FAILED" else []
        ends.append(_end(task.name, task.state, task.seconds, of_it))
    failed = [end for end in ends if end.state == "FAILED"]
    known = {_base(end.name) for end in failed}
    failed += [  # of which the server's list of tasks does not say so
        _end(name, "FAILED", None, of_it) for name, of_it in said.items() if name not in known
    ]
    reasons = [_reason(end, said.get(_base(end.name), [])) for end in failed]
    ours = "; ".join(
        dict.fromkeys(
            f"task '{end.name}': {reason}"
            for end, reason in zip(failed, reasons, strict=True)
            if reason
        )
    )
    return Ending(ends, _message(failed, error), ours if reasons and all(reasons) else "")


def _end(name: str, state: str, seconds: float | None, said: Sequence[FailedTask]) -> TaskEnd:
    return TaskEnd(
        name=name,
        state=state,
        seconds=seconds,
        message="; ".join(dict.fromkeys(it.message for it in said if it.message)),
        lines=[line for it in said for line in it.lines][-_KEPT:],
    )


def _reason(end: TaskEnd, said: Sequence[FailedTask]) -> str | None:
    """The infrastructure's reason for a task's failure, if it explains all that is said of it."""
    messages = dict.fromkeys(it.message for it in said if it.message) or {"": None}
    reasons = [infrastructure.reason(message, end.lines) for message in messages]
    return reasons[0] if all(reasons) else None


def _told(details: Iterable[Any] | None) -> list[FailedTask]:
    return [
        FailedTask(str(it.display_name), str(it.error.message))
        for it in details or ()
        if it.state == "FAILED" and it.error and it.error.message
    ]


def _base(name: str) -> str:
    """Of `dag/task` and `task (iteration 2)` the task."""
    return name.rpartition("/")[2].partition(" (iteration ")[0]


def _message(failed: Sequence[TaskEnd], error: str) -> str:
    parts = [error] if error else []
    for end in failed:
        text = f"task '{end.name}' failed" + (f": {end.message}" if end.message else "")
        last = [line for line in end.lines if line.strip()][-_LINES:]
        parts.append("\n    ".join([text, *(line[:_LINE_LIMIT] for line in last)]))
    separator = "\n" if any("\n" in part for part in parts) else "; "
    return separator.join(dict.fromkeys(parts))
