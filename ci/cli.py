"""The command line. Each command is a few lines: options in, a stage, its result out."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from ci import __version__
from ci.console import Console
from ci_tools.errors import ConfigError

if TYPE_CHECKING:
    from ci.workspace import Workspace

SECTIONS = {
    "Stages, in order": "plan build pin compile upload train deploy release".split(),
    "All of them": ["run"],
    "Why": ["explain"],
    "External base images": ["bases"],
    "This machine": ["local"],
    "Reference": ["schema", "exit-codes", "completion"],
}


class Contents(click.Group):
    """A group whose help lists commands by section, in the order they happen."""

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in SECTIONS.items():
            commands = [(name, self.commands[name]) for name in names if name in self.commands]
            with formatter.section(title):
                formatter.write_dl([(name, c.get_short_help_str(70)) for name, c in commands])


@click.group(cls=Contents, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kfp-ci")
def cli() -> None:
    """CI/CD for machine-learning repositories that run on Kubeflow Pipelines.

    From Dockerfiles to a served prediction: 'kfp-ci run --train --deploy' does
    everything on this machine; every stage also runs alone, from the files that
    the earlier ones left in build/.
    """


def stage(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options every stage has; the command gets a Workspace instead of them."""

    @click.option(
        "--repo",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        default=".",
        help="The repository (default: here).",
    )
    @click.option("--build-dir", type=click.Path(path_type=Path), help="Default: REPO/build.")
    @click.option(
        "--env",
        "environment",
        default="local",
        envvar="KFP_CI_ENVIRONMENT",
        show_default=True,
        help="The environment of ci.yaml to work in.",
    )
    @click.option("--dry-run", is_flag=True, help="Say what would happen; touch nothing.")
    @click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
    @click.option("-q", "--quiet", is_flag=True, help="Only warnings, errors and the result.")
    @functools.wraps(function)
    def command(
        *,
        repo: Path,
        build_dir: Path | None,
        environment: str,
        dry_run: bool,
        as_json: bool,
        quiet: bool,
        **options: Any,
    ) -> None:
        from ci.workspace import Workspace

        workspace = Workspace(
            repository=repo.resolve(),
            build=(build_dir or repo / "build").resolve(),
            environment_name=environment,
            dry_run=dry_run,
            console=Console(quiet=quiet),
        )
        function(workspace, as_json=as_json, **options)

    return command


parameters = click.option(
    "-p",
    "--parameter",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    envvar="KFP_CI_PARAMETERS",
    help="A pipeline parameter; may be given again.",
)
LOCK = click.Path(path_type=Path)
jobs = click.option("-j", "--jobs", type=click.IntRange(1), help="Images at once.")


@cli.command()
@stage
@click.option("--drift/--no-drift", default=True, help="Say which locked bases have moved.")
@click.option("--against", type=LOCK, metavar="LOCK", help="List what differs from that lock.")
def plan(workspace: Workspace, as_json: bool, drift: bool, against: Path | None) -> None:
    """Find the components, key them, ask which are built."""
    from ci import plan as stage

    result = stage.plan(workspace, drift=drift)
    if against is None:
        _show(result, stage.lines(result), as_json)
        return
    from ci import explain as comparing

    compared = comparing.against(workspace, result, against)
    if as_json:
        _print_json({**msgspec.to_builtins(result), "against": compared})
    else:
        _show_lines([*stage.lines(result), *comparing.against_lines(compared)], as_json)


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
    _show(explanation, stage.lines(explanation), as_json)


@cli.command()
@stage
@jobs
def build(workspace: Workspace, as_json: bool, jobs: int | None) -> None:
    """Build, test, scan and push the missing images, in parallel."""
    from ci import build as stage

    if workspace.dry_run:
        _show_lines(stage.dry_run(workspace), as_json)
        return
    lock = stage.build(workspace, jobs=jobs)
    _show(lock, [f"{name}  {image.reference}" for name, image in lock.components.items()], as_json)
    stage.raise_failures(lock)


@cli.command()
@stage
@click.option("--write", is_flag=True, help="Pin the repository's own templates too.")
def pin(workspace: Workspace, as_json: bool, write: bool) -> None:
    """Put the digests into the component templates, all or none."""
    from ci import pin as stage

    if workspace.dry_run:
        _show_lines(stage.dry_run(workspace), as_json)
        return
    pins = stage.pin(workspace, write_sources=write)
    _show(pins, [f"{path}  {image}" for path, image in pins.templates.items()], as_json)


@cli.command(name="compile")
@stage
def compile_(workspace: Workspace, as_json: bool) -> None:
    """Compile the pipelines and prove that they name only digests."""
    from ci import compile as stage

    compiled = (stage.dry_run if workspace.dry_run else stage.compile_pipelines)(workspace)
    lines = [f"{name}  {p.sha256[:12]}  {p.source}" for name, p in compiled.pipelines.items()]
    _show(compiled, lines, as_json)


@cli.command()
@stage
def upload(workspace: Workspace, as_json: bool) -> None:
    """Upload the pipelines to Kubeflow, once."""
    from ci import upload as stage

    if workspace.dry_run:
        _show_lines(stage.dry_run(workspace), as_json)
        return
    uploads = stage.upload(workspace)
    _show(uploads, [f"{name}  {v.version}" for name, v in uploads.pipelines.items()], as_json)


@cli.command()
@stage
@click.argument("pipelines", nargs=-1, envvar="KFP_CI_PIPELINES")
@parameters
def train(
    workspace: Workspace, as_json: bool, pipelines: tuple[str, ...], parameters: tuple[str, ...]
) -> None:
    """Run pipelines as tests, with parameters.

    PIPELINES: names; by default those with 'train: true' in ci.yaml.
    """
    from ci import train as stage

    given = parsed(parameters)
    if workspace.dry_run:
        _show_lines(stage.dry_run(workspace, pipelines, given), as_json)
        return
    training = stage.train(workspace, pipelines, given)
    lines = [f"{run.pipeline}  {run.state}  {run.metrics}" for run in training.runs]
    _show(training, lines, as_json)
    stage.raise_failures(training)


@cli.command()
@stage
def deploy(workspace: Workspace, as_json: bool) -> None:
    """Deploy the servables to the prediction service."""
    from ci import deploy as stage

    if workspace.dry_run:
        _show_lines(stage.dry_run(workspace), as_json)
        return
    deployed = stage.deploy(workspace)
    lines = [f"{s.service}  {s.url}  {s.task_definition}" for s in deployed.services.values()]
    _show(deployed, lines, as_json)


@cli.command()
@stage
def release(workspace: Workspace, as_json: bool) -> None:
    """Gather all of it into one immutable release."""
    from ci import release as stage

    if workspace.dry_run:
        _show_lines(stage.dry_run(workspace), as_json)
        return
    released = stage.release(workspace)
    _show(released, [released.name, *(f"  {problem}" for problem in released.problems)], as_json)


@cli.command()
@stage
@jobs
@click.option("--train", "training", is_flag=True, help="Run the training tests.")
@click.option("--pipeline", "pipelines", multiple=True, help="Train this one; may be given again.")
@parameters
@click.option("--deploy", "deployment", is_flag=True, help="Deploy the servables.")
def run(
    workspace: Workspace,
    as_json: bool,
    jobs: int | None,
    training: bool,
    pipelines: tuple[str, ...],
    parameters: tuple[str, ...],
    deployment: bool,
) -> None:
    """Every stage in order, and a summary."""
    from ci import run as stage

    options: dict[str, Any] = {
        "training": training or bool(pipelines),
        "pipelines": pipelines,
        "parameters": parsed(parameters),
        "deployment": deployment,
    }
    if workspace.dry_run:
        _show_lines(stage.dry_run(workspace, **options), as_json)
        return
    summary = stage.run(workspace, jobs=jobs, **options)
    if as_json:
        _print_json(summary.as_json())
    else:
        summary.print(sys.stdout, workspace.console.warnings)


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
        _print_json(listed)
    else:
        _show_lines(stage.list_lines(listed), as_json)


@bases.command()
@stage
@click.argument("references", nargs=-1, metavar="[REFERENCE]...")
def refresh(workspace: Workspace, as_json: bool, references: tuple[str, ...]) -> None:
    """Ask the registries anew and rewrite bases.lock: all, or those named."""
    from ci import bases as stage

    if workspace.dry_run:
        _show_lines(stage.refresh_dry_run(workspace, references), as_json)
        return
    result = stage.refresh(workspace, references)
    _show(result, stage.refresh_lines(result), as_json)


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
    from ci_tools import local as environment

    stopped = environment.down(environment.home_directory(), wipe=wipe)
    click.echo(f"stopped: {', '.join(stopped) or 'nothing was running'}")


@cli.command()
@click.argument("file", type=click.Choice(["ci.yaml", "servable.yaml"]), default="ci.yaml")
def schema(file: str) -> None:
    """Print the JSON schema of ci.yaml or servable.yaml."""
    from ci_tools import config
    from ci_tools.serving.declaration import Servable

    _print_json(config.schema(config.Config if file == "ci.yaml" else Servable, file))


@cli.command(name="exit-codes")
def exit_codes() -> None:
    """List every exit code and what it means."""
    from ci_tools import errors

    for code, meaning in errors.exit_codes().items():
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


def parsed(given: tuple[str, ...]) -> dict[str, Any]:
    """NAME=VALUE pairs; a value is read as YAML, so that 3 is a number and x a string.

    Raises ConfigError for one without a name or an equals sign.
    """
    import yaml

    from ci_tools import yaml_safe

    values: dict[str, Any] = {}
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigError(f"'{pair}' is no parameter", "Write it as -p NAME=VALUE")
        try:
            values[name] = yaml_safe.load(text)
            json.dumps(values[name], allow_nan=False)
        except (yaml.YAMLError, TypeError, ValueError):
            values[name] = text  # not YAML, or what JSON has not, as a date: a plain string
    return values


def _show(document: msgspec.Struct, lines: list[str], as_json: bool) -> None:
    if as_json:
        _print_json(msgspec.to_builtins(document))
    else:
        click.echo("\n".join(lines))


def _show_lines(lines: list[str], as_json: bool) -> None:
    if as_json:
        _print_json({"would": lines})
    else:
        click.echo("\n".join(lines))


def _print_json(value: object) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
