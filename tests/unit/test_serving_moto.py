"""Deployments through boto3 itself to moto's ECS, in which none ever ends: it is waited for
in vain, and everything that is asked goes over botocore's own wire format.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import moto
import pytest
from botocore.exceptions import ClientError

from ci_tools.config import PredictionService
from ci_tools.errors import DeploymentTimeoutError, ServicePreflightError
from ci_tools.serving import revisions
from ci_tools.serving.asked import Findings
from ci_tools.serving.declaration import Servable
from ci_tools.serving.ecs import PredictionServices

V1, V2 = (f"registry.example/iris@sha256:{c * 64}" for c in "12")
ROLE = "arn:aws:iam::123456789012:role/exec"


class World:
    def __init__(self, ecs: Any) -> None:
        self.ecs = ecs
        self.now = 0.0
        self.found = Findings()
        vpc = boto3.client("ec2", region_name="eu-west-1")
        self.settings = PredictionService(
            cluster="prod",
            region="eu-west-1",
            execution_role=ROLE,
            subnets=[vpc.describe_subnets()["Subnets"][0]["SubnetId"]],
        )
        self.services = PredictionServices(
            self.settings,
            client=ecs,
            check=lambda _: self.found,
            clock=lambda: self.now,
            sleep=self.sleep,
        )

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def deploy(self, image: str) -> Any:
        servable = Servable(service="iris", timeout=60)
        tags = revisions.tags(commit="c" * 40, build="https://ci.example/job/7/?page=1")
        return self.services.deploy(servable, image, None, tags=tags)

    @property
    def service(self) -> Any:
        found = self.ecs.describe_services(cluster="prod", services=["iris"])["services"]
        return found[0] if found else None


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "x")
    with moto.mock_aws():
        client = boto3.client("ecs", region_name="eu-west-1")
        client.create_cluster(clusterName="prod")

        def unknown(**_: Any) -> Any:  # moto has no such call, nor an answer to it
            raise ClientError({"Error": {"Code": "UnknownOperationException"}}, "List")

        client.list_service_deployments = unknown  # type: ignore[method-assign]
        yield World(client)


def test_a_first_deployment_that_never_ends_is_scaled_to_0(world: World) -> None:
    with pytest.raises(DeploymentTimeoutError) as failed:
        world.deploy(V1)
    assert failed.value.exit_code == 43
    assert "did not end in time" in failed.value.what
    assert "scaled to 0" in failed.value.what
    assert world.now >= 60
    assert world.service["desiredCount"] == 0
    (known,) = world.services.history("iris")
    assert (known.image, known.commit, known.cluster) == (V1, "c" * 40, "prod")
    assert known.build == "https://ci.example/job/7/_page=1"
    assert known.verified is None


def test_what_is_missing_leaves_nothing_behind(world: World) -> None:
    world.found = Findings(problems=["there is no secret"])
    with pytest.raises(ServicePreflightError):
        world.deploy(V1)
    assert world.service is None
    assert world.ecs.list_task_definitions()["taskDefinitionArns"] == []


def test_only_our_own_revisions_are_listed_and_removed(world: World) -> None:
    for family, told in (("iris", False), ("iris-two", True), ("iris", True)):
        tags = {revisions.IMAGE: "sha256:1", revisions.CLUSTER: "prod"} if told else {}
        world.ecs.register_task_definition(
            family=family, containerDefinitions=[{"name": family, "image": V2, "memory": 8}],
            tags=revisions.as_ecs(tags),
        )  # fmt: skip
    cluster = world.services._cluster
    assert [one.revision for one in cluster.revisions("iris")] == [2, 1]
    assert [one.ours for one in cluster.revisions("iris")] == [True, False]
    assert len(cluster.registered("iris", most=1)) == 1
    cluster.deregister(cluster.registered("iris")[0])
    assert [one.revision for one in cluster.revisions("iris")] == [1]
