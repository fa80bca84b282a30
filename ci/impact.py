"""Which pipelines a change of components reaches."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ci import compile as compiling
from ci.bases import behind
from ci.workspace import Workspace
from ci_tools.config_errors import name_one
from ci_tools.errors import ConfigError


class Impact(msgspec.Struct, kw_only=True):
    """components: those asked for -> all that are built on it, itself first.
    pipelines: name -> those of these components that it runs, with their templates'
    images changed, so that it is uploaded and tested again. servables: likewise.
    """

    components: dict[str, list[str]]
    pipelines: dict[str, list[str]]
    servables: list[str]


def impact(workspace: Workspace, names: Sequence[str]) -> Impact:
    """What a change of these components changes. Asks nobody and writes nothing.

    By the pipelines as they would be compiled now, so that a component in a loop or a
    nested pipeline counts. Raises ConfigError for an unknown component, and what
    `compile` raises.
    """
    for name in names:
        if name not in workspace.components:
            raise ConfigError(
                f"there is no component '{name}'", name_one(name, sorted(workspace.components))
            )
    reached = {
        name: [name, *sorted(behind(workspace.components, {name}) - {name})] for name in names
    }
    changed = {component for components in reached.values() for component in components}
    compiled = compiling.dry_run(workspace)
    return Impact(
        components=reached,
        pipelines={
            name: found
            for name, pipeline in compiled.pipelines.items()
            if (found := sorted(changed & set(pipeline.components)))
        },
        servables=sorted(changed & set(workspace.servables)),
    )


def lines(result: Impact) -> list[str]:
    """For people: a line a pipeline and a servable that is reached."""
    told = [f"{name}  (runs {', '.join(found)})" for name, found in result.pipelines.items()]
    told += [f"{name}  (servable)" for name in result.servables]
    return told or ["no pipeline and no servable"]
