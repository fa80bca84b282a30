"""The job as files: Groovy runs the Job DSL, a YAML parser reads the JCasC."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ci_tools import yaml_safe
from ci_tools.jenkins import bindings, job_xml, seed
from ci_tools.jenkins.job_xml import Job

# One start of Groovy, which takes seconds, and not one in each worker.
pytestmark = pytest.mark.xdist_group("seed")

RECORDER = Path(__file__).parents[1] / "groovy" / "job_dsl.groovy"
GIT = Job(
    project="ml",
    path=("team", "sub", "ml"),
    source="git",
    remote="https://git.example.com/team/ml.git",
    credentials="git-read",
)
GITHUB = replace(GIT, source="github", remote="git@github.com:team/ml.git", path=("ml",))
HOSTILE = [
    "x') { } ; System.exit(3) //",
    "${'x'.execute()}",
    "\\', \\\\' \\u0027 \\u005cu0027",
    "ünïcödé-漢字-😀",
    "\"\"\"'''$/ /$",
    "line\nend\ttab\x01\x7f",
    "^${NAME}",
]


def jobs() -> list[Job]:
    made = [
        GIT,
        replace(GIT, keep_days=None, keep_branches=None, scan_minutes=0, credentials=None),
        replace(GIT, keep_days=None, keep_branches=3, scan_minutes=1440),
        GITHUB,
        replace(GIT, only=("main", "v*")),
        replace(GITHUB, forks="permission", only=("main",)),
        replace(GITHUB, forks="ignore"),
    ]
    for text in HOSTILE:
        made.append(
            replace(
                GIT, project=text, path=(text, text), remote=text, credentials=text,
                script_path=text, only=(text,),
            )
        )  # fmt: skip
    return made


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What each script called, as Groovy read it."""
    groovy = shutil.which("groovy")
    if groovy is None:
        pytest.skip("groovy is not on this machine (scripts/bootstrap.sh --tests)")
    folder = tmp_path_factory.mktemp("seeds")
    paths = []
    for number, job in enumerate(jobs()):
        path = folder / f"{number}.groovy"
        path.write_text(seed.job_dsl(job))
        paths.append(str(path))
    java = os.environ.get("JAVA_HOME")
    if java is None:
        program = shutil.which("java")
        assert program is not None
        java = str(Path(program).resolve().parents[1])
    done = subprocess.run(
        [groovy, str(RECORDER), *paths],
        capture_output=True, text=True, check=False,
        env={**os.environ, "JAVA_HOME": java, "JAVA_OPTS": "-Dfile.encoding=UTF-8"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def values(calls: Any, *path: str) -> Any:
    """The arguments of the call at a path of names; None where there is none."""
    for name in path[:-1]:
        calls = next((within for called, _, within in calls if called == name), [])
    return next((given for called, given, _ in calls if called == path[-1]), None)


def test_groovy_reads_what_was_declared(told: list[Any]) -> None:
    assert len(told) == len(jobs()) > len(HOSTILE)
    for job, calls in zip(jobs(), told, strict=True):
        folders = ["/".join(job.path[:depth]) for depth in range(1, len(job.path))]
        assert [(name, given) for name, given, _ in calls] == [
            *(("folder", [it]) for it in folders),
            ("multibranchPipelineJob", [job.name]),
        ]
        within = calls[-1][2]
        assert values(within, "description") == [job_xml.description(job)]
        source = ("branchSources", "branchSource", "source", job.source)
        credentials = [job.credentials] if job.credentials else None
        assert values(within, *source, "id") == [job_xml.SOURCE_ID]
        assert values(within, *source, "credentialsId") == credentials
        script = values(within, "factory", "workflowBranchProjectFactory", "scriptPath")
        assert script == [job.script_path]
        kept = ("orphanedItemStrategy", "defaultOrphanedItemStrategy")
        bounds = [job.keep_days, job.keep_branches]
        assert values(within, *kept, "pruneDeadBranches") == [any(bounds)]
        assert values(within, *kept, "daysToKeepStr") == [str(job.keep_days or "")]
        assert values(within, *kept, "numToKeepStr") == [str(job.keep_branches or "")]
        interval = values(within, "triggers", "periodicFolderTrigger", "interval")
        assert interval == ([f"{job.scan_minutes}m"] if job.scan_minutes else None)
        filtered = (*source, "traits", "headWildcardFilter")
        includes = [" ".join(job.only)] if job.only else None
        assert values(within, *filtered, "includes") == includes
        assert values(within, *filtered, "excludes") == ([""] if job.only else None)
        if job.source == "git":
            assert values(within, *source, "remote") == [job.remote]
            assert values(within, *source, "traits", "gitBranchDiscovery") == []
            assert values(within, *source, "traits", "gitTagDiscovery") == []


def test_groovy_reads_the_source_on_github(told: list[Any]) -> None:
    for job, calls in zip(jobs(), told, strict=True):
        if job.source != "github":
            continue
        source = ("branchSources", "branchSource", "source", "github")
        within = calls[-1][2]
        assert values(within, *source, "repoOwner") == ["team"]
        assert values(within, *source, "repository") == ["ml"]
        assert values(within, *source, "repositoryUrl") == ["https://github.com/team/ml"]
        assert values(within, *source, "configuredByUrl") == [True]
        traits = (*source, "traits")
        assert values(within, *traits, "gitHubTagDiscovery") == []
        assert values(within, *traits, "gitHubBranchDiscovery", "strategyId") == [1]
        assert values(within, *traits, "gitHubPullRequestDiscovery", "strategyId") == [2]
        fork = (*traits, "gitHubForkDiscovery")
        names = {"nobody": "gitHubTrustNobody", "permission": "gitHubTrustPermissions"}
        for forks, name in names.items():
            trusted = values(within, *fork, "trust", name)
            assert trusted == ([] if job.forks == forks else None)
        assert (values(within, *fork) is None) is (job.forks == "ignore")


@pytest.mark.parametrize("job", jobs())
def test_jcasc_holds_the_same_script(job: Job) -> None:
    document: Any = yaml_safe.load(seed.jcasc(job, "docker"), unique_keys=True)
    assert list(document) == ["jenkins", "credentials", "jobs"]
    # What JCasC does to it: ${NAME} is replaced, ^${ stands for ${.
    script = document["jobs"][0]["script"]
    assert "${" not in script.replace("^${", "")
    body = seed.job_dsl(job)
    assert body.endswith(script.replace("^${", "${"))
    assert script.count("multibranchPipelineJob(") == 1


def test_jcasc_holds_names_and_no_secrets() -> None:
    text = seed.jcasc(GIT, "gpu-2")
    document: Any = yaml_safe.load(text)
    (node,) = document["jenkins"]["nodes"]
    assert node["permanent"]["labelString"] == "gpu-2"
    (variables,) = document["jenkins"]["globalNodeProperties"]
    (variable,) = variables["envVars"]["env"]
    ids = [binding.id for binding in bindings.BINDINGS]
    assert (variable["key"], variable["value"].split()) == ("KFP_CI_CREDENTIALS", ids)
    (domain,) = document["credentials"]["system"]["domainCredentials"]
    kinds = {}
    for credential in domain["credentials"]:
        ((kind, fields),) = credential.items()
        kinds[fields["id"]] = kind
        secrets = {
            key: value
            for key, value in fields.items()
            if key not in ("scope", "id", "description", "fileName")
        }
        assert secrets
        assert all(str(value).startswith("${") for value in secrets.values())
    assert kinds == {binding.id: binding.kind for binding in bindings.BINDINGS}
