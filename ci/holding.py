"""What must not expire where images of keys do (`expire_days`): it gets a tag of its own."""

from __future__ import annotations

from collections.abc import Iterable

from ci.workspace import Workspace
from ci_tools.errors import CredentialsError, PushError, RegistryError


def hold_serving(workspace: Workspace, images: Iterable[str]) -> None:
    """Keep images from expiring where images of keys do (`expire_days`).

    ECS pulls by digest whenever it starts another task: an image that is gone then
    is an outage. The tag is one of those that no lifecycle policy of ours touches.
    """
    from ci_tools.images import ecr_repository

    for image in images:
        digest = image.rpartition("@sha256:")[2]
        try:
            hold(workspace, image, ecr_repository.SERVING + digest[:12])
        except (RegistryError, PushError, CredentialsError) as error:
            workspace.console.warn(f"{image} may expire while it serves ({error.what})")


def hold(workspace: Workspace, image: str, tag: str) -> None:
    """Give an image a tag where what has no other one than its key expires (`expire_days`).

    tag: one of `ecr_repository.RELEASES`. Raises RegistryError, PushError, CredentialsError.
    """
    from ci_tools.images import registry

    declared = workspace.registry
    path, _, digest = image.partition("@")
    host, _, repository = path.partition("/")
    if declared.ecr.expire_days is not None and host == declared.host:
        registry.Registry.of(declared).tag(repository, digest, tag)
