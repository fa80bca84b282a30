"""What a local run did: which task failed and why, what came out of the others."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

from ci_tools.kubeflow.results import is_number, metrics, numbered


class Failure(NamedTuple):
    task: str
    reason: str


class Recorder:
    """What happened, by task. Loops run tasks in threads, hence thread-local `task`."""

    def __init__(self) -> None:
        self.failures: list[Failure] = []
        self.artifacts: list[tuple[str, Any]] = []
        self.metrics: list[tuple[str, str, float]] = []
        self.doubts: list[str] = []
        self._local = threading.local()
        self._lock = threading.Lock()

    def begin(self, task: str) -> None:
        self._local.task = task
        self._local.reason = ""

    @property
    def task(self) -> str:
        return getattr(self._local, "task", "?")

    def because(self, reason: str) -> None:
        """Why the current task fails, should it fail."""
        self._local.reason = reason

    def failed(self) -> None:
        with self._lock:
            self.failures.append(Failure(self.task, getattr(self._local, "reason", "")))

    def succeeded(self, outputs: dict[str, Any]) -> None:
        from kfp import dsl

        with self._lock:
            for name, value in outputs.items():
                for artifact in value if isinstance(value, list) else [value]:
                    if not isinstance(artifact, dsl.Artifact):
                        continue
                    self.artifacts.append((f"{self.task}.{name}", artifact))
                    if artifact.schema_title == "system.Metrics":
                        self.metrics += [
                            (self.task, key, float(number))
                            for key, number in artifact.metadata.items()
                            if is_number(number)
                        ]

    def message(self, error: Exception) -> str:
        """Why the run failed: its failed tasks, or else kfp's own error."""
        if not self.failures:
            return " ".join(str(error).split()) or type(error).__name__
        return "; ".join(f"task '{it.task}' failed: {it.reason}" for it in self.failures)

    def results(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """outputs, artifacts and metrics as plain data.

        outputs: what the pipeline itself returned. Artefacts go by that name,
        and every task's own by `task.output`.
        """
        from kfp import dsl

        named = list(self.artifacts)
        plain: dict[str, Any] = {}
        for name, value in outputs.items():
            items = value if isinstance(value, list) else [value]
            if items and all(isinstance(item, dsl.Artifact) for item in items):
                named += [(name, item) for item in items]
            else:
                plain[name] = value
        return {
            "outputs": plain,
            "artifacts": {
                name: {"path": artifact.uri, "type": artifact.schema_title}
                for name, artifact in numbered(named)
            },
            "metrics": metrics(self.metrics)
            | {name: float(value) for name, value in plain.items() if is_number(value)},
        }
