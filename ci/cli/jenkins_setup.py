"""The job on Jenkins: made from ci.yaml, or told as files that make it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from ci.cli.jenkins import JOB, controller, jenkins
from ci.cli.options import stage
from ci.cli.show import show, show_lines

if TYPE_CHECKING:
    from ci.workspace import Workspace

ONLY = click.option(
    "--only", multiple=True, metavar="PATTERN", help="Build only such branches and tags: main, v*."
)


@jenkins.command()
@controller
@JOB
@ONLY
@click.option("--dry-run", is_flag=True, help="Only read Jenkins; show the XML's difference.")
@click.option("--adopt", is_flag=True, help="Take over a job that this command did not make.")
@click.option(
    "--credentials",
    "bound",
    envvar="KFP_CI_CREDENTIALS",
    default="",
    metavar="IDS",
    help="What KFP_CI_CREDENTIALS names on the controller: they must be there.",
)
@click.option(
    "--wait",
    type=click.IntRange(0),
    default=120,
    show_default=True,
    metavar="SECONDS",
    help="For the first scan of the branches.",
)
def setup(
    workspace: Workspace,
    as_json: bool,
    url: str | None,
    job: str | None,
    only: tuple[str, ...],
    dry_run: bool,
    adopt: bool,
    bound: str,
    wait: int,
) -> None:
    """Make this repository's multibranch job, or bring it up to date.

    Plugins, credentials and agents are looked at before anything is changed; what an
    administrator added to the job stays.
    """
    from ci.jenkins import setup as stage

    workspace.dry_run = dry_run
    result = stage.setup(
        workspace, url=url, name=job, only=only, adopt=adopt, bound=bound, seconds=wait
    )
    show(result, stage.lines(result), as_json)
    stage.raise_problems(result)


@jenkins.command()
@stage
@JOB
@ONLY
@click.option("--jcasc", "form", flag_value="jcasc", help="As Jenkins Configuration as Code.")
@click.option("--job-dsl", "form", flag_value="job-dsl", help="As a Job DSL script.")
def seed(
    workspace: Workspace,
    as_json: bool,
    job: str | None,
    only: tuple[str, ...],
    form: Literal["jcasc", "job-dsl"] | None,
) -> None:
    """Print the job as a file for a controller that is set up from files. Asks nobody."""
    from ci.jenkins import setup as stage
    from ci_tools.jenkins import seed as seeds

    if form is None:
        raise click.UsageError("say in which form: --jcasc or --job-dsl")
    declared = stage.job(workspace, job, only)
    agents = workspace.config.jenkins.agents
    text = seeds.jcasc(declared, agents) if form == "jcasc" else seeds.job_dsl(declared)
    if as_json:
        show_lines(text.splitlines(), as_json)
    else:
        click.echo(text, nl=False)
