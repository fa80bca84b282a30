"""Ask a controller for a build, and wait until it has a number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from ci.jenkins import interruption
from ci.jenkins.target import Named, Target, address, job_name
from ci_tools.config_errors import did_you_mean
from ci_tools.errors import ConfigError, InterruptedRunError, JenkinsBuildAbortedError

if TYPE_CHECKING:
    from ci.console import Console
    from ci.workspace import Workspace

_LONGEST_NAME = 200


class Begun(NamedTuple):
    """item: None where only the build was found, after an answer was lost."""

    number: int
    item: int | None
    url: str


def given(pairs: Iterable[str]) -> dict[str, str]:
    """NAME=VALUE pairs; a value is a text, whatever it holds. Raises ConfigError."""
    values: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip() or len(name) > _LONGEST_NAME:
            raise ConfigError(f"'{pair[:60]}' is no parameter", "Write it as -p NAME=VALUE")
        values[name.strip()] = value
    return values


def start(
    target: Target,
    parameters: Mapping[str, str],
    console: Console,
    *,
    patience: float,
    on_interrupt: interruption.Choice,
) -> Begun:
    """A build of the job, out of the queue. patience: seconds that it may wait there.

    Raises ConfigError for parameters that Jenkins cannot take; JenkinsQueueError;
    InterruptedRunError on Ctrl-C, and JenkinsBuildAbortedError when that aborts.
    """
    from ci_tools.jenkins import queue

    connection, job = target.connection, target.job
    check(target, parameters, console)
    try:
        asked = queue.request(connection, job, parameters, console.event)
    except KeyboardInterrupt as error:
        raise InterruptedRunError(
            f"interrupted while a build of '{job.name}' was being asked for: it may be queued",
            f"Look with 'python -m ci jenkins status{target.named.options()}'",
        ) from error
    if asked.item is not None:
        console.event(f"queue item {asked.item} of {job.name}")
    if asked.joined:
        console.event("an equal build waited already: Jenkins makes one of the two")
    number = asked.number
    if number is None and asked.item is not None:
        number = _waited(target, asked.item, console, patience, on_interrupt)
    assert number is not None  # a request has an item or a number
    url = connection.at(f"{job.path}/{number}/")
    console.event(f"build {number} of {job.name}: {url}")
    return Begun(number, asked.item, url)


def check(target: Target, parameters: Mapping[str, str], console: Console) -> None:
    """Warn of parameters that the job does not know: Jenkins drops them without a word.

    Raises ConfigError where none are known.
    """
    job = target.job
    if not parameters or job.parameters:
        for name in parameters:
            if name not in job.parameters:
                near = did_you_mean(name, list(job.parameters))
                console.warn(
                    f"'{job.name}' knows no parameter '{name}', and Jenkins drops it. "
                    + (f"{near}?" if near else f"It knows: {', '.join(job.parameters)}")
                )
        return
    if job.built:
        raise ConfigError(
            f"'{job.name}' takes no parameters", "Leave out -p, or declare them in the Jenkinsfile"
        )
    raise ConfigError(
        f"'{job.name}' was never built: Jenkins learns its parameters from the Jenkinsfile "
        "in the first build",
        "Build it once without -p; it takes parameters from then on",
    )


def dry_run(workspace: Workspace, named: Named, parameters: Mapping[str, str]) -> list[str]:
    """What `start` would ask, a line each. Asks nobody."""
    from ci_tools.jenkins import address as addresses

    where, name = address(workspace, named.url), job_name(workspace, named.job)
    path = addresses.job_path(name)
    branch = named.branch or workspace.source.branch
    of = f" (or its branch '{branch}', job '{addresses.branch_job(branch)}')" if branch else ""
    lines = [f"would ask for a build of '{name}'{of} at {where}/{path}/"]
    return lines + [f"  with {name}={value!r}" for name, value in parameters.items()]


def _waited(
    target: Target, item: int, console: Console, patience: float, on_interrupt: interruption.Choice
) -> int:
    from ci_tools.jenkins import builds, queue

    connection, job = target.connection, target.job
    try:
        return queue.wait(connection, job, item, console.event, patience=patience)
    except KeyboardInterrupt as error:
        with interruption.again():
            if interruption.decide(on_interrupt, f"queue item {item} of {job.name}") == "abort":
                number = queue.cancel(connection, job, item)
                if number is not None:
                    builds.stop(connection, job, number)
                raise JenkinsBuildAbortedError(
                    f"queue item {item} of '{job.name}' was cancelled"
                    + (f"; it was build {number} by then, which was told to end" if number else ""),
                    "Ask for the build anew when it is wanted",
                ) from error
        raise InterruptedRunError(
            f"detached: queue item {item} of '{job.name}' stays in the queue",
            f"Look with 'python -m ci jenkins status{target.named.options()}'",
        ) from error
