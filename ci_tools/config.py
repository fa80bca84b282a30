"""`ci.yaml`: what a repository says about itself. Every part is optional.

The types below are the schema: `ci_tools/schemas/ci.schema.json` is generated
from them for editors (`python -m ci schema ci.yaml`), and a test keeps the two
equal.
"""

from __future__ import annotations

import inspect
import os
import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import yaml
from msgspec import Meta

from ci_tools import typed, yaml_safe
from ci_tools.config_base import Name, Seconds, SecretId, Section
from ci_tools.config_errors import did_you_mean, explained
from ci_tools.config_jenkins import Jenkins as Jenkins
from ci_tools.config_kubeflow import Bound as Bound
from ci_tools.config_kubeflow import DexLogin as DexLogin
from ci_tools.config_kubeflow import KubeflowServer as KubeflowServer
from ci_tools.config_kubeflow import Pipeline as Pipeline
from ci_tools.config_kubeflow import PipelineBranches as PipelineBranches
from ci_tools.config_kubeflow import Pipelines as Pipelines
from ci_tools.config_lint import Lint
from ci_tools.config_release import Promotion as Promotion
from ci_tools.config_release import Signing as Signing
from ci_tools.config_service import PredictionService as PredictionService
from ci_tools.config_service import TrafficShift as TrafficShift
from ci_tools.errors import ConfigError
from ci_tools.scanner.policy import Policy

FILE = "ci.yaml"
T = TypeVar("T")
_HOST = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?")
_PATH = re.compile(r"[a-z0-9]+([._/-]+[a-z0-9]+)*")

# Without aliases (x86_64, aarch64, arm64/v8), so that equal ones read equal.
Platform = Annotated[
    str,
    Meta(pattern=r"^linux/(386|amd64(/v[234])?|arm/v[567]|arm64|ppc64le|riscv64|s390x)$"),
]
Platforms = Annotated[tuple[Platform, ...], Meta(min_length=1)]


class Component(Section):
    """Overrides for one component, found or not. Paths are relative to the repository.

    args: build arguments; one that no ARG of the Dockerfile declares is left out.
    platforms: instead of `build.platforms`.
    test: a command that is run in the built image instead of its `test` stage.
    timeout: seconds for building and testing it; by default `build.timeout`.
    """

    dockerfile: str | None = None
    context: str | None = None
    target: str | None = None
    args: dict[str, str] = {}
    platforms: Platforms | None = None
    test: list[str] | None = None
    timeout: Seconds | None = None


class Cache(Section):
    """Layers kept in the registry, so that an agent without any need not make all
    anew. repository: below the project's; on ECR its tags are mutable.
    """

    repository: Name = "cache"


class BuildSecret(Section):
    """Where one build secret is: exactly one of file, env and aws.

    file: on this machine. env: name of a variable.
    aws: ARN or name of a secret in Secrets Manager; key: one field of it, where
    it is a JSON object.
    """

    file: Annotated[str, Meta(min_length=1)] | None = None
    env: Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    aws: Annotated[str, Meta(pattern=r"^(arn:aws[a-z-]*:secretsmanager:\S+|[^:\s]+)$")] | None = (
        None
    )
    key: Annotated[str, Meta(min_length=1)] | None = None

    def __post_init__(self) -> None:
        if sum(place is not None for place in (self.file, self.env, self.aws)) != 1:
            raise ValueError("a build secret has exactly one of file, env and aws")
        if self.key is not None and self.aws is None:
            raise ValueError("only a build secret of aws has a key")


class Build(Section):
    """jobs: images built at once (default: two more than processors).

    platforms: what every image is built for.
    timeout: seconds for building and testing one image.
    attempts: how often a pull or push is tried that fails for a passing reason.
    cache: keep layers in the registry, for agents that come without any.
    agent_seconds: what it takes to get an agent ready for a shard (start, checkout,
    set-up); `plan --shards auto` divides only where that pays.

    secrets: BuildKit secret id -> file on this machine, or where else it is.
    `ca-bundle`, this machine's CA bundle, is always offered; a secret never
    enters a key.
    ssh: what `RUN --mount=type=ssh` may use: `default`, the running agent, or
    `id=path` of a key or of an agent's socket.
    """

    jobs: Annotated[int, Meta(ge=1)] | None = None
    timeout: Seconds = 3600
    platforms: Platforms = ("linux/amd64",)
    attempts: Annotated[int, Meta(ge=1, le=10)] = 4
    cache: Cache | None = None
    agent_seconds: Annotated[int, Meta(ge=0)] = 60
    secrets: dict[SecretId, str | BuildSecret] = {}
    ssh: list[Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]+(=.+)?$")]] = []


class Scan(Policy):
    """The scan gate: its policy, unless scan-policy.yaml has it, and how Trivy is run.

    timeout: seconds for looking into one image.
    database, java_database, checks: OCI repositories (a company's mirror) of the
    vulnerability database, the index of Java libraries and the misconfiguration
    checks, with a tag or a digest; Trivy's own public ones where they are not given,
    and its built-in checks.
    """

    timeout: Seconds = 900
    database: str | None = None
    java_database: str | None = None
    checks: str | None = None


class Branches(Section):
    """Keeps what branches and pull requests build apart from what main uses: they
    look for images where main keeps its own, and push below `prefix`, which is
    all that their credentials need allow. main: patterns of branches.
    """

    main: tuple[str, ...] = ("main", "master")
    prefix: str = "branches"


class Ecr(Section):
    """How a repository is made in ECR; one that is there stays as it is.

    Tags are always immutable, and images tagged `release-*` never expire, nor does what is
    attached to an image before the image does.
    encryption: `AES256`, or the ARN of a KMS key.
    untagged_days: days after which an image that no tag names is deleted.
    expire_days: the same for the images of keys; without it they stay.
    """

    scan_on_push: bool = True
    encryption: Annotated[
        str, Meta(pattern=r"^(AES256|arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:(key|alias)/\S+)$")
    ] = "AES256"
    untagged_days: Annotated[int, Meta(ge=1)] = 14
    expire_days: Annotated[int, Meta(ge=1)] | None = None


class Registry(Section):
    """host: `127.0.0.1:5100` or `<account>.dkr.ecr.<region>.amazonaws.com`.

    prefix: path before the project's name, as in `prefix/project/component`.
    plain_http: for a registry without TLS; loopback ones need not say so.
    branches: without it all branches share one repository a component.
    locks: `s3://bucket/prefix`, where CI publishes its locks; beside the images
    where it is not given.
    """

    host: str
    prefix: str | None = None
    plain_http: bool = False
    branches: Branches | None = None
    ecr: Ecr = msgspec.field(default_factory=Ecr)
    locks: Annotated[str, Meta(pattern=r"^s3://[a-z0-9][a-z0-9.-]+(/[^/].*)?$")] | None = None

    def __post_init__(self) -> None:
        if not _HOST.fullmatch(self.host):  # which is not shown: it may hold a password
            raise ValueError(
                "registry.host is no host alone, as 'registry.example.com' or '127.0.0.1:5100'"
            )
        if self.prefix and not _PATH.fullmatch(self.prefix.strip("/")):
            raise ValueError("registry.prefix is no path of a registry, as 'team/models'")

    def repository(self, project: str, name: str, *, apart: bool = False) -> str:
        """The path of what belongs to a project, without the host.

        apart: of what branches keep for themselves, where they do.
        """
        parts = [self.prefix, self.branches.prefix if apart and self.branches else None]
        return "/".join([*(part.strip("/") for part in parts if part), project, name])


class Environment(Section):
    """A set of endpoints. What is None is embedded, which only `local` may use.

    allow_incomplete_scan: go on (loudly) where no vulnerability database can
    be had.
    releases: where releases are kept beside the registry: `s3://bucket/prefix`. The
    lock of promotions is there, too.
    signing: without it releases are not signed, and no environment takes them; with it
    only signed records of promotions to this environment are believed.
    """

    registry: Registry | None = None
    kubeflow: KubeflowServer | None = None
    service: PredictionService | None = None
    allow_incomplete_scan: bool = False
    releases: Annotated[str, Meta(pattern=r"^s3://[a-z0-9][a-z0-9.-]+(/[^\s]*)?$")] | None = None
    signing: Signing | None = None
    promotion: Promotion = msgspec.field(default_factory=Promotion)


class Config(Section):
    """The whole of ci.yaml.

    project: the first part of every image's repository; by default the name of
    the repository.
    ignore: patterns, as in .gitignore, of Dockerfiles that are no components.
    """

    project: Name | None = None
    ignore: list[str] = []
    components: dict[Name, Component] = {}
    build: Build = msgspec.field(default_factory=Build)
    scan: Scan = msgspec.field(default_factory=Scan)
    lint: Lint = msgspec.field(default_factory=Lint)
    pipelines: Pipelines = msgspec.field(default_factory=Pipelines)
    servables: tuple[str, ...] = ("servable", "servables/*")
    jenkins: Jenkins = msgspec.field(default_factory=Jenkins)
    environments: dict[Name, Environment] = {}

    def environment(self, name: str) -> Environment:
        """The environment `name`; `local` exists without being declared.

        Raises ConfigError, naming the nearest declared one.
        """
        if name in self.environments:
            return self.environments[name]
        if name == "local":
            return Environment(allow_incomplete_scan=True)
        raise ConfigError(
            f"environment '{name}' is not declared in {FILE}",
            did_you_mean(name, ["local", *self.environments])
            or f"Declare it under 'environments:' or use one of: "
            f"{', '.join(['local', *self.environments])}",
        )


def load(repository: Path) -> Config:
    """Read and check `ci.yaml` of a repository; the defaults if there is none.

    Raises ConfigError for YAML that does not parse, an unknown key (naming the
    nearest valid one), a key that is there twice, or a wrong type.
    """
    path = repository / FILE
    if not os.path.lexists(path):  # a link that leads nowhere was meant to be read
        return Config()
    return parse(path, Config)


def parse(path: Path, kind: type[T], *, name: str | None = None, schema: str | None = None) -> T:
    """Read one YAML declaration as `kind`, with errors a person can act on.

    name: how errors call it. schema: what `python -m ci schema` calls its kind.
    Both are the file's name where they are not given.

    Raises ConfigError.
    """
    name = name or path.name
    try:
        if path.is_fifo() or path.is_socket():  # it would be waited for
            raise ConfigError(f"{name} is no regular file", "Mend the file")
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{name} cannot be read ({error.strerror})", "Mend the file") from error
    return convert(data(content, name), kind, name=name, schema=schema, content=content)


def data(content: bytes, name: str) -> Any:
    """What YAML says, {} where it says nothing. name: of the file, for messages.

    Raises ConfigError.
    """
    try:
        read = yaml_safe.load(content.decode(), unique_keys=True)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name} is not UTF-8 text", "Save it as UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise ConfigError(f"{name} does not parse{where} ({problem})", "Mend the YAML") from error
    return {} if read is None else read


def convert(
    data: Any, kind: type[T], *, name: str, schema: str | None = None, content: bytes = b""
) -> T:
    """What was read from YAML as `kind`. name, schema: as of `parse`. content: the YAML
    itself, whose lines errors name.

    Raises ConfigError.
    """
    try:
        return typed.convert(data, kind)
    except msgspec.ValidationError as error:
        raise explained(name, kind, str(error), schema, data, content.decode()) from error


def schema(kind: type[Any], title: str) -> dict[str, Any]:
    """The JSON schema of a declaration, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **_dedented(msgspec.json.schema(kind)),
    }


def _dedented(node: Any) -> Any:
    """Descriptions come from docstrings, which Python 3.13 dedents and others do not."""
    if isinstance(node, list):
        return [_dedented(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: inspect.cleandoc(value)
        if key == "description" and isinstance(value, str)
        else _dedented(value)
        for key, value in node.items()
    }
