"""What `ci_tools.components.load` does: from a name to kfp's component, its image pinned."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ci_tools import config, git, published
from ci_tools.components import discovery, templates
from ci_tools.components.discovery import Component
from ci_tools.components.templates import Template
from ci_tools.config_errors import did_you_mean
from ci_tools.documents import Lock
from ci_tools.errors import ConfigError, NoPublishedLockError, TemplateError
from ci_tools.images import overrides
from ci_tools.local.state import home_directory
from ci_tools.published import Repository

ENVIRONMENT = "KFP_CI_ENVIRONMENT"
_STACK = 3  # frames from `warnings.warn` to who called `ci_tools.components.load`


class ImageWarning(UserWarning):
    """A component's image is not what its sources here say, or not CI's."""


def load(
    name: str,
    image: str | None,
    environment: str | None,
    repository: str | os.PathLike[str] | None,
    caller: str | None,
) -> Any:
    """See `ci_tools.components.load`. caller: the file that calls, None in a notebook."""
    root = root_of(repository, caller)
    path = _template_path(root, name)
    from kfp import components as kfp

    # Set by `compile_child`, whose function reads CI's pinned copy of any template.
    if image is None and getattr(kfp.load_component_from_file, "reads_pinned_copies", False):
        return kfp.load_component_from_file(str(root / path))
    template = _template(_opened(root), path)
    if image is not None:
        return kfp.load_component_from_text(_overridden(template, name, image))
    wanted = environment or os.environ.get(ENVIRONMENT) or published.LOCAL
    lock, changed = _resolved(root, wanted, git.commit_of(root))
    commit = (lock.source.commit or "")[:12]
    missing = [one for one in template.components if one not in lock.components]
    if missing:
        raise NoPublishedLockError(
            f"CI's lock of commit {commit} holds no image of {', '.join(missing)}",
            f"Push this commit and let CI build it, or name an image: load('{name}', image=...)",
        )
    stale = [one for one in template.components if one in changed]
    if stale:
        warnings.warn(
            f"{', '.join(stale)} has changes here that no image holds: CI's image of commit "
            f"{commit} is used",
            ImageWarning,
            stacklevel=_STACK,
        )
    references = {one: lock.components[one].reference for one in template.components}
    return kfp.load_component_from_text(template.pinned(references))


def root_of(repository: str | os.PathLike[str] | None, caller: str | None) -> Path:
    """The nearest directory with a ci.yaml, else with a `.git`, from the caller's file
    or the working directory upwards. Raises ConfigError where there is none."""
    if repository is not None:
        root = Path(repository).resolve()
        if not root.is_dir():
            raise ConfigError(f"{root} is no directory", "Name the root of the repository")
        return root
    start = Path(caller).resolve().parent if caller else Path.cwd()
    above = [start, *start.parents]
    for marker in (config.FILE, ".git"):
        for folder in above:
            if (folder / marker).exists():
                return folder
    raise ConfigError(
        f"{start} is in no repository: no directory above it has a {config.FILE} or a .git",
        "Work in a clone, or name its root: load(..., repository='PATH')",
    )


def _template_path(root: Path, name: str) -> str:
    """The template that a name means. Raises ConfigError.

    A file's name is found without asking git anything: a pipeline that starts a
    process is compiled anew every time.
    """
    directory = PurePosixPath(_config(root).pipelines.templates)
    paths = _template_paths(root)
    below = {path: PurePosixPath(path).relative_to(directory) for path in paths}
    for same in (
        [path for path, it in below.items() if name in (str(it), str(it.with_suffix("")), path)],
        [path for path, it in below.items() if name == it.stem],
    ):
        if len(same) == 1:
            return same[0]
        if same:
            raise _which(name, same)
    found = [path for path in paths if name in _template(_opened(root), path).components]
    if len(found) == 1:
        return found[0]
    if found:
        raise _which(name, found)
    stems = [it.stem for it in below.values()]
    raise ConfigError(
        f"no template below {directory} is called '{name}', nor names a component of that name",
        did_you_mean(name, stems) or f"There are: {', '.join(sorted(stems)) or '(none)'}",
    )


def _which(name: str, paths: list[str]) -> ConfigError:
    return ConfigError(
        f"'{name}' may mean {' or '.join(sorted(paths))}", "Load one of them by its path"
    )


def _overridden(template: Template, name: str, image: str) -> str:
    """The template's text with another image. Raises ConfigError."""
    if len(template.components) != 1:
        raise TemplateError(
            f"{template.path} names {', '.join(template.components) or 'no component'}, "
            "so that one image cannot stand for it",
            "Load a template of one component",
        )
    overrides.checked(image)
    warnings.warn(
        f"'{name}' is unpinned: it runs {image}, and nothing that comes of it can be released",
        ImageWarning,
        stacklevel=_STACK + 1,
    )
    return template.pinned({template.components[0]: image})


def _template(here: Repository, path: str) -> Template:
    pipelines, components = here.config.pipelines, _components(here.root)
    (template,) = templates.find(
        here.root,
        [path],
        pipelines.templates,
        components,
        here.project,
        pipelines.allow_images,
        templates.aliases(pipelines.images, pipelines.image_patterns, components),
    )
    return template


@functools.cache
def _config(root: Path) -> config.Config:
    return config.load(root)


@functools.cache
def _opened(root: Path) -> Repository:
    return published.opened(root)


def _template_paths(root: Path) -> list[str]:
    """Asked each time: in a notebook's life templates come and go."""
    directory = root / _config(root).pipelines.templates
    return sorted(
        path.relative_to(root).as_posix()
        for ending in ("*.yaml", "*.yml")
        for path in directory.rglob(ending)
    )


@functools.cache
def _components(root: Path) -> Mapping[str, Component]:
    here = _opened(root)
    return discovery.discover(root, here.config, here.project)


@functools.cache
def _resolved(root: Path, environment: str, head: str | None) -> tuple[Lock, list[str]]:  # noqa: ARG001
    """The lock, and the components that it does not hold as they are here.

    Once a process, and again when HEAD is another commit.
    """
    here = _opened(root)
    lock = published.find(here, environment, home_directory()).lock
    return lock, published.changed(here, _components(root), lock)
