"""Among how many agents a plan is divided, as far as this environment allows."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ci.workspace import Workspace
from ci_tools.components import scaling
from ci_tools.documents import PlannedComponent
from ci_tools.images.transport import loopback


class Division(msgspec.Struct, frozen=True):
    """Into how many shards: exactly `shards`, or with None as many of at most `most`
    as work and agents' set-up suggest; one where other agents cannot help.

    first: what others are built on may be in a shard 0, which is built before them.
    """

    shards: int | None
    most: int = 8
    first: bool = False


def divided(
    workspace: Workspace, planned: Sequence[PlannedComponent], division: Division, jobs: int
) -> scaling.Divided:
    """jobs: images at once on each agent.

    A registry on this machine's loopback is another one, or none, to an agent
    elsewhere: nothing is divided unasked then. Who asks for a number gets it, for
    processes of one machine share such a registry.
    """
    found = scaling.divided(
        planned,
        division.most,
        jobs=jobs,
        costs=costs(workspace),
        exactly=division.shards,
        first=division.first,
    )
    if found.agents == 1 or not loopback(workspace.registry.host):
        return found
    where = f"the registry of '{workspace.environment_name}' is on this machine"
    if division.shards is None:
        workspace.console.event(
            f"{where}, where other agents do not reach it: one shard instead of {found.agents}"
        )
        return scaling.Divided(1)
    workspace.console.event(f"{where}: its shards can be built on this machine only")
    return found


def costs(workspace: Workspace) -> scaling.Costs:
    """What more agents than one cost here."""
    return scaling.Costs(agent=workspace.config.build.agent_seconds)
