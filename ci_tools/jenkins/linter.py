"""The controller's own check of a Declarative Jenkinsfile: nothing is built for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ci_tools.errors import JenkinsError, JenkinsSetupError
from ci_tools.jenkins.refusals import NotThere

if TYPE_CHECKING:
    from ci_tools.jenkins.connection import Connection


class _Error(msgspec.Struct):
    """error: several, where the compiler found several."""

    error: str | list[str | None] | None = None


class _Verdict(msgspec.Struct):
    result: str = ""
    errors: list[_Error | str] = []


class _Answer(msgspec.Struct):
    data: _Verdict


def errors(connection: Connection, text: str) -> list[str]:
    """What the controller has against a Jenkinsfile; nothing where it says that it is valid.

    Raises JenkinsSetupError where the plugin for Declarative Pipelines is missing,
    JenkinsError for an answer that is neither.
    """
    path = "pipeline-model-converter/validateJenkinsfile"
    try:
        verdict = connection.decoded(
            connection.post(path, {"jenkinsfile": text}), path, _Answer
        ).data
    except NotThere as error:
        raise JenkinsSetupError(
            f"Jenkins at {connection.url} cannot check a Jenkinsfile: it lacks the plugin "
            "pipeline-model-definition, or we may not use it",
            "Install that plugin ('Pipeline: Declarative')",
        ) from error
    if verdict.result == "success":
        return []
    told: list[str] = []
    for one in verdict.errors:
        said = one.error if isinstance(one, _Error) else one
        told += [str(it) for it in said] if isinstance(said, list) else [str(said)]
    if not told:
        raise JenkinsError(
            f"Jenkins at {connection.url} neither takes the Jenkinsfile nor says what is wrong",
            "Look whether its plugin pipeline-model-definition is up to date",
        )
    return told
