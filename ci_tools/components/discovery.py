"""Finding components: every Dockerfile of a repository is one."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from ci_tools import git
from ci_tools.components import arguments, stages
from ci_tools.components import dockerfile as dockerfiles
from ci_tools.components.dockerfile import Dockerfile
from ci_tools.components.folders import Folders
from ci_tools.components.references import component_named, split, valid_name
from ci_tools.components.stages import Work
from ci_tools.config import Component as Override
from ci_tools.config import Config
from ci_tools.errors import ConfigError, DuplicateComponentError

# `Dockerfile.gpu` and `gpu.Dockerfile` are variants; these endings are not.
_NOT_A_VARIANT = frozenset("dockerignore md txt j2 in tmpl template bak orig swp".split())
_VARIANT = re.compile(
    r"^(?:[Dd]ockerfile|Dockerfile\.(?P<after>.+)|(?P<before>.+)\.[Dd]ockerfile)$"
)
TEST_STAGE = "test"


@dataclass(frozen=True)
class Component:
    """One image of the repository. Paths are relative to it, with `/`.

    folder:    the context's real path, links followed.
    parsed:    the Dockerfile as it reads for each platform.
    platforms: sorted, each once.
    args:      build arguments that the image may depend on.
    predefined: build arguments that the build gets, but that no key counts.
    unused_args: configured, but no ARG is of that name: the build gets them not.
    test:      a command for the built image; None: the `test` stage, if any.
    images:    every reference that the build reads from, as written.
    syntax:    that of the Dockerfile's frontend, None for the engine's own.
    parents:   those of them that mean siblings -> component name.
    bases:     the others, which are external.
    remotes:   URLs that ADD fetches, whose content nothing fixes.
    """

    name: str
    dockerfile: str
    context: str
    folder: str
    parsed: tuple[Dockerfile, ...]
    platforms: tuple[str, ...] = (dockerfiles.PLATFORM,)
    target: str | None = None
    args: dict[str, str] = field(default_factory=dict)
    predefined: dict[str, str] = field(default_factory=dict)
    unused_args: tuple[str, ...] = ()
    test: tuple[str, ...] | None = None
    timeout: int | None = None
    images: tuple[str, ...] = ()
    syntax: str | None = None
    parents: dict[str, str] = field(default_factory=dict)
    bases: tuple[str, ...] = ()
    remotes: tuple[str, ...] = ()

    @property
    def test_target(self) -> str | None:
        return TEST_STAGE if self.test is None and self.parsed[0].has_stage(TEST_STAGE) else None

    def holds(self, path: str) -> bool:
        """Whether a path of the repository is in the context, there or not."""
        return self.folder == "." or f"{path}/".startswith(f"{self.folder}/")

    @property
    def triggers(self) -> Work:
        """The ONBUILD instructions that a build on this image runs."""
        found = self.parsed[0].stages
        return found[stages.target(found, self.target)].triggers


def discover(
    repository: Path, config: Config, project: str, files: Iterable[str] | None = None
) -> dict[str, Component]:
    """Every component by name, in order of name. files: as `git.files` gives them.

    A component's name is its directory's, with the variant behind a dash; the
    context is that directory. `ci.yaml` overrides both, adds components whose
    Dockerfile is called otherwise, and leaves Dockerfiles out.

    Raises DockerfileError, DuplicateComponentError, or ConfigError for an
    override of a Dockerfile that is not there or lies outside the repository.
    """
    found = _locations(git.files(repository) if files is None else files, config, project)
    folders = Folders(repository)
    components = {name: _read(folders, name, found[name], config) for name in sorted(found)}
    return {name: _linked(one, components, project) for name, one in components.items()}


def contexts(
    repository: Path, config: Config, project: str, files: Iterable[str]
) -> list[tuple[str, str]]:
    """Paths of contexts and their Dockerfiles, without those whose context ci.yaml
    sets, before anything of them is read. Raises as `discover`."""
    root = str(repository)
    return [
        (f"{root}/{path}".rpartition("/")[0], f"{root}/{path}")
        for name, path in _locations(files, config, project).items()
        if name not in config.components or config.components[name].context is None
    ]


def _locations(files: Iterable[str], config: Config, project: str) -> dict[str, str]:
    """Component name -> Dockerfile path."""
    overridden: dict[str, str] = {}
    for declared, override in config.components.items():
        if override.dockerfile is not None:
            overridden[str(PurePosixPath(override.dockerfile))] = declared
    ignored = _ignored(config)
    found: dict[str, str] = {}
    for path in files:
        name = overridden.get(path) or _name(path, project)
        if name is None or ignored(path):
            continue
        _check_path(path, name)
        if name in found:
            raise DuplicateComponentError(
                f"two Dockerfiles make one component '{name}': {found[name]} and {path}",
                "Rename a directory, or give one a name under 'components:' in ci.yaml",
            )
        found[name] = path
    for declared, override in config.components.items():
        wanted = override.dockerfile and str(PurePosixPath(override.dockerfile))
        if found.get(declared) is None or wanted not in (None, found[declared]):
            missing = override.dockerfile or "its Dockerfile"
            raise ConfigError(
                f"ci.yaml: component '{declared}' is declared "
                f"but {missing} is not in the repository",
                f"Mend 'components.{declared}' or take it out",
            )
    return found


def _ignored(config: Config) -> Callable[[str], bool]:
    """Whether a path is under `ignore:`, whose patterns are those of .gitignore."""
    if not config.ignore:
        return lambda _: False
    import pathspec  # 20 ms that a repository without `ignore:` need not spend

    try:
        return pathspec.GitIgnoreSpec.from_lines(config.ignore).match_file
    except ValueError as error:
        raise ConfigError(f"ci.yaml: 'ignore' holds no pattern ({error})", "Mend it") from error


def _name(path: str, project: str) -> str | None:
    """The name a Dockerfile's path stands for, or None if it is no Dockerfile."""
    if "ockerfile" not in path:
        return None
    parent, _, file = path.rpartition("/")
    match = _VARIANT.match(file)
    if match is None:
        return None
    variant = match["after"] or match["before"] or ""
    if variant.rpartition(".")[2].lower() in _NOT_A_VARIANT:
        return None
    return valid_name(f"{parent.rpartition('/')[2] or project}-{variant}")


def _check_path(path: str, name: str) -> None:
    """A Dockerfile must have a name in the registry, and its path a place in JSON."""
    shown = path.encode("utf-8", "backslashreplace").decode()
    if not name:
        raise ConfigError(
            f"no component can be named after {shown}: a name is of a-z, 0-9 and . _ -",
            "Give it one under 'components:' in ci.yaml, or add it to 'ignore:'",
        )
    if shown != path:
        raise ConfigError(
            f"the path {shown} is not UTF-8", "Rename the directory, or add it to 'ignore:'"
        )


def _stays(link: Path) -> bool:
    # Not Path.resolve, which raises RuntimeError for a link to itself.
    return Path(os.path.realpath(link)).is_relative_to(os.path.realpath(link.parent))


def _read(folders: Folders, name: str, path: str, config: Config) -> Component:
    override = config.components.get(name, Override())
    context = path.rpartition("/")[0] or "."
    if override.context is not None:
        context = str(PurePosixPath(override.context))
    folder = folders.relative(context)
    if folder is None:
        raise ConfigError(
            f"ci.yaml: the context '{context}' of component '{name}' "
            "is no directory of the repository",
            f"Mend 'components.{name}.context'",
        )
    # BuildKit is sent the Dockerfile's directory and finds no file beyond it.
    file = f"{folders.repository}/{path}"
    if os.path.islink(file) and not _stays(Path(file)):  # noqa: PTH114 - for every component
        raise ConfigError(
            f"{path} is a symbolic link that leaves its directory",
            "Put the file itself there, or name it under 'components:' in ci.yaml",
        )
    platforms = tuple(sorted({*(override.platforms or config.build.platforms)}))
    parsed = dockerfiles.read(file, override.args, platforms, shown=path)
    target = override.target
    if target is not None and not parsed[0].has_stage(target.lower()):
        raise ConfigError(
            f"ci.yaml: component '{name}' has the target '{target}', which {path} does not define",
            f"Mend 'components.{name}.target'",
        )
    return Component(
        name=name,
        dockerfile=path,
        context=context,
        folder=folder,
        parsed=parsed,
        platforms=platforms,
        target=target,
        args=dict(override.args),
        test=tuple(override.test) if override.test is not None else None,
        timeout=override.timeout,
    )


def _linked(component: Component, all_: dict[str, Component], project: str) -> Component:
    """With what its build reaches, and its references sorted into siblings and bases."""

    def sibling(reference: str) -> str | None:
        # `FROM python` in the component called python means Docker Hub's.
        return component_named(reference, all_, project) if reference != component.name else None

    def triggers(reference: str) -> Work:
        parent = sibling(reference)
        return all_[parent].triggers if parent else Work()

    targets = [component.target, *([component.test_target] if component.test_target else [])]
    reached = [
        stages.reach(one.stages, targets, shown=component.dockerfile, triggers=triggers)
        for one in component.parsed
    ]
    declared = {*component.parsed[0].arguments}.union(*(one.arguments for one in reached))
    given = arguments.sort(component.args, declared)
    syntax = given.syntax if given.syntax is not None else component.parsed[0].syntax
    images = tuple(dict.fromkeys(image for one in reached for image in one.images))
    parents: dict[str, str] = {}
    bases: list[str] = []
    for reference in dict.fromkeys([*images, *([syntax] if syntax else [])]):
        name = sibling(reference)
        if name is not None:
            parents[reference] = name
        elif split(reference).path.startswith(f"{project}/"):
            raise ConfigError(
                f"{component.dockerfile} builds FROM '{reference}', "
                f"but this repository has no component '{split(reference).path.partition('/')[2]}'",
                f"Name one of: {', '.join(all_)}",
            )
        else:
            bases.append(reference)
    return replace(
        component,
        args=given.counted,
        predefined=given.predefined,
        unused_args=given.unused,
        images=images,
        syntax=syntax or None,
        parents=parents,
        bases=tuple(bases),
        remotes=tuple(dict.fromkeys(url for one in reached for url in one.remotes)),
    )
