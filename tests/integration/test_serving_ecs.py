"""Deployments to ministack, which runs ECS services as real containers.

Oracles: the service's own answers over HTTP, the engine's list of containers,
and a boto3 client of the test's own.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3
import docker
import pytest

from ci_tools import local
from ci_tools.config import PredictionService
from ci_tools.documents import Model
from ci_tools.errors import DeploymentFailedError, DeploymentTimeoutError, SmokeTestError
from ci_tools.serving.declaration import HealthCheck, Servable, SmokeTest
from ci_tools.serving.ecs import PredictionServices

pytestmark = pytest.mark.integration

PORT = 8080
SERVE = ["/bin/busybox", "httpd", "-f", "-p", str(PORT), "-h", "/www"]


class Parts:
    """A running environment, and images made for it."""

    def __init__(self, home: Path) -> None:
        self.endpoints = local.up(home)
        self.engine = docker.from_env()
        self.ecs = boto3.client(
            "ecs",
            endpoint_url=self.endpoints.aws,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        self.tags: list[str] = []

    def image(self, name: str, *, answer: str, command: list[str] | None = None) -> str:
        """A pushed image that answers /cgi-bin/predict with a shell script's output."""
        reference = f"{self.endpoints.registry}/serving-test/{name}"
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as tar:
            script = f"#!/bin/busybox sh\n{answer}\n".encode()
            busybox = Path(shutil.which("busybox") or "/bin/busybox").read_bytes()
            for path, data in {"bin/busybox": busybox, "www/cgi-bin/predict": script}.items():
                info = tarfile.TarInfo(path)
                info.size, info.mode = len(data), 0o755
                tar.addfile(info, io.BytesIO(data))
        self.engine.api.import_image_from_data(
            stream.getvalue(),
            repository=reference,
            tag="latest",
            changes=[f"CMD {json.dumps(command or SERVE)}"],
        )
        self.tags.append(f"{reference}:latest")
        digest = None
        for line in self.engine.images.push(reference, tag="latest", stream=True, decode=True):
            assert "error" not in line, line
            digest = line.get("aux", {}).get("Digest", digest)
        return f"{reference}@{digest}"

    def settings(self, service: str) -> PredictionService:
        environment = local.environment(
            self.endpoints, {service: local.Served(PORT, "/cgi-bin/predict")}
        )
        assert environment.service is not None
        return environment.service

    def registered(self, family: str) -> list[str]:
        return self.ecs.list_task_definitions(familyPrefix=family)["taskDefinitionArns"]

    def service(self, name: str) -> dict:
        found = self.ecs.describe_services(cluster="local", services=[name], include=["TAGS"])
        return found["services"][0]

    def verified(self, name: str) -> str | None:
        tags = {tag["key"]: tag["value"] for tag in self.service(name).get("tags", [])}
        return tags.get("kfp-ci:verified")

    def containers(self, family: str) -> list:
        label = f"com.amazonaws.ecs.task-definition-family={family}"
        return self.engine.containers.list(filters={"label": label})

    def images(self, family: str, wanted: list[str]) -> list[str]:
        """What the service's containers run, once it is `wanted` or never.

        The stand-in says a task is stopped while its container has its ten
        seconds to end.
        """
        for _ in range(60):
            found = [c.attrs["Config"]["Image"] for c in self.containers(family)]
            if found == wanted:
                break
            time.sleep(0.5)
        return found


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    home = tmp_path_factory.mktemp("home")
    try:
        running = Parts(home)
        yield running
        for tag in running.tags:
            running.engine.images.remove(tag, force=True)
    finally:
        local.down(home, wipe=True)


def json_answer(version: str, status: str = "200 OK") -> str:
    return (
        f'echo "Status: {status}"; echo "Content-Type: application/json"; echo; '
        f'echo "{{\\"version\\": \\"{version}\\", \\"model\\": \\"$MODEL_SHA256\\", '
        '\\"uri\\": \\"$MODEL_URI\\", '
        '\\"bytes\\": \\"$(/bin/busybox cat ${MODEL_URI#file://} 2>&1)\\"}"'
    )


@pytest.fixture(scope="module")
def v1(parts: Parts) -> str:
    return parts.image("v1", answer=json_answer("1"))


@pytest.fixture(scope="module")
def dies(parts: Parts) -> str:
    return parts.image(
        "dies", answer="true", command=["/bin/busybox", "sh", "-c", "echo no model; exit 3"]
    )


def servable(service: str, **changes: object) -> Servable:
    declared = {
        "service": service,
        "port": PORT,
        "health_check": HealthCheck(path="/cgi-bin/predict"),
        "smoke": [SmokeTest(path="/cgi-bin/predict", expect={"bytes": "weights"})],
        "timeout": 60,
        **changes,
    }
    return Servable(**declared)  # type: ignore[arg-type]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    file = tmp_path / "weights.txt"
    file.write_text("weights")
    return Model(uri=file.as_uri(), sha256=hashlib.sha256(b"weights").hexdigest())


def ask(settings: PredictionService, service: str) -> dict:
    assert settings.url is not None
    url = settings.url.replace("{service}", service) + "/cgi-bin/predict"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


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
