"""Stage `build`: build, test, scan and push what is missing, in parallel.

An image starts as soon as the images it is built from are there. A failure
stops neither the others nor their results: the lock names what succeeded and
what failed.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

from ci import logs, reports, schedule, verdicts
from ci import plan as planning
from ci import publish as publishing
from ci import session as sessions
from ci.built import FILE as FILE
from ci.built import raise_failures as raise_failures
from ci.console import counted
from ci.forcing import Force
from ci.image import ImageWork
from ci.schedule import Name, Task
from ci.session import Session
from ci.workspace import Workspace
from ci_tools import durations, process
from ci_tools.components import graph, keys, shards
from ci_tools.documents import FailedImage, Lock, LockedImage, Plan, PlannedComponent
from ci_tools.errors import CIError, InterruptedRunError, MissingInputError
from ci_tools.report import junit

JUNIT = Path("reports") / "images.xml"
_PHASES = ("push", "check", "build", "present")  # in order of urgency within an image


def build(
    workspace: Workspace,
    *,
    jobs: int | None = None,
    fail_fast: bool = False,
    quarantine: bool = False,
    shard: tuple[int, int] | None = None,
    planned_by: Callable[[], Plan] | None = None,
) -> Lock:
    """Bring every planned image into the registry, each with its verdict.

    planned_by: makes the plan; without it plan.json counts, if it is still of
               these sources.
    fail_fast: the first failure ends the run; what is under way is stopped.
    quarantine: images that the scan refuses are kept apart, to be looked at.
    shard:     only the components that the plan gives to shard i of N.

    Reads plan.json; writes images.lock.json (of a shard: images.lock.i-of-N.json),
    and for each image a log, Trivy's report, an SBOM and a JUnit suite; logs/failed/
    has the logs of images that failed. The lock is written whatever fails; that of a
    clean commit without failures is published.

    Returns the lock; `raise_failures` tells what its failures mean.
    Raises MissingInputError when the repository changed since the plan, or the
    plan has other shards; EngineError, RegistryError or ToolError before anything
    starts; InterruptedRunError on Ctrl-C, after the lock is written.
    """
    started = time.monotonic()
    jobs = planning.jobs_at_once(workspace, jobs)
    if planned_by is None:
        plan = workspace.read(planning.FILE, Plan, made_by="plan")
        session = sessions.begun(workspace, shard)
        _check_unchanged(workspace, plan)
        session.registry.ping()
        # A stage that is run again finds what its first run pushed.
        planning.ask(session.registry, [one for one in plan.components if one.digest is None])
    else:
        session = sessions.begun(workspace, shard)
        plan = planned_by()
    session.quarantine = quarantine
    session.keys = {component.name: component.key for component in plan.components}
    session.bases = _bases(plan)
    session.forced = _forced(plan)
    planned = {component.name: component for component in shards.members(plan, shard)}
    session.parents = {
        one.name: f"{session.registry.host}/{one.repository}@{one.digest}"
        for one in plan.components
        if one.digest and one.name not in planned
    }
    if session.trivy.databases.due and session.trivy.databases.vulnerabilities.problem:
        # Asked here, so that verdicts expire though nothing needs building.
        workspace.console.warn(session.trivy.databases.vulnerabilities.problem)
    work = {name: ImageWork(session, component) for name, component in planned.items()}
    _without_parent(plan, planned, work)
    unknown = sum(verdicts.kept(session, one) is None for one in planned.values())
    session.trivy.expect(unknown)
    if unknown:
        session.aside.submit(reports.prepare)
        # Fetched while the first images are built.
        threading.Thread(target=partial(sessions.fetch_database, session), daemon=True).start()
    missing = [planned[name] for name, image in work.items() if image.missing]
    try:
        with sessions.connected(session, missing):
            _run(session, planned, work, jobs, fail_fast)
    except KeyboardInterrupt:
        lock = _finished(workspace, plan, work, shard, started)
        with contextlib.suppress(CIError):  # that it was interrupted is what is told
            reports.write(session, lock, list(planned), shard)
        had = lock.components
        raise InterruptedRunError(
            f"interrupted; {len(had)} of {counted(len(planned), 'image')} "
            f"{'is' if len(had) == 1 else 'are'} in the lock",
            "Run the same command again: it goes on with the rest",
        ) from None
    finally:
        session.over = True
        session.trivy.close()
    lock = _finished(workspace, plan, work, shard, started)
    reports.write(session, lock, list(planned), shard)
    session.settle()  # whoever finds the lock finds what was found in its images
    durations.record(workspace.home, lock)
    publishing.publish(workspace, lock, session.registry)
    _warn_of_incomplete(workspace, lock)
    return lock


def first(workspace: Workspace) -> tuple[int, int] | None:
    """The shard that is built before the others, None where plan.json has none."""
    plan = workspace.read(planning.FILE, Plan, made_by="plan --shards N")
    if any(component.shard == shards.FIRST for component in plan.components):
        return shards.FIRST, plan.shards
    return None


def dry_run(
    workspace: Workspace,
    shard: tuple[int, int] | None = None,
    force: Force | None = None,
) -> list[str]:
    """What `build` would do, a line each. Asks nobody.

    shard: as plan.json divides, for that depends on what the registry had.
    force: as `plan` takes it.
    """
    if shard is None:
        plan = planning.plan(workspace, force=force)
    else:
        plan = workspace.read(planning.FILE, Plan, made_by=f"plan --shards {shard[1]}")
    return [_would(workspace, component) for component in shards.members(plan, shard)]


def _would(workspace: Workspace, component: PlannedComponent) -> str:
    built_on = [*component.parents, *component.bases]
    tests = workspace.components[component.name].test or component.test_target
    return (
        f"{component.name}: would build {component.dockerfile}"
        + (f" on {', '.join(built_on)}" if built_on else "")
        + (", test it" if tests else "")
        + f", scan it and push {component.repository}:{component.key}"
        + (" (provisional)" if component.provisional else "")
        + (" (forced)" if component.forced else "")
        + ", unless the registry has it"
    )


def _warn_of_incomplete(workspace: Workspace, lock: Lock) -> None:
    incomplete: dict[str, list[str]] = {}
    for name, image in sorted(lock.components.items()):
        if image.verdict.status == "incomplete":
            incomplete.setdefault(image.verdict.reason, []).append(name)
    for reason, names in incomplete.items():
        workspace.console.warn(
            f"INCOMPLETE scans, {counted(len(names), 'image')} let through all the same: {reason}"
        )


def _run(
    session: Session,
    planned: Mapping[str, PlannedComponent],
    work: Mapping[str, ImageWork],
    jobs: int,
    fail_fast: bool,
) -> None:
    """Every phase of every image, the longest chains of work first."""
    parents = {name: [p for p in one.parents if p in planned] for name, one in planned.items()}
    seconds = {name: one.expected for name, one in planned.items()}
    longest = graph.critical(parents, seconds)
    tasks: dict[Name, Task] = {}

    def phase(name: str, phase: str, does: Callable[[], bool], after: Collection[Name]) -> None:
        def watched() -> bool:
            done = does()
            if not done and fail_fast and not session.halted.is_set():
                session.halted.set()
                process.stop_all()
            return done

        # Of one image the later phase first, so that results land early.
        rank = (-longest[name], _PHASES.index(phase), name)
        tasks[Name(name, phase)] = Task(watched, after, rank)

    for name, image in work.items():
        above = {parent: work[parent] for parent in parents[name]}
        # Nothing is in the lock whose parent is not, with a verdict.
        settled = [Name(p, "push" if one.missing else "present") for p, one in above.items()]
        if not image.missing:
            phase(name, "present", image.present, settled)
            continue
        built = [
            # A parent's image is used the moment it exists, if the builder finds it there.
            Name(p, "build" if session.builder and session.builder.local_parents else "push")
            for p, one in above.items()
            if one.missing
        ]
        phase(name, "build", partial(image.build, above), built)
        phase(name, "check", image.check, [Name(name, "build")])
        phase(name, "push", image.push, [Name(name, "check"), *settled])

    def blocked(task: Name, causes: Sequence[Name]) -> None:
        others = sorted({cause.image for cause in causes} - {task.image})
        work[task.image].blocked(others)

    def left() -> float:
        return graph.remaining(parents, {n: work[n].left(s) for n, s in seconds.items()}, jobs)

    with session.workspace.console.live(len(work), left):
        schedule.run(tasks, jobs=jobs, blocked=blocked, halted=session.halted.is_set)
    if session.halted.is_set():
        for image in work.values():
            image.cancelled()


def _finished(
    workspace: Workspace,
    plan: Plan,
    work: Mapping[str, ImageWork],
    shard: tuple[int, int] | None,
    started: float,
) -> Lock:
    """The lock of what there is, written, and the JUnit file."""
    outcomes = {name: one.outcome for name, one in sorted(work.items()) if one.outcome}
    images = {name: outcome.image for name, outcome in outcomes.items()}
    lock = Lock(
        project=plan.project,
        environment=workspace.environment_name,
        source=plan.source,
        components={n: one for n, one in images.items() if isinstance(one, LockedImage)},
        failed={n: one for n, one in images.items() if isinstance(one, FailedImage)},
        seconds=round(time.monotonic() - started, 3),
        shard=shards.label(shard) if shard else "",
        plan=planning.plan_id(plan),
    )
    workspace.write(shards.file_of(shard, FILE), lock)
    report = workspace.build / shards.report_of(shard, JUNIT.as_posix())
    junit.write(report, [outcome.suite for outcome in outcomes.values()])
    logs.keep_failed(workspace.build, work, lock)
    return lock


def _without_parent(
    plan: Plan, planned: Mapping[str, PlannedComponent], work: Mapping[str, ImageWork]
) -> None:
    """What stands on an image of another shard that is not there does not begin.

    Raises MissingInputError when none is, for then no agent has built them.
    """
    first = {one.name: one.digest for one in plan.components if one.shard == shards.FIRST}
    if not first or first.keys() <= planned.keys():
        return
    if not any(first.values()):
        raise MissingInputError(
            f"{', '.join(first)}: not in the registry, though the shards build on it",
            "Run 'python -m ci build --first' before the shards",
        )
    for name, one in planned.items():
        lost = sorted(parent for parent in one.parents if first.get(parent, "") is None)
        if lost:
            work[name].blocked(lost)


def _check_unchanged(workspace: Workspace, plan: Plan) -> None:
    """A plan of other sources would give images a key that is not theirs.

    Raises MissingInputError.
    """
    computed = keys.compute(
        workspace.repository, workspace.components, _bases(plan), forced=_forced(plan)
    )
    now = {name: key for name, (key, _) in computed.items()}
    planned = {component.name: component.key for component in plan.components}
    changed = sorted(name for name in {*now, *planned} if now.get(name) != planned.get(name))
    if changed or plan.environment != workspace.environment_name:
        what = ", ".join(changed) or f"planned for environment '{plan.environment}'"
        raise MissingInputError(
            f"{planning.FILE} is out of date ({what})", "Run 'python -m ci plan' again"
        )


def _bases(plan: Plan) -> dict[str, str]:
    """External reference -> digest, as planned."""
    return {
        reference: image.partition("@")[2]
        for component in plan.components
        for reference, image in component.bases.items()
        if image
    }


def _forced(plan: Plan) -> dict[str, str]:
    """Component -> what forces it to be built again."""
    return {component.name: component.forced for component in plan.components if component.forced}
