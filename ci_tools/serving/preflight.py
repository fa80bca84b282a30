"""Before anything is changed: is all there that a deployment needs?

Every check asks, none changes or shows a value. What it may not ask is a remark
and no failure: CI's role is often narrower than the execution role. All checks
are made, at once, and everything that is missing is told together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from ci_tools.aws_codes import code_of
from ci_tools.errors import CIError, ServicePreflightError
from ci_tools.serving import aws, preflight_network, preflight_roles, preflight_secrets
from ci_tools.serving.asked import Asked, Findings, refused
from ci_tools.serving.rollout import text
from ci_tools.serving.task_definition import Definition

_AT_ONCE = 12
_VCPUS = "L-3032A538"  # Fargate On-Demand vCPU resource count (Service Quotas)


Check = Callable[[Asked, Findings], None]


def check(asked: Asked) -> Findings:
    """Everything that is amiss, in a fixed order.

    Raises CredentialsError where there are no credentials at all.
    """
    checks: list[tuple[str, Check]] = [
        ("the cluster", _cluster),
        ("the images", _images),
        *(("a secret", partial(preflight_secrets.check, container=name, variable=variable, arn=arn))
          for name, variable, arn in _secrets(asked.definition)),
        ("the log group", preflight_roles.check_log_group),
        ("the roles", preflight_roles.check),
        ("the network", preflight_network.check),
        ("the load balancer", preflight_network.check_target_groups),
        ("the alarms", _alarms),
        ("the Fargate quota", _quota),
    ]  # fmt: skip

    def one(named: tuple[str, Check]) -> Findings:
        found = Findings()
        _bounded(named[0], lambda: named[1](asked, found), found)
        return found

    with (
        aws.translated(asked.settings, "AWS"),
        ThreadPoolExecutor(max_workers=_AT_ONCE) as pool,
    ):
        each = list(pool.map(one, checks))
    return Findings(
        problems=list(dict.fromkeys(said for found in each for said in found.problems)),
        remarks=list(dict.fromkeys(said for found in each for said in found.remarks)),
    )


def raise_problems(service: str, found: Findings) -> None:
    """Raises ServicePreflightError with all problems, if there are any."""
    if found.problems:
        raise ServicePreflightError(
            f"service '{service}' cannot be deployed:"
            + "".join(f"\n  {problem}" for problem in found.problems),
            "Mend all of it; nothing was changed",
        )


def _bounded(what: str, asking: Callable[[], None], found: Findings) -> None:
    """Ask; what AWS does not answer is a remark."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        asking()
    except NoCredentialsError:
        raise
    except ClientError as error:
        code = code_of(error)
        why = f"{error.operation_name} is not allowed" if refused(error) else text(error)
        found.remarks.append(f"{what} could not be checked ({why or code})")
    except (BotoCoreError, CIError) as error:
        found.remarks.append(f"{what} could not be checked ({text(error)})")


def _secrets(definition: Definition) -> list[tuple[str, str, str]]:
    return [
        (container["name"], secret["name"], secret["valueFrom"])
        for container in definition["containerDefinitions"]
        for secret in container.get("secrets", [])
    ]


def _cluster(asked: Asked, found: Findings) -> None:
    if asked.stand_in:
        return  # its cluster is made with the first service
    name = asked.settings.cluster
    clusters = asked.client("ecs").describe_clusters(clusters=[name])["clusters"]
    if not clusters or clusters[0].get("status") != "ACTIVE":
        found.problems.append(f"there is no active cluster '{name}'")


def _images(asked: Asked, found: Findings) -> None:
    for container in asked.definition["containerDefinitions"]:
        image = container["image"]
        try:
            there = asked.digest(image)
        except CIError as error:
            found.remarks.append(f"the image {image} could not be checked ({error.what})")
            continue
        if there is None:
            found.problems.append(f"the registry has no image {image}")


def _alarms(asked: Asked, found: Findings) -> None:
    names = (asked.arguments["deploymentConfiguration"].get("alarms") or {}).get("alarmNames")
    if not names:
        return
    answer = asked.client("cloudwatch").describe_alarms(
        AlarmNames=names, AlarmTypes=["MetricAlarm", "CompositeAlarm"]
    )
    alarms: list[Mapping[str, Any]] = answer["MetricAlarms"] + answer["CompositeAlarms"]
    states = {alarm["AlarmName"]: alarm["StateValue"] for alarm in alarms}
    for name in names:
        if name not in states:
            found.problems.append(f"there is no alarm '{name}'")
        elif states[name] == "ALARM":
            # ECS heeds no alarm in a deployment that begins while it goes off.
            found.remarks.append(f"the alarm '{name}' is going off: ECS will not heed it")


def _quota(asked: Asked, found: Findings) -> None:
    """Whether the tasks of a deployment fit, were they the only ones."""
    if asked.stand_in:
        return
    client = asked.client("service-quotas")
    try:
        answer = client.get_service_quota(ServiceCode="fargate", QuotaCode=_VCPUS)
    except Exception as error:
        if refused(error) or code_of(error) == "NoSuchResourceException":
            return  # known to few; nothing is amiss
        raise
    allowed = float(answer["Quota"]["Value"])
    servable = asked.servable
    most = servable.autoscaling.max if servable.autoscaling else servable.count
    together = asked.arguments["deploymentConfiguration"]["maximumPercent"] / 100
    wanted = most * together * servable.cpu / 1024
    if wanted > allowed:
        found.problems.append(
            f"a deployment may take {wanted:g} vCPUs, the account has {allowed:g} of Fargate's"
        )
