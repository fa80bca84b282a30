"""Are subnets and security groups there, in one VPC, and does a balancer lead there?"""

from __future__ import annotations

from typing import Any

from ci_tools.aws_codes import code_of
from ci_tools.serving.asked import Asked, Findings

_GONE = (
    "InvalidSubnetID.NotFound",
    "InvalidSubnetID.Malformed",
    "InvalidGroup.NotFound",
    "InvalidGroupId.Malformed",
)


def check(asked: Asked, found: Findings) -> None:
    """The subnets and security groups that tasks run in."""
    network = asked.arguments.get("networkConfiguration", {}).get("awsvpcConfiguration")
    if not network:
        return
    client = asked.client("ec2")
    vpcs: set[str] = set()
    for subnet in network["subnets"]:
        answer = _there(found, f"subnet {subnet}", client.describe_subnets, SubnetIds=[subnet])
        vpcs |= {one["VpcId"] for one in answer.get("Subnets", [])}
    if len(vpcs) > 1:
        found.problems.append(f"the subnets are in several VPCs ({', '.join(sorted(vpcs))})")
    for group in network["securityGroups"]:
        answer = _there(
            found, f"security group {group}", client.describe_security_groups, GroupIds=[group]
        )
        for one in answer.get("SecurityGroups", []):
            if vpcs and one["VpcId"] not in vpcs:
                found.problems.append(
                    f"the security group {group} is in {one['VpcId']}, the subnets are in "
                    f"{', '.join(sorted(vpcs))}"
                )


def check_target_groups(asked: Asked, found: Findings) -> None:
    """The target groups: of ECS' own kind, behind a balancer, in the subnets' VPC."""
    for balancer in asked.arguments["loadBalancers"]:
        advanced = balancer.get("advancedConfiguration") or {}
        for arn in (balancer["targetGroupArn"], advanced.get("alternateTargetGroupArn")):
            if arn:
                _target_group(asked, found, arn, balancer["containerPort"])


def _target_group(asked: Asked, found: Findings, arn: str, port: int) -> None:
    name = arn.rpartition(":targetgroup/")[2] or arn
    client = asked.client("elbv2")
    gone = ("TargetGroupNotFound", "ValidationError")
    describe = client.describe_target_groups
    answer = _there(found, f"target group {name}", describe, gone=gone, TargetGroupArns=[arn])
    for group in answer.get("TargetGroups", []):
        if group.get("TargetType") != "ip":
            found.problems.append(
                f"the target group {name} is of type '{group.get('TargetType')}', Fargate's "
                "tasks need 'ip'"
            )
        if not group.get("LoadBalancerArns"):
            found.problems.append(f"no load balancer uses the target group {name}")
        if group.get("Port") != port:  # ECS registers tasks with their own port
            found.remarks.append(
                f"the target group {name} is of port {group.get('Port')}, the container's is {port}"
            )
        _same_vpc(asked, found, name, group)


def _same_vpc(asked: Asked, found: Findings, name: str, group: dict[str, Any]) -> None:
    network = asked.arguments.get("networkConfiguration", {}).get("awsvpcConfiguration")
    if not network:
        return
    try:
        subnets = asked.client("ec2").describe_subnets(SubnetIds=network["subnets"])["Subnets"]
    except Exception as error:
        if code_of(error) in _GONE:
            return  # told by `check`
        raise
    vpcs = {subnet["VpcId"] for subnet in subnets}
    if vpcs and group.get("VpcId") not in vpcs:
        found.problems.append(
            f"the target group {name} is in {group.get('VpcId')}, the subnets are in "
            f"{', '.join(sorted(vpcs))}"
        )


def _there(
    found: Findings, what: str, ask: Any, *, gone: tuple[str, ...] = _GONE, **named: Any
) -> dict[str, Any]:
    """The answer about one thing; {} with a problem told where it is not there."""
    try:
        answer: dict[str, Any] = ask(**named)
    except Exception as error:
        if code_of(error) not in gone:
            raise
        found.problems.append(f"there is no {what}")
        return {}
    return answer
