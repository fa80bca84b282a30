"""Where servables run: the part of an environment that is the prediction service."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ci_tools.config_base import Section


class TrafficShift(Section, kw_only=True):
    """What ECS needs to move traffic by itself: blue/green, canary and linear.

    alternate_target_group: ARN of the second target group.
    listener_rule:      ARN of the rule (of a Network Load Balancer: the listener)
                        that production traffic comes through.
    test_listener_rule: the same for test traffic.
    role:               ARN of the role with which ECS changes the load balancer.
    """

    alternate_target_group: str
    listener_rule: str
    role: str
    test_listener_rule: str | None = None


class PredictionService(Section, kw_only=True):
    """Where servables run. endpoint_url: an AWS stand-in.

    url: where the service answers, `{service}` standing for its name; without
    it the task's own address is asked.
    target_groups: service -> ARN of the load balancer's target group.
    traffic_shifts: service -> what blue/green, canary and linear need besides.
    keep_revisions: how many of the newest task definitions are kept. Those in
    use, verified last or named by a release are kept whatever their age.
    """

    cluster: str
    region: str
    endpoint_url: str | None = None
    url: str | None = None
    execution_role: str | None = None
    task_role: str | None = None
    subnets: list[str] = []
    security_groups: list[str] = []
    target_groups: dict[str, str] = {}
    traffic_shifts: dict[str, TrafficShift] = {}
    assign_public_ip: bool = False
    keep_revisions: Annotated[int, Meta(ge=2)] = 10
