"""What BuildKit is asked for, of a planned component."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timezone

from ci.workspace import Workspace
from ci_tools.documents import PlannedComponent
from ci_tools.images import buildx
from ci_tools.images.buildx import Request
from ci_tools.images.moving import tag_of


def request_for(
    workspace: Workspace,
    planned: PlannedComponent,
    parents: Mapping[str, str],
    env: Mapping[str, str],
    *,
    exports_cache: bool,
) -> Request:
    """parents: component -> its image, as BuildKit finds it.
    env: variables for buildx, by which it finds the registry's credentials.
    exports_cache: whether the builder can keep layers in a registry.

    Raises ConfigError for a secret that is not there, CredentialsError.
    """
    component = workspace.components[planned.name]
    pinned = {reference: parents[name] for reference, name in component.parents.items()}
    pinned |= {reference: image for reference, image in planned.bases.items() if image}
    args = component.args | component.predefined
    if component.syntax in pinned:
        # The directive cannot be given a digest; this argument comes before it.
        args |= {"BUILDKIT_SYNTAX": pinned[component.syntax]}
    bundle = buildx.ca_bundle()
    reads, writes = _caches(workspace, planned.name)
    return Request(
        name=planned.name,
        dockerfile=workspace.repository / planned.dockerfile,
        context=workspace.repository / planned.context,
        target=planned.target,
        platforms=planned.platforms,
        args=args,
        contexts={name: pinned[name] for name in component.images if name in pinned},
        labels=_labels(workspace, planned),
        secrets={buildx.CA_SECRET: bundle} if bundle else {},
        offered=workspace.secrets.offered(),
        env=env,
        epoch=workspace.epoch,
        cached=not planned.forced,
        cache_from=reads if not planned.forced else [],
        cache_to=writes if exports_cache else None,
    )


def _labels(workspace: Workspace, planned: PlannedComponent) -> dict[str, str]:
    """https://github.com/opencontainers/image-spec/blob/main/annotations.md"""
    made = workspace.epoch if workspace.epoch is not None else int(time.time())
    labels = {
        "kfp-ci.key": planned.key,
        "org.opencontainers.image.created": datetime.fromtimestamp(made, timezone.utc).isoformat(),
    }
    if workspace.source.commit:
        labels["org.opencontainers.image.revision"] = workspace.source.commit
    if workspace.origin:
        labels["org.opencontainers.image.source"] = workspace.origin
    return labels


def cache_repository(workspace: Workspace) -> str | None:
    """The repository that layers are kept in between machines, if that is wanted."""
    cache = workspace.config.build.cache
    return workspace.repository_of(cache.repository) if cache is not None else None


def _caches(workspace: Workspace, component: str) -> tuple[list[str], str | None]:
    """Where layers may be read from, and where they are written.

    A branch reads main's and its own, and writes its own: nothing that a branch
    built may end in an image of main.
    """
    repository = cache_repository(workspace)
    if repository is None:
        return [], None
    main = f"{workspace.registry.host}/{repository}:{component}"
    branch = workspace.branch_apart
    if branch is None:
        return [main], main
    own = f"{workspace.registry.host}/{repository}:{_tag(component, branch)}"
    return [own, main], own


def _tag(component: str, branch: str) -> str:
    return tag_of(f"{component}--{branch}")
