"""Stage `train`: pipelines are run as tests, several at once, and judged."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Literal

from ci import choosing, testing
from ci import compile as compiling
from ci import upload as uploading
from ci.console import counted
from ci.records import Records, of_main
from ci.workspace import Workspace
from ci_tools import kubeflow, process
from ci_tools.config_training import Declared
from ci_tools.documents import Run, Training, Uploads
from ci_tools.errors import (
    CIError,
    ExpectationError,
    InterruptedRunError,
    RunFailedError,
    RunInfrastructureError,
    RunTimeoutError,
    error_for,
)
from ci_tools.report import junit

FILE = "train.json"
JUNIT = Path("reports") / "training.xml"
OnInterrupt = Literal["cancel", "leave"]
_ON_A_SERVER = 4  # tests at once; embedded one, for this machine runs the steps itself
_LAST_WORDS_SECONDS = 15.0  # what an interrupted run gets to be cancelled or to tell its link


def train(
    workspace: Workspace,
    names: Sequence[str] = (),
    parameters: Mapping[str, object] | None = None,
    *,
    again: bool = False,
    jobs: int | None = None,
    on_interrupt: OnInterrupt = "cancel",
) -> Training:
    """Run training tests and wait for them.

    names:      PIPELINE or PIPELINE/TEST; by default every test for this environment
                that has not passed before with all that it depends on.
    parameters: override the declared ones, for every test that is run.
    again:      run also what is unchanged. What is named runs always.
    jobs:       tests at once.
    on_interrupt: whether a server's runs are cancelled or go on.

    Reads uploads.json; writes train.json, a log a run and a JUnit suite, also
    when runs fail or we are interrupted: `raise_failures` tells what failures
    mean. Raises ConfigError for an unknown pipeline or test, and
    InterruptedRunError with what became of each run.
    """
    uploads = workspace.read(uploading.FILE, Uploads, made_by="upload")
    chosen = choosing.choose(
        choosing.declared(workspace), names, list(uploads.pipelines), workspace.environment_name
    )
    for label, reason in chosen.left_out:
        workspace.console.event(f"{label}: not run, {reason}")
    one = testing.Testing(
        workspace=workspace,
        client=kubeflow.connect(
            workspace.environment, workspace.home, leave_runs=on_interrupt == "leave"
        ),
        uploads=uploads,
        records=Records(workspace),
        parameters=dict(parameters or {}),
        always=again or bool(names),
        writes_baseline=of_main(workspace) and not parameters,
    )
    done: dict[int, testing.Tested] = {}

    def ended(number: int, tested: testing.Tested) -> None:
        done[number] = tested
        workspace.write(FILE, _training(workspace, done))

    width = jobs or jobs_at_once(workspace, len(chosen.tests))
    try:
        _together(workspace, one, chosen.tests, width, ended)
    finally:
        training = _training(workspace, done)
        workspace.write(FILE, training)
        _write_junit(workspace, [done[number] for number in sorted(done)])
    return training


def jobs_at_once(workspace: Workspace, tests: int) -> int:
    """How many tests run at once, unless the command line says."""
    usual = _ON_A_SERVER if workspace.environment.kubeflow else 1
    return max(1, min(workspace.config.pipelines.jobs or usual, tests))


def dry_run(
    workspace: Workspace,
    names: Sequence[str],
    parameters: Mapping[str, object],
    *,
    again: bool = False,
) -> list[str]:
    """What `train` would run, and what not, and why: a line each. Asks nobody."""
    available = list(compiling.dry_run(workspace).pipelines)
    tests = choosing.declared(workspace)
    chosen = choosing.choose(tests, names, available, workspace.environment_name)
    unless = (
        ""
        if again or names
        else ", unless it passed before with all that it depends on (only the registry knows)"
    )
    return [
        f"{it.label}: would run with {({**it.test.parameters, **parameters}) or 'its defaults'}"
        f"{unless}"
        for it in chosen.tests
    ] + [f"{label}: would not run, {reason}" for label, reason in chosen.left_out]


def raise_failures(training: Training) -> None:
    """Raise what the failure of the earliest kind (the lowest exit code) means; name the rest."""
    errors = [(run, error) for run in training.runs if (error := _judged(run)) is not None]
    if not errors:
        return
    first, error = min(errors, key=lambda it: it[1].exit_code)
    others = [run.label for run, _ in errors if run is not first]
    more = f" ({len(others)} more failed: {', '.join(others)})" if others else ""
    raise type(error)(f"{error.what}{more}", error.todo, log=error.log)


def _together(
    workspace: Workspace,
    one: testing.Testing,
    tests: Sequence[Declared],
    jobs: int,
    ended: Callable[[int, testing.Tested], None],
) -> None:
    """Run the tests, `jobs` at once; one that fails stops no other.

    ended: told of each, with its number, as it ends.
    Raises InterruptedRunError.
    """
    pool, crew = ThreadPoolExecutor(max_workers=jobs), _Crew(one)
    try:
        with workspace.console.live(len(tests)):
            futures = {pool.submit(crew.test, test): number for number, test in enumerate(tests)}
            for future in as_completed(futures):
                ended(futures[future], future.result())
    except BaseException as error:  # a defect of ours must not leave runs behind either
        pool.shutdown(wait=False, cancel_futures=True)
        process.stop_all()
        told = crew.let_go()
        if isinstance(error, (KeyboardInterrupt, InterruptedRunError)):
            what = "; ".join(["interrupted", *told])
            raise InterruptedRunError(what, "Run the same command again") from error
        raise
    pool.shutdown()


class _Crew:
    """The tests that are under way: of an interruption futures know too little, which
    may come before the last of them was noted down."""

    def __init__(self, one: testing.Testing) -> None:
        self._one = one
        self._told: list[str] = []
        self._busy, self._changed = 0, threading.Condition()

    def test(self, declared: Declared) -> testing.Tested:
        with self._changed:
            self._busy += 1
        try:
            return self._one.test(declared)
        except InterruptedRunError as error:
            self._told.append(error.what)
            raise
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    def let_go(self) -> list[str]:
        """Once we are stopping: what became of each run. A thread that is stuck in a
        socket is not waited for longer than a moment."""
        with self._changed:
            all_told = self._changed.wait_for(lambda: not self._busy, _LAST_WORDS_SECONDS)
        stuck = [] if all_told else ["a run did not answer in time, look for it in Kubeflow"]
        return [*self._told, *stuck]


def _training(workspace: Workspace, done: Mapping[int, testing.Tested]) -> Training:
    runs = [done[number].run for number in sorted(done)]
    return Training(environment=workspace.environment_name, runs=runs)


def _judged(run: Run) -> CIError | None:
    log = Path(run.log) if run.log else None
    where = f" ({run.url})" if run.url else ""
    if run.state == "ERROR":
        return error_for(run.exit_code)(f"{run.message}, of test '{run.label}'", run.todo, log=log)
    if run.state == "TIMEOUT":
        # The message says whether it was cancelled, or may still go on.
        return RunTimeoutError(
            f"the run of '{run.label}' did not end in time{where}"
            + (f": {_short(run.message)}" if run.message else ""),
            "Raise its timeout, or find what hangs in the log",
            log=log,
        )
    what = f": {_short(run.message)}" if run.message else ""
    if run.state != "SUCCEEDED" and run.infrastructure:
        tries = f", {counted(len(run.attempts) + 1, 'time')}" if run.attempts else ""
        return RunInfrastructureError(
            f"the run of '{run.label}' failed{tries} for reasons of the infrastructure "
            f"({run.infrastructure}){where}{what}",
            "Run the stage again, or ask who runs the cluster",
            log=log,
        )
    if run.state != "SUCCEEDED":
        return RunFailedError(
            f"the run of '{run.label}' ended {run.state}{where}{what}",
            "Mend the component that failed, and run the stage again",
            log=log,
        )
    if run.unmet:
        return ExpectationError(
            f"the run of '{run.label}' is not good enough{where}: {'; '.join(run.unmet)}",
            "Mend the model, or what its test expects",
            log=log,
        )
    return None


def _short(message: str) -> str:
    """Of a message that quotes a log, what happened and the last that was said."""
    first, *rest = [line.strip() for line in message.splitlines() if line.strip()] or [""]
    return f"{first} … {rest[-1]}" if rest else first


def _write_junit(workspace: Workspace, tested: Sequence[testing.Tested]) -> None:
    suites: dict[str, junit.Suite] = {}
    for one in tested:
        name = f"train.{one.run.pipeline}"
        testing.report(suites.setdefault(name, junit.Suite(name)), one)
    junit.write(workspace.build / JUNIT, list(suites.values()))
