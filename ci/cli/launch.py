"""The command of people who change a pipeline and want to see it run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ci.cli.group import cli
from ci.cli.options import parameters, parsed, stage
from ci.cli.show import show, show_lines

if TYPE_CHECKING:
    from ci.workspace import Workspace


@cli.command()
@stage
@click.argument("pipeline")
@parameters
@click.option(
    "--image",
    "images",
    multiple=True,
    metavar="COMPONENT=IMAGE",
    help="Use this image instead of CI's; the run is then unpinned. May be given again.",
)
@click.option(
    "--build",
    "builds",
    multiple=True,
    metavar="COMPONENT",
    help="Build it here and use that; the run is then unpinned. May be given again.",
)
@click.option("--commit", metavar="SHA", help="Use the images that CI built for this commit.")
@click.option(
    "--wait/--no-wait", default=True, help="Wait for the run's end, or leave it to the server."
)
def launch(
    workspace: Workspace,
    as_json: bool,
    pipeline: str,
    parameters: tuple[str, ...],
    images: tuple[str, ...],
    builds: tuple[str, ...],
    commit: str | None,
    wait: bool,
) -> None:
    """Run one pipeline now, with the images that CI built.

    PIPELINE: its name. The images are those of this commit, else of its merge base
    with main. Nothing that comes of it can be released.
    """
    from ci import launch as stage
    from ci import train as training
    from ci_tools.images import overrides

    given, named = parsed(parameters), overrides.parsed(images)
    if workspace.dry_run:
        lines = stage.dry_run(
            workspace, pipeline, parameters=given, images=named, builds=builds, commit=commit
        )
        show_lines(lines, as_json)
        return
    launched = stage.launch(
        workspace,
        pipeline,
        parameters=given,
        images=named,
        builds=dict.fromkeys(builds),
        commit=commit,
        wait=wait,
    )
    lines = [f"{run.pipeline}  {run.state}  {run.metrics}" for run in launched.training.runs]
    show(launched.training, [*lines, launched.url, str(launched.folder)], as_json)
    training.raise_failures(launched.training)
