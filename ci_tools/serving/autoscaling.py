"""The autoscaler of a service: target tracking by Application Auto Scaling."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from ci_tools.config import PredictionService
from ci_tools.errors import ServiceError
from ci_tools.serving import aws
from ci_tools.serving.asked import Client
from ci_tools.serving.declaration import Servable
from ci_tools.serving.strategy import Autoscaling

TAG = "kfp-ci:autoscaling"  # of the service: the metric of the autoscaler that we set up
_POLICY = "kfp-ci"
_METRICS = {
    "cpu": "ECSServiceAverageCPUUtilization",
    "memory": "ECSServiceAverageMemoryUtilization",
    "requests": "ALBRequestCountPerTarget",
}
_SPACE = {"ServiceNamespace": "ecs", "ScalableDimension": "ecs:service:DesiredCount"}


class Scaler:
    """The autoscalers of one environment's services.

    clients: boto3's name of a service -> a client of it.

    A stand-in has no such API: there nothing is set up, and nothing differs.
    Raises CredentialsError or ServiceError.
    """

    def __init__(self, settings: PredictionService, clients: Client) -> None:
        self._settings = settings
        self._clients = clients

    @cached_property
    def _api(self) -> Any:
        return self._clients("application-autoscaling")

    def differences(self, servable: Servable, service: Mapping[str, Any] | None) -> list[str]:
        """What would change, a line each. service: as described, with tags; or None."""
        wanted = servable.autoscaling
        if self._settings.endpoint_url is not None:
            return []
        if wanted is None:
            ours = _tagged(service)
            return [f"autoscaling: {ours} -> (none)"] if ours and not servable.autoscaled else []
        if service is None:
            return [f"autoscaling: (none) -> {_told(wanted)}"]
        now, then = self._now(servable.service), self._then(servable, wanted)
        return [
            f"autoscaling.{key}: {now.get(key, '(none)')} -> {value}"
            for key, value in then.items()
            if now.get(key) != value
        ]

    def apply(self, servable: Servable, service: Mapping[str, Any]) -> str | None:
        """Make it as declared; the metric, to be recorded as TAG, "" when the
        autoscaler was taken away, None when nothing had to be done.
        """
        if not self.differences(servable, service):
            return None
        wanted = servable.autoscaling
        if wanted is None:
            self._take_away(servable.service)
            return ""
        where = {**_SPACE, "ResourceId": self._resource(servable.service)}
        with aws.translated(self._settings, "Application Auto Scaling"):
            self._api.register_scalable_target(
                **where, MinCapacity=wanted.min, MaxCapacity=wanted.max
            )
            self._api.put_scaling_policy(
                **where,
                PolicyName=_POLICY,
                PolicyType="TargetTrackingScaling",
                TargetTrackingScalingPolicyConfiguration=self._policy(servable, wanted),
            )
        return wanted.metric

    def remove(self, service: str, described: Mapping[str, Any]) -> bool:
        """Take away the autoscaler that we set up, if there is one; whether there was.

        Its minimum would start the tasks again of a service that is to stop.
        """
        ours = self._settings.endpoint_url is None and bool(_tagged(described))
        if ours:
            self._take_away(service)
        return ours

    def _take_away(self, service: str) -> None:
        """Its policies and their alarms go with it."""
        with aws.translated(self._settings, "Application Auto Scaling"):
            self._api.deregister_scalable_target(**_SPACE, ResourceId=self._resource(service))

    def _now(self, service: str) -> dict[str, Any]:
        resource = self._resource(service)
        with aws.translated(self._settings, "Application Auto Scaling"):
            targets = self._api.describe_scalable_targets(**_SPACE, ResourceIds=[resource])
            policies = self._api.describe_scaling_policies(**_SPACE, ResourceId=resource)
        made: dict[str, Any] = {}
        for target in targets["ScalableTargets"]:
            made |= {"min": target["MinCapacity"], "max": target["MaxCapacity"]}
        for policy in policies["ScalingPolicies"]:
            if policy["PolicyName"] == _POLICY:
                made |= _flat(policy.get("TargetTrackingScalingPolicyConfiguration") or {})
        return made

    def _then(self, servable: Servable, wanted: Autoscaling) -> dict[str, Any]:
        sizes = {"min": wanted.min, "max": wanted.max}
        return {**sizes, **_flat(self._policy(servable, wanted))}

    def _policy(self, servable: Servable, wanted: Autoscaling) -> dict[str, Any]:
        metric: dict[str, Any] = {"PredefinedMetricType": _METRICS[wanted.metric]}
        if wanted.metric == "requests":
            metric["ResourceLabel"] = self._label(servable.service)
        return {
            "TargetValue": float(wanted.target),
            "PredefinedMetricSpecification": metric,
            "ScaleInCooldown": wanted.scale_in_cooldown,
            "ScaleOutCooldown": wanted.scale_out_cooldown,
        }

    def _label(self, service: str) -> str:
        """`app/NAME/ID/targetgroup/NAME/ID`: which balancer's requests are counted."""
        group = self._settings.target_groups.get(service)
        balancers: list[str] = []
        if group is not None:
            client = self._clients("elbv2")
            with aws.translated(self._settings, "Elastic Load Balancing"):
                found = client.describe_target_groups(TargetGroupArns=[group])["TargetGroups"]
            balancers = found[0].get("LoadBalancerArns") or [] if found else []
        if group is None or not balancers:
            raise ServiceError(
                f"service '{service}' is to be scaled by its requests, but no load balancer "
                "leads to it",
                "Name its target group in ci.yaml, or scale by cpu or memory",
            )
        balancer = balancers[0].partition(":loadbalancer/")[2]
        return f"{balancer}/{group.rpartition(':')[2]}"

    def _resource(self, service: str) -> str:
        return f"service/{self._settings.cluster.rpartition('/')[2]}/{service}"


def _flat(policy: Mapping[str, Any]) -> dict[str, Any]:
    metric = policy.get("PredefinedMetricSpecification") or {}
    flat = {
        "metric": metric.get("PredefinedMetricType"),
        "target": policy.get("TargetValue"),
        "scale_in_cooldown": policy.get("ScaleInCooldown"),
        "scale_out_cooldown": policy.get("ScaleOutCooldown"),
    }
    return flat | ({"label": metric["ResourceLabel"]} if metric.get("ResourceLabel") else {})


def _tagged(service: Mapping[str, Any] | None) -> str:
    tags = (service or {}).get("tags") or []
    return next((str(tag.get("value", "")) for tag in tags if tag.get("key") == TAG), "")


def _told(wanted: Autoscaling) -> str:
    return f"{wanted.min} to {wanted.max} tasks by {wanted.metric} at {wanted.target:g}"
