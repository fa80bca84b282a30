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
    told = _told(details) | {it.task: it.message for it in failures if it.message}
    lines = {it.task: list(it.lines)[-_KEPT:] for it in failures}
    ends = [
        TaskEnd(
            name=task.name,
            state=task.state,
            seconds=task.seconds,
            message=_of(told, task.name) if task.state == "FAILED" else "",
            lines=_of(lines, task.name) or [] if task.state == "FAILED" else [],
        )
        for task in tasks
    ]
    failed = [end for end in ends if end.state == "FAILED"]
    known = {end.name for end in failed} | {_short(end.name) for end in failed}
    failed += [  # of which the server's list says nothing, such as a pod of a nested run
        TaskEnd(name=it.task, state="FAILED", message=it.message, lines=list(it.lines)[-_KEPT:])
        for it in failures
        if it.task not in known
    ]
    reasons = [infrastructure.reason(end.message, end.lines) for end in failed]
    ours = "; ".join(
        dict.fromkeys(
            f"task '{end.name}': {reason}"
            for end, reason in zip(failed, reasons, strict=True)
            if reason
        )
    )
    return Ending(ends, _message(failed, error), ours if reasons and all(reasons) else "")


def _told(details: Iterable[Any] | None) -> dict[str, str]:
    return {
        str(it.display_name): str(it.error.message)
        for it in details or ()
        if it.error and it.error.message
    }


def _of(found: dict[str, Any], name: str) -> Any:
    return found.get(name) or found.get(_short(name)) or ""


def _short(name: str) -> str:
    return name.rpartition("/")[2]


def _message(failed: Sequence[TaskEnd], error: str) -> str:
    parts = [error] if error else []
    for end in failed:
        text = f"task '{end.name}' failed" + (f": {end.message}" if end.message else "")
        last = [line for line in end.lines if line.strip()][-_LINES:]
        parts.append("\n    ".join([text, *(line[:_LINE_LIMIT] for line in last)]))
    separator = "\n" if any("\n" in part for part in parts) else "; "
    return separator.join(dict.fromkeys(parts))
