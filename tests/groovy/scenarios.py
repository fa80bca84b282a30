"""What the Jenkinsfile is run through: events, parameters, failures, losses, hostile texts.

`commands()` stands for our own commands. Each needs the files that its stage reads and
leaves those that it writes, as docs/architecture.md says: a stage that was not given a
file fails here as it would on an agent.
"""

from __future__ import annotations

from typing import Any

from tests.groovy import jenkinsfile
from tests.groovy.jenkinsfile import Run, Scenario

CREDENTIALS = [
    "kfp-ci-dev-aws",
    "kfp-ci-dev-kubeflow",
    "kfp-ci-prod-aws",
    "kfp-ci-prod-kubeflow",
    "kfp-ci-release-key",
    "kfp-ci-release-passphrase",
]
APPROVED = {"by": "alice", "groups": ["kfp-ci-promoters"]}
SHARDS = "1/2\n2/2\n"
PLAN = "plan --shards auto --first && python -m ci build --first"

EVENTS: dict[str, dict[str, str]] = {
    "branch": {"BRANCH_NAME": "feature/x"},
    "pull request": {
        "BRANCH_NAME": "PR-7",
        "CHANGE_ID": "7",
        "CHANGE_TARGET": "main",
        "CHANGE_BRANCH": "feature/x",
        "CHANGE_AUTHOR": "bob",
    },
    "fork's pull request": {
        "BRANCH_NAME": "PR-8",
        "CHANGE_ID": "8",
        "CHANGE_TARGET": "main",
        "CHANGE_BRANCH": "main",
        "CHANGE_AUTHOR": "mallory",
        "CHANGE_FORK": "mallory",
    },
    "main": {"BRANCH_NAME": "main"},
    "tag": {"BRANCH_NAME": "v1.2", "TAG_NAME": "v1.2", "TAG_TIMESTAMP": "0"},
}
COLUMNS = {**{name: name for name in EVENTS}, "main, nightly": "nightly"}


def commands(shards: str = SHARDS) -> list[dict[str, Any]]:
    """Our commands, by their text. shards: what `ci jenkins shards` prints."""

    def ci(verb: str, **rule: Any) -> dict[str, Any]:
        return {"match": rf"^python -m ci {verb}\s*$", **rule}

    lock, pipelines = "build/images.lock.json", "build/pipelines.json"
    reports = {
        "build/reports/images.xml": "<testsuites/>",
        "build/reports/scan.xml": "<testsuites/>",
        "build/reports/scan.sarif": "{}",
        "build/reports/scan.html": "",
    }
    return [
        {
            "match": r"^scripts/bootstrap\.sh$",
            "reads": ["Jenkinsfile"],
            "writes": {".venv/.bootstrap": "", "$KFP_CI_HOME/logs/apt.log": ""},
        },
        ci("run --train --deploy --dry-run"),
        ci(
            PLAN,
            writes={
                "build/plan.json": "{}",
                "build/images.lock.0-of-2.json": "{}",
                "build/reports/shards/images.0-of-2.xml": "<testsuites/>",
            },
        ),
        ci("jenkins shards", reads=["build/plan.json"], stdout=shards),
        ci(
            r"build --shard (\d+)/(\d+)",
            reads=["build/plan.json"],
            writes={
                "build/images.lock.$1-of-$2.json": "{}",
                "build/reports/shards/images.$1-of-$2.xml": "<testsuites/>",
                "build/reports/shards/scan.$1-of-$2.json": "{}",
            },
        ),
        ci("build", reads=["build/plan.json"], writes={lock: "{}", **reports}),
        ci(
            "merge",
            reads=[
                "build/plan.json",
                "build/images.lock.0-of-2.json",
                "build/images.lock.1-of-2.json",
                "build/images.lock.2-of-2.json",
                "build/reports/shards/images.1-of-2.xml",
            ],
            writes={lock: "{}", **reports},
        ),
        ci(
            "compile --pin",
            reads=[lock],
            writes={"build/pins.json": "{}", pipelines: "{}", "build/pipelines/a.yaml": ""},
        ),
        ci(
            "upload",
            reads=[pipelines, "build/pipelines/*.yaml", lock],
            writes={"build/uploads.json": "{}"},
        ),
        ci(
            "train",
            reads=["build/uploads.json", lock],
            writes={"build/train.json": "{}", "build/reports/training.xml": "<testsuites/>"},
            always_writes=True,
        ),
        ci("deploy", reads=[lock], writes={"build/deploy.json": "{}"}),
        ci(
            "release --strict",
            reads=[lock, pipelines, "build/pipelines/*.yaml", "build/uploads.json"],
            writes={"build/release.json": "{}", "build/release/release.json": "{}"},
        ),
        ci("pipelines prune"),
        ci("promote HEAD --to prod --wait 600"),
        ci("local down"),
        ci(
            "jenkins describe",
            writes={
                "build/jenkins/name.txt": "#1 c0ffee\n",
                "build/jenkins/description.txt": "built a\n",
            },
        ),
    ]


def scenario(name: str, event: str = "main", **more: Any) -> Scenario:
    """A build of that event on a controller with all plug-ins and credentials.

    more: keys of the scenario instead of the usual ones; `first` are commands that are
    asked before the usual ones, `variables` come into the build's environment.
    """
    shards = more.pop("shards", SHARDS)
    environment = {
        "JOB_NAME": "project/job",
        "BUILD_NUMBER": "1",
        "BUILD_TAG": "jenkins-project-job-1",
        "JENKINS_URL": "https://jenkins.example/",
        "KFP_CI_CREDENTIALS": " ".join(CREDENTIALS),
        **EVENTS[event],
        **more.pop("variables", {}),
    }
    return {
        "name": name,
        "env": environment,
        "credentials": CREDENTIALS,
        "files": {"Jenkinsfile": "", "scripts/bootstrap.sh": ""},
        "input": APPROVED,
        "commands": [*more.pop("first", []), *commands(shards)],
        **more,
    }


def failing(command: str, exit_code: int, **more: Any) -> dict[str, Any]:
    return {"match": rf"^python -m ci {command}", "exit": exit_code, **more}


BY_EVENT = [scenario(event, event) for event in EVENTS] + [
    scenario("nightly", "main", causes=["TimerTrigger"])
]


def matrix(runs: dict[str, Run] | None = None) -> str:
    """Event x stage, as executed with every parameter at its default, over two agents."""
    return jenkinsfile.matrix(runs or jenkinsfile.run(BY_EVENT), COLUMNS)
