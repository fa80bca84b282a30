"""When two services are set up alike. Pure."""

from __future__ import annotations

from typing import Any

from ci_tools.serving.task_definition import Definition


def normalise_service(service: Definition) -> Definition:
    """The settings of a service that a deployment declares, in canonical form.

    Takes the arguments of `create_service` as well as a described service.
    """
    deployment = service.get("deploymentConfiguration") or {}
    breaker = deployment.get("deploymentCircuitBreaker") or {}
    network = (service.get("networkConfiguration") or {}).get("awsvpcConfiguration") or {}
    balancers = service.get("loadBalancers") or []
    grace = service.get("healthCheckGracePeriodSeconds") or 0
    return {
        "maximumPercent": deployment.get("maximumPercent", 200),
        "minimumHealthyPercent": deployment.get("minimumHealthyPercent", 100),
        "circuitBreaker": bool(breaker.get("enable")),
        "rollback": bool(breaker.get("rollback")),
        **_strategy(deployment),
        "platformVersion": service.get("platformVersion") or "LATEST",
        "subnets": sorted(network.get("subnets") or []),
        "securityGroups": sorted(network.get("securityGroups") or []),
        "assignPublicIp": network.get("assignPublicIp") or "DISABLED",
        "healthCheckGracePeriodSeconds": grace if balancers else 0,  # means nothing without
        "loadBalancers": sorted(_balancer(balancer) for balancer in balancers),
    }


def service_differences(now: Definition, then: Definition) -> list[str]:
    """What changes between two normalised services, a line each."""
    return [f"service.{k}: {now[k]} -> {then[k]}" for k in then if now[k] != then[k]]


def _strategy(deployment: Definition) -> Definition:
    strategy = deployment.get("strategy") or "ROLLING"
    alarms = deployment.get("alarms") or {}
    moves = strategy != "ROLLING"  # what is left of another strategy means nothing
    canary = deployment.get("canaryConfiguration") or {}
    linear = deployment.get("linearConfiguration") or {}
    return {
        "strategy": strategy,
        "bakeTimeInMinutes": (deployment.get("bakeTimeInMinutes") or 0) if moves else 0,
        "alarms": sorted(alarms.get("alarmNames") or []) if alarms.get("enable") else [],
        "alarmRollback": bool(alarms.get("enable") and alarms.get("rollback")),
        "lifecycleHooks": sorted(
            f"{hook.get('hookTargetArn', hook.get('targetType', ''))} as "
            f"{hook.get('roleArn', '')} at {', '.join(sorted(hook.get('lifecycleStages') or []))}"
            for hook in (deployment.get("lifecycleHooks") or [] if moves else [])
        ),
        # The defaults of the ECS API reference.
        "canary": _pair(canary, "canaryPercent", 5, "canaryBakeTimeInMinutes", 10)
        if strategy == "CANARY"
        else None,
        "linear": _pair(linear, "stepPercent", 10, "stepBakeTimeInMinutes", 6)
        if strategy == "LINEAR"
        else None,
    }


def _pair(values: Definition, percent: str, most: float, bake: str, minutes: int) -> str:
    share = values.get(percent)
    pause = values.get(bake)
    return (
        f"{most if share is None else share:g} percent, "
        f"{minutes if pause is None else pause} minutes"
    )


def _balancer(balancer: dict[str, Any]) -> str:
    """One target group and what it leads to, on a line."""
    advanced = balancer.get("advancedConfiguration") or {}
    where = (
        f"{balancer.get('targetGroupArn', '')} "
        f"{balancer.get('containerName')}:{balancer.get('containerPort')}"
    )
    return " ".join([where, *(f"{key}={advanced[key]}" for key in sorted(advanced))])
