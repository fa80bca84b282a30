"""What `create_service` and `update_service` are both given. Pure."""

from __future__ import annotations

from ci_tools.config import PredictionService, TrafficShift
from ci_tools.errors import ServiceError
from ci_tools.serving.declaration import Servable
from ci_tools.serving.strategy import Canary, Deployment, Linear
from ci_tools.serving.task_definition import Definition


def service_arguments(servable: Servable, settings: PredictionService) -> Definition:
    """The settings of a service, desiredCount apart.

    ECS' circuit breaker is on, unless it is declared away, with roll-back, so
    that a revision that cannot start is taken back even when this process is
    gone. A stand-in knows rolling deployments only, and no alarms: there the
    declared strategy is left out.

    Raises ServiceError where AWS needs subnets and none are named, and for a
    strategy that moves traffic where ci.yaml does not say how.
    """
    stand_in = settings.endpoint_url is not None
    arguments: Definition = {
        "deploymentConfiguration": _configuration(servable.deployment, stand_in),
        "platformVersion": "LATEST",
        "loadBalancers": [],  # said, so that one taken out of ci.yaml goes
    }
    if settings.subnets:
        arguments["networkConfiguration"] = {
            "awsvpcConfiguration": {
                "subnets": sorted(settings.subnets),
                "securityGroups": sorted(settings.security_groups),
                "assignPublicIp": "ENABLED" if settings.assign_public_ip else "DISABLED",
            }
        }
    elif not stand_in:
        raise ServiceError(
            "the environment's service has no 'subnets'",
            "Name the subnets that Fargate tasks run in, in ci.yaml",
        )
    target_group = settings.target_groups.get(servable.service)
    strategy = "rolling" if stand_in else servable.deployment.strategy
    if target_group:
        balancer: Definition = {
            "targetGroupArn": target_group,
            "containerName": servable.service,
            "containerPort": servable.port,
        }
        if strategy != "rolling":
            shift = settings.traffic_shifts.get(servable.service)
            if shift is None:
                raise _no_shift(servable, "traffic_shifts")
            balancer["advancedConfiguration"] = _advanced(shift)
        arguments["loadBalancers"] = [balancer]
        # A load balancer's verdict counts from the first second otherwise.
        arguments["healthCheckGracePeriodSeconds"] = servable.health_check.start_period
    elif strategy in ("canary", "linear"):
        raise _no_shift(servable, "target_groups")
    return arguments


def _configuration(deployment: Deployment, stand_in: bool) -> Definition:
    breaker = deployment.circuit_breaker
    made: Definition = {
        "maximumPercent": deployment.maximum_percent,
        "minimumHealthyPercent": deployment.minimum_healthy_percent,
        "deploymentCircuitBreaker": {"enable": breaker, "rollback": breaker},
    }
    if stand_in:
        return made
    # Said in every case: what is left out of an update stays as it was.
    made["strategy"] = deployment.strategy.upper()
    made["alarms"] = {
        "alarmNames": sorted(deployment.alarms),
        "enable": bool(deployment.alarms),
        "rollback": bool(deployment.alarms),
    }
    if deployment.strategy == "rolling":
        return made
    made["bakeTimeInMinutes"] = deployment.bake_minutes
    made["lifecycleHooks"] = [
        {
            "hookTargetArn": hook.function,
            "roleArn": hook.role,
            "lifecycleStages": sorted(hook.stages),
        }
        for hook in deployment.hooks
    ]
    if deployment.strategy == "canary":
        canary = deployment.canary or Canary()
        made["canaryConfiguration"] = {
            "canaryPercent": canary.percent,
            "canaryBakeTimeInMinutes": canary.bake_minutes,
        }
    if deployment.strategy == "linear":
        linear = deployment.linear or Linear()
        made["linearConfiguration"] = {
            "stepPercent": linear.percent,
            "stepBakeTimeInMinutes": linear.bake_minutes,
        }
    return made


def _advanced(shift: TrafficShift) -> Definition:
    made = {
        "alternateTargetGroupArn": shift.alternate_target_group,
        "productionListenerRule": shift.listener_rule,
        "roleArn": shift.role,
    }
    if shift.test_listener_rule:
        made["testListenerRule"] = shift.test_listener_rule
    return made


def _no_shift(servable: Servable, key: str) -> ServiceError:
    return ServiceError(
        f"service '{servable.service}' declares the strategy "
        f"'{servable.deployment.strategy}', but the environment's service has no "
        f"'{key}.{servable.service}'",
        "Name it in ci.yaml, or declare another strategy for this environment in servable.yaml",
    )
