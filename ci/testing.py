"""One training test: whether it must run, its runs, and what they came to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from ci import judging, records
from ci.following import Following
from ci.judging import Check
from ci.records import Records
from ci.workspace import Workspace
from ci_tools import process
from ci_tools.config_training import DEFAULT, Declared
from ci_tools.documents import Attempt, Json, Run, TaskEnd, Upload, Uploads
from ci_tools.errors import CIError, InterruptedRunError
from ci_tools.file_uri import path_of
from ci_tools.kubeflow import Kubeflow
from ci_tools.report import junit


class Tested(NamedTuple):
    """A test's last run, and every check of it; only noted of a run that did not succeed."""

    run: Run
    checks: list[Check]


@dataclass(frozen=True)
class Testing:
    """What all tests share.

    parameters: override the declared ones.
    always:     whether a test runs that passed before with all that it depends on.
    writes_baseline: whether a run that passes is what others are compared with.
    """

    workspace: Workspace
    client: Kubeflow
    uploads: Uploads
    records: Records
    parameters: Json
    always: bool
    writes_baseline: bool

    def test(self, declared: Declared) -> Tested:
        """Run one test, unless it is unchanged, and judge it.

        An error is of this test alone, and becomes its run's state. Raises
        InterruptedRunError.
        """
        console, label = self.workspace.console, declared.label
        upload = self.uploads.pipelines[declared.pipeline]
        parameters: Json = {**declared.test.parameters, **self.parameters}
        try:
            with console.working(label, "training"):
                key = records.key(
                    self.workspace.environment_name,
                    declared.pipeline,
                    upload.sha256,
                    parameters,
                    declared.test.expect,
                )
                tested = None if self.always else self._unchanged(declared, key)
                if tested is None:
                    tested = self._judged(declared, self._run(declared, upload, parameters))
                    if tested.run.passed:
                        self.records.keep(key, tested.run)
                if tested.run.passed and self.writes_baseline:
                    # Of an unchanged one too: what a branch ran is main's once it is merged.
                    self.records.become_baseline(tested.run)
        except InterruptedRunError:
            raise
        except CIError as error:
            run = _error(declared, upload, parameters, error)
            why = "nobody knows how the run ended"
            tested = Tested(run, judging.left_out(declared.test.expect, why))
        self._tell(tested.run)
        return tested

    def _unchanged(self, declared: Declared, key: str) -> Tested | None:
        """The run that passed with all that this one would depend on; None where it must run."""
        found = self.records.passed(key)
        if found is None:
            return None
        run = found.run
        if not _at_hand(run):  # another agent's engine made them; who deploys could not read them
            self.workspace.console.event(
                f"{declared.label}: it passed before, but what it made is not on this machine"
            )
            return None
        run.test, run.unchanged, run.log = declared.name, True, ""
        tested = self._judged(declared, run)
        if not tested.run.passed:  # main's last run is a better one by now
            self.workspace.console.event(
                f"{declared.label}: it passed before, and would not now: "
                f"{'; '.join(tested.run.unmet)}"
            )
            return None
        built = f" of commit {found.commit[:12]}" if found.commit else ""
        run.notes.insert(0, f"unchanged since run {run.run_id}{built}, {found.created}")
        return tested

    def _run(self, declared: Declared, upload: Upload, parameters: Json) -> Run:
        """The last run: again, after one that failed for reasons of the infrastructure."""
        attempts: list[Attempt] = []
        while True:
            number = len(attempts) + 1
            again = f" (attempt {number})" if attempts else ""
            following = Following(self.workspace.console, declared.label)
            run = self.client.launch(
                declared.pipeline,
                upload,
                parameters=parameters,
                job_name=f"{declared.label} {upload.version}{again}",
                timeout=declared.test.timeout,
                log=self.workspace.build / "logs" / log_name(declared, number),
                watch=following,
            )
            if not run.tasks:  # an embedded run knows no more of them than it has told
                run.tasks = [
                    TaskEnd(name=task.name, state=task.state, seconds=task.seconds)
                    for task in following.last
                    if task.name
                ]
            if process.stopping():
                raise InterruptedRunError(f"'{declared.label}' was stopped", "Run it again")
            run.test, run.sha256, run.attempts = declared.name, upload.sha256, attempts
            if not run.infrastructure or number > declared.test.retries:
                return run
            attempts.append(
                Attempt(
                    run_id=run.run_id,
                    state=run.state,
                    reason=run.infrastructure,
                    message=run.message,
                    seconds=run.seconds,
                    url=run.url,
                    log=run.log,
                )
            )
            self.workspace.console.event(
                f"{declared.label}: {run.infrastructure}; "
                f"running it again ({number} of {declared.test.retries})"
            )

    def _judged(self, declared: Declared, run: Run) -> Tested:
        """The run, with what it was judged by written into it."""
        if run.state != "SUCCEEDED":
            judging.leave_out_non_finite(run)
            why = f"the run ended {run.state}"
            return Tested(run, judging.left_out(declared.test.expect, why))
        _measure(run)
        expect, why = declared.test.expect, ""
        run.baseline = None
        if judging.compares(expect):
            run.baseline, why = self.records.baseline(declared.pipeline, declared.name)
        checks = judging.judge(run, expect, run.baseline, why)
        judging.leave_out_non_finite(run)
        run.unmet, run.notes = judging.unmet(checks), judging.notes(checks)
        if run.baseline is not None and run.baseline.parameters != run.parameters:
            run.notes.append("main's last run had other parameters")
        return Tested(run, checks)

    def _tell(self, run: Run) -> None:
        console = self.workspace.console
        if run.unchanged:
            console.event(f"{run.label}: not run, {run.notes[0]}")
        else:
            console.event("\n".join([f"{run.label}: {_ended(run)}", *_story(run)]))
        for note in run.notes[1 if run.unchanged else 0 :]:
            console.event(f"{run.label}: {note}")
        console.finished(run.label, run.passed)


def log_name(declared: Declared, attempt: int) -> str:
    """`run-training.log`, `run-training.smoke.2.log`: of a test and an attempt, no other's."""
    test = "" if declared.name == DEFAULT else f".{declared.name}"
    return f"run-{declared.pipeline}{test}{'' if attempt == 1 else f'.{attempt}'}.log"


def report(suite: junit.Suite, tested: Tested) -> None:
    """Write a test into its pipeline's suite: a case for the run and one for each check."""
    run, checks = tested
    for name, value in (("run_id", run.run_id), ("url", run.url), ("log", run.log)):
        if value:
            suite.properties[f"{run.test}.{name}"] = value
    if run.unchanged:
        suite.skipped(f"{run.test}.run", run.notes[0])
    elif run.state == "SUCCEEDED":
        suite.passed(f"{run.test}.run", run.seconds)
    else:
        suite.failed(f"{run.test}.run", f"{run.state} {run.message}\n{run.url}", run.seconds)
    for check in checks:
        name = f"{run.test}.{check.name}"
        if check.missed:
            suite.failed(name, check.missed)
        elif check.note:
            suite.skipped(name, check.note)
        else:
            suite.passed(name, 0.0)


def _ended(run: Run) -> str:
    state = run.state.lower() if run.passed else run.state
    tries = f" at attempt {len(run.attempts) + 1}" if run.attempts else ""
    unmet = "".join(f", {sentence}" for sentence in run.unmet)
    return f"{state} in {run.seconds:.1f} s{tries}{unmet}"


def _story(run: Run) -> list[str]:
    """What else a person wants to see: why it failed, where it is, where its log is."""
    lines = [] if run.passed or not run.message else run.message.splitlines()
    lines += [f"run  {run.url}"] if run.url else []
    return [f"    {line}" for line in [*lines, *([f"log  {run.log}"] if run.log else [])]]


def _error(declared: Declared, upload: Upload, parameters: Json, error: CIError) -> Run:
    return Run(
        pipeline=declared.pipeline,
        test=declared.name,
        run_id="",
        version_id=upload.version_id,
        sha256=upload.sha256,
        state="ERROR",
        parameters=msgspec.to_builtins(parameters),
        message=error.what,
        todo=error.todo,
        exit_code=error.exit_code,
        log=str(error.log or ""),
    )


def _files(run: Run) -> dict[str, Path]:
    """The artefacts that lie on this machine, or should."""
    found = {}
    for name, artifact in run.artifacts.items():
        if path := path_of(artifact.uri):
            found[name] = path
    return found


def _at_hand(run: Run) -> bool:
    """Whether what it left on a machine is on this one."""
    return all(
        path.exists() for name, path in _files(run).items() if run.artifacts[name].size is not None
    )


def _measure(run: Run) -> None:
    """The sizes of what lies on this machine; a directory's is that of its files, and
    what is not there has none."""
    for name, path in _files(run).items():
        if path.is_file():
            run.artifacts[name].size = path.stat().st_size
        elif path.is_dir():
            inside = [it for it in path.rglob("*") if it.is_file() and not it.is_symlink()]
            run.artifacts[name].size = sum(it.stat().st_size for it in inside)
        else:
            run.artifacts[name].size = None
