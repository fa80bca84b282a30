"""The commands about scans beside those that `build` makes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ci.cli.group import cli
from ci.cli.options import LOCK, stage
from ci.cli.show import show, show_lines

if TYPE_CHECKING:
    from ci.workspace import Workspace


@cli.group()
def scan() -> None:
    """Trivy's databases, and what runs held against them."""


@scan.command()
@stage
@click.option("--to", required=True, metavar="HOST/REPO[:TAG]", help="Where to.")
@click.option(
    "--from",
    "sources",
    multiple=True,
    metavar="REF",
    help="Where from, instead of Aqua Security's; may be given again, as what to try next.",
)
@click.option("--java", is_flag=True, help="The index of Java archives too (1 GB).")
@click.option("--checks", is_flag=True, help="The checks for misconfigurations too.")
def db(
    workspace: Workspace,
    as_json: bool,
    to: str,
    sources: tuple[str, ...],
    java: bool,
    checks: bool,
) -> None:
    """Copy Trivy's databases into a registry of one's own.

    Prints each by digest, as 'scan.database' in ci.yaml takes it, and its date.
    """
    from ci import mirror as stage

    asked = stage.wanted(to, sources, java=java, checks=checks)
    if workspace.dry_run:
        show_lines(stage.would(asked), as_json)
        return
    result = stage.mirror(workspace, asked)
    show(result, stage.lines(result), as_json)


@scan.command()
@stage
@click.option(
    "--release",
    "releases",
    multiple=True,
    type=LOCK,
    metavar="FILE",
    help="What runs; may be given again. Default: what the environment was promoted to, "
    "else release.json of the build directory.",
)
@click.option("--id", metavar="CVE", default="", help="Look for this one only, whatever counts.")
def live(workspace: Workspace, as_json: bool, releases: tuple[Path, ...], id: str) -> None:
    """Hold what runs against today's vulnerability database.

    By the policy of the environment; nothing is built. Writes reports/live/.
    """
    from ci import live as stage

    if workspace.dry_run:
        show_lines(stage.would(workspace, releases), as_json)
        return
    report, problems = stage.scan(workspace, releases, id=id)
    show(report, stage.lines(report, problems, id), as_json)
    stage.raise_failures(workspace, report, problems, id)
