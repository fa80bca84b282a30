"""`run`: every stage in order, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ci import build, compile, deploy, forecast, pin, plan, release, train, upload
from ci.console import counted
from ci.forcing import Force
from ci.summary import Summary
from ci.workspace import Workspace


def run(
    workspace: Workspace,
    *,
    jobs: int | None = None,
    fail_fast: bool = False,
    training: bool = False,
    pipelines: Sequence[str] = (),
    parameters: Mapping[str, object] | None = None,
    again: bool = False,
    on_interrupt: train.OnInterrupt = "cancel",
    deployment: bool = False,
    force: Force | None = None,
) -> Summary:
    """All stages. A stage that fails ends the run; what the earlier ones made stays.

    fail_fast:  the first image that fails ends the build.
    training:   also run the training tests: `pipelines`, or all; see `train.train`.
    deployment: also deploy the servables.
    force:      what is built again though the registry has it; see `ci.forcing`.

    Raises what the stages raise.
    """
    console = workspace.console
    console.stage("plan")
    planned = plan.plan(workspace, jobs=jobs, force=force)
    missing = [component.name for component in planned.components if component.state == "missing"]
    console.event(
        f"{counted(len(planned.components), 'component')}, "
        + forecast.summary(planned, plan.jobs_at_once(workspace, jobs))
        + (f": {', '.join(missing)}" if missing else "")
    )
    console.stage("build")
    lock = build.build(workspace, jobs=jobs, fail_fast=fail_fast, planned_by=lambda: planned)
    build.raise_failures(lock)
    console.stage("pin")
    pins = pin.pin(workspace)
    console.event(f"{counted(len(pins.templates), 'template')} pinned")
    console.stage("compile")
    compiled = compile.compile_pipelines(workspace)
    console.event(
        f"{counted(len(compiled.pipelines), 'pipeline')} with no image but this build's, by digest"
    )
    console.stage("upload")
    uploads = upload.upload(workspace)
    runs = None
    if training:
        console.stage("train")
        runs = train.train(workspace, pipelines, parameters, again=again, on_interrupt=on_interrupt)
        train.raise_failures(runs)
    deployed = None
    if deployment:
        console.stage("deploy")
        deployed = deploy.deploy(workspace)
        deploy.raise_failures(deployed)
    console.stage("release")
    released = release.release(workspace)
    return Summary(lock, uploads, runs, deployed, released)


def dry_run(
    workspace: Workspace,
    *,
    training: bool,
    pipelines: Sequence[str],
    parameters: Mapping[str, object],
    again: bool,
    deployment: bool,
    force: Force | None = None,
) -> list[str]:
    """What `run` would do, a line each. Asks nobody, writes nothing."""
    told = (
        build.dry_run(workspace, force=force) + pin.dry_run(workspace) + upload.dry_run(workspace)
    )
    if training:
        told += train.dry_run(workspace, pipelines, parameters, again=again)
    if deployment:
        told += deploy.dry_run(workspace)
    return told + release.dry_run(workspace)
