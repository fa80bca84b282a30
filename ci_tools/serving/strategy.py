"""How a service changes from one revision to the next, and how many tasks it has.

What servable.yaml may say under `deployment` and `autoscaling`. Limits are those
of the ECS API reference (DeploymentConfiguration, CanaryConfiguration,
LinearConfiguration) and of Application Auto Scaling. What must fit together is
checked by `problem`, on the merged declaration of an environment.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from msgspec import Meta

from ci_tools.serving.parts import Arn, Part

Strategy = Literal["rolling", "blue_green", "canary", "linear"]
Stage = Literal[
    "RECONCILE_SERVICE", "PRE_SCALE_UP", "POST_SCALE_UP", "TEST_TRAFFIC_SHIFT",
    "POST_TEST_TRAFFIC_SHIFT", "PRE_PRODUCTION_TRAFFIC_SHIFT", "PRODUCTION_TRAFFIC_SHIFT",
    "POST_PRODUCTION_TRAFFIC_SHIFT",
]  # fmt: skip
Minutes = Annotated[int, Meta(ge=0, le=1440)]


class Canary(Part, kw_only=True):
    """A part of the traffic first, and the rest after `bake_minutes`."""

    percent: Annotated[float, Meta(ge=0.1, le=100)] = 5.0
    bake_minutes: Minutes = 10


class Linear(Part, kw_only=True):
    """Equal steps of the traffic, with `bake_minutes` between any two."""

    percent: Annotated[float, Meta(ge=3, le=100)] = 10.0
    bake_minutes: Minutes = 6


class Hook(Part, kw_only=True):
    """A Lambda function that ECS asks at stages of a deployment.

    function, role: ARNs; the role lets ECS call the function.
    """

    function: Arn
    role: Arn
    stages: Annotated[list[Stage], Meta(min_length=1)]


class Deployment(Part, kw_only=True):
    """How a new revision replaces the old one.

    circuit_breaker: ECS gives up on a revision that cannot start and goes back.
    bake_minutes: how long both revisions stay once traffic has moved; not for
                  `rolling`.
    alarms:       names of CloudWatch alarms; one that goes off while a
                  deployment is under way makes ECS go back.
    """

    strategy: Strategy = "rolling"
    minimum_healthy_percent: Annotated[int, Meta(ge=0, le=100)] = 100
    maximum_percent: Annotated[int, Meta(ge=100, le=200)] = 200
    circuit_breaker: bool = True
    bake_minutes: Minutes = 0
    canary: Canary | None = None
    linear: Linear | None = None
    hooks: list[Hook] = []
    alarms: list[Annotated[str, Meta(min_length=1, max_length=255)]] = []

    @property
    def least_seconds(self) -> int:
        """How long a deployment takes at least, for the waiting that is declared."""
        minutes = self.bake_minutes if self.strategy != "rolling" else 0
        if self.strategy == "canary":
            minutes += (self.canary or Canary()).bake_minutes
        if self.strategy == "linear":
            linear = self.linear or Linear()
            minutes += (math.ceil(100 / linear.percent) - 1) * linear.bake_minutes
        return minutes * 60


class Autoscaling(Part, kw_only=True):
    """Target tracking by Application Auto Scaling.

    metric: average cpu or memory of the tasks in percent, or requests to a task
            in a minute (of an Application Load Balancer).
    cooldowns: seconds after a change before the next one in that direction.
    """

    min: Annotated[int, Meta(ge=1, le=5000)] = 1
    max: Annotated[int, Meta(ge=1, le=5000)] = 4
    metric: Literal["cpu", "memory", "requests"] = "cpu"
    target: Annotated[float, Meta(gt=0, le=1_000_000)] = 60.0
    scale_in_cooldown: Annotated[int, Meta(ge=0, le=3600)] = 300
    scale_out_cooldown: Annotated[int, Meta(ge=0, le=3600)] = 60


def problem(deployment: Deployment, scaling: Autoscaling | None) -> str | None:
    """What does not fit together, a sentence; None when all does. Pure."""
    strategy = deployment.strategy
    for name, percent in (
        ("canary", deployment.canary.percent if deployment.canary else None),
        ("linear", deployment.linear.percent if deployment.linear else None),
    ):
        if percent is None:
            continue
        if strategy != name:
            return f"'deployment.{name}' is there, but the strategy is '{strategy}'"
        if abs(percent * 10 - round(percent * 10)) > 1e-6:
            return f"'deployment.{name}.percent' is {percent:g}, not a multiple of 0.1"
    if strategy == "rolling" and (deployment.bake_minutes or deployment.hooks):
        kind = "bake_minutes" if deployment.bake_minutes else "hooks"
        return f"'deployment.{kind}' is not for the strategy 'rolling'"
    if deployment.minimum_healthy_percent == deployment.maximum_percent == 100:
        return "with minimum_healthy_percent and maximum_percent at 100 no task may be replaced"
    if scaling is not None and scaling.min > scaling.max:
        return f"'autoscaling.min' is {scaling.min}, more than 'max' with {scaling.max}"
    if scaling is not None and scaling.metric != "requests" and scaling.target > 100:
        return f"'autoscaling.target' is {scaling.target:g} percent of {scaling.metric}"
    return None
