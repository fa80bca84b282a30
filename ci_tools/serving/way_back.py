"""After a deployment that failed: the last good revision serves again."""

from __future__ import annotations

from collections.abc import Callable

from ci_tools.errors import CIError, DeploymentSupersededError
from ci_tools.serving import live
from ci_tools.serving.cluster import Cluster
from ci_tools.serving.declaration import Servable
from ci_tools.serving.live import Live
from ci_tools.serving.rollout import Rollout, short
from ci_tools.serving.watch import Event, Watch, rollout_of, superseded

_RESTORE_SECONDS = 300.0


class WayBack:
    """was: the service before our deployment, None where there was none."""

    def __init__(
        self,
        cluster: Cluster,
        watch: Watch,
        clock: Callable[[], float],
        servable: Servable,
        was: Live | None,
        on_event: Event,
    ) -> None:
        self._cluster = cluster
        self._watch = watch
        self._clock = clock
        self._servable = servable
        self._was = was
        self._on_event = on_event

    def undone(self, error: CIError, ours: Rollout, story: str) -> CIError:
        """`error` with what was done about it, once the old revision serves again.

        story: what is known of the failure besides, in lines of their own.
        """
        try:
            outcome = self._put_back(ours, wait=True)
        except DeploymentSupersededError as other:
            return other
        except CIError as second:
            outcome = f"THE SERVICE COULD NOT BE PUT BACK: {second.what}"
        self._on_event(f"{ours.service}: {outcome}")
        return type(error)(f"{error.what}; {outcome}{story}", error.todo)

    def abandon(self, ours: Rollout) -> None:
        """Order the old revision back without waiting: we are being stopped."""
        try:
            outcome = self._put_back(ours, wait=False)
        except CIError as error:
            outcome = f"THE SERVICE COULD NOT BE PUT BACK: {error.what}"
        self._on_event(f"{ours.service}: {outcome}")

    def _put_back(self, ours: Rollout, *, wait: bool) -> str:
        """Make the last good revision serve again; a clause that says what was done."""
        was, servable = self._was, self._servable
        good = was.good if was is not None else None
        service = self._cluster.describe(ours.service)
        if service is None:
            return "the service is gone"
        now = Live.of(service, {}).task_definition
        if now not in (ours.task_definition, ours.before, good):
            raise superseded(ours, f"{short(now)} is deployed now")
        if was is None or good is None:
            self._cluster.update(ours.service, {"desiredCount": 0})
            return "no revision was ever verified, so the service was scaled to 0 tasks"
        if good == ours.task_definition:
            return f"{short(good)} served before and stays"
        if now == good:
            self._on_event(f"{ours.service}: ECS went back to {short(good)}")
        else:
            self._on_event(f"{ours.service}: going back to {short(good)}")
            service = self._cluster.update(
                ours.service, live.restoring_arguments(was, servable, good)
            )
        if wait:
            back = rollout_of(ours.service, service, good, None)
            seconds = _RESTORE_SECONDS + servable.deployment.least_seconds
            self._watch.wait(back, self._clock() + seconds, self._on_event)
        kind = "last verified revision" if was.verified == good else "revision before"
        return f"the {kind}, {short(good)}, {'serves again' if wait else 'was ordered back'}"
