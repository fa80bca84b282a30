"""The controller's own check of a Declarative Jenkinsfile: nothing is built for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import requests

from ci_tools.errors import JenkinsError, JenkinsSetupError
from ci_tools.jenkins.refusals import NotThere

if TYPE_CHECKING:
    from ci_tools.jenkins.connection import Connection


def errors(connection: Connection, text: str) -> list[str]:
    """What the controller has against a Jenkinsfile; nothing where it is valid.

    Raises JenkinsSetupError where the plugin for Declarative Pipelines is missing.
    """
    try:
        found = connection.check_jenkinsfile_syntax(text)
    except NotThere as error:
        raise JenkinsSetupError(
            f"Jenkins at {connection.url} cannot check a Jenkinsfile: it lacks the plugin "
            "pipeline-model-definition, or we may not use it",
            "Install that plugin ('Pipeline: Declarative')",
        ) from error
    except (requests.exceptions.JSONDecodeError, AttributeError) as error:
        raise JenkinsError(
            f"Jenkins at {connection.url} checked the Jenkinsfile, and its answer is unreadable",
            "Look whether its plugin pipeline-model-definition is up to date",
        ) from error
    told: list[str] = []
    for one in found:
        said = one.get("error", "") if isinstance(one, dict) else one
        told += [str(it) for it in said] if isinstance(said, list) else [str(said)]
    return told
