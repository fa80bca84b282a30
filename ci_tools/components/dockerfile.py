"""What a Dockerfile builds on, read with BuildKit's own parser.

The package `dockerfile` wraps moby/buildkit's Go parser, so continuation
lines, `# escape`, heredocs and CRLF mean here what they mean in a build. What
its instructions mean follows frontend/dockerfile/dockerfile2llb.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ci_tools.components import directives, words
from ci_tools.components.stages import Read, Stage, Work
from ci_tools.errors import DockerfileError

if TYPE_CHECKING:
    from dockerfile import Command

# https://docs.docker.com/reference/dockerfile/
_INSTRUCTIONS = frozenset(
    "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN "
    "SHELL STOPSIGNAL USER VOLUME WORKDIR".split()
)
PLATFORM = "linux/amd64"
_ONBUILD = re.compile(r"\s*ONBUILD\s*", re.I)
# What ADD fetches, and what fixes its bytes: a checksum, or a whole commit.
_REMOTE = re.compile(r"(?:https?|git|ssh)://|git@")
_COMMIT = re.compile(r"(?:#|[?&]commit=|[?&]checksum=)[0-9a-f]{40}(?:[0-9a-f]{24})?\b")


@dataclass(frozen=True)
class Dockerfile:
    """A Dockerfile as it reads for one platform.

    syntax:    the image of its frontend, None for the engine's own.
    arguments: names that an ARG before the first FROM declares.
    """

    stages: tuple[Stage, ...]
    syntax: str | None = None
    arguments: frozenset[str] = frozenset()

    def has_stage(self, name: str) -> bool:
        return any(stage.name == name for stage in self.stages)


def read(
    path: Path | str,
    arguments: Mapping[str, str],
    platforms: Iterable[str] = (PLATFORM,),
    *,
    shown: str | None = None,
) -> tuple[Dockerfile, ...]:
    """Read a Dockerfile, once for each platform.

    arguments: build arguments, which override ARG defaults.

    Raises DockerfileError for what no engine would build: a file that does not
    parse, an unknown instruction, an instruction before FROM, a FROM whose
    image is empty. What is wrong with a stage that is reached: `stages.reach`.
    """
    shown = shown or Path(path).name
    try:
        with open(path, "rb") as stream:  # noqa: PTH123 - for every component
            text = stream.read().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DockerfileError(f"{shown} cannot be read ({error})", "Mend the file") from error
    return tuple(parse(text, arguments, shown=shown, platform=one) for one in platforms)


def parse(
    text: str,
    arguments: Mapping[str, str],
    *,
    shown: str = "Dockerfile",
    platform: str = PLATFORM,
) -> Dockerfile:
    """As `read`, from text, for one platform."""
    syntax = directives.syntax(text)
    language = f"Write it as a Dockerfile, whatever its frontend {syntax} reads too"
    todo = language if syntax else "Mend the Dockerfile"
    try:
        instructions = commands(text)
    except ValueError as error:
        raise DockerfileError(f"{shown} does not parse ({error})", todo) from error
    variables = _platform_arguments(platform, arguments)
    parser = _Parser(shown, text, variables, todo)
    for command in instructions:
        parser.take(command, arguments)
    if not parser.stages:
        raise DockerfileError(f"{shown} has no FROM", "Begin the Dockerfile with FROM")
    return Dockerfile(
        stages=tuple(stage.stage for stage in parser.stages),
        syntax=syntax,
        arguments=frozenset(parser.arguments),
    )


@lru_cache(maxsize=64)  # many components are made from one template, on many platforms
def commands(text: str) -> tuple[Command, ...]:
    """Its instructions one by one, with their lines. Raises ValueError."""
    import dockerfile as buildkit

    try:
        return tuple(buildkit.parse_string(text))
    except buildkit.GoParseError as error:
        raise ValueError(str(error)) from error


def _platform_arguments(platform: str, arguments: Mapping[str, str]) -> dict[str, str]:
    """What BuildKit declares itself. The build's own platform is taken to be
    linux/amd64, so that a key is the same on any machine."""
    declared = _declared(platform)
    return {**declared, **{name: arguments[name] for name in declared if name in arguments}}


@lru_cache
def _declared(platform: str) -> dict[str, str]:
    declared: dict[str, str] = {}
    for whose, which in (("TARGET", platform), ("BUILD", PLATFORM)):
        system, architecture, variant = [*which.split("/"), ""][:3]
        declared |= {
            f"{whose}PLATFORM": which,
            f"{whose}OS": system,
            f"{whose}ARCH": architecture,
            f"{whose}VARIANT": variant,
        }
    return declared


@dataclass
class _Stage:
    """A stage while it is read. own: what it does; triggers: its ONBUILDs."""

    name: str | None
    base: str
    line: int
    own: _Work = field(default_factory=lambda: _Work())
    triggers: _Work = field(default_factory=lambda: _Work())

    @property
    def stage(self) -> Stage:
        return Stage(self.name, self.base, self.line, self.own.work, self.triggers.work)


@dataclass
class _Work:
    reads: list[Read] = field(default_factory=list)
    arguments: set[str] = field(default_factory=set)
    remotes: list[str] = field(default_factory=list)

    @property
    def work(self) -> Work:
        return Work(tuple(self.reads), frozenset(self.arguments), tuple(self.remotes))


class _Parser:
    """Takes a Dockerfile's instructions one after the other."""

    def __init__(self, shown: str, text: str, variables: dict[str, str], todo: str) -> None:
        self.stages: list[_Stage] = []
        self.arguments: set[str] = set()
        self._shown = shown
        self._lines = text.split("\n")
        self._escape = directives.escape(text)
        self._variables = variables
        self._todo = todo

    def take(self, command: Command, arguments: Mapping[str, str]) -> None:
        name = command.cmd.upper()
        if name not in _INSTRUCTIONS:
            raise DockerfileError(
                f"{self._shown} line {command.start_line}: unknown instruction '{command.cmd}'",
                self._todo,
            )
        if name == "FROM":
            self.stages.append(self._stage(command))
        elif self.stages:
            self._work(command, self.stages[-1].own)
        elif name == "ARG":
            self._declare(command, arguments)
        else:
            raise DockerfileError(
                f"{self._shown} line {command.start_line}: '{name}' comes before any FROM",
                "Begin the Dockerfile with FROM",
            )

    def _declare(self, command: Command, arguments: Mapping[str, str]) -> None:
        for item in command.value:
            name, has_default, default = item.partition("=")
            self.arguments.add(name)
            if name in arguments:
                self._variables[name] = arguments[name]
            elif has_default:
                self._variables[name] = self._expand(default, command)

    def _stage(self, command: Command) -> _Stage:
        value = command.value
        named = len(value) == 3 and value[1].upper() == "AS"
        base = self._expand(value[0], command) if len(value) == 1 or named else ""
        if not base or not self._platform(command):
            raise DockerfileError(
                f"{self._shown} line {command.start_line}: '{command.original}' names no "
                + ("platform" if base else "image"),
                "Write FROM [--platform=<platform>] <image> [AS <name>], "
                "and give every ARG used there a default",
            )
        return _Stage(value[2].lower() if named else None, base, command.start_line)

    def _platform(self, command: Command) -> bool:
        """Whether --platform, where it is given, says something."""
        return all(
            self._expand(flag.partition("=")[2], command)
            for flag in command.flags
            if flag.startswith("--platform")
        )

    def _expand(self, word: str, command: Command) -> str:
        try:
            return words.expand(word, self._variables, self._escape)
        except ValueError as error:
            raise DockerfileError(
                f"{self._shown} line {command.start_line}: '{word}' holds {error}",
                "Mend the Dockerfile",
            ) from error

    def _trigger(self, command: Command) -> tuple[Command, ...]:
        """The instruction of an ONBUILD, whose flags and heredocs the parser drops: its
        lines are read once more, as a file of their own."""
        lines = "\n".join(self._lines[command.start_line - 1 : command.end_line])
        trigger = f"# escape={self._escape}\n{_ONBUILD.sub('', lines, count=1)}\n"
        try:
            return commands(trigger)
        except ValueError as error:
            raise DockerfileError(
                f"{self._shown} line {command.start_line}: the trigger does not parse ({error})",
                self._todo,
            ) from error

    def _work(self, command: Command, found: _Work) -> None:
        """Note what an instruction within a stage reads from."""
        name, line = command.cmd.upper(), command.start_line
        if name == "ONBUILD":
            for one in self._trigger(command):
                self._work(one, self.stages[-1].triggers)
        elif name == "ARG":
            found.arguments.update(item.partition("=")[0] for item in command.value)
        elif name in ("COPY", "ADD"):
            flags = dict(flag.partition("=")[::2] for flag in command.flags)
            if flags.get("--from"):
                found.reads.append(Read(flags["--from"], line, numbered=True))
            if name == "ADD" and not flags.get("--checksum"):
                found.remotes += _remotes(command.value[:-1])
        elif name == "RUN":
            found.reads += (
                Read(reference, line, numbered=False) for reference in _mounted(command.flags)
            )


def _remotes(sources: Iterable[str]) -> list[str]:
    """Those that come over the network, and are not fixed by a commit."""
    return [
        source
        for source in (given.strip("\"'") for given in sources)
        if _REMOTE.match(source) and not _COMMIT.search(source)
    ]


def _mounted(flags: Iterable[str]) -> list[str]:
    """The `from` of RUN's `--mount=type=bind,from=...`, which is written as CSV."""
    import csv

    found = []
    for flag in flags:
        option, _, value = flag.partition("=")
        if option == "--mount":
            for part in next(csv.reader([value]), []):
                key, _, reference = part.partition("=")
                if key.lower() == "from" and reference:
                    found.append(reference)
    return found
