"""`jenkins shards`: which shards of the plan are worth an agent of their own."""

from __future__ import annotations

from ci.plan import FILE
from ci.workspace import Workspace
from ci_tools.components import shards
from ci_tools.documents import Plan


def needed(workspace: Workspace) -> list[str]:
    """As `needing`, of plan.json. Raises MissingInputError."""
    return needing(workspace.read(FILE, Plan, made_by="plan --shards auto"))


def needing(plan: Plan) -> list[str]:
    """The shards that are to be built on agents, as `1/2`; none where one agent will do.

    One does where no two shards have something to build. Else each counts that has
    components, for `merge` wants to hear of them all.
    """
    working = {one.shard for one in plan.components if one.shard and one.state != "built"}
    if len(working) < 2:
        return []
    every = sorted({one.shard for one in plan.components if one.shard})
    return [shards.label((number, plan.shards)) for number in every]
