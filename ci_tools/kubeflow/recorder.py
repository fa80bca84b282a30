"""What a local run did: how far its tasks are, which failed and why, what came out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from ci_tools.kubeflow import results
from ci_tools.kubeflow.local.resolve import Values
from ci_tools.kubeflow.local.step import Job
from ci_tools.kubeflow.progress import Task


class Failure(NamedTuple):
    task: str
    reason: str


class _Made(NamedTuple):
    order: tuple[int, ...]
    task: str
    output: str
    artifact: dict[str, Any]


class Recorder:
    """Satisfies `local.dag.Observer`.

    changed: is told of each task whose state changed.
    tell:    receives (label, line) for the log.
    """

    def __init__(self, changed: Callable[[Task], None], tell: Callable[[str, str], None]) -> None:
        self.failures: list[Failure] = []
        self._made: list[_Made] = []
        self._changed, self._tell = changed, tell
        self._since: dict[str, float] = {}
        self._lock = threading.Lock()

    def pending(self, label: str) -> None:
        self._now(label, "PENDING")

    def running(self, label: str) -> None:
        with self._lock:  # a further attempt goes on counting
            self._since.setdefault(label, time.monotonic())
        self._now(label, "RUNNING")

    def skipped(self, label: str) -> None:
        self._now(label, "SKIPPED")

    def note(self, label: str, text: str) -> None:
        self._tell(label, text)

    def failed(self, label: str, reason: str) -> None:
        """reason: "" for a loop, whose iterations say it."""
        if reason:
            self._tell(label, f"failed: {reason.splitlines()[0]}")
            with self._lock:
                self.failures.append(Failure(label, reason))
        self._now(label, "FAILED")

    def succeeded(self, label: str, job: Job | None, outputs: Values) -> None:
        if job is not None:
            with self._lock:
                self._made += [
                    _Made(job.order, job.name, name, artifact)
                    for name, artifacts in outputs.artifacts.items()
                    for artifact in artifacts
                ]
        self._now(label, "SUCCEEDED")

    def message(self) -> str:
        """Why the run failed: every failed task, in the order in which they did."""
        return "; ".join(f"task '{it.task}' failed: {it.reason}" for it in self.failures)

    def results(self, outputs: Values) -> dict[str, Any]:
        """outputs, artifacts and metrics as plain data.

        outputs: what the pipeline itself returned. Artefacts go by that name,
        and every task's own by `task.output`.
        """
        made = sorted(self._made, key=lambda it: it.order)
        named = [(f"{it.task}.{it.output}", it.artifact) for it in made]
        named += [(name, one) for name, found in outputs.artifacts.items() for one in found]
        metrics = [
            (it.task, key, float(value))
            for it in made
            if it.artifact.get("type", {}).get("schemaTitle") == "system.Metrics"
            for key, value in it.artifact.get("metadata", {}).items()
            if results.is_number(value)
        ]
        return {
            "outputs": dict(outputs.parameters),
            "artifacts": {
                name: {
                    "path": artifact["uri"],
                    "type": artifact.get("type", {}).get("schemaTitle", ""),
                }
                for name, artifact in results.numbered(named)
            },
            "metrics": results.metrics(metrics)
            | {
                k: float(value)
                for k, value in outputs.parameters.items()
                if results.is_number(value)
            },
        }

    def _now(self, label: str, state: str) -> None:
        since = self._since.get(label)
        seconds = None if since is None else round(time.monotonic() - since, 3)
        self._changed(Task(label, state, seconds))
