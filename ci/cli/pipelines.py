"""The commands about pipelines beside the stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ci.cli.group import cli
from ci.cli.options import stage
from ci.cli.show import show

if TYPE_CHECKING:
    from ci.workspace import Workspace


@cli.group()
def pipelines() -> None:
    """What of this project is in Kubeflow, and what a change reaches."""


@pipelines.command()
@stage
@click.argument("components", nargs=-1, required=True, metavar="COMPONENT...")
def impact(workspace: Workspace, as_json: bool, components: tuple[str, ...]) -> None:
    """Say which pipelines and servables a change of components reaches.

    Compiles the pipelines, where they changed; asks nobody and writes nothing.
    """
    from ci import impact as stage

    workspace.dry_run = True
    result = stage.impact(workspace, components)
    show(result, stage.lines(result), as_json)


@pipelines.command(name="list")
@stage
def list_(workspace: Workspace, as_json: bool) -> None:
    """Show each pipeline, its latest version and where that comes from."""
    from ci import pipelines as stage

    listing = stage.list_(workspace)
    show(listing, stage.list_lines(listing), as_json)


@pipelines.command()
@stage
@click.option(
    "--closed", metavar="ID", multiple=True, help="A pull request that is over; may be given again."
)
@click.option(
    "--launched",
    metavar="DAYS",
    type=click.IntRange(1, 36_500),
    help="Instead: what you launched by hand, and its files here, once it is so many days old.",
)
def prune(
    workspace: Workspace, as_json: bool, closed: tuple[str, ...], launched: int | None
) -> None:
    """Delete the pipelines of branches that are gone.

    With --dry-run Kubeflow and the repository are asked, and nothing is deleted.
    """
    from ci import pipelines as stage

    if launched is None:
        pruned = stage.prune(workspace, closed)
    elif closed:
        raise click.UsageError("--closed is of branches, which --launched leaves alone")
    else:
        pruned = stage.prune_launched(workspace, launched)
    show(pruned, stage.prune_lines(pruned), as_json)
