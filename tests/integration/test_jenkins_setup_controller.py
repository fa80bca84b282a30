"""`jenkins setup` against a real controller, where JENKINS_URL names one.

    JENKINS_URL, JENKINS_USER, JENKINS_TOKEN   the controller, and an administrator of it
    KFP_CI_TEST_REMOTE    a git repository that the controller can read, with a Jenkinsfile;
                          by default one that the test makes, for a controller on this machine
    KFP_CI_TEST_AGENTS    a label that it has; by default `built-in`

Everything happens in a folder of its own, which is deleted afterwards.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from ci.jenkins import setup as stage
from ci.jenkins import target
from ci.workspace import Workspace
from ci_tools.errors import JenkinsSetupError
from ci_tools.jenkins import job_change, job_xml
from ci_tools.jenkins.jobs import Jobs
from tests.integration.repositories import git

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        not {"JENKINS_URL", "JENKINS_USER", "JENKINS_TOKEN"} <= set(os.environ),
        reason="no controller to try it on: set JENKINS_URL, JENKINS_USER and JENKINS_TOKEN",
    ),
]


NOTHING = "pipeline { agent none; stages { stage('x') { steps { echo 'x' } } } }\n"


class Controller:
    """A folder of our own on the controller, and a repository that declares a job in it."""

    def __init__(self, repository: Path, remote: str, folder: str) -> None:
        self.repository, self.folder = repository, folder
        self.settings: dict[str, Any] = {
            "job": f"{folder}/sub/ml",
            "remote": remote,
            "agents": os.environ.get("KFP_CI_TEST_AGENTS", "built-in"),
        }

    def setup(self, *, dry_run: bool = False, adopt: bool = False, **changed: Any) -> stage.SetUp:
        self.settings |= changed
        declared = {"project": "ml", "jenkins": self.settings}
        (self.repository / "ci.yaml").write_text(json.dumps(declared))
        result = stage.setup(self.workspace(dry_run=dry_run), adopt=adopt)
        stage.raise_problems(result)
        return result

    def workspace(self, *, dry_run: bool = False) -> Workspace:
        return Workspace(self.repository, self.repository / "build", dry_run=dry_run)

    @property
    def jobs(self) -> Jobs:
        return Jobs(target.connect(self.workspace(), None))

    def config(self) -> Any:
        text = self.jobs.config((self.folder, "sub", "ml"))
        assert text is not None
        return job_change.parsed(text)


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Controller]:
    source, repository = tmp_path / "source", tmp_path / "repository"
    for folder in (source, repository):
        folder.mkdir()
    (source / "Jenkinsfile").write_text(NOTHING)
    git(source, "init", "-q", "-b", "main")
    git(source, "add", "-A")
    git(source, "commit", "-q", "-m", "A pipeline that does nothing")
    remote = os.environ.get("KFP_CI_TEST_REMOTE", source.as_uri())
    made = Controller(repository, remote, f"kfp-ci-{uuid.uuid4().hex[:8]}")
    yield made
    requests.post(
        f"{os.environ['JENKINS_URL'].rstrip('/')}/job/{made.folder}/doDelete",
        auth=(os.environ["JENKINS_USER"], os.environ["JENKINS_TOKEN"]),
        timeout=300,
    )


def test_made_then_left_alone_then_changed(controller: Controller) -> None:
    would = controller.setup(dry_run=True)
    assert would.folders == [controller.folder, f"{controller.folder}/sub"]
    assert controller.jobs.kind((controller.folder,)) is None
    made = controller.setup()
    assert (made.action, made.scan) == ("created", "SUCCESS")
    assert controller.setup().action == "unchanged"
    changed = controller.setup(script_path="ci/Jenkinsfile", keep_days=3, scan_minutes=1440)
    assert changed.action == "updated"
    assert controller.setup(dry_run=True).difference == []
    assert controller.config().findtext("factory/scriptPath") == "ci/Jenkinsfile"


def test_jenkins_writes_what_was_declared(controller: Controller) -> None:
    """Its own words are the oracle: every element that we post is one that it knows."""
    controller.setup()
    theirs = controller.config()
    for ours in job_xml.declared(stage.job(controller.workspace(), None)).iter():
        if len(ours) == 0 and (ours.text or "").strip():
            assert ours.text in [it.text for it in theirs.iter(ours.tag)], ours.tag
        else:
            assert theirs.tag == ours.tag or theirs.find(f".//{ours.tag}") is not None, ours.tag
    spec = f".//{job_xml.TRIGGER}/spec"
    assert theirs.findtext(spec) == job_xml.crontab(60)


def test_a_job_that_somebody_else_made(controller: Controller) -> None:
    controller.setup()
    text = controller.jobs.config((controller.folder, "sub", "ml")) or ""
    other = text.replace(job_xml.MARK, "hand").replace(
        f"<id>{job_xml.SOURCE_ID}</id>", "<id>7</id>"
    )
    controller.jobs.update((controller.folder, "sub", "ml"), other)
    with pytest.raises(JenkinsSetupError, match="--adopt"):
        controller.setup()
    assert controller.setup(adopt=True).action == "updated"
    assert controller.config().findtext(".//source/id") == "7"
    assert controller.setup().action == "unchanged"


def test_a_repository_that_is_not_there(controller: Controller) -> None:
    with pytest.raises(JenkinsSetupError, match="scan of its branches"):
        controller.setup(remote="file:///nowhere/at/all.git")
