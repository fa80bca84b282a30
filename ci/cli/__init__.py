"""The command line. Each command is a few lines: options in, a stage, its result out."""

from __future__ import annotations

from ci.cli.group import SECTIONS, cli
from ci.cli.options import parsed

__all__ = ["SECTIONS", "cli", "parsed"]
