"""`servable.yaml`: what a repository says about one prediction service.

Limits of sizes and health checks are those of the ECS API reference
(RegisterTaskDefinition, HealthCheck) for Linux tasks on Fargate.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta

from ci_tools import config
from ci_tools.errors import ConfigError

FILE = "servable.yaml"
RESERVED = ("MODEL_URI", "MODEL_SHA256")

Variable = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=255)]
# What may stand in a request line without quoting: the path goes into a health
# check inside the container too.
UrlPath = Annotated[str, Meta(pattern=r"^/[A-Za-z0-9._~/%?=&+,:@-]*$", max_length=1000)]

_ARN = re.compile(
    r"arn:aws(-[a-z]+)*:"
    r"(secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[A-Za-z0-9/_+=.@-]+(:[^\s:]*){0,3}"
    r"|ssm:[a-z0-9-]+:[0-9]{12}:parameter/[A-Za-z0-9_./-]+)"
)
_GB = 1024
_MEMORY = {  # CPU units -> MiB that Fargate gives with them
    256: (512, _GB, 2 * _GB),
    512: tuple(range(_GB, 4 * _GB + 1, _GB)),
    1024: tuple(range(2 * _GB, 8 * _GB + 1, _GB)),
    2048: tuple(range(4 * _GB, 16 * _GB + 1, _GB)),
    4096: tuple(range(8 * _GB, 30 * _GB + 1, _GB)),
    8192: tuple(range(16 * _GB, 60 * _GB + 1, 4 * _GB)),
    16384: tuple(range(32 * _GB, 120 * _GB + 1, 8 * _GB)),
}


class _Part(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    pass


class HealthCheck(_Part, kw_only=True):
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


class ModelSource(_Part, kw_only=True):
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


class SmokeTest(_Part, kw_only=True):
    """One request to a new revision and what it must answer.

    body:    sent as JSON; left out, nothing is sent.
    expect:  a part of the JSON answer: an object may hold more, a list may not.
    timeout: seconds for the one request.
    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    path: UrlPath
    body: Any = UNSET
    expect: Any = UNSET
    status: Annotated[int, Meta(ge=100, le=599)] = 200
    timeout: Annotated[float, Meta(gt=0, le=300)] = 10.0


class Servable(_Part, kw_only=True):
    """The whole of servable.yaml.

    cpu:        CPU units, 1024 to a processor; memory: MiB.
    count:      tasks wanted.
    autoscaled: `count` counts only when the service is created or was scaled
                to 0; an autoscaler owns it from then on.
    secrets:    variable -> ARN of a Secrets Manager secret (with its JSON key,
                if any) or of an SSM parameter. Never a value.
    smoke:      without any, a GET of the health check's path must answer 200.
    timeout:    seconds for the whole deployment.
    """

    service: Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", max_length=255)]
    cpu: int = 256
    memory: int = 512
    port: Annotated[int, Meta(ge=1, le=65535)] = 8080
    count: Annotated[int, Meta(ge=1, le=5000)] = 1
    autoscaled: bool = False
    health_check: HealthCheck = msgspec.field(default_factory=HealthCheck)
    environment: dict[Variable, str] = {}
    secrets: dict[Variable, str] = {}
    model: ModelSource | None = None
    smoke: list[SmokeTest] = []
    timeout: Annotated[int, Meta(gt=0)] = 600

    def __post_init__(self) -> None:
        if self.memory not in _MEMORY.get(self.cpu, ()):
            cpu, memory = nearest_size(self.cpu, self.memory)
            raise ConfigError(
                f"{FILE}: Fargate has no task with cpu {self.cpu} and memory {self.memory}",
                f"The nearest is cpu: {cpu} with memory: {memory}",
            )
        for name in RESERVED:
            if name in self.environment or name in self.secrets:
                raise ConfigError(
                    f"{FILE}: {name} may not be set by hand",
                    "Leave it out; the deployment sets it from 'model'",
                )
        for name, arn in self.secrets.items():
            if not _ARN.fullmatch(arn):  # it may be the secret itself: never shown
                raise ConfigError(
                    f"{FILE}: secrets.{name} is not an ARN of Secrets Manager or of an "
                    "SSM parameter",
                    "Store the value there and name its ARN; if a secret value was committed "
                    "here, replace that secret",
                )
            if name in self.environment:
                raise ConfigError(
                    f"{FILE}: {name} is both in 'environment' and in 'secrets'",
                    "Keep one of them",
                )

    @property
    def smoke_tests(self) -> list[SmokeTest]:
        return self.smoke or [SmokeTest(path=self.health_check.path)]


def load(directory: Path) -> Servable:
    """Read `servable.yaml` of a directory.

    Raises ConfigError for YAML that does not parse, an unknown key (naming the
    nearest), a wrong type, a size that Fargate does not have (naming the
    nearest), or a secret that is not an ARN (never showing it).
    """
    return config.parse(directory / FILE, Servable, name=f"{directory.name}/{FILE}")


def nearest_size(cpu: int, memory: int) -> tuple[int, int]:
    """The Fargate size that holds what was asked for with the least to spare.

    The largest one where nothing is large enough.
    """
    sizes = [(c, m) for c, memories in _MEMORY.items() for m in memories]
    enough = [(c, m) for c, m in sizes if c >= cpu and m >= memory]
    return min(enough) if enough else max(sizes)
