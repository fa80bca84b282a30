"""Jenkins' client against a controller: a real one where there is one, and the fake always.

JENKINS_URL, JENKINS_USER and JENKINS_TOKEN name a real one, on which the user may make
and delete jobs. It needs an executor with a POSIX shell and the plugins workflow-aggregator,
pipeline-model-definition, git and workflow-multibranch. It fetches the repository from this
machine over HTTP: JENKINS_TEST_HOST is the name that it reaches this machine by, where that
is not 127.0.0.1. With JENKINS_TEST_RESTART=yes it is restarted, too, in the middle of a build
(the user needs Overall/Administer for that): never let this be one that others use.

Against the fake this only shows that the suite itself runs: what the fake does was written
down beforehand.
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ci_tools.errors import CredentialsError, JenkinsQueueError
from ci_tools.jenkins import address, builds, linter, queue
from ci_tools.jenkins.connection import Connection
from ci_tools.jenkins.credentials import Credentials
from tests.fakes.jenkins import FakeJenkins, Play, Response

ROOT = Path(__file__).parents[2]
NEEDED = ("JENKINS_URL", "JENKINS_USER", "JENKINS_TOKEN")
RESTART = "JENKINS_TEST_RESTART"
# All that git allows in a branch and a shell or a URL would act upon.
BRANCHES = ("main", "feature/$(touch+hurt)`id`'\"&;%2F#é")
TEXT = "$(touch hurt)\n'\"`id` ${HOME} ; ../..\n%0A&OUTCOME=FAILURE é"
WAIT = 600  # seconds for whatever a controller does

JENKINSFILE = """\
pipeline {
    agent any
    parameters {
        choice(name: 'OUTCOME', choices: ['SUCCESS', 'UNSTABLE', 'FAILURE', 'SLEEP'])
        text(name: 'TEXT', defaultValue: '')
    }
    options {
        skipDefaultCheckout()
        timeout(time: 10, unit: 'MINUTES')
    }
    stages {
        stage('Write') {
            steps {
                sh 'mkdir -p out && printf %s "$TEXT" > out/text.txt'
                archiveArtifacts artifacts: 'out/text.txt', fingerprint: true
            }
        }
        stage('End') {
            when {
                expression { params.OUTCOME != 'SUCCESS' }
            }
            steps {
                script {
                    if (params.OUTCOME == 'UNSTABLE') {
                        unstable('as asked')
                    }
                    if (params.OUTCOME == 'FAILURE') {
                        sh 'exit 3'
                    }
                    if (params.OUTCOME == 'SLEEP') {
                        sh 'echo asleep; sleep 60; echo awake'
                    }
                }
            }
        }
    }
}
"""
CONFIG = """\
<org.jenkinsci.plugins.workflow.multibranch.WorkflowMultiBranchProject>
  <description>Made by a test of kfp-ci, which deletes it.</description>
  <sources class="jenkins.branch.MultiBranchProject$BranchSourceList">
    <data>
      <jenkins.branch.BranchSource>
        <source class="jenkins.plugins.git.GitSCMSource">
          <id>kfp-ci-test</id>
          <remote>{remote}</remote>
          <traits>
            <jenkins.plugins.git.traits.BranchDiscoveryTrait/>
          </traits>
        </source>
      </jenkins.branch.BranchSource>
    </data>
  </sources>
  <factory class="org.jenkinsci.plugins.workflow.multibranch.WorkflowBranchProjectFactory">
    <scriptPath>Jenkinsfile</scriptPath>
  </factory>
</org.jenkinsci.plugins.workflow.multibranch.WorkflowMultiBranchProject>
"""


class Bench(NamedTuple):
    """A controller with a multibranch job whose branches were all built once."""

    url: str
    user: str
    token: str
    connection: Connection
    job: str
    real: bool

    def ci(self, *arguments: str, branch: str = "main") -> subprocess.CompletedProcess[str]:
        named = () if arguments[0] == "lint" else ("--job", self.job, "--branch", branch)
        done = subprocess.run(
            [sys.executable, "-m", "ci", "jenkins", *arguments, *named],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False,
            timeout=WAIT,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        assert self.token not in done.stdout + done.stderr
        return done

    @property
    def environment(self) -> dict[str, str]:
        who = {"JENKINS_URL": self.url, "JENKINS_USER": self.user, "JENKINS_TOKEN": self.token}
        return {**os.environ, "PYTHONPATH": str(ROOT), **who}

    def found(self, branch: str = "main") -> builds.Job:
        return builds.find(self.connection, self.job, branch)


@pytest.fixture(scope="module", params=["fake", "real"])
def bench(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Bench]:
    if request.param == "fake":
        with _fake() as made:
            yield made
        return
    missing = [name for name in NEEDED if not os.environ.get(name)]
    if missing:
        pytest.skip(f"no controller is named: {', '.join(missing)} not set")
    with _real(tmp_path_factory.mktemp("jenkins")) as made:
        yield made


@contextmanager
def _fake() -> Iterator[Bench]:
    """The fake does what the Jenkinsfile says, as far as that was written down here."""

    def play(given: dict[str, str]) -> Play:
        outcome = given.get("OUTCOME", "SUCCESS")
        ends = [b"asleep\n", *[b""] * 5, b"awake\n"] if outcome == "SLEEP" else [b""]
        stage = b"[Pipeline] stage\n[Pipeline] { (%s)\n"
        console = [stage % b"Write" + b"[Pipeline] // stage\n" + stage % b"End", *ends]
        result = "SUCCESS" if outcome == "SLEEP" else outcome
        files = {"out/text.txt": given.get("TEXT", "").encode()}
        return Play(result, waits=["In the quiet period"], console=console, artifacts=files)

    def lint(request: Any, _: Any) -> Response:
        fake.linter = [] if "agent any" in request.form["jenkinsfile"] else ["no agent"]
        return fake._validate(request, _)

    def restart(_: Any, __: Any) -> Response:
        fake.restart()
        return Response(302, {"Location": fake.url})

    fake = FakeJenkins()
    fake.route("POST", "/pipeline-model-converter/validateJenkinsfile", lint)
    fake.route("POST", "/safeRestart", restart)
    for branch in BRANCHES:
        parameters = {"OUTCOME": "SUCCESS", "TEXT": ""}
        fake.add(f"test/{address.branch_job(branch)}", parameters=parameters).choose = play
    with fake.running():
        connection = Connection(fake.url, Credentials("ci", "11fake0token", "test"), print)
        connection.who()
        yield Bench(fake.url, "ci", "11fake0token", connection, "test", False)


@contextmanager
def _real(folder: Path) -> Iterator[Bench]:
    url, user, token = (os.environ[name] for name in NEEDED)
    connection = Connection(address.controller(url, NEEDED[0]), Credentials(user, token, ""), print)
    connection.who()
    name = f"kfp-ci-test-{uuid.uuid4().hex[:8]}"
    with _served(_repository(folder)) as remote:
        connection.create_job(name, CONFIG.format(remote=remote))
        try:
            _scan(connection, name)
            yield Bench(connection.url, user, token, connection, name, True)
        finally:
            _delete(connection, name)


def _repository(folder: Path) -> Path:
    """A bare one, fit for git's plain HTTP."""
    work, bare = folder / "work", folder / "served" / "repository.git"
    work.mkdir()
    (work / "Jenkinsfile").write_text(JENKINSFILE)

    def git(*arguments: str, at: Path = work) -> None:
        who = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
        subprocess.run(["git", *who, "-C", str(at), *arguments], check=True, capture_output=True)

    git("init", "-q", "-b", BRANCHES[0])
    git("add", "-A")
    git("commit", "-q", "-m", "A Jenkinsfile of a test")
    for branch in BRANCHES[1:]:
        git("branch", branch)
    git("clone", "-q", "--bare", str(work), str(bare))
    git("update-server-info", at=bare)
    return bare


@contextmanager
def _served(bare: Path) -> Iterator[str]:
    class Files(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    handler = functools.partial(Files, directory=str(bare.parent))
    host = os.environ.get("JENKINS_TEST_HOST", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1" if host == "127.0.0.1" else "", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{host}:{server.server_address[1]}/{bare.name}"
    finally:
        server.shutdown()
        server.server_close()


def _scan(connection: Connection, name: str) -> None:
    """Let the controller find the branches, and build each once."""
    connection.post(f"{address.job_path(name)}/build", {"delay": "0"})
    for branch in BRANCHES:
        _until(lambda branch=branch: _ended(connection, name, branch), f"first build of {branch}")


def _ended(connection: Connection, name: str, branch: str) -> bool:
    try:
        job = builds.find(connection, name, branch)
        return builds.look(connection, job, None).ended
    except Exception as error:  # not there yet
        if isinstance(error, CredentialsError):
            raise
        return False


def _delete(connection: Connection, name: str) -> None:
    for branch in BRANCHES:
        job = builds.find(connection, name, branch)
        for told in builds.recent(connection, job):
            if told.building:
                builds.stop(connection, job, told.number)
    _until(lambda: all(_ended(connection, name, it) for it in BRANCHES), "end of all builds")
    connection.delete_job(name)


def _until(there: Any, what: str) -> None:
    end = time.monotonic() + WAIT
    while not there():
        assert time.monotonic() < end, f"no {what} in {WAIT} s"
        time.sleep(0.5)


# -------------------------------------------------------------------------------------


def test_it_knows_us_and_refuses_a_wrong_token(bench: Bench) -> None:
    assert bench.connection.user.lower() == bench.user.lower()
    wrong = Connection(bench.url, Credentials(bench.user, "11" + "0" * 32, "test"), print)
    with pytest.raises(CredentialsError, match="refuses the user or the token"):
        wrong.who()


def test_it_lints(bench: Bench, tmp_path: Path) -> None:
    assert linter.errors(bench.connection, JENKINSFILE) == []
    bad = tmp_path / "Jenkinsfile"
    bad.write_text(JENKINSFILE.replace("agent any", ""))
    done = bench.ci("lint", str(bad))
    assert done.returncode == 65, done.stderr
    assert "agent" in done.stdout


@pytest.mark.parametrize("branch", BRANCHES)
def test_a_build_is_followed_and_its_artifacts_are_fetched(
    bench: Bench, branch: str, tmp_path: Path
) -> None:
    done = bench.ci("build", "-p", f"TEXT={TEXT}", "--follow", "--json", branch=branch)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["result"] == "SUCCESS"
    assert told["parameters"]["OUTCOME"] == "SUCCESS"
    assert "── Write\n" in done.stderr
    number = str(told["number"])
    fetched = bench.ci("artifacts", number, "--to", str(tmp_path), "--json", branch=branch)
    assert fetched.returncode == 0, fetched.stderr
    assert [it["checked"] for it in json.loads(fetched.stdout)["artifacts"]] == [True]
    assert (tmp_path / "out/text.txt").read_text() == TEXT
    status = bench.ci("status", number, branch=branch)
    assert f"#{number}  SUCCESS" in status.stdout
    again = bench.ci("logs", number, "--follow", branch=branch)
    assert (again.returncode, "── Write\n" in again.stdout) == (0, True)


@pytest.mark.parametrize(("outcome", "code"), [("FAILURE", 61), ("UNSTABLE", 62)])
def test_the_exit_code_is_the_builds(bench: Bench, outcome: str, code: int) -> None:
    done = bench.ci("build", "-p", f"OUTCOME={outcome}", "--follow")
    assert done.returncode == code, done.stderr
    assert f"  {outcome}  " in done.stdout


def test_a_choice_that_there_is_not(bench: Bench) -> None:
    if not bench.real:
        pytest.skip("the fake knows no choices")
    done = bench.ci("build", "-p", "OUTCOME=$(id)", "--follow")
    assert done.returncode == 60, done.stderr


def test_an_equal_request_is_joined_and_can_be_cancelled(bench: Bench) -> None:
    job, given = bench.found(), {"TEXT": uuid.uuid4().hex}
    one = queue.request(bench.connection, job, given, print)
    other = queue.request(bench.connection, job, given, print)
    assert (other.item, one.joined, other.joined) == (one.item, False, True)
    assert one.item is not None
    assert queue.cancel(bench.connection, job, one.item) is None
    with pytest.raises(JenkinsQueueError, match=r"cancelled|is gone"):
        queue.wait(bench.connection, job, one.item, print, patience=WAIT)


def _sleeping(bench: Bench, given: str, *options: str) -> subprocess.Popen[str]:
    """A client that follows a build which is asleep by now."""
    command = [sys.executable, "-m", "ci", "jenkins", "build", "--job", bench.job]
    command += ["--branch", "main", "-p", "OUTCOME=SLEEP", "-p", f"TEXT={given}", "--follow"]
    child = subprocess.Popen(
        [*command, *options], cwd=ROOT, env=bench.environment, text=True, bufsize=1,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout is not None
    for line in child.stdout:
        if _says("asleep", line):
            return child
    child.wait()
    raise AssertionError(f"it ended before it slept: {child.stderr.read()}")  # type: ignore[union-attr]


def _says(word: str, line: str) -> bool:
    """Whether the build wrote that, maybe with a time stamp; `+ echo asleep` is the shell."""
    return re.fullmatch(rf"(?:\[[^]]*\] )?{word}", line.strip()) is not None


def test_an_aborted_build(bench: Bench) -> None:
    child = _sleeping(bench, "to be aborted")
    number = builds.recent(bench.connection, bench.found())[0].number
    builds.stop(bench.connection, bench.found(), number)
    _, said = child.communicate(timeout=WAIT)
    assert child.returncode == 63, said


def test_a_restart_in_the_middle_of_a_build(bench: Bench) -> None:
    if bench.real and os.environ.get(RESTART) != "yes":
        pytest.skip(f"{RESTART} is not 'yes': the controller may not be restarted")
    child = _sleeping(bench, "to be restarted")
    bench.connection.post("safeRestart")
    out, said = child.communicate(timeout=WAIT)
    assert child.returncode == 0, said
    assert "asked again for up to" in said
    assert "Jenkins answers again" in said
    assert sum(_says("awake", line) for line in out.splitlines()) == 1
