"""Which controller, which job: from options, the environment, ci.yaml and git."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from ci_tools.errors import ConfigError

if TYPE_CHECKING:
    from ci.workspace import Workspace
    from ci_tools.jenkins.builds import Job
    from ci_tools.jenkins.connection import Connection

URL = "JENKINS_URL"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Named(NamedTuple):
    """What a person named of it; None for what they did not."""

    url: str | None = None
    job: str | None = None
    branch: str | None = None

    def options(self) -> str:
        """As they are written in a command, to ask the same job again."""
        given = [("--url", self.url), ("--job", self.job), ("--branch", self.branch)]
        return "".join(f" {option} {shlex.quote(value)}" for option, value in given if value)


class Target(NamedTuple):
    """A job of a controller that knows us. named: how a person came to it."""

    connection: Connection
    job: Job
    named: Named


def address(workspace: Workspace, url: str | None) -> str:
    """The controller's: the option's, else that of JENKINS_URL, else that of ci.yaml.

    Raises ConfigError.
    """
    from ci_tools.jenkins import address

    places = (("--url", url), (URL, os.environ.get(URL)))
    for place, given in places:
        if given:
            return address.controller(given, place)
    if workspace.config.jenkins.url:
        return address.controller(workspace.config.jenkins.url, "jenkins.url")
    raise ConfigError(
        "no Jenkins is named",
        f"Give --url, set {URL}, or write 'jenkins: {{url: https://...}}' into ci.yaml",
    )


def job_name(workspace: Workspace, job: str | None) -> str:
    """The option's, else that of ci.yaml. Raises ConfigError."""
    if name := job or workspace.config.jenkins.job:
        return name
    raise ConfigError(
        "no job of Jenkins is named",
        "Give --job with its full name, or write 'jenkins: {job: folder/name}' into ci.yaml",
    )


def connect(workspace: Workspace, url: str | None) -> Connection:
    """A connection to a controller that was asked who we are.

    Raises ConfigError, CredentialsError, JenkinsError.
    """
    from ci_tools.jenkins import credentials
    from ci_tools.jenkins.connection import Connection

    where = address(workspace, url)
    who = credentials.find(where)
    place = urlsplit(where)
    if who and place.scheme == "http" and place.hostname not in _LOOPBACK:
        workspace.console.warn(f"{where} is without TLS: whoever is on the way can read the token")
    connection = Connection(where, who, workspace.console.event)
    connection.who()
    return connection


def target(workspace: Workspace, named: Named) -> Target:
    """The job of the branch: the one that was named, else the current one.

    Raises ConfigError, CredentialsError, JenkinsError.
    """
    from ci_tools.jenkins import address, builds

    name = job_name(workspace, named.job)
    address.job_path(name)  # before anybody is asked
    connection = connect(workspace, named.url)
    branch = named.branch or workspace.source.branch
    job = builds.find(connection, name, branch, chosen=named.branch is not None)
    return Target(connection, job, named)
