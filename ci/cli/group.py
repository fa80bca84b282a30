"""The command itself, and how its help is laid out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import click

from ci import __version__
from ci_tools.errors import OutputClosedError

SECTIONS = {
    "Stages, in order": "plan build merge pin compile upload train deploy release".split(),
    "All of them": ["run"],
    "By hand": ["launch"],
    "Why": ["explain"],
    "External base images": ["bases"],
    "Scans": ["scan"],
    "Pipelines in Kubeflow": ["pipelines"],
    "Prediction service": ["service"],
    "Releases": ["promote", "rollback", "releases"],
    "Jenkins": ["jenkins"],
    "This machine": ["local"],
    "Reference": ["schema", "exit-codes", "completion"],
}


class Contents(click.Group):
    """A group whose help lists commands by section, in the order they happen."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        with _closed_pipe():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with _closed_pipe():
            return super().invoke(ctx)

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in SECTIONS.items():
            commands = [(name, self.commands[name]) for name in names if name in self.commands]
            with formatter.section(title):
                formatter.write_dl([(name, c.get_short_help_str(70)) for name, c in commands])


@contextlib.contextmanager
def _closed_pipe() -> Iterator[None]:
    """Before click and rich make it an exit with 1, which is a defect's code."""
    closed = OutputClosedError("nobody reads the output any more", "Read all of it")
    try:
        yield
    except BrokenPipeError:  # `ci plan --json | head`
        raise closed from None
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):
            raise closed from None
        raise


@click.group(cls=Contents, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kfp-ci")
def cli() -> None:
    """CI/CD for machine-learning repositories that run on Kubeflow Pipelines.

    From Dockerfiles to a served prediction: 'kfp-ci run --train --deploy' does
    everything on this machine; every stage also runs alone, from the files that
    the earlier ones left in build/.
    """
