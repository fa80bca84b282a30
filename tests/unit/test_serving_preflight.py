"""What is looked at before a deployment, against moto's IAM, Secrets Manager, SSM, EC2,
Elastic Load Balancing, CloudWatch and ECS. What moto has not (IAM's policy simulator,
Fargate's quota) answers as the test says, in the shape that botocore knows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import moto
import pytest
from botocore.exceptions import ClientError, NoCredentialsError

from ci_tools.config import PredictionService
from ci_tools.errors import CredentialsError, RegistryError
from ci_tools.serving import preflight
from ci_tools.serving.asked import Asked, Findings
from ci_tools.serving.declaration import Servable, of
from ci_tools.serving.service_settings import service_arguments
from ci_tools.serving.task_definition import render

REGION = "eu-west-1"
ACCOUNT = "123456789012"  # moto's own
IMAGE = f"registry.example/iris@sha256:{'a' * 64}"
TRUST = {
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "ecs-tasks.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ]
}
VALUE = "hunter2"
SESSION = boto3.Session(aws_access_key_id="x", aws_secret_access_key="x")
CLIENTS: dict[str, Any] = {}


class Simulates:
    """IAM of moto, with a policy simulator that denies `denied`."""

    def __init__(self, iam: Any, denied: set[str]) -> None:
        self._iam = iam
        self._denied = denied
        self.asked: list[dict[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iam, name)

    def simulate_principal_policy(self, **arguments: Any) -> Any:
        self.asked.append(arguments)
        return {
            "EvaluationResults": [
                {
                    "EvalActionName": action,
                    "EvalDecision": "implicitDeny" if action in self._denied else "allowed",
                }
                for action in arguments["ActionNames"]
            ]
        }


class Refuses:
    """A service that allows nothing."""

    def __getattr__(self, name: str) -> Any:
        def call(**_: Any) -> Any:
            operation = "".join(part.title() for part in name.split("_"))
            raise ClientError({"Error": {"Code": "AccessDeniedException"}}, operation)

        return call


class Account:
    """An account in which everything is there that `servable` needs."""

    def __init__(self) -> None:
        self.denied: set[str] = set()
        self.replaced: dict[str, Any] = {}
        self.quota = 100.0
        ec2, elb = self.moto("ec2"), self.moto("elbv2")
        self.vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        subnets = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [self.vpc]}])
        self.subnets = [subnet["SubnetId"] for subnet in subnets["Subnets"]][:2]
        self.group = ec2.create_security_group(GroupName="iris", Description="-", VpcId=self.vpc)[
            "GroupId"
        ]
        self.role = self.moto("iam").create_role(
            RoleName="exec", AssumeRolePolicyDocument=json.dumps(TRUST)
        )["Role"]["Arn"]
        self.target = self.target_group("iris")
        balancer = elb.create_load_balancer(Name="iris", Subnets=self.subnets)["LoadBalancers"][0]
        elb.create_listener(
            LoadBalancerArn=balancer["LoadBalancerArn"], Protocol="HTTP", Port=80,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": self.target}],
        )  # fmt: skip
        self.secret = self.moto("secretsmanager").create_secret(
            Name="iris", SecretString=json.dumps({"password": VALUE})
        )["ARN"]
        self.moto("ssm").put_parameter(Name="/iris/token", Value=VALUE, Type="SecureString")
        self.moto("logs").create_log_group(logGroupName="/ecs/iris")
        self.moto("ecs").create_cluster(clusterName="prod")
        self.moto("cloudwatch").put_metric_alarm(
            AlarmName="errors", MetricName="5xx", Namespace="n", Period=60, Threshold=1,
            EvaluationPeriods=1, ComparisonOperator="GreaterThanThreshold", Statistic="Sum",
        )  # fmt: skip
        self.parameter = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/iris/token"

    def moto(self, service: str) -> Any:
        if service not in CLIENTS:  # what they ask goes to the mock that is active then
            CLIENTS[service] = SESSION.client(service, region_name=REGION)  # type: ignore[call-overload]
        return CLIENTS[service]

    def target_group(self, name: str, **changes: Any) -> str:
        order = {"Protocol": "HTTP", "Port": 8080, "VpcId": self.vpc, "TargetType": "ip"}
        made = self.moto("elbv2").create_target_group(Name=name, **{**order, **changes})
        arn: str = made["TargetGroups"][0]["TargetGroupArn"]
        return arn

    def client(self, service: str) -> Any:
        if service in self.replaced:
            return self.replaced[service]
        if service == "iam":
            return Simulates(self.moto("iam"), self.denied)
        if service == "service-quotas":
            return Quotas(self.quota)
        return self.moto(service)

    def settings(self, **changes: Any) -> PredictionService:
        told = {
            "cluster": "prod", "region": REGION, "execution_role": self.role,
            "subnets": self.subnets, "security_groups": [self.group],
            "target_groups": {"iris": self.target}, **changes,
        }  # fmt: skip
        return PredictionService(**told)

    def servable(self, text: str = "") -> Servable:
        whole = {
            "service": "iris",
            "secrets": {"PASSWORD": f"{self.secret}:password::", "TOKEN": self.parameter},
            "deployment": {"alarms": ["errors"]},
        }
        return of(json.dumps({**whole, **json.loads(text or "{}")}).encode(), "dev")

    def look(
        self,
        servable: Servable | None = None,
        settings: PredictionService | None = None,
        digest: Callable[[str], str | None] = lambda image: image.partition("@")[2],
    ) -> Findings:
        servable, settings = servable or self.servable(), settings or self.settings()
        found = preflight.check(
            Asked(
                servable=servable,
                definition=render(servable, image=IMAGE, model=None, settings=settings),
                arguments=service_arguments(servable, settings),
                settings=settings,
                client=self.client,
                digest=digest,
            )
        )
        assert VALUE not in repr(found)
        return found


class Quotas:
    def __init__(self, value: float) -> None:
        self._value = value

    def get_service_quota(self, **_: Any) -> Any:
        return {"Quota": {"Value": self._value}}


@pytest.fixture
def account() -> Iterator[Account]:
    with moto.mock_aws():
        yield Account()


def test_an_account_with_everything(account: Account) -> None:
    assert account.look() == Findings()


def test_everything_that_is_missing_is_told_at_once(account: Account) -> None:
    nowhere = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:nowhere-AbCdEf"
    role = f"arn:aws:iam::{ACCOUNT}:role/nobody"
    found = account.look(
        account.servable(
            json.dumps(
                {
                    "secrets": {
                        "A": nowhere,
                        "B": f"{account.secret}:user::",
                        "C": f"{account.parameter}s",
                    },
                    "deployment": {"alarms": ["errors", "nothing"]},
                    "logs": {"group": "/none", "create": False},
                }
            )
        ),
        account.settings(
            cluster="none",
            execution_role=role,
            subnets=[*account.subnets, "subnet-0000"],
            security_groups=["sg-0000"],
            target_groups={"iris": f"{account.target[:-3]}000"},
        ),
        digest=lambda _: None,
    )
    told = [
        "there is no active cluster 'none'",
        f"the registry has no image {IMAGE}",
        f"A of container 'iris': there is no secret {nowhere}",
        f"B of container 'iris': the secret {account.secret} has no key 'user'",
        "C of container 'iris': there is no parameter /iris/tokens",
        "there is no log group '/none'",
        "there is no execution role 'nobody'",
        "there is no subnet subnet-0000",
        "there is no security group sg-0000",
        f"there is no target group {account.target[:-3].rpartition(':targetgroup/')[2]}000",
        "there is no alarm 'nothing'",
    ]
    assert found.problems == told


def test_what_we_may_not_ask_is_a_remark(account: Account) -> None:
    for service in (
        "iam", "sts", "ec2", "elbv2", "logs", "ssm", "secretsmanager", "cloudwatch", "ecs",
        "service-quotas",
    ):  # fmt: skip
        account.replaced[service] = Refuses()

    def refuses(image: str) -> str | None:
        raise RegistryError("registry.example does not answer", "Wait")

    found = account.look(digest=refuses)
    assert found.problems == []
    for said in (
        "the cluster could not be checked (DescribeClusters is not allowed)",
        f"the image {IMAGE} could not be checked (registry.example does not answer)",
        "the roles could not be checked (GetRole is not allowed)",
        "a secret could not be checked (DescribeSecret is not allowed)",
        "the network could not be checked (DescribeSubnets is not allowed)",
    ):
        assert said in found.remarks


def test_a_key_that_we_may_not_look_up_is_a_remark(account: Account) -> None:
    real = account.moto("secretsmanager")

    class Describes(Refuses):
        describe_secret = real.describe_secret

    account.replaced["secretsmanager"] = Describes()
    found = account.look()
    assert found.problems == []
    assert found.remarks == [
        "PASSWORD of container 'iris': whether the secret has the key 'password' we may not look up"
    ]


def test_a_secret_that_is_no_object_or_is_going(account: Account) -> None:
    secrets = account.moto("secretsmanager")
    secrets.put_secret_value(SecretId=account.secret, SecretString=VALUE)
    (problem,) = account.look().problems
    assert "which is not a JSON object" in problem
    secrets.delete_secret(SecretId=account.secret)
    (problem,) = account.look().problems
    assert "is being deleted" in problem


@pytest.mark.parametrize(("end", "said"), [("::AWSOLD:", "no version of stage"),
                                           (":::none", "no version 'none'")])  # fmt: skip
def test_a_version_of_a_secret_that_is_not_there(account: Account, end: str, said: str) -> None:
    secrets = {"A": f"{account.secret}{end}"}
    (problem,) = account.look(account.servable(json.dumps({"secrets": secrets}))).problems
    assert said in problem


def test_a_role_that_tasks_cannot_assume(account: Account) -> None:
    trust = json.loads(json.dumps(TRUST).replace("ecs-tasks", "ec2"))
    role = account.moto("iam").create_role(
        RoleName="wrong", AssumeRolePolicyDocument=json.dumps(trust)
    )["Role"]["Arn"]
    (problem,) = account.look(settings=account.settings(task_role=role)).problems
    assert problem == "the task role 'wrong' cannot be assumed by ecs-tasks.amazonaws.com"


def test_a_role_of_another_account(account: Account) -> None:
    other = account.role.replace(ACCOUNT, "210987654321")
    (problem,) = account.look(settings=account.settings(execution_role=other)).problems
    assert problem == f"the execution role 'exec' is {account.role}, not {other}"


def test_roles_that_we_may_not_pass(account: Account) -> None:
    caller = {"Arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/ci/session"}

    class Sts:
        def get_caller_identity(self) -> Any:
            return caller

    account.replaced["sts"] = Sts()
    assert account.look().problems == []
    account.denied = {"iam:PassRole"}
    (problem,) = account.look().problems
    assert problem.startswith(f"we (arn:aws:iam::{ACCOUNT}:role/ci) may not pass exec")


def test_logs_that_the_role_may_not_write(account: Account) -> None:
    account.denied = {"logs:PutLogEvents", "logs:CreateLogGroup"}
    (problem,) = account.look().problems  # the group is there: none need be made
    assert problem == "the execution role may not write logs to '/ecs/iris' (logs:PutLogEvents)"
    account.moto("logs").delete_log_group(logGroupName="/ecs/iris")
    (problem,) = account.look().problems
    assert "logs:CreateLogGroup" in problem


def test_a_network_in_pieces(account: Account) -> None:
    ec2 = account.moto("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.9.1.0/24")["Subnet"]["SubnetId"]
    found = account.look(settings=account.settings(subnets=[account.subnets[0], subnet]))
    assert found.problems == [
        f"the subnets are in several VPCs ({', '.join(sorted([account.vpc, vpc]))})"
    ]
    found = account.look(settings=account.settings(subnets=[subnet]))
    assert found.problems == [
        f"the security group {account.group} is in {account.vpc}, the subnets are in {vpc}",
        f"the target group {account.target.rpartition(':targetgroup/')[2]} is in {account.vpc}, "
        f"the subnets are in {vpc}",
    ]


def test_a_target_group_that_fargate_cannot_use(account: Account) -> None:
    group = account.target_group("wrong", TargetType="instance", Port=9000)
    found = account.look(settings=account.settings(target_groups={"iris": group}))
    name = group.rpartition(":targetgroup/")[2]
    assert found.problems == [
        f"the target group {name} is of type 'instance', Fargate's tasks need 'ip'",
        f"no load balancer uses the target group {name}",
    ]
    assert found.remarks == [f"the target group {name} is of port 9000, the container's is 8080"]


def test_an_alarm_that_goes_off_now(account: Account) -> None:
    account.moto("cloudwatch").set_alarm_state(
        AlarmName="errors", StateValue="ALARM", StateReason="-"
    )
    found = account.look()
    assert (found.problems, len(found.remarks)) == ([], 1)


def test_more_tasks_than_the_account_may_have(account: Account) -> None:
    wide = account.servable('{"cpu": 4096, "memory": 8192, "autoscaling": {"max": 30}}')
    assert account.look(wide).problems == [
        "a deployment may take 240 vCPUs, the account has 100 of Fargate's"
    ]
    account.quota = 240
    assert account.look(wide).problems == []


def test_a_stand_in_is_asked_for_what_it_has(account: Account) -> None:
    settings = account.settings(endpoint_url="http://127.0.0.1:1", cluster="local")
    for service in ("iam", "sts", "logs", "service-quotas", "cloudwatch"):
        account.replaced[service] = Refuses()
    bare = PredictionService(
        cluster="local", region=REGION, endpoint_url="http://127.0.0.1:1", subnets=settings.subnets
    )
    assert account.look(settings=bare) == Findings()


def test_without_credentials_it_ends_at_once(account: Account) -> None:
    class Nobody:
        def __getattr__(self, name: str) -> Any:
            def call(**_: Any) -> Any:
                raise NoCredentialsError

            return call

    account.replaced["ecs"] = Nobody()
    with pytest.raises(CredentialsError):
        account.look()
