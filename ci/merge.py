"""Stage `merge`: the locks of all shards of one plan, joined into one.

What comes out is what one agent would have written, but for the times. Nothing
is joined that does not belong together: the locks must be of this very plan,
cover it, and agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ci import build, cases, reports
from ci import plan as planning
from ci import publish as publishing
from ci.built import raise_failures
from ci.console import counted
from ci.workspace import Workspace
from ci_tools import storage
from ci_tools.components import graph, shards
from ci_tools.documents import FailedImage, Lock, LockedImage, Plan, PlannedComponent
from ci_tools.errors import MergeError, MissingInputError, ParentFailedError
from ci_tools.report import junit

__all__ = ["joined", "merge", "raise_failures", "would"]


def merge(workspace: Workspace, paths: Sequence[Path] = ()) -> Lock:
    """Join the locks of the shards. A dry run checks as much and writes nothing.

    paths: the locks, each with its `reports/` beside it; by default those of the
    build directory, for as many shards as the plan has.

    Reads plan.json and the locks; writes images.lock.json and reports/images.xml,
    and publishes a lock of a clean commit without failures.
    Returns the lock; `raise_failures` tells what its failures mean.
    Raises MissingInputError and MergeError as `joined` does.
    """
    plan = workspace.read(planning.FILE, Plan, made_by="plan")
    if plan.environment != workspace.environment_name:
        raise MissingInputError(
            f"{planning.FILE} was planned for environment '{plan.environment}'",
            f"Merge with --env {plan.environment}",
        )
    if not paths:
        every = ((number, plan.shards) for number in range(shards.FIRST, plan.shards + 1))
        named = (workspace.build / shards.file_of(shard, build.FILE) for shard in every)
        paths = [path for path in named if path.exists()]
    locks = {path: storage.read(path, Lock, made_by="build --shard I/N") for path in paths}
    lock = joined(plan, {workspace.shown(path): lock for path, lock in locks.items()})
    workspace.write(build.FILE, lock)
    if not workspace.dry_run:
        _join_reports(workspace, plan, locks, lock)
        reports.join(workspace, locks)
        publishing.publish(workspace, lock)
    return lock


def would(lock: Lock) -> list[str]:
    """What a merge to this lock would do, a line each."""
    failed = f", {counted(len(lock.failed), 'failure')}" if lock.failed else ""
    return [f"would write {build.FILE}: {counted(len(lock.components), 'image')}{failed}"]


def joined(plan: Plan, locks: Mapping[str, Lock]) -> Lock:
    """One lock of those of all shards. Pure. locks: as a person knows them -> lock.

    A child of an image that failed in another shard fails too, as it does where
    one agent builds both. `seconds` is that of the slowest shard.

    Raises MissingInputError for a lock of another plan or of no shard, for a
    shard without a lock (unless it is empty) and for a component that no lock
    has (unless its shard failed, which may have ended it early); MergeError for
    locks that contradict each other or their plan.
    """
    wanted = {component.shard for component in plan.components if component.shard is not None}
    if any(component.shard is None for component in plan.components):
        raise MissingInputError(
            f"{planning.FILE} is not divided into shards",
            "Merge beside the plan of 'python -m ci plan --shards N' that the shards were given",
        )
    there = {name: _shard(plan, name, lock) for name, lock in locks.items()}
    claims = _agreed(plan, locks, there)
    missing = sorted(wanted - set(there.values()))
    if missing:
        labels = [shards.label((number, plan.shards)) for number in missing]
        raise MissingInputError(
            f"there is no lock of shard {', '.join(labels)}",
            f"Run 'python -m ci build --shard {labels[0]}', or name its lock",
        )
    ended = {there[name] for name, lock in locks.items() if lock.failed}
    for component in plan.components:
        if component.name not in claims and component.shard not in ended:
            raise MissingInputError(
                f"component '{component.name}' is in no lock",
                f"Run {_again(plan, component)} again",
            )
    claims |= _orphans(plan, claims)
    return Lock(
        project=plan.project,
        environment=plan.environment,
        source=plan.source,
        components={name: one for name, one in claims.items() if isinstance(one, LockedImage)},
        failed={name: one for name, one in claims.items() if isinstance(one, FailedImage)},
        seconds=max((lock.seconds for lock in locks.values()), default=0.0),
        plan=planning.plan_id(plan),
    )


class _Claim(NamedTuple):
    """What one lock says of one component."""

    lock: str
    image: LockedImage | FailedImage

    def __str__(self) -> str:
        if isinstance(self.image, FailedImage):
            return f"failed ({self.image.step}) in {self.lock}"
        return f"{self.image.digest} (key {self.image.key[:12]}) in {self.lock}"

    @property
    def content(self) -> tuple[str, ...]:
        """What must not differ; times may."""
        if isinstance(self.image, FailedImage):
            return ("failed", self.image.step)
        return (self.image.repository, self.image.digest, self.image.key)


def _shard(plan: Plan, name: str, lock: Lock) -> int:
    """Which shard of the plan it is the lock of. Raises MissingInputError."""
    written = re.fullmatch(r"([0-9]+)/([0-9]+)", lock.shard)
    if written is None:
        raise MissingInputError(
            f"{name} is not the lock of a shard", "Name locks of 'python -m ci build --shard I/N'"
        )
    number, count = int(written[1]), int(written[2])
    differs = {
        f"of project '{lock.project}'": lock.project != plan.project,
        f"for environment '{lock.environment}'": lock.environment != plan.environment,
        f"at commit {lock.source.commit}": lock.source.commit != plan.source.commit,
        f"of shard {lock.shard}, not of {plan.shards} shards": (
            count != plan.shards or not shards.FIRST <= number <= count
        ),
        "with other keys": lock.plan != planning.plan_id(plan),
    }
    for what, different in differs.items():
        if different:
            raise MissingInputError(
                f"{name} is of another plan ({what})",
                f"Give this {planning.FILE} to every shard and build it again",
            )
    return number


def _agreed(
    plan: Plan, locks: Mapping[str, Lock], there: Mapping[str, int]
) -> dict[str, LockedImage | FailedImage]:
    """Component -> what all locks that name it say of it. Raises MergeError."""
    planned = {component.name: component for component in plan.components}
    claims: dict[str, _Claim] = {}
    for component, claim in _claims(locks):
        first = claims.setdefault(component, claim)
        if first.content != claim.content:
            where = planned.get(component)
            raise MergeError(
                f"component '{component}' is {first} but {claim}",
                "Keep the lock of the build that counts"
                + (f", or run {_again(plan, where)} anew" if where else ""),
            )
    for component, claim in _claims(locks):
        one = planned.get(component)
        if one is None:
            raise MergeError(
                f"{claim.lock} names component '{component}', which is not in the plan",
                "Plan and build every shard again",
            )
        if one.shard != there[claim.lock]:
            raise MergeError(
                f"component '{component}' is of shard {one.shard}/{plan.shards} but in "
                f"{claim.lock}, the lock of {there[claim.lock]}/{plan.shards}",
                f"Give this {planning.FILE} to every shard and build it again",
            )
        if isinstance(claim.image, LockedImage) and claim.image.key != one.key:
            raise MergeError(
                f"component '{component}' is {claim} but its key in the plan is {one.key[:12]}",
                f"Run {_again(plan, one)} again",
            )
    return {name: claim.image for name, claim in claims.items()}


def _claims(locks: Mapping[str, Lock]) -> Iterator[tuple[str, _Claim]]:
    for name, lock in locks.items():
        for component, image in lock.components.items():
            yield component, _Claim(name, image)
        for component, failure in lock.failed.items():
            yield component, _Claim(name, failure)


def _orphans(plan: Plan, claims: Mapping[str, LockedImage | FailedImage]) -> dict[str, FailedImage]:
    """Images whose parents failed, perhaps in another shard, so that theirs could not know."""
    parents = {component.name: component.parents for component in plan.components}
    failed = {name for name, one in claims.items() if isinstance(one, FailedImage)}
    orphans: dict[str, FailedImage] = {}
    for name in graph.ordered(parents):
        lost = [parent for parent in parents[name] if parent in failed]
        if not lost or name not in claims:
            continue
        said, error = claims[name], ParentFailedError.of(name, lost)
        failed.add(name)
        orphans[name] = FailedImage(
            step="parent",
            message=error.what,
            todo=error.todo,
            exit_code=error.exit_code,
            log=said.log if isinstance(said, FailedImage) and said.step == "parent" else "",
            seconds=said.seconds,
        )
    return orphans


def _join_reports(workspace: Workspace, plan: Plan, locks: Mapping[Path, Lock], lock: Lock) -> None:
    """One JUnit file of those of the shards, where they are."""
    sources: list[Path] = []
    for path, one in locks.items():
        number, _, count = one.shard.partition("/")
        name = shards.report_of((int(number), int(count)), build.JUNIT.as_posix())
        if (path.parent / name).exists():
            sources.append(path.parent / name)
        else:
            workspace.console.event(f"{name} is not there: the report lacks shard {one.shard}")
    own = {component for one in locks.values() for component in one.failed}
    instead: list[junit.Suite] = []
    for planned in plan.components:
        failure = lock.failed.get(planned.name)
        if failure is None or planned.name in own:
            continue
        here = workspace.components.get(planned.name)  # its shard reported a success
        tested = planned.test_target is not None or (here is not None and here.test is not None)
        told = f"{failure.message}. {failure.todo}."
        instead.append(cases.orphan(planned.name, told, tested=tested))
    junit.join(workspace.build / build.JUNIT, sources, instead)


def _again(plan: Plan, component: PlannedComponent) -> str:
    return f"'python -m ci build --shard {component.shard}/{plan.shards}'"
