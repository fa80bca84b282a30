"""Task definitions and service settings, rendered from our own template. Pure.

Never derived from the live definition: what somebody changed by hand there
would be inherited for ever.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from ci_tools.config import PredictionService
from ci_tools.documents import Model
from ci_tools.errors import ServiceError
from ci_tools.serving.declaration import HealthCheck, Servable

Definition = dict[str, Any]

MODEL_DIRECTORY = "/opt/model"
_PINNED = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")
_VOLUME = "model"


def render(
    servable: Servable, *, image: str, model: Model | None, settings: PredictionService
) -> Definition:
    """The arguments of `register_task_definition` for one servable.

    image: `repository@sha256:...`; a tag is refused.
    model: given to the container as MODEL_URI and MODEL_SHA256.

    A model at `file://` is for a stand-in only: its directory is mounted
    read-only from the host at MODEL_DIRECTORY and MODEL_URI names the file
    there. Fargate has no host volumes, so this is the one place where what a
    stand-in runs differs from what AWS runs.

    Raises ServiceError for an image without a digest, for a file:// model on
    AWS, and for settings that Fargate needs and that are missing.
    """
    if not _PINNED.fullmatch(image):
        raise ServiceError(
            f"the image '{image[:300]}' of service '{servable.service}' is not named by digest",
            "Deploy an image of images.lock.json (repository@sha256:...)",
        )
    stand_in = settings.endpoint_url is not None
    environment = dict(servable.environment)
    container: Definition = {
        "name": servable.service,
        "image": image,
        "essential": True,
        "portMappings": [
            {
                "containerPort": servable.port,
                "hostPort": servable.port,
                "protocol": "tcp",
            }
        ],
        "healthCheck": _health_check(servable.health_check, servable.port),
    }
    definition: Definition = {
        "family": servable.service,
        "requiresCompatibilities": ["FARGATE"],
        "networkMode": "awsvpc",
        "cpu": str(servable.cpu),
        "memory": str(servable.memory),
        "containerDefinitions": [container],
    }
    if model is not None:
        uri = model.uri
        if urlsplit(uri).scheme == "file":
            directory, uri = _mounted(uri, stand_in)
            definition["volumes"] = [{"name": _VOLUME, "host": {"sourcePath": directory}}]
            container["mountPoints"] = [
                {"sourceVolume": _VOLUME, "containerPath": MODEL_DIRECTORY, "readOnly": True}
            ]
        environment |= {"MODEL_URI": uri, "MODEL_SHA256": model.sha256}
    if environment:
        container["environment"] = [
            {"name": name, "value": value} for name, value in sorted(environment.items())
        ]
    if servable.secrets:
        container["secrets"] = [
            {"name": name, "valueFrom": arn} for name, arn in sorted(servable.secrets.items())
        ]
    if not stand_in:
        container["logConfiguration"] = {
            "logDriver": "awslogs",
            "options": {
                "awslogs-group": f"/ecs/{servable.service}",
                "awslogs-create-group": "true",
                "awslogs-region": settings.region,
                "awslogs-stream-prefix": "ecs",
            },
        }
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


def service_arguments(servable: Servable, settings: PredictionService) -> Definition:
    """What `create_service` and `update_service` are both given, desiredCount apart.

    ECS' circuit breaker is on, with roll-back, so that a revision that cannot
    start is taken back even when this process is gone.

    Raises ServiceError where AWS needs subnets and none are named.
    """
    arguments: Definition = {
        "deploymentConfiguration": {
            "maximumPercent": 200,
            "minimumHealthyPercent": 100,
            "deploymentCircuitBreaker": {"enable": True, "rollback": True},
        },
        "platformVersion": "LATEST",
        "loadBalancers": [],  # said, so that one taken out of ci.yaml goes
    }
    if settings.subnets:
        arguments["networkConfiguration"] = {
            "awsvpcConfiguration": {
                "subnets": sorted(settings.subnets),
                "securityGroups": sorted(settings.security_groups),
                "assignPublicIp": "ENABLED" if settings.assign_public_ip else "DISABLED",
            }
        }
    elif settings.endpoint_url is None:
        raise ServiceError(
            "the environment's service has no 'subnets'",
            "Name the subnets that Fargate tasks run in, in ci.yaml",
        )
    target_group = settings.target_groups.get(servable.service)
    if target_group:
        arguments["loadBalancers"] = [
            {
                "targetGroupArn": target_group,
                "containerName": servable.service,
                "containerPort": servable.port,
            }
        ]
        # A load balancer's verdict counts from the first second otherwise.
        arguments["healthCheckGracePeriodSeconds"] = servable.health_check.start_period
    return arguments


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
