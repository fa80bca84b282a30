"""Deploying servables to ECS: check, roll out, watch our own deployment, prove it, or go back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from ci_tools.config import PredictionService
from ci_tools.documents import Model, Revision, timestamp
from ci_tools.errors import ServiceError
from ci_tools.serving import autoscaling, aws, comparison, live, preflight, revisions, smoke, status
from ci_tools.serving.afterwards import Afterwards
from ci_tools.serving.asked import Asked, Client, Findings, ImageDigest
from ci_tools.serving.autoscaling import Scaler
from ci_tools.serving.cluster import Cluster
from ci_tools.serving.declaration import Servable
from ci_tools.serving.live import Live
from ci_tools.serving.revisions import Known
from ci_tools.serving.rollout import Rollout, short
from ci_tools.serving.service_settings import service_arguments
from ci_tools.serving.settling import Settling
from ci_tools.serving.status import Status
from ci_tools.serving.task_definition import Definition, render
from ci_tools.serving.watch import Event, rollout_of

if TYPE_CHECKING:
    from mypy_boto3_ecs import ECSClient

_NOTHING: Mapping[str, str] = MappingProxyType({})


class _Wanted(msgspec.Struct, frozen=True):
    """A servable, and what ECS is asked for to have it."""

    servable: Servable
    image: str
    model: Model | None
    definition: Definition
    arguments: Definition


class PredictionServices:
    """The prediction services of one environment. Safe to use from several threads.

    smoke_seconds: how long a new revision may take to answer as declared.
    digest:  an image by digest -> that digest, or None where its registry has
             none; by default its registry is asked over HTTPS.
    clients: boto3's name of a service -> a client of it.
    client, check, clock, sleep: replaced in tests.
    """

    def __init__(
        self,
        settings: PredictionService,
        *,
        smoke_seconds: float = 60.0,
        digest: ImageDigest | None = None,
        clients: Client | None = None,
        client: ECSClient | None = None,
        check: Callable[[Asked], Findings] = preflight.check,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.settings = settings
        self._clients = clients or aws.Clients(settings)
        self._cluster = Cluster(settings, client, self._clients)
        self._scaler = Scaler(settings, self._clients)
        self._digest = digest or _digest
        self._check = check
        self._clock = clock
        self._settling = Settling(settings, self._cluster, smoke_seconds, clock, sleep)
        self._afterwards = Afterwards(settings, self._cluster, self._scaler)

    def prepare(self) -> None:
        """Make ready to ask, which takes longer than asking. Raises as `current` does."""
        self._cluster.prepare()
        smoke.prepare()

    def current(self, service: str) -> Live | None:
        """What a service runs now; None when there is no such service.

        Raises CredentialsError or ServiceError.
        """
        return self._cluster.live(service)

    def status(self, service: str) -> Status:
        """How a service is now. Raises as `current` does."""
        now = self.current(service)
        known = self._cluster.known(now.task_definition) if now else None
        url = (self.settings.url or "").replace("{service}", service)
        return status.of(service, self.settings.cluster, now, known, url)

    def history(self, service: str) -> list[Known]:
        """The revisions of a service that are still registered, newest first.

        Of this cluster, as far as a revision tells. Raises as `current` does.
        """
        return [
            one
            for one in self._cluster.revisions(service)
            if one.cluster in ("", self.settings.cluster)
        ]

    def diff(
        self,
        servable: Servable,
        image: str,
        model: Model | None,
        *,
        images: Mapping[str, str] = _NOTHING,
    ) -> list[str]:
        """What a deployment would change, a line each; empty for what runs as declared.

        Asks, changes nothing. Raises CredentialsError or ServiceError.
        """
        wanted = self._wanted(servable, image, model, images)
        return self._differences(wanted, self.current(servable.service))

    def verify(
        self,
        servable: Servable,
        image: str,
        model: Model | None,
        *,
        images: Mapping[str, str] = _NOTHING,
    ) -> Findings:
        """Whether all is there that a deployment needs. Asks, changes nothing.

        Raises CredentialsError or ServiceError.
        """
        return self._look(self._wanted(servable, image, model, images))

    def deploy(
        self,
        servable: Servable,
        image: str,
        model: Model | None,
        *,
        on_event: Event = lambda _: None,
        images: Mapping[str, str] = _NOTHING,
        tags: Mapping[str, str] = _NOTHING,
    ) -> Revision:
        """Bring a service to `image` and `model`, and return only when it is verified.

        Does nothing but the smoke test when the service already runs exactly
        this. Otherwise sees first that all is there that it needs; then registers
        a task definition, creates or updates the service, waits for *our*
        deployment, sends the smoke test and records the revision as verified
        (tags of the service and the task definition). Whatever goes wrong, the
        last verified revision serves again before the error is raised; a service
        that never had one is scaled to 0. Revisions that nobody needs any more
        are deregistered after a success (`keep_revisions`).

        image:  `repository@sha256:...`. images: component -> the same, for
                sidecars that name one.
        tags:   of the task definition, from `revisions.tags`.
        on_event: told of progress, a line each.

        Raises ServicePreflightError (nothing was changed), DeploymentFailedError,
        DeploymentTimeoutError, SmokeTestError, DeploymentSupersededError (then
        nothing is put back: the service is somebody else's now), CredentialsError
        and ServiceError.
        """
        started = self._clock()
        wanted = self._wanted(servable, image, model, images)
        was = self.current(servable.service)
        ours, changed = self._start(wanted, was, tags, on_event)
        wait = changed or was is None or not was.serves
        revision = self._settling.settle(ours, servable, was, started, on_event, wait=wait)
        release = tags.get(revisions.RELEASE)
        if release and was is not None and ours.task_definition == was.task_definition:
            self._cluster.tag(ours.task_definition, {revisions.RELEASE: release})
        self._afterwards.scale(servable, ours, on_event)
        self._afterwards.prune(servable.service, on_event)
        return msgspec.structs.replace(
            revision,
            image=image,
            model=model,
            task_definition_sha256=comparison.sha256(wanted.definition),
            changed=changed,
            seconds=round(self._clock() - started, 3),
        )

    def rollback(
        self,
        servable: Servable,
        to: str | None = None,
        *,
        on_event: Event = lambda _: None,
    ) -> Revision:
        """Make an older revision serve: the one verified last before, or `to`.

        to: a revision (`12`, `family:12`, an ARN), a release or a commit. It is
        waited for, smoke-tested and recorded as a deployment is; whatever goes
        wrong, what ran before serves again. The revision that was left is marked,
        so that nobody goes back to it unasked.

        Raises as `deploy` does, and ServiceError where there is nothing to go to.
        """
        name, started = servable.service, self._clock()
        was = self.current(name)
        if was is None:
            raise ServiceError(f"there is no service '{name}'", "Deploy it first")
        known = self.history(name)
        target = (
            revisions.before(known, was.task_definition)
            if to is None
            else revisions.named(known, to)
        )
        if target is None:
            raise ServiceError(
                f"service '{name}' has no revision "
                + (f"'{to[:200]}'" if to else f"that was verified before {was.short}"),
                f"'python -m ci service history {name} --env ENV' lists them",
            )
        arn = target.task_definition
        if not target.verified:
            on_event(f"{name}: {short(arn)} was never verified")
        changed = arn != was.task_definition
        if changed or not was.serves:
            on_event(f"{name}: going back from {was.short} to {short(arn)}")
            order: Definition = {"taskDefinition": arn, "forceNewDeployment": not changed}
            if not was.desired:
                order["desiredCount"] = servable.first_count
            made = self._cluster.update(name, order)
            ours = rollout_of(name, made, arn, was.task_definition if changed else None)
        else:
            ours = rollout_of(name, was.service, arn, was.verified)
        revision = self._settling.settle(
            ours, servable, was, started, on_event, wait=changed or not was.serves
        )
        if changed:
            self._cluster.tag(was.task_definition, {revisions.ROLLED_BACK: timestamp()})
        if target.rolled_back:
            self._cluster.untag(arn, revisions.ROLLED_BACK)
        definition = self._cluster.definition(arn)
        return msgspec.structs.replace(
            revision,
            image=target.image,
            model=live.model_of(definition, name),
            task_definition_sha256=comparison.sha256(definition),
            changed=changed,
            seconds=round(self._clock() - started, 3),
        )

    def withdraw(self, service: str) -> None:
        """Undo a first deployment: no task runs, nothing starts any, and no revision is one
        to go back to.

        For whoever has to take back a deployment that was verified, where nothing
        was before it; `rollback` is for all others. Does not wait. Raises as
        `current` does.
        """
        now = self.current(service)
        if now is None:
            return
        if self._scaler.remove(service, now.service):
            self._cluster.untag(now.arn, autoscaling.TAG)
        self._cluster.update(service, {"desiredCount": 0})
        if now.verified:
            self._cluster.untag(now.arn, revisions.VERIFIED)
        self._cluster.tag(now.task_definition, {revisions.ROLLED_BACK: timestamp()})

    def mark_release(self, task_definition: str, release: str) -> None:
        """Record that a release names a revision, which is then never deregistered."""
        self._cluster.tag(task_definition, {revisions.RELEASE: release})

    # what is wanted, and what is there -------------------------------------------

    def _wanted(
        self, servable: Servable, image: str, model: Model | None, images: Mapping[str, str]
    ) -> _Wanted:
        definition = render(
            servable, image=image, model=model, settings=self.settings, images=images
        )
        arguments = service_arguments(servable, self.settings)
        return _Wanted(servable, image, model, definition, arguments)

    def _differences(self, wanted: _Wanted, was: Live | None) -> list[str]:
        servable = wanted.servable
        if was is None:
            lines = [f"service: (none) -> '{servable.service}'"]
        else:
            lines = live.changes(servable, wanted.definition, wanted.arguments, was)
        return lines + self._scaler.differences(servable, was.service if was else None)

    def _look(self, wanted: _Wanted) -> Findings:
        return self._check(
            Asked(
                servable=wanted.servable,
                definition=wanted.definition,
                arguments=wanted.arguments,
                settings=self.settings,
                client=self._clients,
                digest=self._digest,
            )
        )

    # changing it -----------------------------------------------------------------

    def _start(
        self, wanted: _Wanted, was: Live | None, tags: Mapping[str, str], on_event: Event
    ) -> tuple[Rollout, bool]:
        """Our deployment, and whether anything had to be changed for it."""
        servable = wanted.servable
        name = servable.service
        differences = (
            live.changes(servable, wanted.definition, wanted.arguments, was) if was else []
        )
        for line in differences:
            on_event(f"{name}: {line}")
        if was is not None and not differences:
            under_way = was.primary.get("rolloutState") == "IN_PROGRESS"
            if was.serves or under_way:
                on_event(f"{name}: already runs {was.short}")
                # The verified one is what ECS would go back to.
                return rollout_of(name, was.service, was.task_definition, was.verified), False
        found = self._look(wanted)
        for remark in found.remarks:
            on_event(f"{name}: {remark}")
        preflight.raise_problems(name, found)
        count = live.desired_count(servable, was)
        order = dict(wanted.arguments) if count is None else {
            **wanted.arguments, "desiredCount": count
        }  # fmt: skip
        told = {
            **tags,
            revisions.IMAGE: wanted.image.rpartition("@")[2],
            revisions.CLUSTER: self.settings.cluster,
        }
        if was is None:
            arn = self._register(wanted.definition, told, on_event)
            on_event(f"{name}: creating the service with {short(arn)}")
            made = self._cluster.create(name, {**order, "taskDefinition": arn})
            return rollout_of(name, made, arn, None), True
        same = not comparison.difference(was.definition, wanted.definition)
        arn = was.task_definition if same else self._register(wanted.definition, told, on_event)
        on_event(f"{name}: updating the service to {short(arn)}")
        order |= {"taskDefinition": arn, "forceNewDeployment": same and not was.serves}
        made = self._cluster.update(name, order)
        return rollout_of(name, made, arn, was.task_definition), True

    def _register(self, definition: Definition, tags: Mapping[str, str], on_event: Event) -> str:
        arn = self._cluster.register(definition, tags)
        on_event(f"{definition['family']}: registered {short(arn)}")
        return arn


def _digest(image: str) -> str | None:
    from ci_tools.images import registry

    found, repository, reference = registry.of(image)
    return found.digest(repository, reference)
