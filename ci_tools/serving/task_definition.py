"""Task definitions, rendered from our own template. Pure.

Never derived from the live definition: what somebody changed by hand there
would be inherited for ever.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote, urlsplit

from ci_tools.config import PredictionService
from ci_tools.documents import Model
from ci_tools.errors import ServiceError
from ci_tools.file_uri import path_of
from ci_tools.serving.declaration import HealthCheck, Servable
from ci_tools.serving.parts import Sidecar

Definition = dict[str, Any]

MODEL_DIRECTORY = "/opt/model"
PINNED = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")
LOG_STREAMS = "ecs"  # streams are called ecs/CONTAINER/TASK
_VOLUME = "model"


def render(
    servable: Servable,
    *,
    image: str,
    model: Model | None,
    settings: PredictionService,
    images: Mapping[str, str] = MappingProxyType({}),
) -> Definition:
    """The arguments of `register_task_definition` for one servable.

    image: `repository@sha256:...`; a tag is refused.
    model: given to the container as MODEL_URI and MODEL_SHA256.
    images: component -> `repository@sha256:...`, for sidecars that name one.

    A model at `file://` is for a stand-in only: its directory is mounted
    read-only from the host at MODEL_DIRECTORY and MODEL_URI names the file
    there. Fargate has no host volumes, so this is the one place where what a
    stand-in runs differs from what AWS runs.

    Raises ServiceError for an image without a digest, for a file:// model on
    AWS, and for settings that Fargate needs and that are missing.
    """
    stand_in = settings.endpoint_url is not None
    environment = dict(servable.environment)
    container: Definition = {
        "name": servable.service,
        "image": _pinned(image, servable.service),
        "essential": True,
        "portMappings": [_port(servable.port)],
        "healthCheck": _health_check(servable.health_check, servable.port),
    }
    definition: Definition = {
        "family": servable.service,
        "requiresCompatibilities": ["FARGATE"],
        "networkMode": "awsvpc",
        "cpu": str(servable.cpu),
        "memory": str(servable.memory),
        "containerDefinitions": [
            container,
            *(
                _sidecar(name, sidecar, images.get(sidecar.image, sidecar.image))
                for name, sidecar in sorted(servable.sidecars.items())
            ),
        ],
    }
    if servable.architecture != "x86_64":
        definition["runtimePlatform"] = {
            "cpuArchitecture": servable.architecture.upper(),
            "operatingSystemFamily": "LINUX",
        }
    if model is not None:
        uri = model.uri
        if path_of(uri) is not None:
            directory, uri = _mounted(uri, stand_in)
            definition["volumes"] = [{"name": _VOLUME, "host": {"sourcePath": directory}}]
            container["mountPoints"] = [
                {"sourceVolume": _VOLUME, "containerPath": MODEL_DIRECTORY, "readOnly": True}
            ]
        environment |= {"MODEL_URI": uri, "MODEL_SHA256": model.sha256}
    container |= _given(environment, servable.secrets, servable.depends_on)
    if not stand_in:
        for one in definition["containerDefinitions"]:
            one["logConfiguration"] = _logs(servable, settings.region)
        if settings.execution_role is None:
            raise ServiceError(
                "the environment's service has no 'execution_role'",
                "Name the role with which Fargate pulls images and writes logs in ci.yaml",
            )
    if settings.execution_role:
        definition["executionRoleArn"] = settings.execution_role
    if settings.task_role:
        definition["taskRoleArn"] = settings.task_role
    return definition


def _sidecar(name: str, sidecar: Sidecar, image: str) -> Definition:
    container: Definition = {
        "name": name,
        "image": _pinned(image, name),
        "essential": sidecar.essential,
        **_given(sidecar.environment, sidecar.secrets, sidecar.depends_on),
    }
    if sidecar.command:
        container["command"] = sidecar.command
    if sidecar.port is not None:
        container["portMappings"] = [_port(sidecar.port)]
    if sidecar.cpu is not None:
        container["cpu"] = sidecar.cpu
    if sidecar.memory is not None:
        container["memory"] = sidecar.memory
    if sidecar.health_check:
        container["healthCheck"] = {"command": ["CMD", *sidecar.health_check]}
    return container


def _given(
    environment: Mapping[str, str], secrets: Mapping[str, str], depends_on: Mapping[str, str]
) -> Definition:
    """What is said of a container only where there is something to say."""
    lists = {
        "environment": [{"name": n, "value": v} for n, v in sorted(environment.items())],
        "secrets": [{"name": n, "valueFrom": arn} for n, arn in sorted(secrets.items())],
        "dependsOn": [{"containerName": n, "condition": c} for n, c in sorted(depends_on.items())],
    }
    return {key: value for key, value in lists.items() if value}


def _pinned(image: str, container: str) -> str:
    if not PINNED.fullmatch(image):
        raise ServiceError(
            f"the image '{image[:300]}' of '{container}' is not named by digest",
            "Deploy an image of images.lock.json (repository@sha256:...)",
        )
    return image


def _port(port: int) -> Definition:
    return {"containerPort": port, "hostPort": port, "protocol": "tcp"}


def _logs(servable: Servable, region: str) -> Definition:
    options = {
        "awslogs-group": servable.log_group,
        "awslogs-region": region,
        "awslogs-stream-prefix": LOG_STREAMS,
    }
    if servable.logs.create:
        options["awslogs-create-group"] = "true"
    return {"logDriver": "awslogs", "options": options}


def _health_check(check: HealthCheck, port: int) -> Definition:
    """ECS' container health check: no shell, and no curl, which slim images lack."""
    command = check.command or [
        "python3",
        "-c",
        # http.client, not urllib: that one would go through a proxy of the
        # container's environment.
        "import http.client as h,sys;"
        f"c=h.HTTPConnection('127.0.0.1',{port},timeout={check.timeout});"
        f"c.request('GET','{check.path}');"
        "sys.exit(c.getresponse().status>=400)",
    ]
    return {
        "command": ["CMD", *command],
        "interval": check.interval,
        "timeout": check.timeout,
        "retries": check.retries,
        "startPeriod": check.start_period,
    }


def _mounted(uri: str, stand_in: bool) -> tuple[str, str]:
    """The host directory to mount for a file:// model, and its address inside."""
    if not stand_in:
        raise ServiceError(
            "the model is a file of this machine, which Fargate cannot reach",
            "Publish the model to S3 and deploy its s3:// address",
        )
    parts = urlsplit(uri)
    path = PurePosixPath(unquote(parts.path))
    # ':' separates the fields of a bind mount: it would smuggle in another one.
    if (
        parts.netloc not in ("", "localhost")
        or parts.query
        or parts.fragment
        or not path.is_absolute()
        or ".." in path.parts
        or len(path.parts) < 3
        or any(c == ":" or not c.isprintable() for c in str(path))
    ):
        raise ServiceError(
            f"the model's address {uri[:300]!r} is not a plain file in a directory of its own",
            "Use file:///directory/file without '..', ':' or control characters",
        )
    return str(path.parent), f"file://{MODEL_DIRECTORY}/{path.name}"
