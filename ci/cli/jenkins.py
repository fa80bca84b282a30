"""Jenkins: builds that are started, followed and looked into from here."""

from __future__ import annotations

from ci.cli.group import cli


@cli.group()
def jenkins() -> None:
    """Jenkins: its job, its builds, and what the Jenkinsfile asks."""
