"""A release where others find it: signed, in the registry and in S3."""

from __future__ import annotations

from ci.workspace import Workspace
from ci_tools.images.registry import Registry
from ci_tools.release import store
from ci_tools.release.bundle import Bundle

REPOSITORY = "releases"


def repository_of(workspace: Workspace) -> str:
    """Where in the registry a project's releases are."""
    return workspace.repository_of(REPOSITORY)


def publish(workspace: Workspace, bundle: Bundle, *, registry: bool = True) -> Bundle:
    """Publish a release; the bundle as it is kept."""
    if registry:
        store.publish(Registry.of(workspace.registry), repository_of(workspace), bundle)
    return bundle
