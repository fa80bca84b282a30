"""The command line. Each command is a few lines: options in, a stage, its result out."""

from __future__ import annotations

from ci.cli import (
    jenkins,
    jenkins_setup,
    jenkins_stages,
    launch,
    others,
    pipelines,
    promote,
    releases,
    scan,
    service,
    stages,
)
from ci.cli.group import SECTIONS, cli
from ci.cli.options import parsed

__all__ = [
    "SECTIONS",
    "cli",
    "jenkins",
    "jenkins_setup",
    "jenkins_stages",
    "launch",
    "others",
    "parsed",
    "pipelines",
    "promote",
    "releases",
    "scan",
    "service",
    "stages",
]
