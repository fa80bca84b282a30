"""Waiting for our own deployment, with what became of it as our own errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ci_tools.errors import (
    DeploymentFailedError,
    DeploymentSupersededError,
    DeploymentTimeoutError,
)
from ci_tools.serving.cluster import Cluster
from ci_tools.serving.live import Live
from ci_tools.serving.rollout import Rollout, short

Event = Callable[[str], None]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 10.0
_SECOND_LOOK = 1.0


class Watch:
    """clock, sleep: as time.monotonic and time.sleep."""

    def __init__(
        self, cluster: Cluster, clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._sleep = sleep

    def wait(self, ours: Rollout, deadline: float, on_event: Event) -> None:
        """Until our deployment is done.

        Raises DeploymentFailedError (also where ECS rolled it back, which it
        says), DeploymentSupersededError or DeploymentTimeoutError.
        """
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
                raise superseded(ours, found.reason)
            what = f"the deployment of {short(ours.task_definition)}"
            if found.outcome == "rolled back":
                raise DeploymentFailedError(f"ECS rolled {what} back ({found.reason})", _mend(ours))
            if found.outcome == "failed":
                raise DeploymentFailedError(f"{what} failed ({found.reason})", _mend(ours))
            left = deadline - self._clock()
            if left <= 0:
                raise DeploymentTimeoutError(
                    f"{what} did not end in time ({found.reason})",
                    f"{_mend(ours)}, perhaps with a longer 'timeout'",
                )
            self._sleep(min(_SECOND_LOOK if settled else pause, left))
            pause = min(pause * 1.5, _LONGEST_PAUSE)


def rollout_of(name: str, service: Mapping[str, Any], arn: str, before: str | None) -> Rollout:
    """Our deployment: the primary one of a service that ECS has just answered with."""
    primary = Live.of(service, {}).primary
    return Rollout(
        service=name,
        deployment=str(primary.get("id", "")),
        task_definition=arn,
        before=before,
        began=primary.get("createdAt"),
    )


def _mend(ours: Rollout) -> str:
    return (
        f"See 'python -m ci service logs {ours.service} --env ENV --since 1h', mend the "
        "image or servable.yaml, and deploy again"
    )


def superseded(ours: Rollout, reason: str) -> DeploymentSupersededError:
    return DeploymentSupersededError(
        f"the deployment of {short(ours.task_definition)} to service '{ours.service}' was "
        f"superseded ({reason})",
        "See who else deploys to this service; deploy again if yours is the newer one",
    )
