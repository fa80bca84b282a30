"""How a command tells its result: lines for people, JSON for programs."""

from __future__ import annotations

import click
import msgspec


def show(document: msgspec.Struct | None, lines: list[str], as_json: bool) -> None:
    """document: None, which is JSON's null, where there is none to show."""
    if as_json:
        print_json(msgspec.to_builtins(document))
    else:
        click.echo("\n".join(lines))


def show_lines(lines: list[str], as_json: bool) -> None:
    if as_json:
        print_json({"would": lines})
    else:
        click.echo("\n".join(lines))


def print_json(value: object) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
