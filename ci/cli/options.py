"""The options that commands share, and what their values mean."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import click

from ci.console import Console
from ci_tools.errors import ConfigError

MOST_SHARDS = 256


def stage(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options every stage has; the command gets a Workspace instead of them."""

    @click.option(
        "--repo",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        default=".",
        help="The repository (default: here).",
    )
    @click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path),
        help="Another project of the repository: its ci.yaml (default: REPO/ci.yaml).",
    )
    @click.option(
        "--build-dir",
        type=click.Path(path_type=Path),
        help="Default: REPO/build; with --config below it, called as that file's directory.",
    )
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
        config_file: Path | None,
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
            config_file=config_file and config_file.resolve(),
            build=(build_dir or _build_directory(repo, config_file)).resolve(),
            environment_name=environment,
            dry_run=dry_run,
            console=Console(quiet=quiet),
        )
        function(workspace, as_json=as_json, **options)

    return command


def _build_directory(repository: Path, config_file: Path | None) -> Path:
    """Where a project's stages write unless they are told: two projects do not share it."""
    build = repository / "build"
    return build / config_file.resolve().parent.name if config_file else build


parameters = click.option(
    "-p",
    "--parameter",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    envvar="KFP_CI_PARAMETERS",
    help="A pipeline parameter; may be given again.",
)
again = click.option(
    "--again/--changed", help="Run training tests also that are unchanged since they passed."
)
on_interrupt = click.option(
    "--on-interrupt",
    type=click.Choice(["cancel", "leave"]),
    default="cancel",
    show_default=True,
    help="What Ctrl-C and SIGTERM do to a server's runs.",
)
LOCK = click.Path(path_type=Path)


def shard(text: str) -> tuple[int, int]:
    """`2/4` -> (2, 4): the second of four shards. Raises BadParameter."""
    written = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text)
    if written is None:
        raise click.BadParameter(f"'{text}' is no shard; write 2/4 for the second of four")
    number, count = int(written[1]), int(written[2])
    if not 1 <= number <= count:
        raise click.BadParameter(f"'{text}' is no shard; they are 1/{count} to {count}/{count}")
    return number, count


def shards(text: str) -> int | Literal["auto"]:
    """How many shards: a number or `auto`. Raises BadParameter."""
    if text == "auto":
        return "auto"
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= MOST_SHARDS:
        raise click.BadParameter(f"'{text}' is neither a number of 1 to {MOST_SHARDS} nor auto")
    return int(text)


jobs = click.option("-j", "--jobs", type=click.IntRange(1), help="Images at once.")
quarantine = click.option(
    "--quarantine", is_flag=True, help="Keep images that the scan refuses apart, to look at them."
)
fail_fast = click.option("--fail-fast", is_flag=True, help="Stop at the first image that fails.")


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
