"""How each step of a promotion is undone, from what the journal says alone.

The release need not be at hand: whoever undoes may be another machine than who began.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, TypeVar

import msgspec

from ci.promotion.services import Services
from ci.promotion.target import Target
from ci_tools import typed
from ci_tools.documents import JournalStep
from ci_tools.errors import (
    CIError,
    DeploymentSupersededError,
    MissingInputError,
    ServiceError,
)
from ci_tools.kubeflow import Kubeflow
from ci_tools.promotion.engine import Back
from ci_tools.serving import declaration
from ci_tools.serving.rollout import short

Told = Callable[[str], None]
T = TypeVar("T")


class _Pipeline(msgspec.Struct):
    """ending: of the names of the versions that are looked at, never of all."""

    pipeline_id: str
    versions: list[str]
    ending: Annotated[str, msgspec.Meta(pattern=r"^-[0-9a-f]{16}$")]


class _Service(msgspec.Struct):
    service: str
    declaration: str
    task_definition: str
    desired: int
    ours: str
    good: str = ""


@dataclass(frozen=True)
class Stays:
    """For what nobody sees."""

    why: str

    def undo(self, _step: JournalStep, /) -> str:
        return self.why


@dataclass(frozen=True)
class PipelinesBack:
    """Versions that were not there before are deleted: a run that names no version would
    take the newest. kubeflow: connects."""

    kubeflow: Callable[[], Kubeflow]

    def undo(self, step: JournalStep, /) -> str:
        if not step.before:
            return "nothing was uploaded"
        was = _before(step, dict[str, _Pipeline])
        inventory = self.kubeflow().inventory()
        known = {one.name: one for one in inventory.pipelines()}
        deleted = []
        for name, before in sorted(was.items()):
            held = known.get(name)
            if held is None:
                continue
            for version in inventory.versions(held.pipeline_id, before.ending):
                if version.version_id not in before.versions:
                    inventory.delete_version(held.pipeline_id, version.version_id)
                    deleted.append(f"{name} {version.name}")
            if not before.pipeline_id and inventory.latest(held.pipeline_id) is None:
                inventory.delete(held)
        return f"deleted {', '.join(deleted)}" if deleted else "no version was new"


@dataclass(frozen=True)
class ServicesBack:
    """A service goes back to the revision that it ran, which is waited for and proven.

    Where that was never verified (somebody deployed it by hand), a deployment that fails
    goes back to the last one that was: there the service stays. So it does on what somebody
    else deployed meanwhile, once that is verified: it is theirs now.
    """

    services: Callable[[], Services]
    environment: str
    told: Told

    def undo(self, step: JournalStep, /) -> str:
        before = _before(step, _Service)
        services, name, was = self.services(), before.service, before.task_definition
        good = before.good or was  # none in journals of earlier versions
        now = services.now(name)
        if now is None and was:
            raise ServiceError(
                f"the service '{name}' is gone, which ran {short(was)} before",
                f"Make it again with {short(was)}",
            )
        if now is None:
            return "it does not run, as before" + self._cleared(services, before)
        if now.desired == 0 and before.desired == 0:
            return "it does not run, as before"
        known = now.task_definition in (was, good)
        if not known and now.sha256 != before.ours:
            runs = short(now.task_definition)
            if now.verified and now.serves:
                return f"{runs} serves, which somebody else deployed meanwhile, and is verified"
            raise DeploymentSupersededError(
                f"the service '{name}' runs {runs}, which neither was there before nor is of this "
                "release; see who else deploys to it, and let it run "
                + (f"{short(was)} again" if was else "no task, as before")
                + f", or have it verified: 'python -m ci service rollback {name} --to {runs} "
                f"--env {self.environment}'",
                "See who else deploys to it",
            )
        if not was or before.desired == 0:
            services.stop(name, was or None)
            if not known:
                self._disown(services, now.task_definition)
            return "scaled to 0 tasks, as before"
        goal = now.task_definition if known else was
        told = "" if goal == was else f"; {short(was)}, which ran before, was never verified"
        if now.task_definition == goal and now.serves:
            return f"{short(goal)} serves {'as before' if goal == was else 'again'}{told}"
        servable = declaration.of(
            before.declaration.encode(), self.environment, name=f"the declaration of '{name}'"
        )
        services.go_back(servable, goal, self.told)
        if not known:
            self._disown(services, now.task_definition)
        return f"{short(goal)} serves again{told}"

    def _cleared(self, services: Services, before: _Service) -> str:
        """What it registered before it was killed, which nothing can be using: a clause."""
        try:
            gone = services.clear(before.service, before.ours)
        except CIError as error:
            return f"; what was registered for it stays ({error.what})"
        return f", and {', '.join(gone)} is deregistered" if gone else ""

    def _disown(self, services: Services, ours: str) -> None:
        """Else it would be kept for ever, as what a release names. It only takes room."""
        try:
            services.disown(ours)
        except CIError as error:
            self.told(f"{short(ours)} stays registered ({error.what})")


def _before(step: JournalStep, kind: type[T]) -> T:
    """What the journal says was there before a step. Raises MissingInputError where it says
    nothing of the kind: whoever may push to the registry may have written it."""
    try:
        return typed.convert(step.before, kind)
    except msgspec.ValidationError as error:
        raise MissingInputError(
            f"the journal does not say what was there before ({error})",
            "See who may push there, and put it back by hand",
        ) from error


def ways_of(target: Target, told: Told) -> Mapping[str, Back]:
    """Kind of a step -> how it is undone."""
    return {
        "images": Stays("the images stay, where nothing names them but by digest"),
        "release": Stays("the release stays in the registry, and no record says it runs"),
        "pipelines": PipelinesBack(lambda: target.kubeflow),
        "service": ServicesBack(lambda: target.services, target.name, told),
        "record": Stays("a record of the failure follows"),
    }
