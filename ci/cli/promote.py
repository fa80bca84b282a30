"""The commands that bring a release into an environment, or an older one back."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ci.cli.group import cli
from ci.cli.options import Log, log, repository, stage
from ci.cli.releases import releases
from ci.cli.show import show

if TYPE_CHECKING:
    from ci.promote import Request
    from ci.workspace import Workspace


def promotion(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of both; the command gets a Workspace and a Request instead of them."""

    @repository
    @click.option("--build-dir", type=click.Path(path_type=Path), help="Default: REPO/build.")
    @click.option("--to", "environment", required=True, metavar="ENV", help="The environment.")
    @click.option("--dry-run", is_flag=True, help="Ask and say what would be done; change nothing.")
    @click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
    @log
    @click.option(
        "--approved-by",
        "approvals",
        multiple=True,
        metavar="NAME",
        envvar="KFP_CI_APPROVED_BY",
        help="Who approved; may be given again. Jenkins' 'input' can set the variable.",
    )
    @click.option(
        "--wait",
        type=click.FloatRange(0),
        default=0.0,
        metavar="SECONDS",
        help="Wait so long for another promotion to end.",
    )
    @click.option(
        "--break-lock", is_flag=True, help="Take the lock over from whoever died with it."
    )
    @functools.wraps(function)
    def command(
        *,
        repo: Path,
        build_dir: Path | None,
        environment: str,
        log: Log,
        approvals: tuple[str, ...],
        wait: float,
        break_lock: bool,
        **options: Any,
    ) -> None:
        from ci.promote import Request
        from ci.workspace import Workspace

        workspace = Workspace(  # a dry run asks, too
            repository=repo.resolve(),
            build=(build_dir or repo / "build").resolve(),
            environment_name=environment,
            console=log.console(),
        )
        request = Request(approvals=approvals, wait=wait, break_lock=break_lock)
        function(workspace, request=request, **options)

    return command


@cli.command()
@promotion
@click.argument("what", metavar="[RELEASE]", required=False)
@click.option("--undo", is_flag=True, help="Put back what an interrupted promotion did.")
def promote(
    workspace: Workspace,
    request: Request,
    *,
    dry_run: bool,
    as_json: bool,
    what: str | None,
    undo: bool,
) -> None:
    """Bring a release into an environment, whole or not at all.

    RELEASE: its name or commit (seven characters of it do), what means its commit to
    git (HEAD, a tag), its digest, or the path of its bundle. One that was interrupted
    goes on where it was.
    """
    from ci import promote as stage

    if undo:
        if what or dry_run:
            raise click.UsageError("--undo takes neither a release nor --dry-run")
        record = stage.undo(workspace, request)
        show(record, stage.undo_lines(record), as_json)
        return
    if what is None:
        raise click.UsageError("name the RELEASE, or say --undo")
    if dry_run:
        _planned(workspace, request, what, as_json=as_json, rollback=False)
        return
    done = stage.promote(workspace, what, request)
    show(done, stage.lines(done), as_json)


@cli.command()
@promotion
@click.argument("what", metavar="[RELEASE]", required=False)
def rollback(
    workspace: Workspace, request: Request, *, dry_run: bool, as_json: bool, what: str | None
) -> None:
    """Go back to a release that an environment ran before.

    RELEASE: by default the one before. What a scan says of it today is a warning here,
    and no refusal.
    """
    from ci import promote as stage

    if dry_run:
        _planned(workspace, request, what, as_json=as_json, rollback=True)
        return
    done = stage.rollback(workspace, what, request)
    show(done, stage.lines(done), as_json)


def _planned(
    workspace: Workspace, request: Request, what: str | None, *, as_json: bool, rollback: bool
) -> None:
    from ci import promote as stage
    from ci.promotion import plan

    found = stage.plan_of(workspace, what, "rollback" if rollback else "promote", request)
    show(found, plan.lines(found), as_json)
    stage.raise_refusals(found)


@releases.command()
@stage
def history(workspace: Workspace, as_json: bool) -> None:
    """Show what was promoted to an environment, the newest first."""
    from ci import history as stage

    found = stage.history(workspace)
    show(found, stage.lines(found), as_json)


@releases.command()
@stage
@click.argument("before", metavar="RELEASE")
@click.argument("after", metavar="RELEASE")
def diff(workspace: Workspace, as_json: bool, before: str, after: str) -> None:
    """Show what differs between two releases: images, pipelines, servables, models."""
    from ci import history as stage
    from ci_tools.promotion import compare

    found = stage.difference(workspace, before, after)
    show(found, compare.lines(found), as_json)
