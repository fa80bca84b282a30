"""Jenkins: builds that are started, followed and looked into from here."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ci.cli.group import cli
from ci.cli.options import repository
from ci.cli.show import show, show_lines
from ci.console import Console

if TYPE_CHECKING:
    from ci.jenkins.target import Named
    from ci.workspace import Workspace

BUILD = click.argument("number", required=False, type=click.IntRange(1), metavar="[BUILD]")
FOLLOW = click.option("-f", "--follow", is_flag=True, help="Show its console until it ends.")
ON_INTERRUPT = click.option(
    "--on-interrupt",
    type=click.Choice(["ask", "detach", "abort"]),
    default="ask",
    show_default=True,
    help="What Ctrl-C does to a build that is followed; without a terminal 'ask' detaches.",
)
JOB = click.option("--job", metavar="PATH", help="Full name of the job. Default: of ci.yaml.")
BRANCH = click.option("-b", "--branch", help="Of a multibranch job. Default: the current one.")


@cli.group()
def jenkins() -> None:
    """Jenkins: its job, its builds, and what the Jenkinsfile asks."""


def controller(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that asks a controller; it gets a Workspace."""

    @click.option(
        "--url", metavar="URL", help="The controller. Default: JENKINS_URL, else of ci.yaml."
    )
    @repository
    @click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
    @click.option("-q", "--quiet", is_flag=True, help="Only warnings, errors and the result.")
    @functools.wraps(function)
    def command(*, repo: Path, quiet: bool, **options: Any) -> None:
        from ci.workspace import Workspace

        workspace = Workspace(
            repository=repo.resolve(),
            build=(repo / "build").resolve(),
            console=Console(quiet=quiet),
        )
        function(workspace, **options)

    return command


def of_job(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that asks for a job; it gets what was named."""

    @controller
    @JOB
    @BRANCH
    @functools.wraps(function)
    def command(
        workspace: Workspace,
        *,
        url: str | None,
        job: str | None,
        branch: str | None,
        **options: Any,
    ) -> None:
        from ci.jenkins.target import Named

        function(workspace, Named(url, job, branch), **options)

    return command


def writer(as_json: bool) -> tuple[Callable[[str], None], bool]:
    """Where a console's lines go, and whether they keep their colours: beside a
    document they are no result.
    """
    stream = sys.stderr if as_json else sys.stdout

    def write(line: str) -> None:
        click.echo(line, file=stream)

    return write, stream.isatty()


@jenkins.command()
@of_job
@click.option(
    "-p", "--parameter", "parameters", multiple=True, metavar="NAME=VALUE",
    help="A parameter of the job; may be given again.",
)  # fmt: skip
@FOLLOW
@ON_INTERRUPT
@click.option(
    "--queue-timeout",
    type=click.IntRange(1),
    default=3600,
    show_default=True,
    metavar="SECONDS",
    help="How long it may wait in the queue.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be asked; ask nobody.")
def build(
    workspace: Workspace,
    named: Named,
    as_json: bool,
    parameters: tuple[str, ...],
    follow: bool,
    on_interrupt: Any,
    queue_timeout: int,
    dry_run: bool,
) -> None:
    """Ask for a build of a branch.

    With --follow the exit code is the build's.
    """
    from ci.jenkins import follow as following
    from ci.jenkins import looking, start
    from ci.jenkins.target import target

    values = start.given(parameters)
    if dry_run:
        show_lines(start.dry_run(workspace, named, values), as_json)
        return
    found = target(workspace, named)
    begun = start.start(
        found, values, workspace.console, patience=queue_timeout, on_interrupt=on_interrupt
    )
    if not follow:
        result = looking.status(found, begun.number)
        show(result, [looking.summed(result)], as_json)
        return
    write, colours = writer(as_json)
    result = following.follow(
        found, begun.number, write, workspace.console,
        colours=colours, from_start=True, on_interrupt=on_interrupt,
    )  # fmt: skip
    show(result, [looking.summed(result)], as_json)
    following.raise_result(result, named)


@jenkins.command()
@of_job
@BUILD
def status(workspace: Workspace, named: Named, as_json: bool, number: int | None) -> None:
    """Show a build, the newest by default.

    With its stages, where Jenkins has the stage-view plugin.
    """
    from ci.jenkins import looking
    from ci.jenkins.target import target

    result = looking.status(target(workspace, named), number)
    show(result, looking.status_lines(result), as_json)


@jenkins.command()
@of_job
@BUILD
@FOLLOW
@ON_INTERRUPT
def logs(
    workspace: Workspace,
    named: Named,
    as_json: bool,
    number: int | None,
    follow: bool,
    on_interrupt: Any,
) -> None:
    """Show the console of a build, the newest by default.

    With --follow until it ends; the exit code is the build's then.
    """
    from ci.jenkins import follow as following
    from ci.jenkins import looking
    from ci.jenkins.target import target

    write, colours = writer(as_json)
    found = target(workspace, named)
    if not follow:
        looking.logs(found, number, write, colours=colours)
        if as_json:
            show(looking.status(found, number), [], as_json)
        return
    number = number or looking.status(found, None).number
    result = following.follow(
        found, number, write, workspace.console,
        colours=colours, from_start=False, on_interrupt=on_interrupt,
    )  # fmt: skip
    show(result, [looking.summed(result)], as_json)
    following.raise_result(result, named)


@jenkins.command()
@of_job
@BUILD
@click.option(
    "--to",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Default: REPO/build/jenkins/artifacts/BUILD.",
)
def artifacts(
    workspace: Workspace, named: Named, as_json: bool, number: int | None, directory: Path | None
) -> None:
    """Fetch what a build archived: all of it, or nothing."""
    from ci.jenkins import looking
    from ci.jenkins.target import target

    found = target(workspace, named)
    fetched = looking.artifacts(found, number, directory, workspace.build, workspace.console)
    show(fetched, looking.artifact_lines(fetched), as_json)


@jenkins.command()
@controller
@click.argument("file", required=False, type=click.Path(path_type=Path), metavar="[FILE]")
def lint(workspace: Workspace, url: str | None, as_json: bool, file: Path | None) -> None:
    """Let Jenkins check the Jenkinsfile, or another."""
    from ci.jenkins import looking

    linted = looking.lint(workspace, url, file)
    show(linted, looking.lint_lines(linted), as_json)
    looking.raise_errors(linted)
