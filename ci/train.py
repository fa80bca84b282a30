"""Stage `train`: pipelines are run as tests, with parameters, and judged."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ci import compile as compiling
from ci import upload as uploading
from ci.workspace import Workspace
from ci_tools import kubeflow
from ci_tools.config import Bound, Pipeline
from ci_tools.documents import Json, Run, Training, Uploads
from ci_tools.errors import (
    CIError,
    ConfigError,
    ExpectationError,
    RunFailedError,
    RunTimeoutError,
)
from ci_tools.report import junit

FILE = "train.json"
JUNIT = Path("reports") / "training.xml"


def train(
    workspace: Workspace,
    names: Sequence[str] = (),
    parameters: Mapping[str, object] | None = None,
) -> Training:
    """Run pipelines and wait for them; by default those with `train: true` in ci.yaml.

    parameters: override the declared ones, for every pipeline that is run.

    Reads uploads.json; writes train.json, a log a run and a JUnit suite, also
    when runs fail: `raise_failures` tells what that means. Raises ConfigError
    for an unknown pipeline or parameter, KubeflowError, CredentialsError.
    """
    uploads = workspace.read(uploading.FILE, Uploads, made_by="upload")
    client = kubeflow.connect(workspace.environment, workspace.home)
    training = Training(environment=workspace.environment_name, runs=[])
    suites: list[junit.Suite] = []
    for name in chosen(workspace, names, list(uploads.pipelines)):
        declared = workspace.config.pipelines.named.get(name, Pipeline())
        version = uploads.pipelines[name].version
        with workspace.console.live(), workspace.console.working(name, "training"):
            run = client.launch(
                name,
                uploads.pipelines[name],
                parameters=_merged(declared.parameters, parameters or {}),
                job_name=f"{name} {version}",
                timeout=declared.timeout,
                log=workspace.build / "logs" / f"run-{name}.log",
            )
        run.unmet = unmet(run.metrics, declared.expect) if run.state == "SUCCEEDED" else []
        suites.append(_suite(run, declared.expect))
        leave_out_non_finite(run)
        training.runs.append(run)
        workspace.console.event(f"{name}: {run.state.lower()} in {run.seconds:.1f} s")
        workspace.write(FILE, training)
    junit.write(workspace.build / JUNIT, suites)
    return training


def dry_run(
    workspace: Workspace, names: Sequence[str], parameters: Mapping[str, object]
) -> list[str]:
    """What `train` would launch, a line each. Asks nobody."""
    available = list(compiling.dry_run(workspace).pipelines)
    named = workspace.config.pipelines.named
    return [
        f"{name}: would run with "
        f"{_merged(named.get(name, Pipeline()).parameters, parameters) or 'its defaults'}"
        for name in chosen(workspace, names, available)
    ]


def chosen(workspace: Workspace, names: Sequence[str], available: Sequence[str]) -> list[str]:
    """The pipelines to run. Raises ConfigError for one that is not there."""
    declared = workspace.config.pipelines.named
    wanted = list(names) or [name for name, pipeline in declared.items() if pipeline.train]
    for name in wanted:
        if name not in available:
            near = difflib.get_close_matches(name, available, n=1)
            raise ConfigError(
                f"there is no pipeline '{name}' to run",
                f"Did you mean '{near[0]}'"
                if near
                else f"Name one of: {', '.join(available) or '(none was compiled)'}",
            )
    return wanted


def unmet(metrics: Mapping[str, float], expected: Mapping[str, Bound]) -> list[str]:
    """A sentence for every expectation that is missed.

    A metric that was not reported, is not a number or is infinite misses,
    whatever its bounds.
    """
    sentences = []
    for name, bound in expected.items():
        value = metrics.get(name)
        if value is None:
            sentences.append(f"{name} was not reported")
        elif not math.isfinite(value):
            sentences.append(f"{name} is {value}")
        elif bound.min is not None and value < bound.min:
            sentences.append(f"{name} is {value:.4g}, below {bound.min:.4g}")
        elif bound.max is not None and value > bound.max:
            sentences.append(f"{name} is {value:.4g}, above {bound.max:.4g}")
    return sentences


def leave_out_non_finite(run: Run) -> None:
    """Take metrics that are no finite number out of a run, and say so in its message.

    JSON has neither NaN nor infinity: they would make train.json unreadable.
    """
    odd = sorted(name for name, value in run.metrics.items() if not math.isfinite(value))
    if odd:
        told = ", ".join(f"{name} is {run.metrics.pop(name)}" for name in odd)
        run.message = f"{run.message}; {told}" if run.message else told


def raise_failures(training: Training) -> None:
    """Raise what the first run that is not a success means."""
    for run in training.runs:
        error = _judged(run)
        if error is not None:
            raise error


def _judged(run: Run) -> CIError | None:
    log = Path(run.log) if run.log else None
    if run.state == "TIMEOUT":
        return RunTimeoutError(
            f"the run of '{run.pipeline}' did not end in time and was stopped",
            "Raise its timeout in ci.yaml, or find what hangs in the log",
            log=log,
        )
    if run.state != "SUCCEEDED":
        what = f": {run.message}" if run.message else ""
        return RunFailedError(
            f"the run of '{run.pipeline}' ended {run.state}{what}",
            "Mend the component that failed, and run the stage again",
            log=log,
        )
    if run.unmet:
        return ExpectationError(
            f"the run of '{run.pipeline}' is not good enough: {'; '.join(run.unmet)}",
            "Mend the model, or the bounds in ci.yaml",
            log=log,
        )
    return None


def _merged(declared: Mapping[str, object], given: Mapping[str, object]) -> Json:
    return {**declared, **given}


def _suite(run: Run, expected: Mapping[str, Bound]) -> junit.Suite:
    suite = junit.Suite(f"training.{run.pipeline}")
    if run.state == "SUCCEEDED":
        suite.passed("run", run.seconds)
        for name, bound in expected.items():
            wrong = unmet(run.metrics, {name: bound})
            if wrong:
                suite.failed(name, wrong[0])
            else:
                suite.passed(name, 0.0)
    else:
        suite.failed("run", f"{run.state} {run.message}", run.seconds)
    return suite
