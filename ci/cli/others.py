"""The commands beside the stages: why, bases, this machine, reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ci.cli.group import cli
from ci.cli.options import LOCK, stage
from ci.cli.show import print_json, show, show_lines

if TYPE_CHECKING:
    from ci.workspace import Workspace


@cli.command()
@stage
@click.argument("name")
@click.option(
    "--against", type=LOCK, metavar="LOCK", help="Default: images.lock.json of the build directory."
)
def explain(workspace: Workspace, as_json: bool, name: str, against: Path | None) -> None:
    """Tell why a component's key is not a lock's.

    NAME: a component. No engine and no network is asked.
    """
    from ci import explain as stage

    explanation = stage.explain(workspace, name, against)
    show(explanation, stage.lines(explanation), as_json)


class ListByDefault(click.Group):
    """A group that lists when it is not told what to do."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = ctx.help_option_names
        if not args or (args[0].startswith("-") and args[0] not in own):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@cli.group(cls=ListByDefault)
def bases() -> None:
    """bases.lock: which digest each external base stands for."""


@bases.command(name="list")
@stage
def list_(workspace: Workspace, as_json: bool) -> None:
    """Show each base, its digest and who uses it."""
    from ci import bases as stage

    listed = stage.list_(workspace)
    if as_json:
        print_json(listed)
    else:
        show_lines(stage.list_lines(listed), as_json)


@bases.command()
@stage
@click.argument("references", nargs=-1, metavar="[REFERENCE]...")
def refresh(workspace: Workspace, as_json: bool, references: tuple[str, ...]) -> None:
    """Ask the registries anew and rewrite bases.lock: all, or those named."""
    from ci import bases as stage

    if workspace.dry_run:
        show_lines(stage.refresh_dry_run(workspace, references), as_json)
        return
    result = stage.refresh(workspace, references)
    show(result, stage.refresh_lines(result), as_json)


@cli.group()
def local() -> None:
    """The embedded environment: registry and AWS stand-in."""


@local.command()
def up() -> None:
    """Start what does not run."""
    from ci_tools import local as environment

    endpoints = environment.up(environment.home_directory())
    click.echo(f"registry  {endpoints.registry}\naws       {endpoints.aws}")


@local.command()
def status() -> None:
    """Say what runs, and where."""
    from ci_tools import local as environment

    for part in environment.status(environment.home_directory()):
        click.echo(f"{part.part:<9} {part.state:<14} {part.address}  pid {part.pid or '-'}")


@local.command()
@click.option("--wipe", is_flag=True, help="Remove images, catalogue and artefacts too.")
def down(wipe: bool) -> None:
    """Stop what was started."""
    from ci.console import Console
    from ci_tools import local as environment

    stopped = environment.down(environment.home_directory(), wipe=wipe, warn=Console().warn)
    click.echo(f"stopped: {', '.join(stopped) or 'nothing was running'}")


@cli.command()
@click.argument(
    "file",
    type=click.Choice(
        ["ci.yaml", "servable.yaml", "scan-policy.yaml", "training.test.yaml", "release.json"]
    ),
    default="ci.yaml",
)
def schema(file: str) -> None:
    """Print the JSON schema of a declaration, or of a release."""
    from ci_tools import config, config_training
    from ci_tools.documents import Release
    from ci_tools.scanner.policy import Policy
    from ci_tools.serving.declaration import Servable

    kinds = {
        "ci.yaml": config.Config,
        "servable.yaml": Servable,
        "scan-policy.yaml": Policy,
        config_training.SCHEMA: config_training.TrainingTests,
        "release.json": Release,
    }
    print_json(config.schema(kinds[file], file))


@cli.command(name="exit-codes")
@click.option("--markdown", is_flag=True, help="As rows of docs/exit-codes.md.")
def exit_codes(markdown: bool) -> None:
    """List every exit code and what it means; as Markdown also what it is in Jenkins."""
    from ci_tools import errors
    from ci_tools.jenkins import results

    for code, meaning in errors.exit_codes().items():
        if markdown:
            click.echo(f"| {code} | {meaning} | {results.result(code)} |")
        else:
            click.echo(f"{code:>3}  {meaning}")


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a completion script: eval "$(kfp-ci completion bash)"."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click knows no completion for {shell}")
    click.echo(kind(cli, {}, "kfp-ci", "_KFP_CI_COMPLETE").source())
