"""Runs on an API server: of a named version only, with a waiter that knows every state."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Literal

from ci_tools import config
from ci_tools.documents import Json, Run, Upload
from ci_tools.errors import CIError, InterruptedRunError
from ci_tools.kubeflow import api, arguments, ir
from ci_tools.kubeflow.progress import Watch, nobody
from ci_tools.kubeflow.runlog import RunLog

_ENDED: dict[str, Literal["SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"]] = {
    "SUCCEEDED": "SUCCEEDED",
    "FAILED": "FAILED",
    "CANCELED": "CANCELED",
    "SKIPPED": "SKIPPED",
}  # all others (PENDING, RUNNING, CANCELING, PAUSED, unspecified) may still change


class Runs:
    """poll: seconds between two looks at a run: at first, and at most."""

    def __init__(
        self,
        settings: config.KubeflowServer,
        connection: api.Api,
        poll: tuple[float, float],
    ) -> None:
        self._settings, self._api, self._poll = settings, connection, poll

    def launch(
        self,
        pipeline: str,
        upload: Upload,
        one: ir.Ir,
        *,
        parameters: Json,
        job_name: str,
        timeout: float,
        log: Path,
        watch: Watch = nobody,  # noqa: ARG002
    ) -> Run:
        """See `Kubeflow.launch`. one: what the server says that it would run."""
        declared = ir.parameters(one)
        given = arguments.checked(pipeline, declared, parameters)
        started = time.monotonic()
        run_id = self._create_run(upload, given, job_name)
        run = Run(
            pipeline=pipeline,
            run_id=run_id,
            version_id=upload.version_id,
            state="FAILED",
            parameters=arguments.with_defaults(declared, given),
            url=api.page(self._settings, f"runs/details/{run_id}"),
            log=str(log),
        )
        story = RunLog(log)
        story.tell(f"run {run_id} ({job_name}) of {pipeline} version {upload.version}: {run.url}")
        try:
            seen = self._wait(run_id, started + timeout, story)
        except InterruptedRunError:
            self._terminate(run_id, story)
            raise
        except CIError as error:
            raise type(error)(
                f"{error.what}; run {run_id} may still go on", f"{error.todo}; see {run.url}"
            ) from error
        except BaseException:  # Ctrl-C: nothing is left behind, there either
            self._terminate(run_id, story)
            raise
        if seen is None:
            self._terminate(run_id, story)
            run.state, run.message = "TIMEOUT", f"terminated after {timeout:.0f} seconds"
        else:
            run.state, run.message = _ENDED[seen.state], _message(seen)
        run.seconds = round(time.monotonic() - started, 3)
        story.tell(f"{run.state} {run.message}".strip())
        return run

    def _create_run(self, upload: Upload, given: Json, job_name: str) -> str:
        """A run of exactly this version; without one the server takes the latest."""
        body = {
            "display_name": job_name,
            "experiment_id": self._experiment_id(),
            "pipeline_version_reference": {
                "pipeline_id": upload.pipeline_id,
                "pipeline_version_id": upload.version_id,
            },
            "runtime_config": {"parameters": given},
        }
        # Not `ask`: a request that was lost on its way back would start a second run.
        return api.identity(
            self._api.call(self._api.runs.run_service_create_run_with_http_info, body), "run_id"
        )

    def _experiment_id(self) -> str:
        name, namespace = self._settings.experiment, self._settings.namespace
        where = {"namespace": namespace} if namespace else {}
        predicate = {"operation": "EQUALS", "key": "name", "stringValue": name}
        listing = self._api.experiments.experiment_service_list_experiments_with_http_info

        def known() -> str | None:
            found = self._api.pages(
                listing, "experiments", filter=json.dumps({"predicates": [predicate]}), **where
            )
            return next(
                (api.identity(it, "experiment_id") for it in found if it.display_name == name), None
            )

        if identity := known():
            return identity
        create = self._api.experiments.experiment_service_create_experiment_with_http_info
        try:
            body = {"display_name": name, **where}
            return api.identity(self._api.ask(create, body), "experiment_id")
        except api.Conflict:
            if identity := known():
                return identity
            raise

    def _wait(self, run_id: str, deadline: float, story: RunLog) -> Any | None:
        """The run once it has ended, or None when the deadline passed first.

        The state is looked at before the clock: a run that ended in time did.
        """
        pause, longest = self._poll
        last = ""
        while True:
            seen = self._api.ask(self._api.runs.run_service_get_run_with_http_info, run_id)
            state = str(seen.state or "RUNTIME_STATE_UNSPECIFIED")
            if state != last:
                story.tell(state)
                last = state
            if state in _ENDED:
                return seen
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, longest)

    def _terminate(self, run_id: str, story: RunLog) -> None:
        """Ask for the end of a run; a server that is away cannot be asked."""
        try:
            self._api.call(self._api.runs.run_service_terminate_run_with_http_info, run_id)
            story.tell("termination requested")
        except CIError as error:
            story.tell(f"termination failed: {error}")


def _message(seen: Any) -> str:
    """Why a run did not succeed: its own error and those of its tasks, once each."""
    details = seen.run_details.task_details if seen.run_details else None
    reasons = [
        f"task '{task.display_name}' failed: {task.error.message}"
        for task in details or []
        if task.state == "FAILED" and task.error and task.error.message
    ]
    if not reasons:
        failed = [task.display_name for task in details or [] if task.state == "FAILED"]
        reasons = [f"failed tasks: {', '.join(map(str, failed))}"] if failed else []
    if seen.error and seen.error.message:
        reasons.insert(0, seen.error.message)
    return "; ".join(dict.fromkeys(reasons))
