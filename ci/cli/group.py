"""The command itself, and how its help is laid out."""

from __future__ import annotations

import contextlib
import importlib
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
# Commands, and the modules of `ci.cli` that define all of them.
_MODULES = {
    "plan build merge pin compile upload train release run": "stages",
    "launch": "launch",
    "explain bases local schema exit-codes completion": "others",
    "scan": "scan",
    "pipelines": "pipelines",
    "deploy service": "service",
    "promote rollback releases": "promote releases",
    "jenkins": "jenkins jenkins_setup jenkins_stages",
}


class Contents(click.Group):
    """A group whose help lists commands by section, in the order they happen.

    A command's modules are imported when it is asked for: to make the options of all
    takes longer than many a stage.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return [name for names in SECTIONS.values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """None for one that there is not; all are in `commands` then, to suggest others."""
        own = [modules for names, modules in _MODULES.items() if cmd_name in names.split()]
        for modules in own or _MODULES.values():
            for module in modules.split():
                importlib.import_module(f"ci.cli.{module}")
        return super().get_command(ctx, cmd_name)

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        with _closed_pipe():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with _closed_pipe():
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in SECTIONS.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(title):
                formatter.write_dl([(name, c.get_short_help_str(70)) for name, c in commands if c])


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
