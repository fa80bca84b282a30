"""Cluster and load balancers in the AWS stand-in, made as they would be on AWS."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from ci_tools.errors import LocalEnvironmentError
from ci_tools.local.stand_in import REGION

if TYPE_CHECKING:
    import boto3
    from botocore.config import Config

CLUSTER = "local"
# The subnet and group of the default VPC that ministack starts with
# (services/ec2.py); an awsvpc service must name some.
SUBNETS = ("subnet-00000001",)
SECURITY_GROUPS = ("sg-00000001",)
_VPC = "vpc-00000001"


def session() -> boto3.Session:
    """A session with credentials that mean nothing: real ones stay untouched."""
    import boto3

    return boto3.Session(
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - any word is right
        region_name=REGION,
    )


def ensure_cluster(endpoint_url: str) -> str:
    """The ARN of the ECS cluster `local`, made if need be.

    Raises LocalEnvironmentError.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    _loopback_only(endpoint_url)
    try:
        client = session().client("ecs", endpoint_url=endpoint_url, config=_config())
        return client.create_cluster(clusterName=CLUSTER)["cluster"]["clusterArn"]
    except (BotoCoreError, ClientError) as error:
        raise _refused("the ECS cluster", error) from error


def ensure_load_balancer(
    endpoint_url: str, service: str, port: int, health_path: str
) -> tuple[str, str]:
    """A load balancer for one service: its target group's ARN and its URL.

    port: of the container. health_path: what a target must answer 200 on.
    Load balancer and target group bear the service's name. Idempotent: what is
    there is used, with port and path brought up to date (a group whose port
    differs is replaced, since a port cannot be changed).
    The URL ends without a slash: append the path.

    Raises LocalEnvironmentError.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    _loopback_only(endpoint_url)
    try:
        return _ensure(endpoint_url, service, port, health_path), url(endpoint_url, service)
    except (BotoCoreError, ClientError) as error:
        raise _refused(f"the load balancer of {service}", error) from error


def url(endpoint_url: str, service: str) -> str:
    """Where a service answers: ministack's data plane, `/_alb/<load balancer>`."""
    return f"{endpoint_url.rstrip('/')}/_alb/{quote(service, safe='{}')}"


def _ensure(endpoint_url: str, service: str, port: int, health_path: str) -> str:
    client = session().client("elbv2", endpoint_url=endpoint_url, config=_config())
    balancers = client.describe_load_balancers()["LoadBalancers"]
    balancer = next((lb for lb in balancers if lb["LoadBalancerName"] == service), None)
    if balancer is None:
        balancer = client.create_load_balancer(
            Name=service, Subnets=list(SUBNETS), Scheme="internal", Type="application"
        )["LoadBalancers"][0]
    arn = balancer["LoadBalancerArn"]

    listeners = client.describe_listeners(LoadBalancerArn=arn)["Listeners"]
    groups = client.describe_target_groups()["TargetGroups"]
    group = next((tg for tg in groups if tg["TargetGroupName"] == service), None)
    if group is not None and group["Port"] != port:
        for listener in listeners:
            client.delete_listener(ListenerArn=listener["ListenerArn"])
        client.delete_target_group(TargetGroupArn=group["TargetGroupArn"])
        group, listeners = None, []
    if group is None:
        group = client.create_target_group(
            Name=service,
            Protocol="HTTP",
            Port=port,
            VpcId=_VPC,
            TargetType="ip",  # what awsvpc tasks register as
            HealthCheckPath=health_path,
        )["TargetGroups"][0]
    elif group.get("HealthCheckPath") != health_path:
        client.modify_target_group(
            TargetGroupArn=group["TargetGroupArn"], HealthCheckPath=health_path
        )
    if not listeners:
        client.create_listener(
            LoadBalancerArn=arn,
            Protocol="HTTP",
            Port=80,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": group["TargetGroupArn"]}],
        )
    return group["TargetGroupArn"]


def _config() -> Config:
    from botocore.config import Config

    # A company's proxy does not lead to loopback.
    return Config(connect_timeout=5, read_timeout=30, proxies={})


def _loopback_only(endpoint_url: str) -> None:
    """Refuse anything but a stand-in: nothing here may ever reach real AWS."""
    if urlsplit(endpoint_url).hostname not in ("127.0.0.1", "localhost", "::1"):
        raise LocalEnvironmentError(
            f"{endpoint_url} is not an address on this machine",
            "Name the embedded AWS stand-in; it listens on 127.0.0.1",
        )


def _refused(what: str, error: Exception) -> LocalEnvironmentError:
    return LocalEnvironmentError(
        f"{what} could not be made in the AWS stand-in ({error})",
        "Run 'python -m ci local down', then 'python -m ci local up'",
    )
