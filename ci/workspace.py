"""What every stage needs to know: the repository, the environment, where files go."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import msgspec

from ci.console import Console
from ci_tools import config as configuration
from ci_tools import git, local, storage
from ci_tools.components import context, discovery, keys, templates
from ci_tools.components.discovery import Component
from ci_tools.components.references import valid_name
from ci_tools.components.templates import Template
from ci_tools.config import Config, Environment, PredictionService, Registry
from ci_tools.documents import Document, Plan, Source
from ci_tools.errors import ConfigError
from ci_tools.images.secrets import Secrets
from ci_tools.scanner import declared, policy
from ci_tools.serving import declaration
from ci_tools.serving.declaration import Servable

D = TypeVar("D", bound=Document)
LOCAL = "local"


@dataclass(eq=False)
class Workspace:
    """One invocation's view of the world. Reading it changes nothing.

    repository: its root. build: where the stages' files go.
    config_file: of another project in the repository; None for ci.yaml at its root.
    home:    state of this machine (embedded environment, caches).
    dry_run: nothing may be written, started or asked over the network.
    planned: what `plan` last said here, for a dry run leaves no plan.json.
    """

    repository: Path
    build: Path
    environment_name: str = LOCAL
    home: Path = field(default_factory=local.home_directory)
    dry_run: bool = False
    console: Console = field(default_factory=Console)
    config_file: Path | None = None
    planned: Plan | None = field(default=None, init=False)

    @cached_property
    def config(self) -> Config:
        if self.config_file is not None:
            return configuration.parse(self.config_file, Config)
        return configuration.load(self.repository)

    @property
    def declared_in(self) -> Path:
        """The directory of ci.yaml, which bases.lock is beside."""
        return self.repository if self.config_file is None else self.config_file.parent

    @cached_property
    def project(self) -> str:
        return self.config.project or valid_name(git.default_name(self.repository)) or "project"

    @cached_property
    def source(self) -> Source:
        return git.source(self.repository)

    @cached_property
    def epoch(self) -> int | None:
        """The time that images are made to bear, in seconds since 1970: of the
        commit, so that building it again gives the same bytes where the Dockerfile
        allows. SOURCE_DATE_EPOCH comes first; None where there is no commit.

        Raises ConfigError for a SOURCE_DATE_EPOCH that is no number.
        """
        given = os.environ.get("SOURCE_DATE_EPOCH")
        if not given:
            return git.commit_time(self.repository)
        if not given.isdecimal():
            raise ConfigError(
                f"SOURCE_DATE_EPOCH is '{given}', which is no number of seconds",
                "Set it to seconds since 1970, or unset it",
            )
        return int(given)

    @cached_property
    def origin(self) -> str | None:
        return git.origin(self.repository)

    @cached_property
    def files(self) -> list[str]:
        return git.files(self.repository)

    @cached_property
    def components(self) -> dict[str, Component]:
        """Raises what discovery raises, and ConfigError for a context that would be
        sent the stages' files; those in the default directory `keys` checks."""
        found = discovery.discover(self.repository, self.config, self.project, self.files)
        if self.build != self.repository / keys.OUTPUTS:
            for component in found.values():
                folder, file = component.context, component.dockerfile
                context.check_outputs(self.repository / folder, self.repository / file, self.build)
        return found

    @cached_property
    def templates(self) -> list[Template]:
        """The component templates of the repository. Raises TemplateError."""
        settings = self.config.pipelines
        return templates.find(
            self.repository,
            self.files,
            settings.templates,
            self.components,
            self.project,
            settings.allow_images,
            templates.aliases(settings.images, settings.image_patterns, self.components),
        )

    @cached_property
    def servables(self) -> dict[str, Servable]:
        """Component name -> declaration, for every directory that holds one.

        Raises ConfigError, also for a declaration without a Dockerfile beside it, and
        for a pattern that is none.
        """
        found: dict[str, Servable] = {}
        by_directory = {
            str(Path(component.dockerfile).parent): name
            for name, component in self.components.items()
        }
        for pattern in self.config.servables:
            try:
                paths = sorted(self.repository.glob(f"{pattern}/{declaration.FILE}"))
            except (NotImplementedError, ValueError) as error:
                raise ConfigError(
                    f"ci.yaml: '{pattern}' of 'servables' is no pattern ({error})",
                    "Write it relative to the repository, as in 'servables/*'",
                ) from error
            for path in paths:
                directory = str(path.parent.relative_to(self.repository))
                if directory not in by_directory:
                    raise ConfigError(
                        f"{directory} declares a servable but holds no Dockerfile",
                        f"Put its Dockerfile beside {declaration.FILE}",
                    )
                found[by_directory[directory]] = declaration.load(
                    path.parent, self.environment_name
                )
        return found

    @cached_property
    def environment(self) -> Environment:
        """The endpoints to use. `local` without any is embedded, and brought up.

        Raises ConfigError for another environment that does not name a
        registry, LocalEnvironmentError, EngineError.
        """
        declared = self.config.environment(self.environment_name)
        if self.environment_name != LOCAL:
            if declared.registry is None:
                raise ConfigError(
                    f"environment '{self.environment_name}' names no registry",
                    f"Add environments.{self.environment_name}.registry to ci.yaml",
                )
            return declared
        if declared.registry is not None and declared.service is not None:
            return declared
        if self.dry_run:
            embedded = _embedded_at_rest()
        else:
            with self.console.working("local", "starting the embedded environment"):
                services = {
                    servable.service: local.Served(servable.port, servable.health_check.path)
                    for servable in self.servables.values()
                }
                embedded = local.environment(local.up(self.home), services)
        return msgspec.structs.replace(
            declared,
            registry=declared.registry or embedded.registry,
            service=declared.service or embedded.service,
            allow_incomplete_scan=True,
        )

    @cached_property
    def scan_policy(self) -> policy.Active:
        """What counts against an image in this environment. Raises ConfigError."""
        environments = {LOCAL, *self.config.environments}
        whole = declared.load(self.repository, self.config.scan, environments)
        return policy.active(whole, self.environment_name, self.repository)

    @cached_property
    def secrets(self) -> Secrets:
        """The build secrets, looked up when something is first built."""
        return Secrets(self.config.build.secrets, self.config.build.ssh, dry_run=self.dry_run)

    @property
    def embedded(self) -> bool:
        """Whether the embedded environment serves the images."""
        return self.environment_name == LOCAL and self.config.environment(LOCAL).registry is None

    @property
    def registry(self) -> Registry:
        registry = self.environment.registry
        if registry is None:
            raise AssertionError("Workspace.environment always has a registry")
        return registry

    def repository_of(self, component: str, *, apart: bool = False) -> str:
        """The path of a component's images in the registry.

        apart: of those that `branch_apart` builds.
        """
        return self.registry.repository(self.project, component, apart=apart)

    def quarantine_of(self, component: str) -> str:
        """The path of images that the scan refused, where nothing that runs looks for any."""
        prefix = (self.registry.prefix or "").strip("/")
        return "/".join(part for part in (prefix, "quarantine", self.project, component) if part)

    @cached_property
    def branch_apart(self) -> str | None:
        """The branch, if its images are kept apart from main's; None if they are main's."""
        branches = self.registry.branches
        return None if branches is None else self.apart_from(branches.main)

    def apart_from(self, patterns: Sequence[str]) -> str | None:
        """The branch of this checkout, unless it is one of main's, by these patterns.

        A pull request is one whatever its branch is called, for that name is its
        author's; so is a checkout of which nobody knows the branch.
        """
        branch = self.source.branch or "unknown"
        change = os.environ.get("CHANGE_ID")  # Jenkins sets it for pull requests
        if change:
            return f"pr-{change}"
        main = any(fnmatch.fnmatchcase(branch, pattern) for pattern in patterns)
        return None if main else branch

    def service_settings(self) -> PredictionService:
        """Raises ConfigError where the environment has no prediction service."""
        service = self.environment.service
        if service is None:
            raise ConfigError(
                f"environment '{self.environment_name}' names no prediction service",
                f"Add environments.{self.environment_name}.service to ci.yaml",
            )
        return service

    def read(self, name: str, kind: type[D], *, made_by: str) -> D:
        """A document of an earlier stage. Raises MissingInputError."""
        return storage.read(self.build / name, kind, made_by=made_by)

    def write(self, name: str, document: Document) -> None:
        """Write a stage's document, unless this is a dry run. Raises WriteError."""
        if self.dry_run:
            return
        ignore = self.build / ".gitignore"
        if not ignore.exists():  # what we make must not make the work tree dirty
            storage.write_bytes(ignore, b"*\n")
        storage.write(self.build / name, document)

    def shown(self, path: Path) -> str:
        """A path as a person wants to read it: what is below the repository from there."""
        return str(
            path.relative_to(self.repository) if path.is_relative_to(self.repository) else path
        )


def _embedded_at_rest() -> Environment:
    """The embedded environment as a dry run speaks of it: no port is known for sure."""
    return Environment(
        registry=Registry(host="127.0.0.1:5100", plain_http=True),
        service=PredictionService(
            cluster="local",
            region="us-east-1",
            endpoint_url="http://127.0.0.1:4566",
            subnets=["subnet-local"],
        ),
        allow_incomplete_scan=True,
    )
