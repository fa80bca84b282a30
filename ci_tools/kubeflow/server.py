"""Kubeflow as a real API server (v2beta1), through `kfp.Client`.

What the SDK's own helpers get wrong for CI is done here: look-ups with a
namespace, idempotent uploads, runs of a named version only, and a waiter that
knows every state.

v2beta1 offers no way to read a run's output parameters, metrics or artefacts:
task details hold ids of a metadata store that the API does not serve. `outputs`,
`metrics` and `artifacts` of a run are therefore empty here.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Literal

from ci_tools import config
from ci_tools.documents import Json, Run, Upload
from ci_tools.errors import CIError, InterruptedRunError, KubeflowError, UploadConflictError
from ci_tools.kubeflow import api, arguments, check_names, ir
from ci_tools.kubeflow.runlog import RunLog

_SIZE_LIMIT = 32 << 20  # bytes that the server takes
_ENDED: dict[str, Literal["SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"]] = {
    "SUCCEEDED": "SUCCEEDED",
    "FAILED": "FAILED",
    "CANCELED": "CANCELED",
    "SKIPPED": "SKIPPED",
}  # all others (PENDING, RUNNING, CANCELING, PAUSED, unspecified) may still change


class KubeflowServer:
    """Satisfies `ci_tools.kubeflow.Kubeflow`.

    token:    bearer token, "" for none.
    poll:     seconds between two looks at a run: at first, and at most.
    patience: seconds that the server may be away before a call is given up.
    """

    def __init__(
        self,
        settings: config.KubeflowServer,
        *,
        token: str = "",
        poll: tuple[float, float] = (1.0, 15.0),
        patience: float = 60.0,
    ) -> None:
        self._settings, self._token = settings, token
        self._poll, self._patience = poll, patience
        self._connection: api.Api | None = None

    @property
    def _api(self) -> api.Api:
        if self._connection is None:
            self._connection = api.connect(self._settings, self._token, self._patience)
        return self._connection

    def upload(
        self, name: str, ir_path: Path, *, sha256: str, version: str, description: str
    ) -> Upload:
        """See `Kubeflow.upload`.

        The pipeline is created empty and then gets the version, instead of the
        SDK's way of a first version that bears the pipeline's name.
        """
        check_names(name, version)
        one = ir.load(ir_path)
        if ir.canonical_sha256(one) != sha256:
            raise KubeflowError(
                f"{ir_path} changed since it was compiled", "Run the 'compile' stage again"
            )
        if ir_path.stat().st_size > _SIZE_LIMIT:
            raise KubeflowError(
                f"{ir_path} is larger than the 32 MB that Kubeflow takes", "Split the pipeline"
            )
        pipeline_id = self._pipeline_id(name, ir.description(one))
        created = True
        try:
            found = self._api.ask(
                self._api.uploads.upload_pipeline_version_with_http_info,
                str(ir_path),
                name=version,
                pipelineid=pipeline_id,
                description=description,
            )
        except api.Conflict:
            found, created = self._same_version(name, pipeline_id, version, sha256), False
        version_id = str(found.pipeline_version_id)
        return Upload(
            pipeline_id=pipeline_id,
            version_id=version_id,
            version=version,
            sha256=sha256,
            created=created,
            url=self._page(f"pipelines/details/{pipeline_id}/version/{version_id}"),
        )

    def launch(
        self,
        pipeline: str,
        upload: Upload,
        *,
        parameters: Json,
        job_name: str,
        timeout: float,
        log: Path,
    ) -> Run:
        """See `Kubeflow.launch`. Interrupted, it terminates the run before it ends."""
        one = self._spec(pipeline, upload)
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
            url=self._page(f"runs/details/{run_id}"),
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

    def _pipeline_id(self, name: str, description: str) -> str:
        """The pipeline's id in our namespace; it is created if it is not there."""
        lookup = self._api.pipelines.pipeline_service_get_pipeline_by_name_with_http_info
        create = self._api.pipelines.pipeline_service_create_pipeline_with_http_info
        where = {"namespace": self._settings.namespace} if self._settings.namespace else {}
        try:
            return _id(self._api.ask(lookup, name, **where), "pipeline_id")
        except api.NotFound:
            pass
        body = {"name": name, "display_name": name, "description": description, **where}
        try:
            return _id(self._api.ask(create, body), "pipeline_id")
        except api.Conflict:  # somebody else was faster
            return _id(self._api.ask(lookup, name, **where), "pipeline_id")

    def _same_version(self, name: str, pipeline_id: str, version: str, sha256: str) -> Any:
        """The version of that name. Raises UploadConflictError if it is another pipeline.

        The parsed specs are compared: the server writes YAML anew.
        """
        listing = self._api.pipelines.pipeline_service_list_pipeline_versions_with_http_info
        for found in self._api.pages(listing, "pipeline_versions", pipeline_id):
            if version in (found.name, found.display_name):
                theirs = ir.from_server(found.pipeline_spec, f"{name} version {version}")
                if ir.canonical_sha256(theirs) == sha256:
                    return found
                break
        raise UploadConflictError(
            f"Kubeflow holds another pipeline as '{name}' version '{version}'",
            "Commit the change, so that it gets a version name of its own",
        )

    def _spec(self, pipeline: str, upload: Upload) -> ir.Ir:
        """What the server would run. Raises KubeflowError unless it is what was uploaded."""
        found = self._api.ask(
            self._api.pipelines.pipeline_service_get_pipeline_version_with_http_info,
            upload.pipeline_id,
            upload.version_id,
        )
        one = ir.from_server(found.pipeline_spec, f"{pipeline} version {upload.version}")
        if ir.canonical_sha256(one) != upload.sha256:
            raise KubeflowError(
                f"Kubeflow's version '{upload.version}' of '{pipeline}' is not what was uploaded",
                "Run the 'upload' stage again",
            )
        return one

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
        return _id(
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
            return next((_id(it, "experiment_id") for it in found if it.display_name == name), None)

        if identity := known():
            return identity
        create = self._api.experiments.experiment_service_create_experiment_with_http_info
        try:
            body = {"display_name": name, **where}
            return _id(self._api.ask(create, body), "experiment_id")
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

    def _page(self, path: str) -> str:
        return f"{self._settings.endpoint.rstrip('/')}/#/{path}"


def _id(answer: Any, field: str) -> str:
    """An id out of an answer. Raises KubeflowError for an answer without one."""
    value = getattr(answer, field, None)
    if not value:
        raise KubeflowError(
            f"Kubeflow's answer holds no {field}",
            "Compare its version with the kfp version in setup.cfg",
        )
    return str(value)


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
