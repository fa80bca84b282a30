"""The images of a launch: CI's, or those that a person names instead."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from ci.workspace import Workspace
from ci_tools import config, published
from ci_tools.components.references import split
from ci_tools.config_errors import name_one
from ci_tools.documents import CompiledPipeline
from ci_tools.errors import ConfigError, NoPublishedLockError
from ci_tools.images import overrides, registry
from ci_tools.images.engine import Engine
from ci_tools.images.registry import Registry


def chosen(
    workspace: Workspace,
    images: Mapping[str, str],
    server: config.KubeflowServer | None,
    settings: config.Registry,
) -> dict[str, str]:
    """Component -> the image that is used instead of CI's, as what runs it can have it.

    server: what runs it, None for this machine's engine. settings: the registry of
    CI's images.

    Raises ConfigError for an image that cannot be had there; EngineError,
    RegistryError, CredentialsError.
    """
    if server is None:
        return _of_engine(workspace, images)
    return {name: _of_server(name, image, server, settings) for name, image in images.items()}


def check_known(workspace: Workspace, names: Iterable[str]) -> None:
    """Raises ConfigError for a name that is no component's."""
    for name in names:
        if name not in workspace.components:
            raise ConfigError(
                f"there is no component '{name}' to give an image",
                name_one(name, workspace.components),
            )


def check_builds(
    images: Mapping[str, str], builds: Collection[str], server: config.KubeflowServer | None
) -> None:
    """Raises ConfigError where an image that is built here would not be of any use."""
    if both := sorted({*images} & {*builds}):
        raise ConfigError(f"'{both[0]}' has --image and --build", "Give it one of them")
    if server is not None:
        raise ConfigError(
            f"what is built here Kubeflow at {server.endpoint} cannot pull",
            "Launch with --env local; or build and push it, and pass "
            f"--image {next(iter(builds))}=IMAGE",
        )


def tell(
    workspace: Workspace,
    repository: published.Repository,
    found: published.Found,
    compiled: CompiledPipeline,
    images: Mapping[str, str],
) -> None:
    """Warn of what the run will not show, and of what makes it one of a kind."""
    differ = published.changed(repository, workspace.components, found.lock)
    stale = [name for name in differ if name in compiled.components and name not in images]
    if stale:
        workspace.console.warn(
            f"{', '.join(stale)} {'has' if len(stale) == 1 else 'have'} changes here that no "
            f"image holds: CI's image of {found.commit[:12]} is used. Push and let CI build, or "
            f"use another: --build {stale[0]}, or --image {stale[0]}=IMAGE"
        )
    if images:
        named = ", ".join(f"{name}={image}" for name, image in sorted(images.items()))
        workspace.console.warn(
            f"this run is unpinned ({named}): nothing that comes of it can be released"
        )


def have(
    workspace: Workspace,
    found: published.Found,
    compiled: CompiledPipeline,
    *,
    on_engine: bool,
) -> None:
    """See that CI's images are still to be had, and bring them to the engine if it runs them.

    Raises NoPublishedLockError for one that the registry no longer holds.
    """
    asked = Registry.of(found.place.registry)
    engine = Engine.connect() if on_engine else None
    for name in compiled.components:
        image = found.lock.components.get(name)
        if image is None or image.reference not in compiled.images:
            continue
        if engine is not None and engine.image_id(image.reference) is not None:
            continue
        if asked.digest(split(image.repository).path, image.digest) is None:
            raise NoPublishedLockError(
                f"CI's image of '{name}' ({image.reference}) is no longer in the registry",
                f"Let CI build commit {found.commit[:12]} again, or name a newer with --commit",
            )
        if engine is not None:
            with workspace.console.working(name, f"pulling {image.reference}"):
                engine.pull(image.reference, asked)


def _of_engine(workspace: Workspace, images: Mapping[str, str]) -> dict[str, str]:
    """The images by id, for a tag may move while others look at what it ran.

    Raises ConfigError, EngineError, RegistryError.
    """
    if not images:
        return {}
    engine = Engine.connect()
    found: dict[str, str] = {}
    for name, image in images.items():
        identity = engine.image_id(image)
        if identity is None and overrides.only_here(image):
            folder = workspace.components[name].context
            named = f"{name}:dev" if image.startswith("sha256:") else image
            raise ConfigError(
                f"the engine has no image '{image}' for '{name}'",
                f"Build it ('docker build -t {named} {folder}') and pass --image {name}={named}",
            )
        if identity is None:
            with workspace.console.working(name, f"pulling {image}"):
                identity = engine.pull(image, registry.of(image)[0])
        found[name] = identity
    return found


def _of_server(
    name: str, image: str, server: config.KubeflowServer, settings: config.Registry
) -> str:
    """The image by digest, as a cluster can pull it: a tag would move, and its nodes and
    cache would not notice. Raises ConfigError, RegistryError, CredentialsError."""
    if overrides.only_here(image, settings.host):
        pushed = f"{settings.host}/REPOSITORY:TAG"
        raise ConfigError(
            f"image '{image}' of '{name}' is on this machine only, and Kubeflow at "
            f"{server.endpoint} cannot pull it",
            f"Push it ('docker tag {image} {pushed}', 'docker push {pushed}') and pass "
            f"--image {name}={pushed}, or launch with --env local",
        )
    parts = split(image)
    asked = Registry.of(settings) if parts.registry == settings.host else registry.of(image)[0]
    digest = asked.digest(parts.path, parts.digest or parts.tag or "latest")
    if digest is None:
        raise ConfigError(
            f"there is no image '{image}' for '{name}' in {parts.registry}",
            f"Push it, or name another with --image {name}=IMAGE",
        )
    return f"{parts.repository}@{digest}"
