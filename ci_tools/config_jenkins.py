"""`jenkins` of `ci.yaml`: the controller, the job, and what the job is made from."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from ci_tools.config_base import Section, check_address

# What Jenkins refuses in a name, in the order of its own check; control characters too.
_NOT_IN_A_NAME = frozenset("?*/\\%!@#$^&|<>[]:;")
_LONGEST_NAME = 200  # characters of one name: a folder on the controller's disk is called so
_SCHEMES = ("https", "http", "ssh", "git", "file")
_SCP = re.compile(r"^(?:[A-Za-z0-9._-]+@)?[A-Za-z0-9.-]+:(?!//)[^\s:]\S*$")
# The steps of the list in a multibranch job's form (cloudbees-folder, PeriodicFolderTrigger):
# saved there, any other would become one of them.
ScanMinutes = Literal[
    0, 1, 2, 3, 5, 10, 15, 20, 25, 30, 60, 120, 240, 480, 720, 1440, 2880, 10080, 20160, 40320
]
# Jenkins takes them in one line, with spaces between them.
HeadPattern = Annotated[str, Meta(pattern=r"^[^\s\x00-\x1f\x7f]+$", max_length=250)]
CredentialsId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._/+=@:-]+$", max_length=255)]


class Jenkins(Section):
    """The controller that builds this repository, its job, and what `jenkins setup` makes
    the job of. Who we are to it is in the environment, in netrc or in the keyring, never
    here.

    url: as `https://jenkins.example.com`, or with the path that it is served under.
    job: the multibranch job's full name, as `team/clinical-ml`; by default `jenkins
    setup` calls it as the project.

    source: `git` for any host; `github` for branches and pull requests of GitHub.
    remote: the repository's address; by default that of origin. Never with a password.
    credentials: id, in Jenkins, of the credentials that read it.
    forks: pull requests from forks, on GitHub. Whose Jenkinsfile is believed: nobody's,
    so that the target branch's is used; of people who may write to the repository
    (`permission`); or `ignore`, none is built at all. Their code runs on the agents
    unless they are ignored.
    only: patterns (`main`, `v*`) of the branches and tags to build, and of pull requests,
    which are called `PR-7`. Without any, whatever the job has stays: all, in a new one.
    script_path: the Jenkinsfile's, relative to the repository.
    scan_minutes: how often Jenkins looks for branches by itself, in the steps that it
    offers; 0 for never, where webhooks tell it.
    keep_days, keep_branches: how long, and how many of them, branches that are gone
    from the repository stay in Jenkins with their builds; null for no bound.
    agents: the label of the agents that the Jenkinsfile asks for.
    """

    url: str | None = None
    job: Annotated[str, Meta(min_length=1)] | None = None
    source: Literal["git", "github"] = "git"
    remote: Annotated[str, Meta(min_length=1, max_length=2000)] | None = None
    credentials: CredentialsId | None = None
    forks: Literal["nobody", "permission", "ignore"] = "nobody"
    only: list[HeadPattern] = []
    script_path: Annotated[str, Meta(min_length=1, max_length=1000)] = "Jenkinsfile"
    scan_minutes: ScanMinutes = 60
    keep_days: Annotated[int, Meta(ge=1, le=36500)] | None = 14
    keep_branches: Annotated[int, Meta(ge=1, le=1000000)] | None = None
    agents: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]+$")] = "kfp-ci"

    def __post_init__(self) -> None:
        if self.url is not None:
            check_address("jenkins.url", self.url)
        if self.job is not None:
            names(self.job)
        if self.remote is not None:
            check_remote(self.remote)
        parts = self.script_path.split("/")
        if ".." in parts or "" in parts or "\\" in self.script_path or not _plain(self.script_path):
            raise ValueError("script_path is no path inside the repository")


def names(job: str) -> tuple[str, ...]:
    """`team/clinical-ml` -> the names of the folders and of the job.

    Raises ValueError for one that Jenkins would refuse.
    """
    parts = tuple(job.strip("/").split("/"))
    for name in parts:
        bad = not name or name in (".", "..") or name.endswith(".") or name != name.strip()
        if bad or len(name) > _LONGEST_NAME or not _plain(name) or _NOT_IN_A_NAME & set(name):
            raise ValueError(f"job: {name[:60]!r} is no name that Jenkins takes")
    return parts


def check_remote(remote: str) -> None:
    """Raises ValueError, without the address, for one that git should not be given.

    `ext::` and the like run commands; a password in an address ends up in logs.
    """
    if not _plain(remote) or re.search(r"\s|\\|\A-", remote):
        raise ValueError("remote is not the address of a repository")
    if "://" not in remote:
        if not remote.startswith("/") and not _SCP.match(remote):
            raise ValueError("remote is not the address of a repository (https://, ssh://, u@h:p)")
        return
    try:
        place = urlsplit(remote)
        known = place.scheme in _SCHEMES and (place.scheme == "file" or place.hostname)
        port = place.port
    except ValueError:
        known, port = None, None
    if not known or port == 0:
        raise ValueError("remote is not the address of a repository (https://, ssh://, u@h:p)")
    if place.password is not None or (place.username is not None and place.scheme != "ssh"):
        raise ValueError("remote holds a user or a password: name its credentials instead")


def _plain(text: str) -> bool:
    """Whether nothing in it turns a line or a terminal."""
    return text.isprintable()
