"""Do the roles exist, can tasks assume them, may we pass them, do their logs find a place?"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote

from ci_tools.aws_codes import code_of
from ci_tools.serving.asked import Asked, Findings

_TASKS = "ecs-tasks.amazonaws.com"
_ASSUMED = re.compile(r"arn:(aws[a-z-]*):sts::([0-9]{12}):assumed-role/([^/]+)/")


def check(asked: Asked, found: Findings) -> None:
    """The execution role and the task role of a task definition."""
    named = {
        key: asked.definition[key]
        for key in ("executionRoleArn", "taskRoleArn")
        if key in asked.definition
    }
    for key, arn in named.items():
        _role(asked, found, "execution" if key == "executionRoleArn" else "task", arn)
    if named and not asked.stand_in:
        _may_pass(asked, found, sorted(set(named.values())))


def check_log_group(asked: Asked, found: Findings) -> None:
    """Its logs' group exists, or the execution role may make it."""
    options = [
        container["logConfiguration"]["options"]
        for container in asked.definition["containerDefinitions"]
        if "logConfiguration" in container
    ]
    if not options:
        return
    group = options[0]["awslogs-group"]
    answer = asked.client("logs").describe_log_groups(logGroupNamePrefix=group)
    there = any(one["logGroupName"] == group for one in answer["logGroups"])
    if not there and options[0].get("awslogs-create-group") != "true":
        found.problems.append(f"there is no log group '{group}'")
        return
    actions = ["logs:CreateLogStream", "logs:PutLogEvents"]
    if not there:
        actions.append("logs:CreateLogGroup")
    role = asked.definition["executionRoleArn"]
    _, partition, _, _, account, _ = role.split(":", 5)
    resource = f"arn:{partition}:logs:{asked.settings.region}:{account}:log-group:{group}:*"
    denied = _denied(asked, role, actions, [resource])
    if denied:
        found.problems.append(
            f"the execution role may not write logs to '{group}' ({', '.join(denied)})"
        )


def _role(asked: Asked, found: Findings, kind: str, arn: str) -> None:
    name = arn.rpartition("/")[2]
    try:
        role = asked.client("iam").get_role(RoleName=name)["Role"]
    except Exception as error:
        if code_of(error) not in ("NoSuchEntity", "NoSuchEntityException"):
            raise
        found.problems.append(f"there is no {kind} role '{name}'")
        return
    if role["Arn"] != arn:
        found.problems.append(f"the {kind} role '{name}' is {role['Arn']}, not {arn}")
    if not _trusts_tasks(role.get("AssumeRolePolicyDocument")):
        found.problems.append(f"the {kind} role '{name}' cannot be assumed by {_TASKS}")


def _trusts_tasks(document: Any) -> bool:
    """Whether a trust policy names ECS' tasks. Conditions are not judged."""
    if isinstance(document, str):
        document = json.loads(unquote(document))
    statements = (document or {}).get("Statement") or []
    for statement in [statements] if isinstance(statements, dict) else statements:
        principal = statement.get("Principal") or {}
        services = principal.get("Service", []) if isinstance(principal, dict) else []
        services = [services] if isinstance(services, str) else services
        if statement.get("Effect") == "Allow" and (_TASKS in services or principal == "*"):
            return True
    return False


def _may_pass(asked: Asked, found: Findings, roles: list[str]) -> None:
    caller = asked.client("sts").get_caller_identity()["Arn"]
    assumed = _ASSUMED.match(caller)
    if assumed:  # a role of a path is not found by this; then it is a remark
        caller = f"arn:{assumed[1]}:iam::{assumed[2]}:role/{assumed[3]}"
    elif caller.endswith(":root"):
        return
    denied = _denied(
        asked,
        caller,
        ["iam:PassRole"],
        roles,
        ContextEntries=[
            {
                "ContextKeyName": "iam:PassedToService",
                "ContextKeyValues": [_TASKS],
                "ContextKeyType": "string",
            }
        ],
    )
    if denied:
        found.problems.append(
            f"we ({caller}) may not pass {', '.join(r.rpartition('/')[2] for r in roles)} to "
            "ECS (iam:PassRole)"
        )


def _denied(
    asked: Asked, who: str, actions: list[str], resources: list[str], **more: Any
) -> list[str]:
    """The actions that IAM's policy simulator says are not allowed."""
    answer = asked.client("iam").simulate_principal_policy(
        PolicySourceArn=who, ActionNames=actions, ResourceArns=resources, **more
    )
    return sorted(
        {
            result["EvalActionName"]
            for result in answer["EvaluationResults"]
            if result["EvalDecision"] != "allowed"
        }
    )
