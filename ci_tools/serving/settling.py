"""From a deployment that was ordered to one that is verified, or to the old one back."""

from __future__ import annotations

from collections.abc import Callable

from ci_tools.config import PredictionService
from ci_tools.documents import Json, Revision, timestamp
from ci_tools.errors import (
    CIError,
    DeploymentFailedError,
    DeploymentSupersededError,
    InterruptedRunError,
    SmokeTestError,
)
from ci_tools.serving import live, revisions, smoke
from ci_tools.serving.cluster import Cluster
from ci_tools.serving.declaration import Servable
from ci_tools.serving.live import Live
from ci_tools.serving.rollout import Rollout, short
from ci_tools.serving.watch import Event, Watch, superseded
from ci_tools.serving.way_back import WayBack


class Settling:
    """smoke_seconds, clock, sleep: as PredictionServices has them."""

    def __init__(
        self,
        settings: PredictionService,
        cluster: Cluster,
        smoke_seconds: float,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self.settings = settings
        self._cluster = cluster
        self._smoke_seconds = smoke_seconds
        self._clock = clock
        self._sleep = sleep
        self._watch = Watch(cluster, clock, sleep)

    def settle(
        self,
        ours: Rollout,
        servable: Servable,
        was: Live | None,
        started: float,
        on_event: Event,
        *,
        wait: bool,
    ) -> Revision:
        """Wait for our deployment, prove it and record it; or go back, and raise."""
        back = WayBack(self._cluster, self._watch, self._clock, servable, was, on_event)
        try:
            if wait:
                self._watch.wait(ours, started + servable.longest_seconds, on_event)
            url, answers = self._prove(ours, servable, on_event)
            self._record(ours)
        except DeploymentSupersededError:
            raise
        except InterruptedRunError:
            back.abandon(ours)
            raise
        except CIError as error:
            story = self._cluster.story(ours)  # before going back adds to it
            raise back.undone(error, ours, story) from error
        except BaseException:
            back.abandon(ours)
            raise
        on_event(f"{servable.service}: {short(ours.task_definition)} is verified")
        return Revision(
            service=servable.service,
            cluster=self.settings.cluster,
            image="",
            model=None,
            task_definition=ours.task_definition,
            task_definition_sha256="",
            changed=wait,
            url=url,
            deployment=ours.deployment,
            smoke=answers,
        )

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
                f"not answer as declared ({failure})",
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
                f"no running task of {short(ours.task_definition)} has an address",
                "Set 'url' of the environment's service in ci.yaml if a load balancer answers",
            )
        return f"http://{addresses[0]}:{servable.port}"

    def _record(self, ours: Rollout) -> None:
        """Record our revision as verified, unless somebody deployed meanwhile."""
        service = self._cluster.describe(ours.service)
        now = Live.of(service, {}) if service is not None else None
        if now is None or now.primary.get("id") != ours.deployment:
            other = now.short if now else "nothing"
            raise superseded(ours, f"{other} is deployed now")
        if now.verified == ours.task_definition:
            return
        if not self._cluster.known(ours.task_definition).verified:
            self._cluster.tag(ours.task_definition, {revisions.VERIFIED: timestamp()})
        self._cluster.tag(now.arn, {revisions.VERIFIED: ours.task_definition})
