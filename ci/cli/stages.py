"""The stages, in order, and all of them. Each command: options in, a stage, its result out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import msgspec

from ci.cli import options
from ci.cli.group import cli
from ci.cli.options import (
    LOCK,
    again,
    fail_fast,
    force,
    jobs,
    on_interrupt,
    parameters,
    parsed,
    quarantine,
    stage,
)
from ci.cli.show import print_json, show, show_lines

if TYPE_CHECKING:
    from ci.forcing import Force
    from ci.workspace import Workspace


@cli.command()
@stage
@click.option("--drift/--no-drift", default=True, help="Say which locked bases have moved.")
@click.option("--against", type=LOCK, metavar="LOCK", help="List what differs from that lock.")
@click.option("--shards", type=options.shards, metavar="N|auto", help="Divide it among N agents.")
@click.option(
    "--max-shards",
    type=click.IntRange(1, options.MOST_SHARDS),
    default=8,
    show_default=True,
    envvar="KFP_CI_MAX_SHARDS",
    help="At most so many with --shards auto.",
)
@click.option(
    "--first", is_flag=True, help="What others build on may be apart, for 'build --first'."
)
@click.option(
    "--timings",
    type=LOCK,
    metavar="LOCK",
    multiple=True,
    help="A lock that tells how long images take; may be given again.",
)
@force
@jobs
def plan(
    workspace: Workspace,
    as_json: bool,
    drift: bool,
    against: Path | None,
    shards: int | Literal["auto"] | None,
    max_shards: int,
    first: bool,
    timings: tuple[Path, ...],
    jobs: int | None,
    force: Force,
) -> None:
    """Find the components, key them, ask which are built."""
    from ci import dividing
    from ci import plan as stage

    division = None
    if shards is not None:
        division = dividing.Division(None if shards == "auto" else shards, max_shards, first)
    result = stage.plan(
        workspace, drift=drift, division=division, timings=timings, jobs=jobs, force=force
    )
    lines = stage.lines(result, stage.jobs_at_once(workspace, jobs), dividing.costs(workspace))
    if against is None:
        show(result, lines, as_json)
        return
    from ci import explain as comparing

    compared = comparing.against(workspace, result, against)
    if as_json:
        print_json({**msgspec.to_builtins(result), "against": compared})
    else:
        show_lines([*lines, *comparing.against_lines(compared)], as_json)


@cli.command()
@stage
@jobs
@fail_fast
@quarantine
@click.option("--shard", type=options.shard, metavar="I/N", help="Only that shard of the plan.")
@click.option("--first", is_flag=True, help="What the shards build on, if the plan says so.")
@click.option("--plan", "plans", is_flag=True, help="Plan first, instead of reading plan.json.")
@force
@click.pass_context
def build(
    context: click.Context,
    workspace: Workspace,
    as_json: bool,
    jobs: int | None,
    fail_fast: bool,
    quarantine: bool,
    shard: tuple[int, int] | None,
    first: bool,
    plans: bool,
    force: Force,
) -> None:
    """Build, test, scan and push the missing images, in parallel."""
    from ci import build as stage
    from ci import plan as planning

    if first:
        if plans or shard:
            raise click.UsageError("--first is a shard of plan.json: leave out --plan and --shard")
        shard = stage.first(workspace)
        if shard is None:
            show_lines(["No shard waits for an image that is to be built."], as_json)
            return
    if plans and shard:
        raise click.UsageError("--plan and --shard: every shard builds one and the same plan.json")
    if not plans:
        if context.get_parameter_source("forces") is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError("--force is for who plans: say --plan, or plan with --force")
        force = force._replace(names=())  # of a variable: plan.json has it
    if workspace.dry_run:
        show_lines(stage.dry_run(workspace, shard, force), as_json)
        return
    lock = stage.build(
        workspace,
        jobs=jobs,
        fail_fast=fail_fast,
        quarantine=quarantine,
        shard=shard,
        planned_by=(lambda: planning.plan(workspace, jobs=jobs, force=force)) if plans else None,
    )
    show(lock, [f"{name}  {image.reference}" for name, image in lock.components.items()], as_json)
    stage.raise_failures(lock)


@cli.command()
@stage
@click.argument("locks", nargs=-1, type=LOCK, metavar="[LOCK]...")
def merge(workspace: Workspace, as_json: bool, locks: tuple[Path, ...]) -> None:
    """Join the locks of all shards into one.

    LOCK: by default every images.lock.I-of-N.json of the build directory.
    """
    from ci import merge as stage

    lock = stage.merge(workspace, locks)
    if workspace.dry_run:
        show_lines(stage.would(lock), as_json)
        return
    show(lock, [f"{name}  {image.reference}" for name, image in lock.components.items()], as_json)
    stage.raise_failures(lock)


@cli.command()
@stage
@click.option("--write", is_flag=True, help="Pin the repository's own templates too.")
@click.option("--check", is_flag=True, help="Only say what is not pinned as the lock has it.")
def pin(workspace: Workspace, as_json: bool, write: bool, check: bool) -> None:
    """Put the digests into the component templates, all or none."""
    from ci import pin as stage

    if check:
        if write:
            raise click.UsageError("--check writes nothing: leave out --write")
        said = stage.drift(workspace)
        if as_json:
            print_json({"drift": said})
        elif not said:
            show_lines(["Everything that is pinned is as the lock has it."], as_json)
        stage.raise_drift(said)
        return
    if workspace.dry_run:
        show_lines(stage.dry_run(workspace), as_json)
        return
    pins = stage.pin(workspace, write_sources=write)
    show(pins, [f"{path}  {image}" for path, image in pins.templates.items()], as_json)


@cli.command(name="compile")
@stage
@click.option("--pin", "pins", is_flag=True, help="Pin first, instead of reading what 'pin' left.")
def compile_(workspace: Workspace, as_json: bool, pins: bool) -> None:
    """Compile the pipelines and prove that they name only digests."""
    from ci import compile as stage

    if pins and not workspace.dry_run:
        from ci import pin as pinning

        pinning.pin(workspace)
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
    show(uploads, [stage.told(name, one) for name, one in uploads.pipelines.items()], as_json)


@cli.command()
@stage
@click.argument("pipelines", nargs=-1, envvar="KFP_CI_PIPELINES", metavar="[PIPELINE[/TEST]]...")
@parameters
@again
@click.option("-j", "--jobs", type=click.IntRange(1), help="Tests at once.")
@on_interrupt
def train(
    workspace: Workspace,
    as_json: bool,
    pipelines: tuple[str, ...],
    parameters: tuple[str, ...],
    again: bool,
    jobs: int | None,
    on_interrupt: Literal["cancel", "leave"],
) -> None:
    """Run pipelines as tests, with parameters.

    PIPELINE: all its tests; PIPELINE/TEST: one. What is named always runs. By
    default those with 'train: true' in ci.yaml and those of *.test.yaml files
    that have not passed before with all that they depend on.
    """
    from ci import train as stage

    given = parsed(parameters)
    if workspace.dry_run:
        show_lines(stage.dry_run(workspace, pipelines, given, again=again), as_json)
        return
    training = stage.train(
        workspace, pipelines, given, again=again, jobs=jobs, on_interrupt=on_interrupt
    )
    lines = [
        f"{run.label}  {'UNCHANGED' if run.unchanged else run.state}  {run.metrics}"
        for run in training.runs
    ]
    show(training, lines, as_json)
    stage.raise_failures(training)


@cli.command()
@stage
@click.option("--publish/--no-publish", default=True, help="Put it into the registry and S3.")
@click.option("--strict", is_flag=True, help="No release of what could not be promoted.")
def release(workspace: Workspace, as_json: bool, publish: bool, strict: bool) -> None:
    """Gather all of it into one immutable release, sign it, publish it."""
    from ci import release as stage

    if workspace.dry_run:
        show_lines(stage.dry_run(workspace), as_json)
        return
    released = stage.release(workspace, publish=publish, strict=strict)
    show(released, [released.name, *(f"  {problem}" for problem in released.problems)], as_json)


@cli.command()
@stage
@jobs
@fail_fast
@click.option("--train", "training", is_flag=True, help="Run the training tests.")
@click.option(
    "--pipeline",
    "pipelines",
    multiple=True,
    envvar="KFP_CI_PIPELINES",
    help="Train this one; may be given again.",
)
@parameters
@again
@on_interrupt
@click.option("--deploy", "deployment", is_flag=True, help="Deploy the servables.")
@force
def run(
    workspace: Workspace,
    as_json: bool,
    jobs: int | None,
    fail_fast: bool,
    training: bool,
    pipelines: tuple[str, ...],
    parameters: tuple[str, ...],
    again: bool,
    on_interrupt: Literal["cancel", "leave"],
    deployment: bool,
    force: Force,
) -> None:
    """Every stage in order, and a summary."""
    from ci import run as stage

    asked: dict[str, Any] = {
        "training": training or bool(pipelines),
        "pipelines": pipelines,
        "parameters": parsed(parameters),
        "again": again,
        "deployment": deployment,
        "force": force,
    }
    if workspace.dry_run:
        show_lines(stage.dry_run(workspace, **asked), as_json)
        return
    summary = stage.run(
        workspace, jobs=jobs, fail_fast=fail_fast, on_interrupt=on_interrupt, **asked
    )
    if as_json:
        print_json(summary.as_json())
    else:
        summary.print(sys.stdout, workspace.console.warnings)
