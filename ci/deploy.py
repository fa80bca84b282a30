"""Stage `deploy`: servables become verified revisions of the prediction service."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TypeVar

import msgspec

from ci import built, models
from ci.workspace import Workspace
from ci_tools import storage
from ci_tools.documents import Deployed, FailedService, Lock, Revision
from ci_tools.errors import (
    CIError,
    ConfigError,
    CredentialsError,
    InterruptedRunError,
    MissingInputError,
    PushError,
    RegistryError,
    ServiceDriftError,
    ServicePreflightError,
    error_for,
)
from ci_tools.serving import declaration, live, revisions
from ci_tools.serving.asked import Findings
from ci_tools.serving.declaration import Servable
from ci_tools.serving.ecs import PredictionServices

FILE = "deploy.json"
T = TypeVar("T")
_AT_ONCE = 4  # services; each waits for ECS most of the time


class Drift(msgspec.Struct, kw_only=True):
    """Service -> what is otherwise than declared, a line each; those that are as declared
    are there too, with none."""

    services: dict[str, list[str]]


class Checked(msgspec.Struct, kw_only=True):
    """Service -> what was found."""

    services: dict[str, Findings]


def deploy(workspace: Workspace) -> Deployed:
    """Deploy every servable of the repository, some at once.

    One that fails stops no other. Reads images.lock.json, the servables and, for
    a model that a pipeline makes, train.json; writes deploy.json after each
    service. Raises MissingInputError where there is no lock, and ConfigError; what
    became of each service is in the result (`raise_failures`).
    """
    lock = built.whole(workspace)
    told = revisions.tags(commit=lock.source.commit, build=os.environ.get("BUILD_URL"))
    stop = threading.Event()
    services = prediction_services(workspace, _stoppable(stop))
    result = Deployed(environment=workspace.environment_name, services={})
    asked = declared(workspace, lock)

    def one(component: str, servable: Servable) -> Revision:
        image = _image(lock, component)
        beside = [_references(lock).get(one.image) for one in servable.sidecars.values()]
        _hold(workspace, [image, *filter(None, beside)])
        with workspace.console.working(servable.service, "deploying"):
            return services.deploy(
                servable,
                image,
                models.of(workspace, servable),
                on_event=workspace.console.event,
                images=_references(lock),
                tags=told,
            )

    with workspace.console.live(), ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        jobs = {pool.submit(one, *item): item for item in workspace.servables.items()}
        try:
            for job in as_completed(jobs):
                _keep(workspace, result, *jobs[job], job)
                result.declared = {name: asked[name] for name in result.services}
                workspace.write(FILE, result)
        except BaseException:
            # Each orders its old revision back before its thread ends.
            stop.set()
            for job in jobs:
                job.cancel()
            raise
    done = result.services
    result.services = {name: done[name] for name in workspace.servables if name in done}
    workspace.write(FILE, result)
    return result


def declarations(workspace: Workspace) -> dict[str, bytes]:
    """Component -> its servable.yaml. Raises MissingInputError."""
    found = {}
    for component in workspace.servables:
        folder = Path(workspace.components[component].dockerfile).parent
        path = workspace.repository / folder / declaration.FILE
        try:
            found[component] = path.read_bytes()
        except OSError as error:
            raise MissingInputError(
                f"{path} cannot be read ({error.strerror})", "Run 'python -m ci deploy' again"
            ) from error
    return found


def declared(workspace: Workspace, lock: Lock) -> dict[str, str]:
    """Component -> hash of all that its deployment is asked for, but for the image and the
    model, which a revision tells. Raises MissingInputError."""
    images = _references(lock)
    found = {}
    for component, content in declarations(workspace).items():
        beside = [one.image for one in workspace.servables[component].sidecars.values()]
        parts = [content, *(images.get(image, image).encode() for image in beside)]
        found[component] = hashlib.sha256(b"\0".join(parts)).hexdigest()
    return found


def raise_failures(deployed: Deployed) -> None:
    """Raise the error of the earliest kind, naming every service that failed."""
    if not deployed.failed:
        return
    first = min(deployed.failed.values(), key=lambda one: (one.exit_code, one.service))
    others = [
        f"\nalso failed: {one.service}: {one.message}"
        for one in deployed.failed.values()
        if one is not first
    ]
    raise error_for(first.exit_code)("".join([first.message, *others]), first.todo)


def diff(workspace: Workspace) -> Drift:
    """What runs, compared with what is declared. Asks, changes nothing."""
    return Drift(services=_asked(workspace, prediction_services(workspace).diff))


def _asked(workspace: Workspace, ask: Callable[..., T]) -> dict[str, T]:
    """Service -> what a question about each servable, as this build has it, comes to."""
    lock = built.whole(workspace)
    return {
        servable.service: ask(
            servable,
            _image(lock, component),
            models.of(workspace, servable),
            images=_references(lock),
        )
        for component, servable in workspace.servables.items()
    }


def drift_lines(drift: Drift) -> list[str]:
    return [
        line
        for service, lines in drift.services.items()
        for line in (f"{service}: {'as declared' if not lines else 'differs'}",
                     *(f"  {line}" for line in lines))
    ]  # fmt: skip


def raise_drift(drift: Drift) -> None:
    """Raises ServiceDriftError for services that are otherwise than declared."""
    other = sorted(service for service, lines in drift.services.items() if lines)
    if other:
        raise ServiceDriftError(
            f"otherwise than declared: {', '.join(other)}",
            "Run 'python -m ci deploy', or declare what is there",
        )


def verify(workspace: Workspace) -> Checked:
    """Whether all is there that the deployments need. Asks, changes nothing."""
    return Checked(services=_asked(workspace, prediction_services(workspace).verify))


def checked_lines(checked: Checked) -> list[str]:
    return [
        line
        for service, found in checked.services.items()
        for line in (f"{service}: {'not ready' if found.problems else 'ready'}",
                     *(f"  {problem}" for problem in found.problems),
                     *(f"  remark: {remark}" for remark in found.remarks))
    ]  # fmt: skip


def raise_problems(checked: Checked) -> None:
    """Raises ServicePreflightError with the problems of all services."""
    problems = [
        f"service '{service}': {problem}"
        for service, found in checked.services.items()
        for problem in found.problems
    ]
    if problems:
        raise ServicePreflightError(
            "not everything is there that the deployments need:"
            + "".join(f"\n  {problem}" for problem in problems),
            "Mend all of it; nothing was changed",
        )


def dry_run(workspace: Workspace) -> list[str]:
    """What a deployment of each servable would ask for. Asks nobody."""
    lock = storage.read_if_there(workspace.build / built.FILE, Lock, made_by="build")
    images = _references(lock) if lock else {}
    told: list[str] = []
    for component, servable in workspace.servables.items():
        try:
            model = models.of(workspace, servable)
        except (ConfigError, MissingInputError):
            model = None  # the training run that makes it has not been yet
        settings = workspace.service_settings()
        image = images.get(component)
        told += live.plan(servable, image, model, None, settings=settings, images=images)
    return told


def prediction_services(
    workspace: Workspace, sleep: Callable[[float], None] | None = None
) -> PredictionServices:
    """The prediction services of the environment, with its registry."""
    from ci_tools.images import registry

    declared = workspace.registry

    def digest(image: str) -> str | None:
        found, repository, reference = registry.of(image)
        if found.host == declared.host:
            found = registry.Registry.of(declared)
        return found.digest(repository, reference)

    settings = workspace.service_settings()
    if sleep is None:
        return PredictionServices(settings, digest=digest)
    return PredictionServices(settings, digest=digest, sleep=sleep)


def _image(lock: Lock, component: str) -> str:
    if component not in lock.components:
        raise MissingInputError(
            f"{built.FILE} holds no image of {component}", "Run 'python -m ci build'"
        )
    return lock.components[component].reference


def _hold(workspace: Workspace, images: Iterable[str]) -> None:
    """Keep images from expiring where images of keys do (`expire_days`).

    ECS pulls by digest whenever it starts another task: an image that is gone then
    is an outage. The tag is one of those that no lifecycle policy of ours touches.
    """
    from ci_tools.images import ecr_repository

    for image in images:
        digest = image.rpartition("@sha256:")[2]
        try:
            hold(workspace, image, ecr_repository.SERVING + digest[:12])
        except (RegistryError, PushError, CredentialsError) as error:
            workspace.console.warn(f"{image} may expire while it serves ({error.what})")


def hold(workspace: Workspace, image: str, tag: str) -> None:
    """Give an image a tag where what has no other one than its key expires (`expire_days`).

    tag: one of `ecr_repository.RELEASES`. Raises RegistryError, PushError, CredentialsError.
    """
    from ci_tools.images import registry

    declared = workspace.registry
    path, _, digest = image.partition("@")
    host, _, repository = path.partition("/")
    if declared.ecr.expire_days is not None and host == declared.host:
        registry.Registry.of(declared).tag(repository, digest, tag)


def _references(lock: Lock) -> dict[str, str]:
    return {name: image.reference for name, image in lock.components.items()}


def _stoppable(stop: threading.Event) -> Callable[[float], None]:
    """A sleep that ends with InterruptedRunError once `stop` is set."""

    def sleep(seconds: float) -> None:
        if stop.wait(seconds):
            raise InterruptedRunError("the deployment was interrupted", "Deploy again")

    return sleep


def _keep(
    workspace: Workspace,
    result: Deployed,
    component: str,
    servable: Servable,
    job: Future[Revision],
) -> None:
    """What became of one service. Raises what is no CIError: a defect of ours."""
    try:
        result.services[component] = job.result()
    except InterruptedRunError:
        raise
    except CIError as error:
        result.failed[component] = FailedService(
            service=servable.service,
            message=error.what,
            todo=error.todo,
            exit_code=error.exit_code,
        )
        if len(workspace.servables) > 1:  # the others go on meanwhile
            said = error.what.partition("\n")[0]  # the whole of it comes at the end
            workspace.console.event(f"{servable.service}: failed: {said}")
