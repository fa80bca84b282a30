"""`jenkins setup` against a fake controller that writes configurations as Jenkins does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ci.jenkins import setup as stage
from ci.workspace import Workspace
from ci_tools.errors import (
    ConfigError,
    CredentialsError,
    JenkinsError,
    JenkinsSetupError,
)
from ci_tools.jenkins import jobs as asking
from tests.fakes.jenkins import FakeJenkins
from tests.fakes.jenkins_jobs import FOLDER, PROJECT, SCANNED, FakeJobs

ROOT = Path(__file__).parents[2]
YAML = """
project: ml
jenkins:
  job: team/sub/ml
  remote: https://git.example.com/team/ml.git
  credentials: git-read
  agents: docker
"""
FAILED = (
    "Started by user fake\n[Wed] Starting branch indexing...\n"
    "ERROR: [Wed] Could not fetch branches\x1b[31m from source kfp-ci\n"
    "hudson.plugins.git.GitException: status 128\n    at org.example\nFinished: FAILURE\n"
)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeJenkins]:
    with FakeJenkins().running() as running:
        monkeypatch.setenv("JENKINS_URL", running.url)
        monkeypatch.setenv("JENKINS_USER", "ci")
        monkeypatch.setenv("JENKINS_TOKEN", "11fake0token")
        monkeypatch.delenv("KFP_CI_CREDENTIALS", raising=False)
        monkeypatch.setattr(asking, "_PAUSE", 0)
        yield running


@pytest.fixture
def jenkins(fake: FakeJenkins) -> FakeJobs:
    return FakeJobs(
        fake,
        credentials={"": {"git-read": "Username with password"}},
        labels={"docker": (["agent-1"], [], False)},
    )


@pytest.fixture
def workspace(repository: Any) -> Workspace:
    repository.write("ci.yaml", YAML)
    return of(repository)


def of(repository: Any, *, dry_run: bool = False) -> Workspace:
    return Workspace(repository.root, repository.root / "build", dry_run=dry_run)


def test_the_job_and_its_folders_are_made(jenkins: FakeJobs, workspace: Workspace) -> None:
    result = stage.setup(workspace)
    stage.raise_problems(result)
    assert (result.action, result.folders, result.scan) == (
        "created",
        ["team", "team/sub"],
        "SUCCESS",
    )
    assert list(jenkins.items) == ["team", "team/sub", "team/sub/ml"]
    assert "<remote>https://git.example.com/team/ml.git</remote>" in jenkins.items["team/sub/ml"]
    # Nothing is asked before it is known who we are, and nothing changed before all was looked at.
    assert jenkins.fake.seen[0] == "GET /whoAmI/api/json"
    first = jenkins.fake.seen.index("POST /createItem")
    before = jenkins.fake.seen[:first]
    for page in ("/pluginManager/", "/credentials/", "/label/docker/"):
        assert any(page in line for line in before)
    assert [line for line in before if "POST" in line] == []
    assert result.url == f"{jenkins.fake.url}/job/team/job/sub/job/ml/"


def test_a_second_time_changes_nothing(jenkins: FakeJobs, workspace: Workspace) -> None:
    stage.setup(workspace)
    jenkins.fake.seen.clear()
    before = dict(jenkins.items)
    result = stage.setup(workspace)
    assert (result.action, result.difference, result.folders) == ("unchanged", [], [])
    assert jenkins.changes == []
    assert jenkins.items == before
    assert stage.lines(result)[0].startswith("job team/sub/ml: as declared")


def test_a_dry_run_only_reads(jenkins: FakeJobs, repository: Any, workspace: Workspace) -> None:
    result = stage.setup(of(repository, dry_run=True))
    assert jenkins.changes == []
    assert jenkins.items == {}
    told = stage.lines(result)
    assert "folder team: would be made" in told
    assert any("would be made" in line and "team/sub/ml" in line for line in told)
    assert "--- in Jenkins" in told
    assert any(
        line.startswith("+") and "https://git.example.com/team/ml.git" in line for line in told
    )
    stage.setup(workspace)
    assert stage.setup(of(repository, dry_run=True)).action == "unchanged"


def test_a_change_of_the_declaration(
    jenkins: FakeJobs, repository: Any, workspace: Workspace
) -> None:
    stage.setup(workspace)
    mine = "<properties><org.example.Mine>x</org.example.Mine></properties>"
    jenkins.put("team/sub/ml", jenkins.items["team/sub/ml"].replace("<properties/>", mine))
    kept = jenkins.items["team/sub/ml"]
    repository.write("ci.yaml", YAML + "  script_path: ci/Jenkinsfile\n")
    jenkins.fake.seen.clear()
    would = stage.setup(of(repository, dry_run=True))
    assert [it for it in would.difference[2:] if it[0] in "+-"] == [
        "-    <scriptPath>Jenkinsfile</scriptPath>",
        "+    <scriptPath>ci/Jenkinsfile</scriptPath>",
    ]
    assert jenkins.changes == []
    result = stage.setup(of(repository))
    assert (result.action, result.scan) == ("updated", "SUCCESS")
    assert jenkins.items["team/sub/ml"] == kept.replace(">Jenkinsfile<", ">ci/Jenkinsfile<")
    assert jenkins.changes[0] == "POST /job/team/job/sub/job/ml/config.xml"


def test_all_that_is_missing_is_told_at_once(
    jenkins: FakeJobs, repository: Any, workspace: Workspace
) -> None:
    del jenkins.plugins["pipeline-input-step"]
    jenkins.plugins["workflow-job"] = "2.41"
    jenkins.disabled.add("junit")
    jenkins.unloaded.add("git")
    jenkins.labels.clear()
    jenkins.credentials[""] = {}
    result = stage.setup(workspace, bound="kfp-ci-dev-aws kfp-ci-dev-kubflow")
    with pytest.raises(JenkinsSetupError) as caught:
        stage.raise_problems(result)
    assert caught.value.exit_code == 66
    told = str(caught.value)
    for part in (
        "pipeline-input-step is missing",
        "workflow-job is 2.41 and must be 1145.v7f2433caa07f",
        "junit is disabled",
        "git is not loaded",
        "no agent has the label 'docker'",
        "credentials 'git-read' are missing",
        "credentials 'kfp-ci-dev-aws' are missing",
        "kfp-ci-dev-kubflow",
        "Did you mean 'kfp-ci-dev-kubeflow'",
    ):
        assert part in told
    assert jenkins.changes == []
    dry = stage.setup(of(repository, dry_run=True))
    assert len(dry.problems) == 6
    assert dry.difference


def test_a_github_job_needs_its_plugin(
    jenkins: FakeJobs, repository: Any, workspace: Workspace
) -> None:
    yaml = YAML.replace("git.example.com", "github.com") + "  source: github\n"
    repository.write("ci.yaml", yaml)
    version = jenkins.plugins.pop("github-branch-source")
    assert "github-branch-source" in " ".join(stage.setup(workspace).problems)
    jenkins.plugins["github-branch-source"] = version
    assert stage.setup(of(repository)).action == "created"
    assert "TrustNobody" in jenkins.items["team/sub/ml"]
    assert stage.setup(of(repository)).action == "unchanged"


def test_what_may_not_be_looked_at_is_no_problem(jenkins: FakeJobs, workspace: Workspace) -> None:
    jenkins.fake.forbidden.add("Overall/SystemRead")
    jenkins.unseen.add("")
    result = stage.setup(workspace, bound="kfp-ci-dev-aws")
    assert result.action == "created"
    told = "\n".join(stage.lines(result))
    assert "plugins could not be looked at" in told
    assert "'git-read' could not be looked at" in told
    assert "'kfp-ci-dev-aws' could not be looked at" in told
    assert "missing" not in told


def test_credentials_of_a_folder_and_their_kind(jenkins: FakeJobs, workspace: Workspace) -> None:
    jenkins.put("team", f"<{FOLDER}/>")
    jenkins.credentials["team"] = {
        "kfp-ci-dev-kubeflow": "Secret text",
        "kfp-ci-dev-aws": "Secret file",
    }
    result = stage.setup(workspace, bound="kfp-ci-dev-kubeflow kfp-ci-dev-aws")
    assert result.problems == [
        "credentials 'kfp-ci-dev-aws' are a 'Secret file', not a 'Username with password'"
    ]
    # Missing in the folder, which we may see, and hidden in the system.
    jenkins.unseen.add("")
    result = stage.setup(workspace, bound="kfp-ci-dev-kubeflow kfp-ci-release-key")
    assert result.action == "created"
    assert any("'kfp-ci-release-key' could not be looked at" in note for note in result.notes)


def test_credentials_of_the_job_itself(
    jenkins: FakeJobs, repository: Any, workspace: Workspace
) -> None:
    """A multibranch job is a folder, and has a store as one."""
    stage.setup(workspace)
    jenkins.credentials["team/sub/ml"] = {"kfp-ci-dev-kubeflow": "Secret text"}
    assert stage.setup(workspace, bound="kfp-ci-dev-kubeflow").problems == []


@pytest.mark.parametrize(
    ("agents", "problem", "note"),
    [
        (([], ["Kubernetes"], True), "", ""),
        ((["a"], [], True), "", "offline"),
        ((["a"], ["Kubernetes"], True), "", ""),
        (([], [], True), "no agent has the label", ""),
    ],
)
def test_agents(
    jenkins: FakeJobs, workspace: Workspace, agents: Any, problem: str, note: str
) -> None:
    jenkins.labels["docker"] = agents
    result = stage.setup(workspace)
    assert any(problem in it for it in result.problems) if problem else result.problems == []
    assert any("offline" in it for it in result.notes) is bool(note)


BY_HAND = f"""<{PROJECT}><description>Of Jo</description><disabled>true</disabled><sources>
<jenkins.branch.BranchSource><source class="jenkins.plugins.git.GitSCMSource"><id>7</id>
<remote>https://git.example.com/old.git</remote></source></jenkins.branch.BranchSource></sources>
</{PROJECT}>"""


def test_a_job_of_somebody_else(jenkins: FakeJobs, workspace: Workspace) -> None:
    for folder in ("team", "team/sub"):
        jenkins.put(folder, f"<{FOLDER}/>")
    jenkins.put("team/sub/ml", BY_HAND)
    before = dict(jenkins.items)
    result = stage.setup(workspace)
    with pytest.raises(JenkinsSetupError, match="--adopt"):
        stage.raise_problems(result)
    assert jenkins.items == before
    assert jenkins.changes == []
    result = stage.setup(workspace, adopt=True)
    assert result.action == "updated"
    assert "disabled" in " ".join(result.notes)
    assert "POST /job/team/job/sub/job/ml/build" not in jenkins.changes  # it would be refused
    assert "<id>7</id>" in jenkins.items["team/sub/ml"]
    # It is ours now.
    assert stage.setup(workspace).action == "unchanged"


def test_an_item_of_another_kind_stays(jenkins: FakeJobs, workspace: Workspace) -> None:
    for folder in ("team", "team/sub"):
        jenkins.put(folder, f"<{FOLDER}/>")
    jenkins.put("team/sub/ml", "<flow-definition/>")
    result = stage.setup(workspace, adopt=True)
    assert "'team/sub/ml' is a WorkflowJob" in result.problems[0]
    jenkins.put("team", "<project/>")
    result = stage.setup(workspace, adopt=True)
    assert result.problems == ["'team' is no folder but a project: jobs cannot be in it"]
    assert jenkins.changes == []


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_answers_that_get_lost(jenkins: FakeJobs, workspace: Workspace, lost: int) -> None:
    """What was done is not done again: it is looked whether it was."""
    jenkins.fake.losing = lost
    assert stage.setup(workspace).action == "created"
    assert len([it for it in jenkins.changes if it.endswith("createItem")]) == 3


def test_a_change_that_got_lost_is_no_missing_plugin(
    jenkins: FakeJobs, repository: Any, workspace: Workspace
) -> None:
    jenkins.refusing = 1
    with pytest.raises(JenkinsError, match="does not answer"):
        stage.setup(workspace)
    assert jenkins.items == {}
    stage.setup(workspace)
    repository.write("ci.yaml", YAML.replace("/ml.git", "/other.git"))
    jenkins.refusing = 1
    with pytest.raises(JenkinsError, match="does not answer"):
        stage.setup(of(repository))
    assert stage.setup(of(repository)).action == "updated"


def test_what_jenkins_does_not_keep_is_told(jenkins: FakeJobs, workspace: Workspace) -> None:
    jenkins.forgetting.add("jenkins.plugins.git.traits.TagDiscoveryTrait")
    with pytest.raises(JenkinsSetupError, match="did not keep") as caught:
        stage.setup(workspace)
    assert "TagDiscoveryTrait" in str(caught.value)


def test_a_scan_that_fails(jenkins: FakeJobs, workspace: Workspace) -> None:
    jenkins.scans = [FAILED[:60], FAILED[60:]]
    with pytest.raises(JenkinsSetupError, match="ended with FAILURE") as caught:
        stage.setup(workspace)
    assert "Could not fetch branches" in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert "team/sub/ml" in jenkins.items


def test_the_log_of_the_scan_before_is_not_taken_for_this_one(
    jenkins: FakeJobs, repository: Any, workspace: Workspace
) -> None:
    stage.setup(workspace)
    repository.write("ci.yaml", YAML.replace("/ml.git", "/gone.git"))
    jenkins.scans = [FAILED]
    with pytest.raises(JenkinsSetupError, match="FAILURE"):
        stage.setup(of(repository))


def test_a_scan_that_does_not_end(jenkins: FakeJobs, workspace: Workspace) -> None:
    jenkins.scans = [SCANNED[:40]] * 10_000
    result = stage.setup(workspace, seconds=0.2)
    assert result.scan == ""
    assert any("not over" in note for note in result.notes)


def test_nobody_waits_for_the_scan(jenkins: FakeJobs, workspace: Workspace) -> None:
    result = stage.setup(workspace, seconds=0)
    assert jenkins.changes[-1] == "POST /job/team/job/sub/job/ml/build"
    assert not any("indexing" in line for line in jenkins.fake.seen)
    assert result.scan == ""


def test_who_may_not_create_is_told(jenkins: FakeJobs, workspace: Workspace) -> None:
    jenkins.fake.forbidden.add("Job/Create")
    with pytest.raises(CredentialsError, match="Job/Create"):
        stage.setup(workspace)
    assert jenkins.items == {}


def test_a_wrong_token_is_the_first_thing_told(
    jenkins: FakeJobs, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JENKINS_TOKEN", "wrong")
    with pytest.raises(CredentialsError):
        stage.setup(workspace)
    assert set(jenkins.fake.seen) == {"GET /whoAmI/api/json", "GET /login"}  # is it locked?


def test_a_configuration_that_may_not_be_read(jenkins: FakeJobs, workspace: Workspace) -> None:
    stage.setup(workspace)
    jenkins.fake.forbidden.add("Job/ExtendedRead")
    with pytest.raises(CredentialsError, match="Job/ExtendedRead"):
        stage.setup(workspace)


def test_a_second_job_for_main_only(jenkins: FakeJobs, workspace: Workspace) -> None:
    only = ("main", "release-*")
    stage.setup(workspace)
    assert stage.setup(workspace, name="prod/ml", only=only).action == "created"
    assert "<includes>main release-*</includes>" in jenkins.items["prod/ml"]
    assert "<includes>" not in jenkins.items["team/sub/ml"]
    assert stage.setup(workspace, name="prod/ml", only=only).action == "unchanged"
    with pytest.raises(ConfigError, match="only"):
        stage.setup(workspace, only=("main v*",))


def test_a_name_that_is_new_to_urls(jenkins: FakeJobs, workspace: Workspace) -> None:
    result = stage.setup(workspace, name="tëam/my job+1")
    assert result.action == "created"
    assert list(jenkins.items) == ["tëam", "tëam/my job+1"]
    assert result.url.endswith("/job/t%C3%ABam/job/my%20job%2B1/")
    assert stage.setup(workspace, name="tëam/my job+1").action == "unchanged"


@pytest.mark.parametrize("name", ["a/../b", "a?b", "\x1b[31m", "a%2fb", "..", "-/#"])
def test_a_name_that_is_none(jenkins: FakeJobs, workspace: Workspace, name: str) -> None:
    with pytest.raises(ConfigError, match="no name that Jenkins takes") as caught:
        stage.setup(workspace, name=name)
    assert "\x1b" not in str(caught.value)
    assert jenkins.fake.seen == []


def test_a_configuration_that_is_no_xml(jenkins: FakeJobs, workspace: Workspace) -> None:
    stage.setup(workspace)
    jenkins.items["team/sub/ml"] = f"<!DOCTYPE x [<!ENTITY y 'z'>]><{PROJECT}/>"
    with pytest.raises(JenkinsSetupError, match="document type"):
        stage.setup(workspace)


def test_pages_of_another_form(jenkins: FakeJobs, workspace: Workspace) -> None:
    from tests.fakes.jenkins import document

    jenkins.fake.route("GET", r"/label/docker/api/json", lambda *_: document(["?"]))
    with pytest.raises(JenkinsError, match="not of its API's form"):
        stage.setup(workspace)


# The command -----------------------------------------------------------------------------


def command(repository: Any, *arguments: str, **environment: str) -> Any:
    return subprocess.run(
        [sys.executable, "-m", "ci", "jenkins", *arguments, "--repo", str(repository.root)],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip


def test_the_command(jenkins: FakeJobs, repository: Any, workspace: Workspace) -> None:
    dry = command(repository, "setup", "--dry-run", "--json")
    assert dry.returncode == 0, dry.stderr
    told = json.loads(dry.stdout)
    assert (told["action"], told["dry_run"], told["folders"]) == (
        "created",
        True,
        ["team", "team/sub"],
    )
    assert jenkins.items == {}
    done = command(repository, "setup")
    assert done.returncode == 0, done.stderr
    assert "job team/sub/ml: made" in done.stdout
    assert "11fake0token" not in done.stdout + done.stderr
    del jenkins.plugins["junit"]
    missing = command(repository, "setup", KFP_CI_CREDENTIALS="kfp-ci-dev-aws")
    assert missing.returncode == 66
    assert "junit" in missing.stderr
    assert "kfp-ci-dev-aws" in missing.stderr
    assert "Traceback" not in missing.stderr


def test_the_seeds_need_no_jenkins(repository: Any, workspace: Workspace) -> None:
    done = command(repository, "seed", "--job-dsl", JENKINS_URL="")
    assert done.returncode == 0, done.stderr
    assert "multibranchPipelineJob('team/sub/ml') {" in done.stdout
    assert command(repository, "seed", JENKINS_URL="").returncode == 2
