"""The options that commands share, and what their values mean."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import click

from ci.console import Console
from ci_tools.errors import ConfigError

MOST_SHARDS = 256
_LINE_END = re.compile(r"\r\n|\n|\r")
_WORDS = re.compile(r"[^\W\d]\w*=\S*([ \t]+[^\W\d]\w*=\S*)*")


class Log(NamedTuple):
    """How much is told while a command works."""

    level: Literal["quiet", "normal", "debug"]

    def console(self) -> Console:
        """The console of the command; with `debug` it also gets what programs and
        servers are asked."""
        console = Console(quiet=self.level == "quiet")
        if self.level == "debug":
            from ci import tracing

            tracing.begin(console)
        return console


def log(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of how much is told; the command gets `log`, a Log, instead of them."""

    @click.option("-q", "--quiet", is_flag=True, help="As --log-level quiet.")
    @click.option(
        "--log-level",
        type=click.Choice(["quiet", "normal", "debug"]),
        default="normal",
        show_default=True,
        envvar="KFP_CI_LOG_LEVEL",
        help="quiet: only warnings, errors and the result. debug: also the programs that "
        "are started and the requests that are sent, without secrets.",
    )
    @functools.wraps(function)
    def command(
        *, quiet: bool, log_level: Literal["quiet", "normal", "debug"], **options: Any
    ) -> None:
        function(log=Log("quiet" if quiet else log_level), **options)

    return command


def _here() -> str:
    """The project that the current directory is in: below the root of its git repository
    the nearest directory that holds a ci.yaml, else that root, else just here."""
    here = Path.cwd()
    above = [here, *here.parents]
    root = next((folder for folder in above if (folder / ".git").exists()), here)
    within = above[: above.index(root) + 1]
    return str(next((folder for folder in within if (folder / "ci.yaml").is_file()), root))


repository = click.option(
    "--repo",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=_here,
    help="The repository (default: the one that this directory is in).",
)


def stage(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options every stage has; the command gets a Workspace instead of them."""

    @repository
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
    @log
    @functools.wraps(function)
    def command(
        *,
        repo: Path,
        config_file: Path | None,
        build_dir: Path | None,
        environment: str,
        dry_run: bool,
        as_json: bool,
        log: Log,
        **options: Any,
    ) -> None:
        from ci.workspace import Workspace

        workspace = Workspace(
            repository=repo.resolve(),
            config_file=config_file and config_file.resolve(),
            build=(build_dir or _build_directory(repo, config_file)).resolve(),
            environment_name=environment,
            dry_run=dry_run,
            console=log.console(),
        )
        function(workspace, as_json=as_json, **options)

    return command


def _build_directory(repository: Path, config_file: Path | None) -> Path:
    """Where a project's stages write unless they are told: two projects do not share it."""
    build = repository / "build"
    return build / config_file.resolve().parent.name if config_file else build


class _Parameter(click.types.StringParamType):
    """NAME=VALUE; in a variable one a line, so that values may hold spaces.

    Blank lines, and those that begin with `#`, do not count. A single line is several
    parameters if every word of it is NAME=VALUE; else it is one.
    """

    name = "parameter"

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        text = rv.strip()
        if _WORDS.fullmatch(text):
            return text.split()
        lines = (line.strip() for line in _LINE_END.split(text))
        return [line for line in lines if line and not line.startswith("#")]


parameters = click.option(
    "-p",
    "--parameter",
    "parameters",
    multiple=True,
    type=_Parameter(),
    metavar="NAME=VALUE",
    envvar="KFP_CI_PARAMETERS",
    help="A pipeline parameter; may be given again. The variable KFP_CI_PARAMETERS holds "
    "one a line, or on a single line several without spaces in their values.",
)


class _Again(click.Option):
    """Also from TRAIN, the parameter of the Jenkinsfile: what is no word of ours there
    is somebody else's variable."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:  # noqa: ARG002
        words = {"all": "true", "changed": "false", "none": "false"}
        return words.get(os.environ.get("TRAIN", ""))


again = click.option(
    "--again/--changed",
    cls=_Again,
    help="Run training tests also that are unchanged since they passed. The variable TRAIN "
    "says it too: all or changed.",
)


def force(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of what is built again; the command gets `force`, a Force, instead."""

    @click.option(
        "--force",
        "forces",
        multiple=True,
        metavar="COMPONENT",
        envvar="KFP_CI_FORCE",
        help="Build this component again though the registry has its key, or 'all'; may be "
        "given again. It gets a key of this plan alone, and what is built on it follows: "
        "that holds for this build, its lock, pipelines and release, and the next plan has "
        "the old image again. To keep it, change the component.",
    )
    @click.option(
        "--force-id",
        metavar="ID",
        envvar=["KFP_CI_FORCE_ID", "BUILD_TAG"],
        default="",
        help="What the forced keys are of. Default: Jenkins' BUILD_TAG, else the time.",
    )
    @functools.wraps(function)
    def command(*arguments: Any, forces: tuple[str, ...], force_id: str, **options: Any) -> None:
        from ci.forcing import Force

        function(*arguments, force=Force(forces, force_id), **options)

    return command


on_interrupt = click.option(
    "--on-interrupt",
    type=click.Choice(["cancel", "leave"]),
    default="cancel",
    show_default=True,
    help="What Ctrl-C and SIGTERM do to a server's runs.",
)
LOCK = click.Path(path_type=Path)


def shard(text: str) -> tuple[int, int]:
    """`2/4` -> (2, 4): the second of four shards; `0/4` is what they build on.
    Raises BadParameter."""
    written = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text)
    if written is None:
        raise click.BadParameter(f"'{text}' is no shard; write 2/4 for the second of four")
    number, count = int(written[1]), int(written[2])
    if not number <= count or not count:
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
    """NAME=VALUE pairs, as text: only the pipeline knows of what type a value is.

    Quotes around the whole of a value are YAML's, and taken off.
    Raises ConfigError for one without a name or an equals sign.
    """
    values: dict[str, Any] = {}
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigError(f"'{pair}' is no parameter", "Write it as -p NAME=VALUE")
        values[name] = _unquoted(text)
    return values


def _unquoted(text: str) -> str:
    if len(text) < 2 or text[0] != text[-1] or text[0] not in "'\"":
        return text
    import yaml

    from ci_tools import yaml_safe

    try:
        inner = yaml_safe.load(text)
    except yaml.YAMLError:
        return text
    return inner if isinstance(inner, str) else text
