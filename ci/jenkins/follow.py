"""Follow a build to its end: its console, its stages, its result."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ci.jenkins import interruption
from ci.jenkins.target import Named, Target
from ci_tools.errors import (
    CIError,
    InterruptedRunError,
    JenkinsBuildAbortedError,
    JenkinsBuildFailedError,
    JenkinsBuildUnstableError,
    JenkinsError,
)
from ci_tools.printable import printable

if TYPE_CHECKING:
    from ci.console import Console
    from ci_tools.jenkins.builds import Build
    from ci_tools.jenkins.marks import Mark

_ENDING = 120.0  # seconds that an aborted build, or one whose console has ended, may take
_LOOK = 1.0  # seconds
_ENDS: dict[str, tuple[type[CIError], str]] = {
    "FAILURE": (JenkinsBuildFailedError, "failed"),
    "UNSTABLE": (JenkinsBuildUnstableError, "is unstable: tests of it failed"),
    "ABORTED": (JenkinsBuildAbortedError, "was aborted"),
    "NOT_BUILT": (JenkinsBuildAbortedError, "was not built"),
}


def follow(
    target: Target,
    number: int,
    write: Callable[[str], None],
    console: Console,
    *,
    colours: bool,
    from_start: bool,
    on_interrupt: interruption.Choice,
) -> Build:
    """A build once it has ended; `raise_result` tells what that means.

    write: is given each line of its console, and a line for each stage that begins or
    ends. Lines of Jenkins' own (`[Pipeline]`) are left out: stages say the same.
    from_start: it began just now, so that times are right from the first line on.

    Raises InterruptedRunError on Ctrl-C, unless that aborts the build.
    """
    try:
        _written(target, number, write, colours=colours, live=from_start)
        return ended(target, number)
    except KeyboardInterrupt as error:
        what = f"build {number} of {target.job.name}"
        with interruption.again():
            if interruption.decide(on_interrupt, what) == "abort":
                return _aborted(target, number, console)
        raise InterruptedRunError(
            f"detached: {what} goes on at {target.connection.at(target.job.path)}/{number}/",
            f"Go on with 'python -m ci jenkins logs {number} --follow{target.named.options()}'",
        ) from error


def ended(target: Target, number: int) -> Build:
    """The build, after its console has ended: its result comes a moment later.

    Raises JenkinsError where it does not.
    """
    from ci_tools.jenkins import builds

    until = time.monotonic() + _ENDING
    while True:
        build = builds.look(target.connection, target.job, number)
        if build.ended:
            build.stages = builds.stages(target.connection, target.job, number)
            return build
        if time.monotonic() >= until:
            raise JenkinsError(
                f"build {number} of '{target.job.name}' does not end",
                f"Look at {build.url}",
            )
        time.sleep(_LOOK)


def raise_result(build: Build, named: Named) -> None:
    """Raises the error that a build's result is; none for SUCCESS.

    named: how a person came to its job, for the advice.
    """
    if build.result == "SUCCESS":
        return
    kind, said = _ENDS.get(build.result, (JenkinsBuildFailedError, f"ended as {build.result}"))
    raise kind(
        f"build {build.number} of '{build.job}' {said}",
        f"Read its console ('python -m ci jenkins logs {build.number}{named.options()}') and "
        f"its tests at {build.url}",
    )


def _written(
    target: Target, number: int, write: Callable[[str], None], *, colours: bool, live: bool
) -> None:
    from ci_tools.jenkins import console as consoles
    from ci_tools.jenkins.marks import Marks

    marks = Marks()
    for lines in consoles.follow(target.connection, target.job, number, to_the_end=True):
        live = live or not lines  # from here on lines are new as they come
        for line in lines:
            plain = consoles.harmless(line)
            for mark in marks.line(plain, time.time() if live else None):
                write(marked(mark))
            if not pipeline_line(plain):
                write(consoles.harmless(line, colours=colours))


def pipeline_line(line: str) -> bool:
    """Whether Jenkins wrote it to say where the Pipeline is."""
    return line.startswith("[Pipeline] ") or "Z] [Pipeline] " in line[:40]


def marked(mark: Mark) -> str:
    """`── Plan`, and `── Plan ended after 12 s`."""
    name = printable(mark.name)
    if mark.began:
        return f"── {name}"
    if mark.skipped:
        return f"── {name} was skipped"
    return f"── {name} ended" + ("" if mark.seconds is None else f" after {mark.seconds:.0f} s")


def _aborted(target: Target, number: int, console: Console) -> Build:
    from ci_tools.jenkins import builds

    console.event(f"aborting build {number} of {target.job.name}, and waiting for its end")
    builds.stop(target.connection, target.job, number)
    return ended(target, number)
