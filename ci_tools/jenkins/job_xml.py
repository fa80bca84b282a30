"""The configuration (config.xml) of the multibranch job, from its declaration. Pure.

The elements are those that Jenkins itself writes. Read in the sources of
workflow-multibranch (WorkflowMultiBranchProject, WorkflowBranchProjectFactory),
branch-api (MultiBranchProject, BranchSource and its tests' config.xml), git
(GitSCMSource, its traits), github-branch-source (GitHubSCMSource, GitHubRepositoryInfo,
ForkPullRequestDiscoveryTrait) and cloudbees-folder (DefaultOrphanedItemStrategy,
PeriodicFolderTrigger), and compared with config.xml of controllers in public
repositories. XStream writes `_` as `__` in an element's name, not in a class attribute.

What is not declared, on purpose:
- Build strategies: without one Jenkins builds branches and pull requests by itself and
  never a tag (MultiBranchProject.isAutomaticBuild). A tag's build is started by hand.
- Properties of branches: Jenkins' own default, DefaultBranchPropertyStrategy without any.
- `disableConcurrentBuilds` and how many builds are kept: the Jenkinsfile says so.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element

from ci_tools.config_jenkins import Jenkins, check_remote, names
from ci_tools.errors import ConfigError

PROJECT = "org.jenkinsci.plugins.workflow.multibranch.WorkflowMultiBranchProject"
FACTORY = "org.jenkinsci.plugins.workflow.multibranch.WorkflowBranchProjectFactory"
SOURCES = "jenkins.branch.MultiBranchProject$BranchSourceList"
SOURCE = "jenkins.branch.BranchSource"
ORPHANS = "com.cloudbees.hudson.plugins.folder.computed.DefaultOrphanedItemStrategy"
TRIGGER = "com.cloudbees.hudson.plugins.folder.computed.PeriodicFolderTrigger"
GIT = "jenkins.plugins.git.GitSCMSource"
GITHUB = "org.jenkinsci.plugins.github_branch_source.GitHubSCMSource"
FILTER = "jenkins.scm.impl.trait.WildcardSCMHeadFilterTrait"
_GIT_TRAIT = "jenkins.plugins.git.traits."
_GITHUB_TRAIT = "org.jenkinsci.plugins.github__branch__source."
_FORK = "org.jenkinsci.plugins.github_branch_source.ForkPullRequestDiscoveryTrait$"
TRAITS = frozenset(
    [_GIT_TRAIT + name for name in ("BranchDiscoveryTrait", "TagDiscoveryTrait")]
    + [
        f"{_GITHUB_TRAIT}{name}DiscoveryTrait"
        for name in ("Branch", "Tag", "OriginPullRequest", "ForkPullRequest")
    ]
)

# Of the source: what its branches' jobs are bound to. It never changes, or Jenkins would
# take every branch for a new one.
SOURCE_ID = "kfp-ci"
MARK = "kfp-ci jenkins setup"  # in the description of what we made
WITHOUT_PULL_REQUESTS = 1  # branches, except those that are built as a pull request
HEAD = 2  # a pull request as it is: a merge with its target is a commit that nobody has
_GITHUB_PATH = re.compile(r"/?([A-Za-z0-9._-]+)/([A-Za-z0-9._-]+?)(?:\.git)?/?")


@dataclass(frozen=True)
class Job:
    """What the job is made from.

    project: of the repository, for people. path: the names of its folders, and its own.
    credentials: id of those that read the repository; None: whatever Jenkins has there.
    only: patterns of what is built; without any whatever Jenkins has there.
    scan_minutes: 0 for never. keep_days, keep_branches: of what is gone; None: no bound.
    """

    project: str
    path: tuple[str, ...]
    source: Literal["git", "github"]
    remote: str
    credentials: str | None = None
    forks: Literal["nobody", "permission", "ignore"] = "nobody"
    only: tuple[str, ...] = ()
    script_path: str = "Jenkinsfile"
    scan_minutes: int = 60
    keep_days: int | None = 14
    keep_branches: int | None = None

    @property
    def name(self) -> str:
        """`team/clinical-ml`."""
        return "/".join(self.path)


@dataclass(frozen=True)
class GitHub:
    """A repository on GitHub. url: of its page. api: where its host's API is."""

    owner: str
    repository: str
    url: str
    api: str


def job(settings: Jenkins, project: str, origin: str | None) -> Job:
    """The job of a repository. origin: the address of its remote of that name.

    Raises ConfigError for a remote that is none, and for one that is not on GitHub where
    it should be.
    """
    remote = settings.remote or origin
    if remote is None:
        raise ConfigError(
            "nothing says where Jenkins finds this repository",
            "Set jenkins.remote in ci.yaml, or add a remote 'origin'",
        )
    try:
        check_remote(remote)
    except ValueError as error:
        raise ConfigError(f"origin: {error}", "Set jenkins.remote in ci.yaml") from None
    made = Job(
        project=project,
        path=names(settings.job or project),
        source=settings.source,
        remote=remote,
        credentials=settings.credentials,
        forks=settings.forks,
        only=tuple(settings.only),
        script_path=settings.script_path,
        scan_minutes=settings.scan_minutes,
        keep_days=settings.keep_days,
        keep_branches=settings.keep_branches,
    )
    if made.source == "github":
        github(remote)
    return made


def github(remote: str) -> GitHub:
    """Owner and repository from an address of GitHub, also of an enterprise's own.

    Raises ConfigError for any other address.
    """
    scheme, host, path = "https", "", ""
    if "://" in remote:
        place = urlsplit(remote)
        host, path = place.hostname or "", place.path
        if place.scheme in ("http", "https"):
            scheme = place.scheme
            usual = {"http": 80, "https": 443}[scheme]
            host += f":{place.port}" if place.port not in (None, usual) else ""
    elif ":" in remote and not remote.startswith("/"):
        host, _, path = remote.rpartition("@")[2].partition(":")
        host = host.lower()
    match = _GITHUB_PATH.fullmatch(path)
    if not host or match is None or {match[1], match[2]} & {".", ".."}:
        raise ConfigError(
            "jenkins.remote is no repository on GitHub (https://github.com/OWNER/NAME)",
            "Mend it, or set jenkins.source to git",
        )
    owner, repository = match.groups()
    own = host != "github.com"
    api = f"{scheme}://{host}/api/v3" if own else "https://api.github.com"
    return GitHub(owner, repository, f"{scheme}://{host}/{owner}/{repository}", api)


def declared(job: Job) -> Element:
    """The whole configuration of a new job."""
    owner = {"class": PROJECT, "reference": "../.."}
    return _element(
        PROJECT,
        _element("actions"),
        _element("description", text=description(job)),
        _element("properties"),
        _orphans(job),
        _element("triggers", *([_trigger(job.scan_minutes)] if job.scan_minutes else [])),
        _element("disabled", text="false"),
        _element(
            "sources",
            _element("data", _branch_source(job)),
            _element("owner", attributes=owner),
            attributes={"class": SOURCES},
        ),
        _element(
            "factory",
            _element("owner", attributes=owner),
            _element("scriptPath", text=job.script_path),
            attributes={"class": FACTORY},
        ),
    )


def written(root: Element) -> str:
    """A configuration as text that can be posted.

    In ASCII, and carriage returns as references: a parser makes a line end of one, and
    of U+0085, that stands there plainly.
    """
    copy = deepcopy(root)
    ET.indent(copy)
    body: str = ET.tostring(copy, encoding="us-ascii", xml_declaration=False).decode("ascii")
    return "<?xml version='1.0' encoding='UTF-8'?>\n" + body.replace("\r", "&#13;") + "\n"


def description(job: Job) -> str:
    return f"{job.project}: made by '{MARK}' from its ci.yaml; what is declared there is set again."


def crontab(minutes: int) -> str:
    """How often Jenkins wakes up to see whether `minutes` have gone by since the last
    scan: what its own form makes of them (PeriodicFolderTrigger.toCrontab)."""
    steps = (
        (5, "* * * * *"),
        (30, "H/5 * * * *"),
        (60, "H/15 * * * *"),
        (8 * 60, "H/30 * * * *"),
        (24 * 60, "H H/4 * * *"),
        (48 * 60, "H H/12 * * *"),
    )
    return next((spec for most, spec in steps if minutes <= most), "H H * * *")


def _branch_source(job: Job) -> Element:
    return _element(
        SOURCE,
        _git(job) if job.source == "git" else _github(job),
        _element(
            "strategy",
            _element("properties", attributes={"class": "empty-list"}),
            attributes={"class": "jenkins.branch.DefaultBranchPropertyStrategy"},
        ),
    )


def _git(job: Job) -> Element:
    return _element(
        "source",
        _element("id", text=SOURCE_ID),
        _element("remote", text=job.remote),
        *_credentials(job),
        _element(
            "traits",
            _element(f"{_GIT_TRAIT}BranchDiscoveryTrait"),
            _element(f"{_GIT_TRAIT}TagDiscoveryTrait"),
            *_filter(job),
        ),
        attributes={"class": GIT},
    )


def _github(job: Job) -> Element:
    place = github(job.remote)
    traits = [
        _strategy("Branch", WITHOUT_PULL_REQUESTS),
        _strategy("OriginPullRequest", HEAD),
        _element(f"{_GITHUB_TRAIT}TagDiscoveryTrait"),
    ]
    if job.forks != "ignore":
        fork = _strategy("ForkPullRequest", HEAD)
        trust = {"nobody": "TrustNobody", "permission": "TrustPermission"}[job.forks]
        fork.append(_element("trust", attributes={"class": _FORK + trust}))
        traits.append(fork)
    traits += _filter(job)
    return _element(
        "source",
        _element("id", text=SOURCE_ID),
        _element("apiUri", text=place.api),
        *_credentials(job),
        _element("repoOwner", text=place.owner),
        _element("repository", text=place.repository),
        _element("repositoryUrl", text=place.url),
        _element("traits", *traits),
        attributes={"class": GITHUB},
    )


def _filter(job: Job) -> list[Element]:
    """scm-api's: the whole name must be as one of the patterns, in which `*` is anything."""
    if not job.only:
        return []
    includes = _element("includes", text=" ".join(job.only))
    return [_element(FILTER, includes, _element("excludes"))]


def _credentials(job: Job) -> list[Element]:
    return [_element("credentialsId", text=job.credentials)] if job.credentials else []


def _strategy(name: str, strategy: int) -> Element:
    return _element(
        f"{_GITHUB_TRAIT}{name}DiscoveryTrait", _element("strategyId", text=str(strategy))
    )


def _orphans(job: Job) -> Element:
    """Pruning without any bound would delete what is gone at once, so it is off then."""
    bounds = (job.keep_days, job.keep_branches)
    return _element(
        "orphanedItemStrategy",
        _element("pruneDeadBranches", text="true" if any(bounds) else "false"),
        _element("daysToKeep", text=str(job.keep_days or -1)),
        _element("numToKeep", text=str(job.keep_branches or -1)),
        attributes={"class": ORPHANS},
    )


def _trigger(minutes: int) -> Element:
    return _element(
        TRIGGER,
        _element("spec", text=crontab(minutes)),
        _element("interval", text=str(minutes * 60_000)),  # milliseconds
    )


def _element(
    tag: str,
    *children: Element,
    text: str | None = None,
    attributes: dict[str, str] | None = None,
) -> Element:
    element = Element(tag, attributes or {})
    element.text = text
    element.extend(children)
    return element
