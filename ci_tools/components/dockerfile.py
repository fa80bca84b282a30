"""What a Dockerfile builds on, read with BuildKit's own parser.

The package `dockerfile` wraps moby/buildkit's Go parser, so continuation
lines, `# escape`, heredocs and CRLF mean here what they mean in a build.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ci_tools.errors import DockerfileError

# https://docs.docker.com/reference/dockerfile/
_INSTRUCTIONS = frozenset(
    "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN "
    "SHELL STOPSIGNAL USER VOLUME WORKDIR".split()
)
# What BuildKit declares itself, for the platform that keys are made for.
_PLATFORM = {
    f"{whose}{part}": value
    for whose in ("TARGET", "BUILD")
    for part, value in {
        "PLATFORM": "linux/amd64",
        "OS": "linux",
        "ARCH": "amd64",
        "VARIANT": "",
    }.items()
}
_VARIABLE = re.compile(r"\$(?:(?P<bare>\w+)|\{(?P<name>\w+)(?:(?P<op>:?[-+])(?P<word>[^}]*))?\})")


@dataclass(frozen=True)
class Stage:
    """One FROM. base is another stage's name or an image reference."""

    name: str | None
    base: str
    line: int


@dataclass(frozen=True)
class Dockerfile:
    """The stages of a Dockerfile and every image it reads from.

    images: references of FROM, COPY/ADD --from and RUN --mount=from that are
            no stage of the file, in order of appearance, without `scratch`.
    """

    stages: tuple[Stage, ...]
    images: tuple[str, ...]

    def has_stage(self, name: str) -> bool:
        return any(stage.name == name for stage in self.stages)


def read(path: Path, arguments: Mapping[str, str], *, shown: str | None = None) -> Dockerfile:
    """Read a Dockerfile; `arguments` are build arguments that override ARG defaults.

    Raises DockerfileError for what no engine would build: a file that does not
    parse, an unknown instruction, an instruction before FROM, a FROM whose
    image is empty, a stage that is used before it is there.
    """
    shown = shown or path.name
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DockerfileError(f"{shown} cannot be read ({error})", "Mend the file") from error
    return parse(text, arguments, shown=shown)


def parse(text: str, arguments: Mapping[str, str], *, shown: str = "Dockerfile") -> Dockerfile:
    """As `read`, from text."""
    import dockerfile as buildkit

    try:
        commands = buildkit.parse_string(text)
    except buildkit.GoParseError as error:
        raise DockerfileError(f"{shown} does not parse ({error})", "Mend the Dockerfile") from error

    variables = dict(_PLATFORM)
    stages: list[Stage] = []
    images: dict[str, int] = {}  # reference -> line
    copied: dict[str, int] = {}  # those of COPY, ADD and RUN --mount
    for command in commands:
        name = command.cmd.upper()
        if name not in _INSTRUCTIONS:
            raise DockerfileError(
                f"{shown} line {command.start_line}: unknown instruction '{command.cmd}'",
                "Mend the Dockerfile",
            )
        if name == "ARG" and not stages:
            _declare(variables, command.value, arguments)
        elif name == "FROM":
            stage = _stage(command, variables, shown)
            if stage.base != "scratch" and not _is_stage(stage.base, stages):
                images.setdefault(stage.base, stage.line)
            stages.append(stage)
        elif not stages:
            raise DockerfileError(
                f"{shown} line {command.start_line}: '{name}' comes before any FROM",
                "Begin the Dockerfile with FROM",
            )
        else:
            for reference in _read_from(command):
                if reference.isdigit():
                    _check_index(int(reference), stages, command, shown)
                elif not _is_stage(reference, stages[:-1]):
                    images.setdefault(reference, command.start_line)
                    copied.setdefault(reference, command.start_line)
    if not stages:
        raise DockerfileError(f"{shown} has no FROM", "Begin the Dockerfile with FROM")
    _check_references(images, copied, stages, shown)
    return Dockerfile(tuple(stages), tuple(images))


def _stage(command, variables: Mapping[str, str], shown: str) -> Stage:  # type: ignore[no-untyped-def]
    value = command.value
    base = _substitute(value[0], variables).strip("\"'") if value else ""
    named = len(value) == 3 and value[1].upper() == "AS"
    if not base or not (len(value) == 1 or named):
        raise DockerfileError(
            f"{shown} line {command.start_line}: '{command.original}' names no image",
            "Write FROM <image> [AS <name>], and give every ARG used there a default",
        )
    return Stage(value[2].lower() if named else None, base, command.start_line)


def _check_index(index: int, stages: list[Stage], command, shown: str) -> None:  # type: ignore[no-untyped-def]
    if index >= len(stages) - 1:
        raise DockerfileError(
            f"{shown} line {command.start_line}: there is no stage {index} before this one",
            "Name an earlier stage",
        )


def _check_references(
    images: Mapping[str, int], copied: Mapping[str, int], stages: list[Stage], shown: str
) -> None:
    """Refuse what is no image: a variable nobody replaced, a stage yet to come.

    BuildKit expands variables in FROM only. Its ${X#pattern}, ${X%pattern} and
    ${X/old/new} are not read here.
    """
    for reference, line in images.items():
        if "$" in reference:
            raise DockerfileError(
                f"{shown} line {line}: the variable in '{reference}' cannot be replaced",
                "Write FROM ${NAME} or ${NAME:-default}, and give COPY --from an alias stage",
            )
    for reference, line in copied.items():
        if _is_stage(reference, stages):
            raise DockerfileError(
                f"{shown} line {line}: the stage '{reference}' is read before it is there",
                "Move that stage up",
            )


def _is_stage(reference: str, stages: list[Stage]) -> bool:
    return any(stage.name == reference.lower() for stage in stages)


def _declare(
    variables: dict[str, str], declared: tuple[str, ...], arguments: Mapping[str, str]
) -> None:
    for item in declared:
        name, has_default, default = item.partition("=")
        if name in arguments:
            variables[name] = arguments[name]
        elif has_default:
            variables[name] = _substitute(default.strip("\"'"), variables)


def _substitute(text: str, variables: Mapping[str, str]) -> str:
    """$NAME, ${NAME}, ${NAME:-word} and ${NAME:+word}, as in the Dockerfile reference."""

    def value(match: re.Match[str]) -> str:
        found = variables.get(match["bare"] or match["name"])
        operator, word = match["op"] or "", match["word"] or ""
        there = bool(found) if operator.startswith(":") else found is not None
        if operator.endswith("-"):
            return (found or "") if there else word
        if operator.endswith("+"):
            return word if there else ""
        return found or ""

    return _VARIABLE.sub(value, text)


def _read_from(command) -> list[str]:  # type: ignore[no-untyped-def]
    """References in `--from=` of COPY and ADD and in `--mount=...,from=...` of RUN."""
    references = []
    for flag in command.flags:
        option, _, value = flag.partition("=")
        if option == "--from":
            references.append(value)
        elif option == "--mount":
            fields = dict(part.partition("=")[::2] for part in value.split(","))
            if fields.get("from"):
                references.append(fields["from"])
    return references
