"""A running environment with ministack, and images for its services.

Oracles for tests: the services' own answers over HTTP, the engine's list of
containers, and a boto3 client that is not the one under test.
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
from contextlib import contextmanager
from pathlib import Path

import boto3
import docker

from ci_tools import local
from ci_tools.config import PredictionService
from ci_tools.documents import Model
from ci_tools.local import stand_in
from ci_tools.serving.declaration import HealthCheck, Servable, SmokeTest
from tests.fakes import ports

PORT = 8080
SERVE = ["/bin/busybox", "httpd", "-f", "-p", str(PORT), "-h", "/www"]


class Parts:
    """A running environment, and images made for it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        ports.of_an_environment(home)
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
        port = int(self.endpoints.aws.rpartition(":")[2])  # other environments have their own
        labels = [
            f"com.amazonaws.ecs.task-definition-family={family}",
            stand_in.label(self.home, port),
        ]
        return self.engine.containers.list(filters={"label": labels}, ignore_removed=True)

    def images(self, family: str, wanted: list[str]) -> list[str]:
        """What the service's containers run, once it is `wanted` or never.

        The stand-in says a task is stopped while its container has its ten
        seconds to end.
        """
        for _ in range(600):
            found = [c.attrs["Config"]["Image"] for c in self.containers(family)]
            if sorted(found) == sorted(wanted):
                break
            time.sleep(0.5)
        return found


@contextmanager
def running(home: Path) -> Iterator[Parts]:
    """An environment of its own, gone with its images afterwards."""
    try:
        made = Parts(home)
        yield made
        for tag in made.tags:
            made.engine.images.remove(tag, force=True)
    finally:
        local.down(home, wipe=True)


def json_answer(version: str, status: str = "200 OK") -> str:
    return (
        f'echo "Status: {status}"; echo "Content-Type: application/json"; echo; '
        f'echo "{{\\"version\\": \\"{version}\\", \\"model\\": \\"$MODEL_SHA256\\", '
        '\\"uri\\": \\"$MODEL_URI\\", '
        '\\"bytes\\": \\"$(/bin/busybox cat ${MODEL_URI#file://} 2>&1)\\"}"'
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


def weights(directory: Path) -> Model:
    """A model as a file of this machine."""
    file = directory / "weights.txt"
    file.write_text("weights")
    return Model(uri=file.as_uri(), sha256=hashlib.sha256(b"weights").hexdigest())


def ask(settings: PredictionService, service: str) -> dict:
    assert settings.url is not None
    url = settings.url.replace("{service}", service) + "/cgi-bin/predict"
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)
