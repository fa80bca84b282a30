"""Runs on an API server: of a named version only, followed to their end, never left alone."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NoReturn, cast

from ci_tools import config, process
from ci_tools.documents import Json, Run, Upload
from ci_tools.documents.training import State
from ci_tools.errors import CIError, InterruptedRunError
from ci_tools.kubeflow import api, arguments, endings, ir, tasks, workflow
from ci_tools.kubeflow.aftermath import AskFailed, AskOutcome, FailedTask, no_logs, no_outcome
from ci_tools.kubeflow.progress import Announce, Task, Watch, nobody, unannounced
from ci_tools.kubeflow.runlog import RunLog
from ci_tools.kubeflow.waiting import Halted, Seen, Waiter

_GRACE_SECONDS = 30.0  # what a run that we cancel gets to end


class Runs:
    """poll: seconds between two looks at a run: at first, and at most.

    patience: seconds that the server may be away while we wait.
    leave:    when we are interrupted the run goes on, instead of being cancelled.
    outcome, logs: ask for what v2beta1 does not tell, once a run is over.
    """

    def __init__(
        self,
        settings: config.KubeflowServer,
        connection: api.Api,
        poll: tuple[float, float],
        *,
        patience: float = 60.0,
        leave: bool = False,
        outcome: AskOutcome = no_outcome,
        logs: AskFailed = no_logs,
        halted: Callable[[], bool] = process.stopping,
    ) -> None:
        self._settings, self._api, self._poll = settings, connection, poll
        self._patience, self._leave, self._halted = patience, leave, halted
        self._outcome, self._logs = outcome, logs

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
        watch: Watch = nobody,
        announce: Announce = unannounced,
    ) -> Run:
        """See `Kubeflow.launch`. one: what the server says that it would run.

        Raises InterruptedRunError, with what became of the run, once we are stopping.
        """
        declared = ir.parameters(one)
        given = arguments.checked(pipeline, declared, parameters)
        if self._halted():
            raise InterruptedRunError(f"'{pipeline}' was not run", "Run the same command again")
        started = time.monotonic()
        run_id = self._create_run(upload, given, job_name)
        run = Run(
            pipeline=pipeline,
            run_id=run_id,
            version_id=upload.version_id,
            sha256=upload.sha256,
            state="FAILED",
            parameters=arguments.with_defaults(declared, given),
            url=api.page(self._settings, f"runs/details/{run_id}"),
            log=str(log),
        )
        story = RunLog(log)
        story.tell(f"run {run_id} ({job_name}) of {pipeline} version {upload.version}: {run.url}")
        announce(run)
        following = _Following(one, watch)
        waiter = Waiter(
            lambda: self._api.call(self._api.runs.run_service_get_run_with_http_info, run_id),
            story.tell,
            poll=self._poll,
            patience=self._patience,
            seen=following.look,
            halted=self._halted,
        )
        try:
            seen, late = waiter.wait(started + timeout), ""
            if seen is None:
                late = f"after {timeout:.0f} seconds{following.busy()}"
                seen, late = self._stopped(run_id, waiter, story, late)
        except Halted:
            self._interrupted(run, story)
        except CIError as error:
            raise type(error)(
                f"{error.what}; run {run_id} may still go on", f"{error.todo}; see {run.url}"
            ) from error
        except BaseException:  # Ctrl-C, when it is ours to meet
            self._let_go(run_id, story)
            raise
        run.seconds = round(time.monotonic() - started, 3)
        self._end(run, seen, following, late, story)
        story.tell(f"{run.state} {run.message}".strip())
        return run

    def _end(
        self, run: Run, seen: Seen | None, following: _Following, late: str, story: RunLog
    ) -> None:
        """Write into `run` what its end was, from the server and whoever else knows.

        late: what we did about it when its time was over, else "".
        """
        state = seen.state if seen else ""
        details = seen.run.run_details.task_details if seen and seen.run.run_details else None
        error = str(seen.run.error.message or "") if seen and seen.run.error else ""
        failures: list[FailedTask] = []
        if state == "FAILED" or late:  # what hung, too
            failures = self._why(run.run_id, following.one, details or [], story)
        ending = endings.of(following.tasks(over=True), details, failures, error)
        run.tasks = ending.tasks
        if late and state != "SUCCEEDED":  # one that succeeded all the same did
            run.state, run.message = "TIMEOUT", late
            return
        run.state = cast(State, state)
        if state == "CANCELED":
            run.message = "somebody else cancelled it"
        elif state != "SUCCEEDED":
            run.message, run.infrastructure = ending.message, ending.infrastructure
        else:
            self._result(run, following.one)

    def _why(
        self, run_id: str, one: ir.Ir, details: Sequence[Any], story: RunLog
    ) -> list[FailedTask]:
        """What the cluster and the logs say of a failed run's tasks; the story has all of it."""
        found: list[FailedTask] = []
        try:
            found += workflow.failed(self._api, run_id, one)
        except CIError as problem:
            story.tell(f"Argo's own messages could not be had: {problem.what}")
        try:
            found += self._logs(self._api, run_id, one, details)
        except CIError as problem:
            story.tell(f"the logs of its tasks could not be had: {problem.what}")
        for task in found:
            story.tell("\n".join([f"task '{task.task}' failed: {task.message}", *task.lines]))
        return found

    def _result(self, run: Run, one: ir.Ir) -> None:
        try:
            found = self._outcome(self._api, run.run_id, one)
        except CIError as problem:
            run.unknown = problem.what
            return
        run.outputs, run.metrics = dict(found.outputs), dict(found.metrics)
        run.artifacts, run.unknown = dict(found.artifacts), found.unknown

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

    def _stopped(
        self, run_id: str, waiter: Waiter, story: RunLog, when: str
    ) -> tuple[Seen | None, str]:
        """Cancel a run whose time is over, and wait for its end, if that comes soon.

        Returns the end, None where it is not known, and a sentence.
        """
        asked = self._terminate(run_id, story)  # refused where it has just ended by itself
        try:
            seen = waiter.wait(time.monotonic() + (_GRACE_SECONDS if asked else 0.0))
        except CIError as error:
            story.tell(f"its end is not known: {error.what}")
            seen = None
        if seen is None and not asked:
            return seen, f"it could not be cancelled {when}, and may still go on"
        return seen, f"cancelled {when}" + ("" if seen else "; the server has not ended it yet")

    def _interrupted(self, run: Run, story: RunLog) -> NoReturn:
        """We are stopping. Raises InterruptedRunError with what became of the run."""
        done = self._let_go(run.run_id, story)
        what = f"run {run.run_id} of '{run.pipeline}' {done} ({run.url})"
        raise InterruptedRunError(what, "Run the same command again")

    def _let_go(self, run_id: str, story: RunLog) -> str:
        """Cancel the run, or leave it; which of both, in words."""
        if self._leave:
            story.tell("we were interrupted; the run goes on")
            return "goes on"
        return "is cancelled" if self._terminate(run_id, story) else "may still go on"

    def _terminate(self, run_id: str, story: RunLog) -> bool:
        """Ask for the end of a run; whether that was taken."""
        try:
            self._api.call(self._api.runs.run_service_terminate_run_with_http_info, run_id)
        except CIError as error:
            story.tell(f"termination failed: {error}")
            return False
        story.tell("termination requested")
        return True


class _Following:
    """Tells `watch` of a run's tasks whenever one of them is not as it was."""

    def __init__(self, one: ir.Ir, watch: Watch) -> None:
        self.one, self._watch = one, watch
        self._details: Any = None
        self._paused = False
        self._told: list[tuple[str, str]] = []

    def look(self, run: Any) -> None:
        self._details = run.run_details.task_details if run.run_details else None
        now = self.tasks(over=False)
        self._paused = str(run.state) == "PAUSED"
        if self._paused:
            now = [Task("", "PAUSED"), *now]
        states = [(task.name, task.state) for task in now]
        if states != self._told:
            self._told = states
            self._watch(now)

    def busy(self) -> str:
        """` while train was RUNNING`, or "" where nothing is known to run."""
        if self._paused:
            return " while it was PAUSED, until somebody resumes it"
        names = [task.name for task in self.tasks(over=False) if task.state == "RUNNING"]
        return f" while {', '.join(names)} was RUNNING" if names else ""

    def tasks(self, *, over: bool) -> list[Task]:
        return tasks.tasks(self.one, self._details, over=over, now=datetime.now(timezone.utc))
