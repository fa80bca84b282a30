"""Whether Jenkins has what the job needs, and what it has of the job. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from ci_tools.jenkins import bindings, job_change, job_xml, plugins
from ci_tools.printable import printable

if TYPE_CHECKING:
    from ci_tools.jenkins.job_xml import Job
    from ci_tools.jenkins.jobs import Agents, Jobs


@dataclass
class Seen:
    """existing: the job's configuration. folders: how many of its folders are there.
    problems: for which nothing is changed. notes: what a person may want to know.
    """

    existing: Element | None = None
    folders: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def looked(jobs: Jobs, wanted: Job, label: str, *, adopt: bool, bound: str) -> Seen:
    """All that may stop it or a person may want to know.

    label: of the agents. adopt, bound: as of `setup`.
    Raises CredentialsError, JenkinsError, and JenkinsSetupError for a configuration
    that cannot be read.
    """
    seen = Seen()
    for told in (_plugins(jobs, wanted), _agents(jobs.agents(label), label)):
        seen.problems += told.problems
        seen.notes += told.notes
    _folders(jobs, wanted, seen)
    _existing(jobs, wanted, seen, adopt=adopt)
    _credentials(jobs, wanted, seen, bound)
    return seen


def _plugins(jobs: Jobs, wanted: Job) -> plugins.Verdict:
    found = jobs.plugins()
    if found is None:
        return plugins.Verdict([], ["the plugins could not be looked at (Overall/SystemRead)"])
    return plugins.verdict(plugins.needed(wanted.source), found)


def _agents(found: Agents | None, label: str) -> plugins.Verdict:
    if found is None:
        return plugins.Verdict([], [f"agents with label '{label}' could not be looked at"])
    if not found.nodes and not found.clouds:
        return plugins.Verdict(
            [f"no agent has the label '{label}', and no cloud starts one (jenkins.agents)"], []
        )
    if found.offline and not found.clouds:
        return plugins.Verdict([], [f"all agents with label '{label}' are offline now"])
    return plugins.Verdict([], [])


def _folders(jobs: Jobs, wanted: Job, seen: Seen) -> None:
    """How many of the folders are there; a problem where one is something else."""
    from ci_tools.jenkins.jobs import FOLDER

    for depth in range(1, len(wanted.path)):
        kind = jobs.kind(wanted.path[:depth])
        if kind is None:
            return
        if kind != FOLDER:
            path = "/".join(wanted.path[:depth])
            seen.problems.append(f"'{path}' is no folder but {_called(kind)}: jobs cannot be in it")
            return
        seen.folders = depth


def _existing(jobs: Jobs, wanted: Job, seen: Seen, *, adopt: bool) -> None:
    """What there is under the job's name, if all its folders are there."""
    if seen.folders < len(wanted.path) - 1:
        return
    kind = jobs.kind(wanted.path)
    if kind is None:
        return
    if kind != job_xml.PROJECT:
        seen.problems.append(
            f"'{wanted.name}' is {_called(kind)}, which Jenkins makes no multibranch pipeline of: "
            "rename or delete it, or set another jenkins.job"
        )
        return
    text = jobs.config(wanted.path)
    if text is None:
        seen.problems.append(f"the configuration of '{wanted.name}' may not be read")
        return
    seen.existing = job_change.parsed(text)
    if not job_change.made_by_us(seen.existing) and not adopt:
        seen.problems.append(
            f"'{wanted.name}' was not made by 'jenkins setup': --adopt takes it over, and keeps "
            "what is not declared"
        )
    if seen.existing.findtext("disabled") == "true":
        seen.notes.append("the job is disabled in Jenkins, and stays so")
    if len(list(seen.existing.iter(job_xml.SOURCE))) > 1:
        seen.notes.append("the job has sources that are not ours; they stay")


def _credentials(jobs: Jobs, wanted: Job, seen: Seen, bound: str) -> None:
    """A job uses those of its own, of its folders and of the system."""
    needed, problems = bindings.wanted(wanted.credentials, bound)
    seen.problems += problems
    if not bound.split():
        known = ", ".join(binding.id for binding in bindings.BINDINGS)
        seen.notes.append(
            f"give --credentials with what {bindings.VARIABLE} names on the controller, and it is "
            f"looked whether they are there (known: {known})"
        )
    if not needed:
        return
    places = [wanted.path[:depth] for depth in range(seen.folders, -1, -1)]
    if seen.existing is not None:
        places.insert(0, wanted.path)
    told = bindings.verdict(needed, [jobs.credentials(place) for place in places])
    seen.problems += told.problems
    seen.notes += told.notes


def _called(kind: str) -> str:
    """The class of an item, for people."""
    if kind == job_xml.PROJECT:
        return "a multibranch pipeline"
    return f"a {printable(kind.rpartition('.')[2] or 'thing of its own kind')}"
