"""In the child process: run a compiled pipeline on this machine's engine.

A process of its own, because threads that wait for containers cannot be
stopped: the parent ends the process, and this one removes its containers.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType
from typing import Any

from ci_tools.kubeflow import containers, ir
from ci_tools.kubeflow.local import supported
from ci_tools.kubeflow.local.dag import Graph
from ci_tools.kubeflow.local.resolve import FAILED, NOTHING, SUCCEEDED
from ci_tools.kubeflow.local.step import WORKSPACE, Steps
from ci_tools.kubeflow.progress import Task
from ci_tools.kubeflow.recorder import Recorder
from ci_tools.output import write_everything_to

_DOOR_SECONDS = 1.0  # of the grace period of a stopped process, 3 s


def run_pipeline(
    ir_path: str,
    run_id: str,
    root: str,
    cluster: str,
    arguments: dict[str, Any],
    user: str,
    parallel: int,
    log: str,
    events: str,
) -> dict[str, Any]:
    """Run one IR file to its end.

    root:     directory for the artefacts, on this machine and in the containers.
    cluster:  directory that stands for a cluster's secrets and volumes.
    user:     `uid:gid` that the containers run as.
    parallel: steps that run at once.
    log:      file that receives everything, as it happens; each task's own lines
              are also in `TASK.log` in the directory beside it that ends in `.tasks`.
    events:   file that receives a `Task` as a JSON line with each change.

    Returns {"state", "message", "outputs", "artifacts", "metrics"},
    {"engine": sentence} when no engine answers or {"refused": sentence} for a
    pipeline that this machine cannot run as a cluster would.
    """
    write_everything_to(log)
    signal.signal(signal.SIGTERM, _stopper(run_id))
    signal.signal(signal.SIGINT, _stopper(run_id))
    if problem := containers.unreachable():
        return {"engine": problem}
    one = ir.load(Path(ir_path))
    engine = containers.DockerEngine(run_id, user)
    if refused := supported.problems(one.spec, one.platforms, engine.machine):
        return {"refused": "; ".join(refused)}
    tell = TaskLogs(Path(log).with_suffix(".tasks"))
    recorder = Recorder(_events(events), tell)
    steps = Steps(
        engine,
        one.spec.get("deploymentSpec", {}).get("executors", {}),
        one.platforms,
        root=Path(root),
        cluster=Path(cluster),
        tell=tell,
    )
    graph = Graph(
        one.spec, steps.attempt, recorder, _constants(ir.pipeline_name(one), run_id, root), parallel
    )
    try:
        outcome = graph.run(arguments)
    except Exception as error:  # a defect, which must not pass for a success
        traceback.print_exc()
        message = f"{type(error).__name__}: {error}"
        return {"state": FAILED, "message": message} | recorder.results(NOTHING)
    if outcome.state != SUCCEEDED:
        return {"state": FAILED, "message": recorder.message()} | recorder.results(NOTHING)
    return {"state": SUCCEEDED, "message": ""} | recorder.results(outcome.outputs)


class TaskLogs:
    """Writes a task's lines to the run's log, prefixed, and to a file of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()

    def __call__(self, label: str, text: str) -> None:
        path = self._directory / f"{label}.log"
        with self._lock:
            sys.stdout.write(f"[{label}] {text}\n")
            sys.stdout.flush()
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8", errors="replace") as stream:
                stream.write(f"{text}\n")


def _events(path: str) -> Callable[[Task], None]:
    lock = threading.Lock()

    def tell(task: Task) -> None:
        with lock, open(path, "a", encoding="utf-8") as stream:  # noqa: PTH123
            stream.write(json.dumps(task) + "\n")

    return tell


def _constants(pipeline: str, run_id: str, root: str) -> dict[str, str]:
    """Placeholders that mean the same in the whole run."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "{{$.pipeline_job_name}}": pipeline,
        "{{$.pipeline_job_resource_name}}": f"{pipeline}-{run_id[:8]}",
        "{{$.pipeline_job_uuid}}": run_id,
        "{{$.pipeline_job_create_time_utc}}": now,
        "{{$.pipeline_job_schedule_time_utc}}": now,
        "{{$.pipeline_root}}": root,
        "{{$.workspace_path}}": WORKSPACE,
    }


def _stopper(run_id: str) -> Callable[[int, FrameType | None], None]:
    def stop(number: int, _frame: FrameType | None) -> None:
        os.write(1, b"stopped from outside: removing this run's containers\n")
        containers.DOOR.close(_DOOR_SECONDS)  # one that is being made could not be found yet
        containers.remove_all(run_id)
        os._exit(128 + number)  # other threads may still wait for their containers

    return stop
