"""The stages, in order, and all of them. Each command: options in, a stage, its result out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from ci.cli.group import cli
from ci.cli.options import LOCK, jobs, parameters, parsed, stage
from ci.cli.show import print_json, show, show_lines

if TYPE_CHECKING:
    from ci.workspace import Workspace


@cli.command()
@stage
@click.option("--drift/--no-drift", default=True, help="Say which locked bases have moved.")
@click.option("--against", type=LOCK, metavar="LOCK", help="List what differs from that lock.")
def plan(workspace: Workspace, as_json: bool, drift: bool, against: Path | None) -> None:
    """Find the components, key them, ask which are built."""
    from ci import plan as stage

    result = stage.plan(workspace, drift=drift)
    if against is None:
        show(result, stage.lines(result), as_json)
        return
    from ci import explain as comparing

    compared = comparing.against(workspace, result, against)
    if as_json:
        print_json({**msgspec.to_builtins(result), "against": compared})
    else:
        show_lines([*stage.lines(result), *comparing.against_lines(compared)], as_json)


@cli.command()
@stage
@jobs
def build(workspace: Workspace, as_json: bool, jobs: int | None) -> None:
    """Build, test, scan and push the missing images, in parallel."""
    from ci import build as stage

    if workspace.dry_run:
        show_lines(stage.dry_run(workspace), as_json)
        return
    lock = stage.build(workspace, jobs=jobs)
    show(lock, [f"{name}  {image.reference}" for name, image in lock.components.items()], as_json)
    stage.raise_failures(lock)


@cli.command()
@stage
@click.option("--write", is_flag=True, help="Pin the repository's own templates too.")
def pin(workspace: Workspace, as_json: bool, write: bool) -> None:
    """Put the digests into the component templates, all or none."""
    from ci import pin as stage

    if workspace.dry_run:
        show_lines(stage.dry_run(workspace), as_json)
        return
    pins = stage.pin(workspace, write_sources=write)
    show(pins, [f"{path}  {image}" for path, image in pins.templates.items()], as_json)


@cli.command(name="compile")
@stage
def compile_(workspace: Workspace, as_json: bool) -> None:
    """Compile the pipelines and prove that they name only digests."""
    from ci import compile as stage

    compiled = (stage.dry_run if workspace.dry_run else stage.compile_pipelines)(workspace)
    lines = [f"{name}  {p.sha256[:12]}  {p.source}" for name, p in compiled.pipelines.items()]
    show(compiled, lines, as_json)


@cli.command()
@stage
def upload(workspace: Workspace, as_json: bool) -> None:
    """Upload the pipelines to Kubeflow, once."""
    from ci import upload as stage

    if workspace.dry_run:
        show_lines(stage.dry_run(workspace), as_json)
        return
    uploads = stage.upload(workspace)
    show(uploads, [f"{name}  {v.version}" for name, v in uploads.pipelines.items()], as_json)


@cli.command()
@stage
@click.argument("pipelines", nargs=-1, envvar="KFP_CI_PIPELINES")
@parameters
def train(
    workspace: Workspace, as_json: bool, pipelines: tuple[str, ...], parameters: tuple[str, ...]
) -> None:
    """Run pipelines as tests, with parameters.

    PIPELINES: names; by default those with 'train: true' in ci.yaml.
    """
    from ci import train as stage

    given = parsed(parameters)
    if workspace.dry_run:
        show_lines(stage.dry_run(workspace, pipelines, given), as_json)
        return
    training = stage.train(workspace, pipelines, given)
    lines = [f"{run.pipeline}  {run.state}  {run.metrics}" for run in training.runs]
    show(training, lines, as_json)
    stage.raise_failures(training)


@cli.command()
@stage
def deploy(workspace: Workspace, as_json: bool) -> None:
    """Deploy the servables to the prediction service."""
    from ci import deploy as stage

    if workspace.dry_run:
        show_lines(stage.dry_run(workspace), as_json)
        return
    deployed = stage.deploy(workspace)
    lines = [f"{s.service}  {s.url}  {s.task_definition}" for s in deployed.services.values()]
    show(deployed, lines, as_json)


@cli.command()
@stage
def release(workspace: Workspace, as_json: bool) -> None:
    """Gather all of it into one immutable release."""
    from ci import release as stage

    if workspace.dry_run:
        show_lines(stage.dry_run(workspace), as_json)
        return
    released = stage.release(workspace)
    show(released, [released.name, *(f"  {problem}" for problem in released.problems)], as_json)


@cli.command()
@stage
@jobs
@click.option("--train", "training", is_flag=True, help="Run the training tests.")
@click.option("--pipeline", "pipelines", multiple=True, help="Train this one; may be given again.")
@parameters
@click.option("--deploy", "deployment", is_flag=True, help="Deploy the servables.")
def run(
    workspace: Workspace,
    as_json: bool,
    jobs: int | None,
    training: bool,
    pipelines: tuple[str, ...],
    parameters: tuple[str, ...],
    deployment: bool,
) -> None:
    """Every stage in order, and a summary."""
    from ci import run as stage

    options: dict[str, Any] = {
        "training": training or bool(pipelines),
        "pipelines": pipelines,
        "parameters": parsed(parameters),
        "deployment": deployment,
    }
    if workspace.dry_run:
        show_lines(stage.dry_run(workspace, **options), as_json)
        return
    summary = stage.run(workspace, jobs=jobs, **options)
    if as_json:
        print_json(summary.as_json())
    else:
        summary.print(sys.stdout, workspace.console.warnings)
