"""The job as Job DSL and as Jenkins Configuration as Code, from the same declaration. Pure.

For controllers that are set up from files. Names of the DSL's methods are the plugins'
own symbols (@Symbol in git and github-branch-source) and, where a class has none, its
name with a small initial.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ci_tools.jenkins import job_xml
from ci_tools.jenkins.bindings import BINDINGS, VARIABLE, Binding
from ci_tools.jenkins.job_xml import Job

_JOB_DSL_HEAD = """\
// Made by 'kfp-ci jenkins seed --job-dsl' from ci.yaml. Needs the plugin job-dsl.
// A folder that is there already gets Job DSL's defaults: leave its line out then.
"""
_JCASC_HEAD = """\
# Made by 'kfp-ci jenkins seed --jcasc' from ci.yaml. Needs the plugins
# configuration-as-code and job-dsl. Jenkins replaces whole lists by what stands here
# (agents, variables, credentials): on a controller that has some, merge it by hand.
# ${NAME} is a variable of the controller's or a secret of its own; no secret stands here.
"""


def job_dsl(job: Job) -> str:
    """A Job DSL script that makes the folders and the job."""
    return _JOB_DSL_HEAD + "".join(f"{line}\n" for line in _script(job))


def jcasc(job: Job, agents: str) -> str:
    """A YAML file for Configuration as Code. agents: the label that the Jenkinsfile asks for."""
    import yaml

    script = _Block(_without_variables("".join(f"{line}\n" for line in _script(job))))
    value = " ".join(binding.id for binding in BINDINGS)
    document = {
        "jenkins": {
            "nodes": [
                {
                    "permanent": {
                        "name": f"{agents}-1",
                        "labelString": agents,
                        "remoteFS": "/home/jenkins/agent",
                        "numExecutors": 1,
                        "mode": "EXCLUSIVE",
                        "launcher": {"inbound": {"webSocket": True}},
                    }
                }
            ],
            "globalNodeProperties": [{"envVars": {"env": [{"key": VARIABLE, "value": value}]}}],
        },
        "credentials": {
            "system": {"domainCredentials": [{"credentials": [_credential(it) for it in BINDINGS]}]}
        },
        "jobs": [{"script": script}],
    }

    class Dumper(yaml.SafeDumper):
        pass

    Dumper.add_representer(
        _Block,
        lambda dumper, data: dumper.represent_scalar("tag:yaml.org,2002:str", data, style="|"),
    )
    text = yaml.dump(document, Dumper=Dumper, sort_keys=False, allow_unicode=False, width=10_000)
    return _JCASC_HEAD + str(text)


class _Block(str):
    """Text that YAML shows line by line."""


def _script(job: Job) -> Iterator[str]:
    for depth in range(1, len(job.path)):
        yield f"folder({_quoted('/'.join(job.path[:depth]))})"
    yield f"multibranchPipelineJob({_quoted(job.name)}) {{"
    yield f"    description({_quoted(job_xml.description(job))})"
    yield "    branchSources {"
    yield "        branchSource {"
    yield "            source {"
    for line in _git(job) if job.source == "git" else _github(job):
        yield f"                {line}"
    yield "            }"
    yield "        }"
    yield "    }"
    yield "    factory {"
    yield "        workflowBranchProjectFactory {"
    yield f"            scriptPath({_quoted(job.script_path)})"
    yield "        }"
    yield "    }"
    days, branches = (str(bound or "") for bound in (job.keep_days, job.keep_branches))
    yield "    orphanedItemStrategy {"
    yield "        defaultOrphanedItemStrategy {"
    yield f"            pruneDeadBranches({'true' if days or branches else 'false'})"
    yield f"            daysToKeepStr({_quoted(days)})"
    yield f"            numToKeepStr({_quoted(branches)})"
    yield "        }"
    yield "    }"
    if job.scan_minutes:
        yield "    triggers {"
        yield "        periodicFolderTrigger {"
        yield f"            interval({_quoted(f'{job.scan_minutes}m')})"
        yield "        }"
        yield "    }"
    yield "}"


def _git(job: Job) -> Iterator[str]:
    yield "git {"
    yield f"    id({_quoted(job_xml.SOURCE_ID)})"
    yield f"    remote({_quoted(job.remote)})"
    yield from _credentials_id(job)
    yield "    traits {"
    yield "        gitBranchDiscovery()"
    yield "        gitTagDiscovery()"
    yield from _filter(job)
    yield "    }"
    yield "}"


def _github(job: Job) -> Iterator[str]:
    place = job_xml.github(job.remote)
    yield "github {"
    yield f"    id({_quoted(job_xml.SOURCE_ID)})"
    yield f"    repoOwner({_quoted(place.owner)})"
    yield f"    repository({_quoted(place.repository)})"
    yield f"    repositoryUrl({_quoted(place.url)})"
    yield "    configuredByUrl(true)"
    yield from _credentials_id(job)
    yield "    traits {"
    yield f"        gitHubBranchDiscovery {{ strategyId({job_xml.WITHOUT_PULL_REQUESTS}) }}"
    yield f"        gitHubPullRequestDiscovery {{ strategyId({job_xml.HEAD}) }}"
    yield "        gitHubTagDiscovery()"
    if job.forks != "ignore":
        trust = {"nobody": "gitHubTrustNobody", "permission": "gitHubTrustPermissions"}[job.forks]
        yield "        gitHubForkDiscovery {"
        yield f"            strategyId({job_xml.HEAD})"
        yield f"            trust {{ {trust}() }}"
        yield "        }"
    yield from _filter(job)
    yield "    }"
    yield "}"


def _filter(job: Job) -> Iterator[str]:
    if job.only:
        yield "        headWildcardFilter {"
        yield f"            includes({_quoted(' '.join(job.only))})"
        yield "            excludes('')"
        yield "        }"


def _credentials_id(job: Job) -> Iterator[str]:
    if job.credentials:
        yield f"    credentialsId({_quoted(job.credentials)})"


def _credential(binding: Binding) -> dict[str, Any]:
    """With placeholders where the secrets will be."""
    name = binding.id.upper().replace("-", "_")
    common = {"scope": "GLOBAL", "id": binding.id, "description": f"kfp-ci: {binding.why}"}
    if binding.kind == "usernamePassword":
        secret = {"username": f"${{{name}_USERNAME}}", "password": f"${{{name}_PASSWORD}}"}
    elif binding.kind == "string":
        secret = {"secret": f"${{{name}}}"}
    else:
        # JCasC reads the file where the controller runs.
        secret = {
            "fileName": binding.id,
            "secretBytes": f"${{readFileBase64:${{{name}_FILE}}}}",
        }
    return {binding.kind: {**common, **secret}}


def _quoted(text: str) -> str:
    """A literal of Groovy's in which nothing is interpolated, in ASCII."""
    escaped = "".join(
        f"\\{one}" if one in "\\'" else one if " " <= one <= "~" else _escape(one) for one in text
    )
    return f"'{escaped}'"


def _escape(one: str) -> str:
    """As UTF-16 has it, which is how Groovy writes a character.

    It reads \\u before it reads strings, so that of a control character would be one in
    the source: those are written in octal, all three digits.
    """
    if one < "\x80":
        return f"\\{ord(one):03o}"
    units = one.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def _without_variables(script: str) -> str:
    """JCasC replaces ${NAME} also inside a script; a caret before it keeps it as it is."""
    return script.replace("${", "^${")
