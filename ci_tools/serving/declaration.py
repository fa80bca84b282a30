"""`servable.yaml`: what a repository says about one prediction service.

Limits of sizes and health checks are those of the ECS API reference
(RegisterTaskDefinition, HealthCheck) for Linux tasks on Fargate.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType, field

from ci_tools import config
from ci_tools.config_base import Name
from ci_tools.errors import ConfigError
from ci_tools.serving import strategy
from ci_tools.serving.parts import (
    FILE,
    RESERVED,
    ContainerName,
    DependsOn,
    HealthCheck,
    Logs,
    ModelSource,
    Part,
    Port,
    Sidecar,
    SmokeTest,
    Variable,
    check_variables,
)
from ci_tools.serving.strategy import Autoscaling, Deployment

__all__ = ["FILE", "RESERVED", "HealthCheck", "ModelSource", "Servable", "SmokeTest", "load", "of"]

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
_OWN_OVERRIDES = "environments"
Count = Annotated[int, Meta(ge=1, le=5000)]
Architecture = Literal["x86_64", "arm64"]


class Override(Part, kw_only=True):
    """What is otherwise in one environment.

    Mappings are merged key by key, everything else is replaced; null takes a
    key away, so that its default counts.
    """

    cpu: int | UnsetType | None = UNSET
    memory: int | UnsetType | None = UNSET
    architecture: Architecture | UnsetType | None = UNSET
    count: Count | UnsetType | None = UNSET
    autoscaled: bool | UnsetType | None = UNSET
    autoscaling: Autoscaling | UnsetType | None = UNSET
    deployment: Deployment | UnsetType | None = UNSET
    health_check: HealthCheck | UnsetType | None = UNSET
    environment: dict[Variable, str | None] | UnsetType | None = UNSET
    secrets: dict[Variable, str | None] | UnsetType | None = UNSET
    sidecars: dict[ContainerName, dict[str, Any] | None] | UnsetType | None = UNSET
    depends_on: dict[ContainerName, str | None] | UnsetType | None = UNSET
    logs: Logs | UnsetType | None = UNSET
    smoke: list[SmokeTest] | UnsetType | None = UNSET
    timeout: Annotated[int, Meta(gt=0)] | UnsetType | None = UNSET


class Servable(Part, kw_only=True):
    """The whole of servable.yaml.

    cpu:        CPU units, 1024 to a processor; memory: MiB.
    count:      tasks wanted.
    autoscaled: `count` counts only when the service is created or was scaled
                to 0; an autoscaler owns it from then on.
    autoscaling: that autoscaler, if it is ours to set up.
    secrets:    variable -> ARN of a Secrets Manager secret (with its JSON key,
                if any) or of an SSM parameter. Never a value.
    sidecars:   further containers of the task, by name.
    depends_on: sidecar -> what it must have come to before the service starts.
    smoke:      without any, a GET of the health check's path must answer 200.
    timeout:    seconds for the whole deployment, besides the waiting that its
                strategy declares (bake_minutes).
    environments: what is otherwise in an environment of ci.yaml.
    """

    service: Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", max_length=255)]
    cpu: int = 256
    memory: int = 512
    architecture: Architecture = "x86_64"
    port: Port = 8080
    count: Count = 1
    autoscaled: bool = False
    autoscaling: Autoscaling | None = None
    deployment: Deployment = field(default_factory=Deployment)
    health_check: HealthCheck = field(default_factory=HealthCheck)
    environment: dict[Variable, str] = {}
    secrets: dict[Variable, str] = {}
    sidecars: dict[ContainerName, Sidecar] = {}
    depends_on: DependsOn = {}
    logs: Logs = field(default_factory=Logs)
    model: ModelSource | None = None
    smoke: list[SmokeTest] = []
    timeout: Annotated[int, Meta(gt=0)] = 600
    environments: dict[Name, Override] = {}

    def __post_init__(self) -> None:
        if self.memory not in _MEMORY.get(self.cpu, ()):
            cpu, memory = nearest_size(self.cpu, self.memory)
            raise ConfigError(
                f"{FILE}: Fargate has no task with cpu {self.cpu} and memory {self.memory}",
                f"The nearest is cpu: {cpu} with memory: {memory}",
            )
        check_variables(self.environment, self.secrets)
        for name, sidecar in self.sidecars.items():
            check_variables(sidecar.environment, sidecar.secrets, where=f"sidecars.{name}.")
        wrong = self._containers() or strategy.problem(self.deployment, self.autoscaling)
        if wrong:
            raise ConfigError(f"{FILE}: {wrong}", "Mend it; nothing is deployed as it is")

    @property
    def smoke_tests(self) -> list[SmokeTest]:
        return self.smoke or [SmokeTest(path=self.health_check.path)]

    @property
    def longest_seconds(self) -> int:
        """How long a deployment may take."""
        return self.timeout + self.deployment.least_seconds

    @property
    def first_count(self) -> int:
        """Tasks to begin with."""
        if self.autoscaling is None:
            return self.count
        return min(max(self.count, self.autoscaling.min), self.autoscaling.max)

    @property
    def count_is_others(self) -> bool:
        """Whether an autoscaler owns the count of a service that runs."""
        return self.autoscaled or self.autoscaling is not None

    @property
    def log_group(self) -> str:
        return self.logs.group or f"/ecs/{self.service}"

    def _containers(self) -> str | None:
        """What ECS would refuse about the containers together, a sentence."""
        if self.service in self.sidecars:
            return f"a sidecar has the service's own name, '{self.service}'"
        ports = [self.port, *(s.port for s in self.sidecars.values() if s.port is not None)]
        if len(set(ports)) < len(ports):
            return "two containers of a task cannot listen on one port"
        for kind, whole in (("cpu", self.cpu), ("memory", self.memory)):
            shares = sum(getattr(s, kind) or 0 for s in self.sidecars.values())
            if shares >= whole:
                return f"the sidecars take {shares} of the task's {whole} {kind}"
        waits = {self.service: self.depends_on}
        waits |= {name: sidecar.depends_on for name, sidecar in self.sidecars.items()}
        for name, on in waits.items():
            for other, condition in on.items():
                beside = self.sidecars.get(other)
                if beside is None and other != self.service:
                    return f"'{name}' depends on '{other}', which is no container of this task"
                if condition == "HEALTHY" and beside is not None and not beside.health_check:
                    return f"'{name}' waits for '{other}' to be healthy, which has no health_check"
                if condition in ("COMPLETE", "SUCCESS") and (beside is None or beside.essential):
                    return f"'{name}' waits for '{other}' to end, which is essential"
        circle = _circle(waits)
        return f"{circle} wait for each other" if circle else None


def load(directory: Path, environment: str = "local") -> Servable:
    """Read `servable.yaml` of a directory, as it is in an environment.

    Raises ConfigError for YAML that does not parse, an unknown key (naming the
    nearest), a wrong type, a size that Fargate does not have (naming the
    nearest), or a secret that is not an ARN (never showing it); also where that
    is so in another environment only.
    """
    name = f"{directory.name}/{FILE}"
    try:
        content = (directory / FILE).read_bytes()
    except OSError as error:
        raise ConfigError(f"{name} cannot be read ({error.strerror})", "Mend the file") from error
    return of(content, environment, name=name)


def of(content: bytes, environment: str, *, name: str = FILE) -> Servable:
    """A declaration from its bytes, as a release carries them; as `load` otherwise."""
    data = config.data(content, name)
    whole = config.convert(data, Servable, name=name, content=content)
    if not isinstance(data, dict):
        raise AssertionError("msgspec makes a Servable of a mapping only")
    merged = {
        other: config.convert(
            merge(data, data[_OWN_OVERRIDES][other]), Servable, name=f"{name} in '{other}'"
        )
        for other in whole.environments
    }
    return merged.get(environment, whole)


def merge(whole: dict[str, Any], override: dict[str, Any]) -> dict[str, Any]:
    """`whole` with an override: mappings key by key, null takes a key away. Pure."""
    made = dict(whole)
    for key, value in override.items():
        if value is None:
            made.pop(key, None)
        elif isinstance(value, dict):
            below = made.get(key)
            made[key] = merge(below if isinstance(below, dict) else {}, value)
        else:
            made[key] = value
    return made


def nearest_size(cpu: int, memory: int) -> tuple[int, int]:
    """The Fargate size that holds what was asked for with the least to spare.

    The largest one where nothing is large enough.
    """
    sizes = [(c, m) for c, memories in _MEMORY.items() for m in memories]
    enough = [(c, m) for c, m in sizes if c >= cpu and m >= memory]
    return min(enough) if enough else max(sizes)


def _circle(waits: dict[str, DependsOn]) -> str:
    """Containers that wait for each other, "" where none do."""
    left = {name: set(on) for name, on in waits.items()}
    while True:
        free = [name for name, on in left.items() if not on & set(left)]
        if not free:
            return ", ".join(sorted(left))
        for name in free:
            del left[name]
