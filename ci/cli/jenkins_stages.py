"""What the Jenkinsfile asks: on which agents to build, and what the build's page says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ci.cli.jenkins import jenkins
from ci.cli.options import stage
from ci.cli.show import print_json, show

if TYPE_CHECKING:
    from ci.workspace import Workspace


@jenkins.command()
@stage
def shards(workspace: Workspace, as_json: bool) -> None:
    """List the shards of plan.json that need agents, I/N a line.

    Nothing where one agent will do: then 'build' has all of it.
    """
    from ci.jenkins import agents

    needed = agents.needed(workspace)
    if as_json:
        print_json(needed)
    else:
        for one in needed:
            click.echo(one)


@jenkins.command()
@stage
@click.option(
    "--before",
    metavar="TEXT",
    envvar="KFP_CI_DESCRIPTION",
    default="",
    help="The description until now: what it says of stages whose files are not here stays.",
)
def describe(workspace: Workspace, as_json: bool, before: str) -> None:
    """Write name and description of this build to jenkins/ in the build directory.

    Of what the stages left there so far; it needs none of them.
    """
    from ci.jenkins import describing

    described = describing.described(workspace, before)
    show(described, [described.name, *described.lines], as_json)
