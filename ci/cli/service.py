"""The prediction service: deploying to it, and what it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from ci.cli.group import cli
from ci.cli.options import stage
from ci.cli.show import show, show_lines
from ci_tools.printable import printable

if TYPE_CHECKING:
    from ci.workspace import Workspace


@cli.command()
@stage
@click.option("--diff", "differs", is_flag=True, help="Only say what runs otherwise than declared.")
@click.option("--verify", is_flag=True, help="Only see whether all is there that it needs.")
def deploy(workspace: Workspace, as_json: bool, differs: bool, verify: bool) -> None:
    """Deploy the servables to the prediction service."""
    from ci import deploy as stage

    if differs and verify:
        raise click.UsageError("--diff and --verify: ask one thing at a time")
    if differs or verify:
        if workspace.dry_run:
            raise click.UsageError("--dry-run asks nobody: leave it out, nothing is changed anyway")
        _ask(workspace, as_json, verify=verify)
        return
    if workspace.dry_run:
        show_lines(stage.dry_run(workspace), as_json)
        return
    deployed = stage.deploy(workspace)
    lines = [f"{s.service}  {s.url}  {s.task_definition}" for s in deployed.services.values()]
    show(deployed, lines, as_json)
    stage.raise_failures(deployed)


def _ask(workspace: Workspace, as_json: bool, *, verify: bool) -> None:
    from ci import deploy as stage

    if verify:
        checked = stage.verify(workspace)
        show(checked, stage.checked_lines(checked), as_json)
        stage.raise_problems(checked)
    else:
        drift = stage.diff(workspace)
        show(drift, stage.drift_lines(drift), as_json)
        stage.raise_drift(drift)


@cli.group()
def service() -> None:
    """What the prediction service runs, its history, its logs, and the way back."""


NAME = click.argument("name", required=False, metavar="[SERVICE]")


@service.command()
@stage
@NAME
def status(workspace: Workspace, as_json: bool, name: str | None) -> None:
    """Show what each service runs: is it verified, are its tasks there?"""
    from ci import service as stage

    result = stage.status(workspace, name)
    show(result, stage.status_lines(result), as_json)


@service.command()
@stage
@NAME
def history(workspace: Workspace, as_json: bool, name: str | None) -> None:
    """Show the revisions of a service, and which of them were verified."""
    from ci import service as stage

    result = stage.history(workspace, name)
    show(result, stage.history_lines(result), as_json)


@service.command()
@stage
@NAME
@click.option(
    "--to",
    metavar="REVISION",
    help="A revision, release or commit; default: the one verified last before.",
)
def rollback(workspace: Workspace, as_json: bool, name: str | None, to: str | None) -> None:
    """Let an older revision serve again.

    It is waited for and smoke-tested like any other; when that fails, what ran
    before serves again.
    """
    from ci import service as stage

    if workspace.dry_run:
        show_lines(stage.rollback_dry_run(workspace, name, to), as_json)
        return
    revision = stage.rollback(workspace, name, to)
    show(revision, [f"{revision.service}  {revision.url}  {revision.task_definition}"], as_json)


@service.command()
@stage
@NAME
@click.option("-f", "--follow", is_flag=True, help="Go on until interrupted.")
@click.option("--since", default="10m", show_default=True, help="How far back: 90s, 10m, 2h, 1d.")
@click.option("--filter", "pattern", help="CloudWatch's filter pattern; here a part of the line.")
@click.option("--container", help="Only this container's.")
def logs(
    workspace: Workspace,
    as_json: bool,
    name: str | None,
    follow: bool,
    since: str,
    pattern: str | None,
    container: str | None,
) -> None:
    """Show what the containers of a service wrote."""
    from ci import service as stage

    for line in stage.logs(workspace, name, since, pattern, container, follow=follow):
        if as_json:
            click.echo(msgspec.json.encode(line))  # an object a line, as they come
        else:
            click.echo(f"{line.at}  {line.container}  {printable(line.message, keep=chr(9))}")
