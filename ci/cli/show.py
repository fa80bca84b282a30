"""How a command tells its result: lines for people, JSON for programs."""

from __future__ import annotations

import click
import msgspec

from ci_tools.printable import printable

_KEPT = "\n\t"  # of a line; what else a terminal would act upon comes from elsewhere


def show(document: msgspec.Struct | None, lines: list[str], as_json: bool) -> None:
    """document: None, which is JSON's null, where there is none to show."""
    if as_json:
        print_json(msgspec.to_builtins(document))
    else:
        _tell(lines)


def show_lines(lines: list[str], as_json: bool) -> None:
    if as_json:
        print_json({"would": lines})
    else:
        _tell(lines)


def _tell(lines: list[str]) -> None:
    click.echo("\n".join(printable(line, keep=_KEPT) for line in lines))


def print_json(value: object) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
