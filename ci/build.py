"""Stage `build`: build, test, scan and push what is missing, in parallel.

An image starts as soon as the images it is built from are in the registry. A
failure stops neither the others nor their results: the lock names what
succeeded and what failed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter
from pathlib import Path

from ci import plan as planning
from ci.console import counted
from ci.image import ImageWork, Outcome, Session
from ci.workspace import Workspace
from ci_tools import process, storage
from ci_tools.components import changes, keys
from ci_tools.documents import FailedImage, Ingredients, Lock, LockedImage, Plan, PlannedComponent
from ci_tools.errors import MissingInputError, error_for
from ci_tools.images import buildx
from ci_tools.images.engine import Engine
from ci_tools.images.registry import Registry
from ci_tools.report import junit
from ci_tools.scanner.trivy import Trivy

FILE = "images.lock.json"
JUNIT = Path("reports") / "images.xml"


def build(workspace: Workspace, *, jobs: int | None = None) -> Lock:
    """Bring every planned image into the registry, each with its verdict.

    Reads plan.json; writes images.lock.json, and for each image a log, Trivy's
    report, an SBOM and a JUnit suite. The lock is written whatever fails.

    Returns the lock; `raise_failures` tells what its failures mean.
    Raises MissingInputError when the repository changed since the plan;
    EngineError, RegistryError or ToolError before anything starts.
    """
    started = time.monotonic()
    plan = workspace.read(planning.FILE, Plan, made_by="plan")
    ingredients = _check_unchanged(workspace, plan)
    jobs = jobs or workspace.config.build.jobs or os.cpu_count() or 2
    session = _session(workspace, jobs, ingredients)
    # A stage that is run again finds what its first run pushed.
    planning.ask(session.registry, [one for one in plan.components if one.digest is None])
    if session.trivy.database_at_hand().due and session.trivy.database.problem:
        # Asked here, so that verdicts expire though nothing needs building.
        workspace.console.warn(session.trivy.database.problem)
    planned = {component.name: component for component in plan.components}
    work = {name: ImageWork(session, component) for name, component in planned.items()}
    if any(image.needs_engine() for image in work.values()):
        buildx.check()
        session.engine = Engine.connect()
        if session.trivy.database.problem:
            workspace.console.event(session.trivy.database.problem)
    outcomes: dict[str, Outcome] = {}
    try:
        with workspace.console.live():
            _schedule(planned, work, outcomes, jobs)
    finally:
        lock = Lock(
            project=plan.project,
            environment=workspace.environment_name,
            source=plan.source,
            components={
                name: outcome.image
                for name, outcome in outcomes.items()
                if isinstance(outcome.image, LockedImage)
            },
            failed={
                name: outcome.image
                for name, outcome in outcomes.items()
                if isinstance(outcome.image, FailedImage)
            },
            seconds=round(time.monotonic() - started, 3),
        )
        workspace.write(FILE, lock)
        junit.write(workspace.build / JUNIT, [outcomes[name].suite for name in sorted(outcomes)])
    _warn_of_incomplete(workspace, lock)
    return lock


def dry_run(workspace: Workspace) -> list[str]:
    """What `build` would do, a line each. Asks nobody."""
    plan = planning.plan(workspace)
    return [_would(workspace, component) for component in plan.components]


def _would(workspace: Workspace, component: PlannedComponent) -> str:
    built_on = [*component.parents, *component.bases]
    tests = workspace.components[component.name].test or component.test_target
    return (
        f"{component.name}: would build {component.dockerfile}"
        + (f" on {', '.join(built_on)}" if built_on else "")
        + (", test it" if tests else "")
        + f", scan it and push {component.repository}:{component.key}"
        + (" (provisional)" if component.provisional else "")
        + ", unless the registry has it"
    )


def raise_failures(lock: Lock) -> None:
    """Raise the error of the earliest step that failed, naming every failed image."""
    if not lock.failed:
        return
    name, first = min(lock.failed.items(), key=lambda item: (item[1].exit_code, item[0]))
    others = sorted(set(lock.failed) - {name})
    also = [f"{other} ({lock.failed[other].step})" for other in others]
    raise error_for(first.exit_code)(
        f"{first.message}; also failed: {', '.join(also)}" if also else first.message,
        first.todo,
        log=Path(first.log) if first.log else None,
    )


def _warn_of_incomplete(workspace: Workspace, lock: Lock) -> None:
    incomplete: dict[str, list[str]] = {}
    for name, image in sorted(lock.components.items()):
        if image.verdict.status == "incomplete":
            incomplete.setdefault(image.verdict.reason, []).append(name)
    for reason, names in incomplete.items():
        workspace.console.warn(
            f"INCOMPLETE scans, {counted(len(names), 'image')} checked for secrets only: {reason}"
        )


def _session(workspace: Workspace, jobs: int, ingredients: Mapping[str, Ingredients]) -> Session:
    """What all images of one run share."""
    registry = Registry.of(workspace.registry)
    registry.ping()
    database = workspace.config.scan.database
    return Session(
        workspace=workspace,
        registry=registry,
        trivy=Trivy(workspace.home / "trivy", workers=jobs, repository=database),
        previous=storage.read_if_there(workspace.build / FILE, Lock, made_by="build"),
        ingredients=ingredients,
    )


def _check_unchanged(workspace: Workspace, plan: Plan) -> dict[str, Ingredients]:
    """A plan of other sources would give images a key that is not theirs.

    Returns what each key is made of, as the lock keeps it.
    """
    bases = {
        reference: image.partition("@")[2]
        for component in plan.components
        for reference, image in component.bases.items()
        if image
    }
    now: dict[str, str] = {}
    made_of: dict[str, Ingredients] = {}
    for one in keys.each(workspace.repository, workspace.components, bases):
        now[one.name], made_of[one.name] = one.key, changes.recorded(one.ingredients)
    planned = {component.name: component.key for component in plan.components}
    changed = sorted(name for name in {*now, *planned} if now.get(name) != planned.get(name))
    if changed or plan.environment != workspace.environment_name:
        what = ", ".join(changed) or f"planned for environment '{plan.environment}'"
        raise MissingInputError(
            f"{planning.FILE} is out of date ({what})", "Run 'python -m ci plan' again"
        )
    return made_of


def _schedule(
    planned: dict[str, PlannedComponent],
    work: dict[str, ImageWork],
    outcomes: dict[str, Outcome],
    jobs: int,
) -> None:
    """Run every image's work, parents before children, `jobs` at once."""
    order = TopologicalSorter({name: component.parents for name, component in planned.items()})
    order.prepare()
    running: dict[Future[Outcome], str] = {}
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        try:
            while order.is_active():
                for name in sorted(order.get_ready()):
                    parents = {parent: outcomes[parent] for parent in planned[name].parents}
                    running[pool.submit(work[name].run, parents)] = name
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    name = running.pop(future)
                    outcomes[name] = future.result()
                    order.done(name)
        except BaseException:  # an interrupt: stop the children, keep what is done
            pool.shutdown(wait=False, cancel_futures=True)
            process.stop_all()
            raise
