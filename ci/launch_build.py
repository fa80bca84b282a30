"""Images of a launch that are built here, from the sources as they are.

They go into this machine's engine and nowhere else: nobody tested or scanned them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from pathlib import Path

from ci.request import request_for
from ci.workspace import Workspace
from ci_tools import published
from ci_tools.components import graph
from ci_tools.documents import PlannedComponent
from ci_tools.errors import ConfigError, EngineError
from ci_tools.images import buildx, login
from ci_tools.images.buildx import Watch
from ci_tools.images.registry import Registry


def built(
    workspace: Workspace,
    repository: published.Repository,
    found: published.Found,
    names: Collection[str],
    logs: Path,
) -> dict[str, str]:
    """Component -> the tag that its new image has in the engine.

    What a component is built on comes from CI's lock, if its sources are CI's; else it
    is built too, first. logs: a directory for a log an image.

    Raises BuildError, EngineError, CredentialsError; ConfigError for a parent that the
    builder in use would not find.
    """
    components, lock = workspace.components, found.lock
    now = published.keys_now(repository, components, lock)
    stale = {
        n for n, key in now.items() if n not in lock.components or lock.components[n].key != key
    }
    parents = {name: sorted(set(one.parents.values())) for name, one in components.items()}
    wanted = set(names)
    for name in reversed(graph.ordered(parents)):  # children first
        if name in wanted:
            wanted |= stale & {*parents[name]}
    driver = buildx.driver()
    if not driver.is_engine:
        raise EngineError(
            f"the builder in use ({driver.name}) does not build into this machine's engine",
            "Choose Docker's own: docker buildx use default",
        )
    images = {name: image.reference for name, image in lock.components.items()}
    bases = published.bases_of(repository, components, lock)
    made: dict[str, str] = {}
    with (
        tempfile.TemporaryDirectory(prefix="kfp-ci-") as scratch,
        login.client_environment(Registry.of(found.place.registry), Path(scratch)) as env,
    ):
        for name in graph.ordered(parents):
            if name not in wanted:
                continue
            component = components[name]
            if driver.containerd and (own := sorted({*parents[name]} & made.keys())):
                raise ConfigError(
                    f"'{name}' is built on {', '.join(own)}, which changed too, and this engine "
                    "finds no image of its own to build on",
                    "Push, and let CI build them",
                )
            planned = PlannedComponent(
                name=name,
                dockerfile=component.dockerfile,
                context=component.context,
                key=now[name],
                parents=parents[name],
                templates=[],
                target=component.target,
                bases={reference: bases.get(reference) for reference in component.bases},
                # The engine holds one platform: its own, where there is a choice.
                platforms=list(component.platforms) if len(component.platforms) == 1 else [],
            )
            on = {parent: made.get(parent) or images[parent] for parent in parents[name]}
            request = request_for(workspace, planned, on, env, exports_cache=False)
            tag = f"{workspace.project}/{name}:{now[name][:12]}"
            with workspace.console.working(name, "building"):
                timeout = float(component.timeout or workspace.config.build.timeout)
                watch = Watch(timeout, logs / f"build-{name}.log")
                buildx.build(request, ["--load", f"--tag={tag}"], watch)
            made[name] = tag
            workspace.console.event(f"{name}: built here as {tag}, neither tested nor scanned")
    return {name: made[name] for name in names}
