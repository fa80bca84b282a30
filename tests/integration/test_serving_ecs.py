"""Deployments to ministack, which runs ECS services as real containers.

Oracles: the service's own answers over HTTP, the engine's list of containers,
and a boto3 client of the test's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ci_tools.config import PredictionService
from ci_tools.documents import Model
from ci_tools.errors import DeploymentFailedError, DeploymentTimeoutError, SmokeTestError
from ci_tools.serving.ecs import PredictionServices
from tests.integration.prediction import (
    PORT,
    Parts,
    ask,
    json_answer,
    running,
    servable,
    weights,
)

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    with running(tmp_path_factory.mktemp("home")) as made:
        yield made


@pytest.fixture(scope="module")
def v1(parts: Parts) -> str:
    return parts.image("v1", answer=json_answer("1"))


@pytest.fixture(scope="module")
def dies(parts: Parts) -> str:
    return parts.image(
        "dies", answer="true", command=["/bin/busybox", "sh", "-c", "echo no model; exit 3"]
    )


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return weights(tmp_path)


def test_first_then_unchanged_then_next(parts: Parts, v1: str, model: Model) -> None:
    name = "svc-good"
    settings = parts.settings(name)
    services = PredictionServices(settings)
    assert services.current(name) is None

    first = services.deploy(servable(name), v1, model)
    assert first.changed
    assert first.image == v1
    assert parts.registered(name) == [first.task_definition]
    assert parts.verified(name) == first.task_definition
    answer = ask(settings, name)
    assert (answer["version"], answer["model"]) == ("1", model.sha256)
    assert first.smoke["requests"][0]["answer"] == answer

    again = services.deploy(servable(name), v1, model)
    assert not again.changed
    assert again.task_definition == first.task_definition
    assert again.task_definition_sha256 == first.task_definition_sha256
    assert parts.registered(name) == [first.task_definition]

    v2 = parts.image("v2", answer=json_answer("2"))
    second = services.deploy(servable(name), v2, model)
    assert second.changed
    assert ask(settings, name)["version"] == "2"
    assert parts.verified(name) == second.task_definition
    assert parts.service(name)["taskDefinition"] == second.task_definition
    assert parts.images(name, [v2]) == [v2]


def test_a_revision_that_dies_is_taken_back(parts: Parts, v1: str, dies: str, model: Model) -> None:
    name = "svc-dies"
    settings = parts.settings(name)
    services = PredictionServices(settings)
    good = services.deploy(servable(name), v1, model)
    with pytest.raises(DeploymentFailedError) as failed:
        services.deploy(servable(name), dies, model)
    assert "exited with 3" in failed.value.what
    assert "serves again" in failed.value.what
    assert parts.service(name)["taskDefinition"] == good.task_definition
    assert parts.verified(name) == good.task_definition
    assert ask(settings, name)["version"] == "1"
    assert len(parts.registered(name)) == 2  # nothing is deregistered


def test_a_revision_that_answers_500_is_rolled_back(parts: Parts, v1: str, model: Model) -> None:
    name = "svc-500"
    settings = parts.settings(name)
    good = PredictionServices(settings).deploy(servable(name), v1, model)
    bad = parts.image("answers-500", answer=json_answer("bad", "500 Internal Server Error"))
    with pytest.raises(SmokeTestError, match="status 500 instead of 200") as failed:
        PredictionServices(settings, smoke_seconds=3).deploy(servable(name), bad, model)
    assert "last verified revision" in failed.value.what
    assert parts.service(name)["taskDefinition"] == good.task_definition
    assert ask(settings, name)["version"] == "1"
    assert parts.images(name, [v1]) == [v1]

    # The service is whole: the same as before is again "unchanged".
    assert not PredictionServices(settings).deploy(servable(name), v1, model).changed


def test_a_first_deployment_that_dies_leaves_nothing_running(parts: Parts, dies: str) -> None:
    name = "svc-stillborn"
    services = PredictionServices(parts.settings(name), smoke_seconds=3)
    with pytest.raises((DeploymentFailedError, DeploymentTimeoutError)) as failed:
        services.deploy(servable(name), dies, None)
    assert "scaled to 0" in failed.value.what
    assert "exited with 3" in failed.value.what
    assert parts.service(name)["desiredCount"] == 0
    assert parts.images(name, []) == []
    assert parts.verified(name) is None


def test_after_a_failed_first_deployment_the_next_serves(
    parts: Parts, v1: str, dies: str, model: Model
) -> None:
    name = "svc-second-try"
    settings = parts.settings(name)
    services = PredictionServices(settings)
    with pytest.raises((DeploymentFailedError, DeploymentTimeoutError)):
        services.deploy(servable(name), dies, model)
    made = services.deploy(servable(name), v1, model)
    assert made.changed
    assert ask(settings, name)["version"] == "1"


def test_without_a_load_balancer_the_task_itself_is_asked(
    parts: Parts, v1: str, model: Model
) -> None:
    name = "svc-direct"
    settings = PredictionService(
        cluster="local", region="us-east-1", endpoint_url=parts.endpoints.aws
    )
    made = PredictionServices(settings).deploy(servable(name), v1, model)
    (container,) = parts.containers(name)
    address = container.attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    assert made.url == f"http://{address}:{PORT}"
