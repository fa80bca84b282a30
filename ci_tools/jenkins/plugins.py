"""The plugins that the job and the Jenkinsfile need, and which of them Jenkins has. Pure.

Minimum versions are those in which a feature that we use came, by the plugins' own
history; where none is given any version will do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from ci_tools.printable import printable


class Plugin(NamedTuple):
    """name: its short one. minimum: "" for any version. why: what is done with it."""

    name: str
    minimum: str
    why: str


class Installed(NamedTuple):
    """running: enabled, and loaded since Jenkins started."""

    version: str
    enabled: bool
    running: bool


class Verdict(NamedTuple):
    """problems: what is missing. notes: what would be useful, or could not be told."""

    problems: list[str]
    notes: list[str]


REQUIRED = (
    Plugin("cloudbees-folder", "", "folders, and what a multibranch job is made of"),
    Plugin("branch-api", "2.0.0", "a multibranch job"),
    Plugin("workflow-multibranch", "", "a multibranch job of a Jenkinsfile"),
    Plugin("workflow-job", "1145.v7f2433caa07f", "a newer build aborts an older one"),
    Plugin("workflow-cps", "", "the Jenkinsfile"),
    Plugin("workflow-basic-steps", "969.vc4ec3e4854b_f", "stash, time-outs, retry by condition"),
    Plugin("workflow-durable-task-step", "1164.v2334ddcf48d0", "agents, lost ones replaced"),
    Plugin("workflow-scm-step", "", "the checkout"),
    Plugin("pipeline-model-definition", "1.3.4", "a declarative Jenkinsfile (triggeredBy)"),
    Plugin("pipeline-stage-step", "", "stages"),
    Plugin("pipeline-input-step", "", "the question before production"),
    Plugin("pipeline-milestone-step", "", "an older build that does not overtake"),
    Plugin("git", "3.6.0", "branches and tags of a git repository"),
    Plugin("credentials-binding", "", "credentials in the stage that needs them"),
    Plugin("plain-credentials", "", "secret texts and files"),
    Plugin("junit", "", "test results"),
)
GITHUB = Plugin("github-branch-source", "2.5.5", "branches and pull requests of GitHub")
# What would be noticed by nobody (colours, times in the console) is not told.
OPTIONAL = (
    Plugin("lockable-resources", "", "jobs that share an environment wait for each other"),
    Plugin("warnings-ng", "", "findings of the scans beside the code"),
    Plugin("htmlpublisher", "", "the scans' pages in Jenkins"),
    Plugin("pipeline-rest-api", "", "stages by name in 'jenkins status'"),
    Plugin("basic-branch-build-strategies", "", "tags that are built without being asked"),
)


def needed(source: Literal["git", "github"]) -> tuple[Plugin, ...]:
    return (*REQUIRED, GITHUB) if source == "github" else REQUIRED


def installed(document: Any) -> dict[str, Installed]:
    """Short name -> what is installed, from pluginManager/api/json.

    What is not of its form is left out.
    """
    plugins = document.get("plugins") if isinstance(document, dict) else None
    found = {}
    for one in plugins if isinstance(plugins, list) else []:
        if isinstance(one, dict) and isinstance(one.get("shortName"), str):
            version = one.get("version")
            enabled = one.get("enabled") is True
            found[one["shortName"]] = Installed(
                version if isinstance(version, str) else "",
                enabled,
                enabled and one.get("active") is True,
            )
    return found


def verdict(wanted: Iterable[Plugin], found: Mapping[str, Installed]) -> Verdict:
    """What of the needed plugins is missing, and which optional ones would add what."""
    problems = [said for plugin in wanted if (said := _problem(plugin, found.get(plugin.name)))]
    absent = [
        f"{plugin.name} ({plugin.why})"
        for plugin in OPTIONAL
        if plugin.name not in found or not found[plugin.name].running
    ]
    notes = [f"optional plugins that are not there: {', '.join(absent)}"] if absent else []
    return Verdict(problems, notes)


def _problem(plugin: Plugin, found: Installed | None) -> str:
    """What is wrong with one needed plugin; "" where nothing is."""
    need = f"plugin {plugin.name}"
    if found is None:
        least = f" ({plugin.minimum} or later)" if plugin.minimum else ""
        return f"{need}{least} is missing: {plugin.why}"
    if not found.enabled:
        return f"{need} is disabled: {plugin.why}"
    if not found.running:
        return f"{need} is not loaded: restart Jenkins, or see its log: {plugin.why}"
    if plugin.minimum and _older(found.version, plugin.minimum):
        return (
            f"{need} is {printable(found.version)} and must be {plugin.minimum} or later: "
            f"{plugin.why}"
        )
    return ""


def _older(version: str, minimum: str) -> bool:
    """Whether a version comes before another; Jenkins orders them as Maven does.

    A plugin that somebody built has ` (private-...)` behind its version.
    """
    from univers.versions import InvalidVersion, MavenVersion

    try:
        return bool(MavenVersion(version.partition(" ")[0]) < MavenVersion(minimum))
    except (InvalidVersion, ValueError, TypeError):
        return False  # a version that is none says nothing
