"""Deploying servables to ECS: roll out, watch our own deployment, prove it, or go back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ci_tools.config import PredictionService
from ci_tools.documents import Json, Model, Revision
from ci_tools.errors import (
    CIError,
    DeploymentFailedError,
    DeploymentSupersededError,
    DeploymentTimeoutError,
    InterruptedRunError,
    SmokeTestError,
)
from ci_tools.serving import comparison, live, smoke, task_definition
from ci_tools.serving.cluster import Cluster
from ci_tools.serving.declaration import Servable
from ci_tools.serving.live import Live
from ci_tools.serving.rollout import Rollout, short
from ci_tools.serving.service_settings import service_arguments
from ci_tools.serving.task_definition import Definition

if TYPE_CHECKING:
    from mypy_boto3_ecs import ECSClient

Event = Callable[[str], None]

_RESTORE_SECONDS = 300.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 10.0
_SECOND_LOOK = 1.0


class PredictionServices:
    """The prediction services of one environment.

    smoke_seconds: how long a new revision may take to answer as declared.
    client, clock, sleep: replaced in tests.
    """

    def __init__(
        self,
        settings: PredictionService,
        *,
        smoke_seconds: float = 60.0,
        client: ECSClient | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.settings = settings
        self._cluster = Cluster(settings, client)
        self._smoke_seconds = smoke_seconds
        self._clock = clock
        self._sleep = sleep

    def current(self, service: str) -> Live | None:
        """What a service runs now; None when there is no such service.

        Raises CredentialsError or ServiceError.
        """
        return self._cluster.live(service)

    def deploy(
        self,
        servable: Servable,
        image: str,
        model: Model | None,
        *,
        on_event: Event = lambda _: None,
    ) -> Revision:
        """Bring a service to `image` and `model`, and return only when it is verified.

        Does nothing but the smoke test when the service already runs exactly
        this. Otherwise registers a task definition, creates or updates the
        service, waits for *our* deployment, sends the smoke test and records
        the revision as verified (a tag of the service). Whatever goes wrong,
        the last verified revision serves again before the error is raised; a
        service that never had one is scaled to 0. Nothing is ever deregistered.

        image: `repository@sha256:...`. on_event: told of progress, a line each.

        Raises DeploymentFailedError, DeploymentTimeoutError, SmokeTestError,
        DeploymentSupersededError (then nothing is put back: the service is
        somebody else's now), CredentialsError and ServiceError.
        """
        started = self._clock()
        definition = task_definition.render(
            servable, image=image, model=model, settings=self.settings
        )
        arguments = service_arguments(servable, self.settings)
        was = self.current(servable.service)
        ours, changed = self._start(servable, definition, arguments, was, on_event)
        try:
            if changed or was is None or not was.serves:
                self._wait(ours, started + servable.timeout, on_event)
            url, answers = self._prove(ours, servable, on_event)
            self._record(ours)
        except (DeploymentSupersededError, InterruptedRunError, KeyboardInterrupt) as error:
            if not isinstance(error, DeploymentSupersededError):
                self._abandon(ours, servable, was, on_event)
            raise
        except CIError as error:
            raise self._undone(error, ours, servable, was, on_event) from error
        except BaseException:
            self._abandon(ours, servable, was, on_event)
            raise
        on_event(f"{servable.service}: {short(ours.task_definition)} is verified")
        return Revision(
            service=servable.service,
            cluster=self.settings.cluster,
            image=image,
            model=model,
            task_definition=ours.task_definition,
            task_definition_sha256=comparison.sha256(definition),
            changed=changed,
            url=url,
            deployment=ours.deployment,
            smoke=answers,
            seconds=round(self._clock() - started, 3),
        )

    def _start(
        self,
        servable: Servable,
        definition: Definition,
        arguments: Definition,
        was: Live | None,
        on_event: Event,
    ) -> tuple[Rollout, bool]:
        """Our deployment, and whether anything had to be changed for it."""
        name = servable.service
        count = live.desired_count(servable, was)
        order = dict(arguments) if count is None else {**arguments, "desiredCount": count}
        if was is None:
            arn = self._register(definition, on_event)
            on_event(f"{name}: creating the service with {short(arn)}")
            made = self._cluster.create(name, {**order, "taskDefinition": arn})
            return _rollout(name, made, arn, None), True
        differences = live.changes(servable, definition, arguments, was)
        for line in differences:
            on_event(f"{name}: {line}")
        under_way = was.primary.get("rolloutState") == "IN_PROGRESS"
        if not differences and (was.serves or under_way):
            on_event(f"{name}: already runs {short(was.task_definition)}")
            # The verified one is what ECS would go back to.
            return _rollout(name, was.service, was.task_definition, was.verified), False
        same = not comparison.difference(was.definition, definition)
        arn = was.task_definition if same else self._register(definition, on_event)
        on_event(f"{name}: updating the service to {short(arn)}")
        order |= {"taskDefinition": arn, "forceNewDeployment": same and not was.serves}
        made = self._cluster.update(name, order)
        return _rollout(name, made, arn, was.task_definition), True

    def _register(self, definition: Definition, on_event: Event) -> str:
        arn = self._cluster.register(definition)
        on_event(f"{definition['family']}: registered {short(arn)}")
        return arn

    def _wait(self, ours: Rollout, deadline: float, on_event: Event) -> None:
        """Until our deployment is done. Raises what became of it otherwise."""
        pause, last, settled = _FIRST_PAUSE, "", 0
        while True:
            found = self._cluster.judge(ours)
            if found.reason != last:
                on_event(f"{ours.service}: {found.reason}")
                last = found.reason
            settled = settled + 1 if found.outcome == "settled" else 0
            # Seen twice: a task that dies while starting has run for a moment.
            if found.outcome == "succeeded" or settled == 2:
                return
            if found.outcome == "superseded":
                raise _superseded(ours, found.reason)
            if found.outcome == "failed":
                raise DeploymentFailedError(
                    f"the deployment of {short(ours.task_definition)} failed "
                    f"({found.reason}){self._cluster.story(ours)}",
                    "Mend the image or servable.yaml and deploy again",
                )
            left = deadline - self._clock()
            if left <= 0:
                raise DeploymentTimeoutError(
                    f"the deployment of {short(ours.task_definition)} did not end in time "
                    f"({found.reason}){self._cluster.story(ours)}",
                    "Mend the image, or raise 'timeout' in servable.yaml, and deploy again",
                )
            self._sleep(min(_SECOND_LOOK if settled else pause, left))
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _prove(self, ours: Rollout, servable: Servable, on_event: Event) -> tuple[str, Json]:
        """Smoke-test our revision: where, and what it answered."""
        url = self._url(ours, servable)
        on_event(f"{servable.service}: smoke test at {url}")
        try:
            answers = smoke.check(
                servable.smoke_tests,
                url,
                deadline=self._clock() + min(self._smoke_seconds, servable.timeout),
                clock=self._clock,
                sleep=self._sleep,
            )
        except smoke.SmokeFailure as failure:
            raise SmokeTestError(
                f"revision {short(ours.task_definition)} of service '{servable.service}' does "
                f"not answer as declared ({failure}){self._cluster.story(ours)}",
                "Mend the servable or its 'smoke' section and deploy again",
            ) from failure
        return url, answers

    def _url(self, ours: Rollout, servable: Servable) -> str:
        if self.settings.url is not None:
            return self.settings.url.replace("{service}", servable.service)
        tasks = self._cluster.tasks(ours, "RUNNING")
        addresses = live.private_addresses(tasks, ours.task_definition)
        if not addresses:
            raise DeploymentFailedError(
                f"no running task of {short(ours.task_definition)} has an address"
                f"{self._cluster.story(ours)}",
                "Set 'url' of the environment's service in ci.yaml if a load balancer answers",
            )
        return f"http://{addresses[0]}:{servable.port}"

    def _record(self, ours: Rollout) -> None:
        """Record our revision as verified, unless somebody deployed meanwhile."""
        service = self._cluster.describe(ours.service)
        now = Live.of(service, {}) if service is not None else None
        if now is None or now.primary.get("id") != ours.deployment:
            other = short(now.task_definition) if now else "nothing"
            raise _superseded(ours, f"{other} is deployed now")
        if now.verified != ours.task_definition:
            self._cluster.record_verified(now.arn, ours.task_definition)

    def _undone(
        self, error: CIError, ours: Rollout, servable: Servable, was: Live | None, on_event: Event
    ) -> CIError:
        """`error` with what was done about it, once the old revision serves again."""
        try:
            outcome = self._put_back(ours, servable, was, on_event, wait=True)
        except DeploymentSupersededError as other:
            return other
        except CIError as second:
            outcome = f"THE SERVICE COULD NOT BE PUT BACK: {second.what}"
        on_event(f"{ours.service}: {outcome}")
        return type(error)(f"{error.what}; {outcome}", error.todo)

    def _abandon(
        self, ours: Rollout, servable: Servable, was: Live | None, on_event: Event
    ) -> None:
        """Order the old revision back without waiting: we are being stopped."""
        try:
            outcome = self._put_back(ours, servable, was, on_event, wait=False)
        except CIError as error:
            outcome = f"THE SERVICE COULD NOT BE PUT BACK: {error.what}"
        on_event(f"{ours.service}: {outcome}")

    def _put_back(
        self, ours: Rollout, servable: Servable, was: Live | None, on_event: Event, *, wait: bool
    ) -> str:
        """Make the last good revision serve again; a clause that says what was done."""
        good = was.good if was is not None else None
        service = self._cluster.describe(ours.service)
        if service is None:
            return "the service is gone"
        now = Live.of(service, {}).task_definition
        if now not in (ours.task_definition, ours.before, good):
            raise _superseded(ours, f"{short(now)} is deployed now")
        if was is None or good is None:
            self._cluster.update(ours.service, {"desiredCount": 0})
            return "no revision was ever verified, so the service was scaled to 0 tasks"
        if good == ours.task_definition:
            return f"{short(good)} served before and stays"
        if now == good:
            on_event(f"{ours.service}: ECS went back to {short(good)}")
        else:
            on_event(f"{ours.service}: going back to {short(good)}")
            service = self._cluster.update(
                ours.service, live.restoring_arguments(was, servable, good)
            )
        if wait:
            back = _rollout(ours.service, service, good, None)
            self._wait(back, self._clock() + _RESTORE_SECONDS, on_event)
        kind = "last verified revision" if was.verified == good else "revision before"
        return f"the {kind}, {short(good)}, {'serves again' if wait else 'was ordered back'}"


def _rollout(name: str, service: Mapping[str, Any], arn: str, before: str | None) -> Rollout:
    primary = Live.of(service, {}).primary
    return Rollout(
        service=name,
        deployment=str(primary.get("id", "")),
        task_definition=arn,
        before=before,
        began=primary.get("createdAt"),
    )


def _superseded(ours: Rollout, reason: str) -> DeploymentSupersededError:
    return DeploymentSupersededError(
        f"the deployment of {short(ours.task_definition)} to service '{ours.service}' was "
        f"superseded ({reason})",
        "See who else deploys to this service; deploy again if yours is the newer one",
    )
