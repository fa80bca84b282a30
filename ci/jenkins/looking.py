"""What a controller tells of builds that are there: status, console, artifacts, and lint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ci.jenkins import target as targets
from ci.jenkins.target import Target
from ci_tools.errors import JenkinsfileError, MissingInputError
from ci_tools.printable import printable

if TYPE_CHECKING:
    from ci.console import Console
    from ci.workspace import Workspace
    from ci_tools.jenkins.artifacts import Artifact
    from ci_tools.jenkins.builds import Build

JENKINSFILE = "Jenkinsfile"
_MOST = 200_000  # bytes of a Jenkinsfile; Jenkins takes no larger form


class Fetched(msgspec.Struct, kw_only=True):
    """What was fetched of a build, and where it is."""

    job: str
    number: int
    directory: str
    artifacts: list[Artifact]


class Linted(msgspec.Struct, kw_only=True):
    file: str
    errors: list[str]


def status(target: Target, number: int | None) -> Build:
    """A build as it is now, the newest where no number is given."""
    from ci_tools.jenkins import builds

    build = builds.look(target.connection, target.job, number)
    build.stages = builds.stages(target.connection, target.job, build.number)
    return build


def status_lines(build: Build) -> list[str]:
    lines = [summed(build)]
    if build.description:
        lines.append(f"  {printable(build.description)}")
    lines += [f"  {printable(cause)}" for cause in build.causes]
    lines += [f"  {printable(name)}={printable(value)}" for name, value in build.parameters.items()]
    width = max((len(stage.name) for stage in build.stages), default=0)
    lines += [
        f"  {printable(stage.name):{width}}  {printable(stage.status):11}  {stage.seconds:.0f} s"
        for stage in build.stages
    ]
    return lines


def summed(build: Build) -> str:
    """`team/ml/main #7  SUCCESS  200 s  https://...`"""
    name = (
        f"#{build.number}" if build.name == f"#{build.number}" else f"#{build.number} {build.name}"
    )
    took = f"  {build.seconds:.0f} s" if build.ended else ""
    return printable(f"{build.job} {name}  {build.result}{took}  {build.url}")


def logs(
    target: Target, number: int | None, write: Callable[[str], None], *, colours: bool
) -> None:
    """Write the console of a build, as far as there is one by now."""
    from ci_tools.jenkins import console as consoles

    if number is None:
        number = status(target, None).number
    for lines in consoles.follow(target.connection, target.job, number, to_the_end=False):
        for line in lines:
            write(consoles.harmless(line, colours=colours))


def artifacts(
    target: Target, number: int | None, directory: Path | None, build: Path, console: Console
) -> Fetched:
    """Fetch a build's artifacts. directory: by default one of the build's in `build`."""
    from ci_tools.jenkins import artifacts as files
    from ci_tools.jenkins import builds

    seen = builds.look(target.connection, target.job, number)
    if not seen.ended:
        console.warn(f"build {seen.number} still runs: these are what it has archived by now")
    place = directory or build / "jenkins" / "artifacts" / str(seen.number)
    fetched = files.fetch(target.connection, target.job, seen.number, place, console.event)
    return Fetched(job=target.job.name, number=seen.number, directory=str(place), artifacts=fetched)


def artifact_lines(fetched: Fetched) -> list[str]:
    if not fetched.artifacts:
        return [f"build {fetched.number} of {fetched.job} has archived nothing"]
    return [
        f"{printable(one.path)}  {one.size}  {'as recorded' if one.checked else 'not recorded'}"
        for one in fetched.artifacts
    ] + [f"in {fetched.directory}"]


def lint(workspace: Workspace, url: str | None, file: Path | None) -> Linted:
    """Let the controller check a Jenkinsfile, by default the repository's.

    Raises MissingInputError for one that cannot be read, JenkinsSetupError.
    """
    from ci_tools.jenkins import linter

    path = file or workspace.repository / JENKINSFILE
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise MissingInputError(
            f"{path} cannot be read ({error.strerror})", "Name the Jenkinsfile"
        ) from error
    except UnicodeDecodeError as error:
        raise JenkinsfileError(f"{path} is not UTF-8 text", "Save it as UTF-8") from error
    if len(text.encode()) > _MOST:
        raise JenkinsfileError(f"{path} is larger than {_MOST} bytes", "Move work out of it")
    if not text.strip():
        raise JenkinsfileError(f"{path} is empty", "Write a Pipeline into it")
    connection = targets.connect(workspace, url)
    return Linted(file=str(path), errors=linter.errors(connection, text))


def lint_lines(linted: Linted) -> list[str]:
    if not linted.errors:
        return [f"{linted.file}: valid, says Jenkins"]
    return [f"{linted.file}: {printable(error, keep=chr(10))}" for error in linted.errors]


def raise_errors(linted: Linted) -> None:
    """Raises JenkinsfileError where the controller found some."""
    if linted.errors:
        raise JenkinsfileError(
            f"Jenkins refuses {linted.file} ({len(linted.errors)} errors)",
            "Mend what is listed above",
        )
