"""The parts of `servable.yaml`: containers, health checks, the model, smoke tests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta

from ci_tools.errors import ConfigError

FILE = "servable.yaml"
RESERVED = ("MODEL_URI", "MODEL_SHA256")

Variable = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=255)]
# What may stand in a request line without quoting: the path goes into a health
# check inside the container too.
UrlPath = Annotated[str, Meta(pattern=r"^/[A-Za-z0-9._~/%?=&+,:@-]*$", max_length=1000)]
ContainerName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]+$", max_length=255)]
Arn = Annotated[str, Meta(pattern=r"^arn:aws(-[a-z]+)*:[^\s]+$", max_length=2048)]
Port = Annotated[int, Meta(ge=1, le=65535)]
DependsOn = dict[ContainerName, Literal["START", "COMPLETE", "SUCCESS", "HEALTHY"]]

_SECRET = re.compile(
    r"arn:aws(-[a-z]+)*:"
    r"(secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@-]+(:[^\s:]*){0,3}"
    r"|ssm:[a-z0-9-]+:[0-9]{12}:parameter/[A-Za-z0-9_./-]+)"
)


class Part(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A mapping of servable.yaml in which an unknown key is an error."""


class HealthCheck(Part, kw_only=True):
    """How ECS asks a container whether it is well; durations are seconds.

    command: run in the container, without a shell, instead of a GET of `path`
             by the image's own python3; it must exit with 0.
    """

    path: UrlPath = "/health"
    interval: Annotated[int, Meta(ge=5, le=300)] = 30
    timeout: Annotated[int, Meta(ge=2, le=60)] = 5
    retries: Annotated[int, Meta(ge=1, le=10)] = 3
    start_period: Annotated[int, Meta(ge=0, le=300)] = 0
    command: Annotated[list[str], Meta(min_length=1)] | None = None


class ModelSource(Part, kw_only=True):
    """The model: the artifact of a pipeline's run, or a file by address and hash."""

    pipeline: str | None = None
    artifact: str | None = None
    uri: Annotated[str, Meta(pattern=r"^(s3|gs|https|file)://[^\s]+$")] | None = None
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")] | None = None

    def __post_init__(self) -> None:
        trained = (self.pipeline is not None, self.artifact is not None)
        stored = (self.uri is not None, self.sha256 is not None)
        if not (all(trained) and not any(stored)) and not (all(stored) and not any(trained)):
            raise ConfigError(
                f"{FILE}: 'model' names neither a pipeline's artifact nor a file",
                "Give it either 'pipeline' and 'artifact', or 'uri' and 'sha256'",
            )


class SmokeTest(Part, kw_only=True):
    """One request to a new revision and what it must answer.

    body:    sent as JSON; left out, nothing is sent.
    expect:  a part of the JSON answer: an object may hold more, a list may not.
    timeout: seconds for the one request.
    max_seconds: an answer that takes longer does not count; a slow first one
             is asked again, as any wrong one is.
    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    path: UrlPath
    body: Any = UNSET
    expect: Any = UNSET
    status: Annotated[int, Meta(ge=100, le=599)] = 200
    timeout: Annotated[float, Meta(gt=0, le=300)] = 10.0
    max_seconds: Annotated[float, Meta(gt=0, le=300)] | None = None


class Logs(Part, kw_only=True):
    """Where the containers' output goes.

    group:  of CloudWatch; by default /ecs/SERVICE.
    create: the execution role makes it when it is not there.
    """

    group: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_./#-]+$", max_length=512)] | None = None
    create: bool = True


class Sidecar(Part, kw_only=True):
    """A container beside the service's own, in the same task.

    image:      by digest, or the name of a component of this repository.
    essential:  the task stops when it ends.
    cpu, memory: of the task's, in CPU units and MiB; None for no share of its own.
    health_check: a command run inside, without a shell, that must exit with 0.
    depends_on: container -> what it must have come to before this one starts.
    """

    image: Annotated[str, Meta(min_length=1, max_length=1000)]
    essential: bool = False
    command: list[str] = []
    environment: dict[Variable, str] = {}
    secrets: dict[Variable, str] = {}
    port: Port | None = None
    cpu: Annotated[int, Meta(ge=1)] | None = None
    memory: Annotated[int, Meta(ge=6)] | None = None
    health_check: Annotated[list[str], Meta(min_length=1)] | None = None
    depends_on: DependsOn = {}


def check_variables(
    environment: Mapping[str, str], secrets: Mapping[str, str], *, where: str = ""
) -> None:
    """Raises ConfigError for a reserved variable, one that is there twice, or a
    secret that is not an ARN (never showing it). where: `sidecars.NAME.` or "".
    """
    for name in RESERVED:
        if not where and (name in environment or name in secrets):
            raise ConfigError(
                f"{FILE}: {name} may not be set by hand",
                "Leave it out; the deployment sets it from 'model'",
            )
    for name, arn in secrets.items():
        if not _SECRET.fullmatch(arn):  # it may be the secret itself: never shown
            raise ConfigError(
                f"{FILE}: {where}secrets.{name} is not an ARN of Secrets Manager or of an "
                "SSM parameter",
                "Store the value there and name its ARN; if a secret value was committed "
                "here, replace that secret",
            )
        if name in environment:
            raise ConfigError(
                f"{FILE}: {where}{name} is both in 'environment' and in 'secrets'",
                "Keep one of them",
            )
