"""`ci jenkins`, as a person meets it: through a process of its own, against a fake."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ci.console import Console
from ci.jenkins import follow, interruption, start
from ci.jenkins import target as targets
from ci.jenkins.target import Named
from ci.workspace import Workspace
from ci_tools.errors import ConfigError, InterruptedRunError, JenkinsBuildAbortedError
from tests.fakes.jenkins import FakeJenkins, Play

ROOT = Path(__file__).parents[2]
# What is told without a word to any controller.
NOT_ASKED = ["JENKINS_URL holds", "is no job's name", "is no parameter", "no Jenkins is named"]
NOT_ASKED += ["no job of Jenkins is named", "Invalid value"]
PARAMETERS = {"TRAIN": "changed", "DRY_RUN": "false"}
TOKEN = "11fake0token"
CONSOLE = (
    b"[Pipeline] stage\n[Pipeline] { (Plan)\n+ plan\n",
    b"[Pipeline] }\n[Pipeline] // stage\nFinished, says the fake\n",
)


def environment(fake: FakeJenkins) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JENKINS_URL": fake.url,
        "JENKINS_USER": "ci",
        "JENKINS_TOKEN": TOKEN,
    }


def ci(
    fake: FakeJenkins, *arguments: str, cwd: Path = ROOT, **more: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "ci", "jenkins", *arguments],
        cwd=cwd, capture_output=True, text=True, check=False, timeout=120,
        env={**environment(fake), **more},
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stdout + done.stderr
    return done


# Through a process -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "code"),
    [("SUCCESS", 0), ("FAILURE", 61), ("UNSTABLE", 62), ("ABORTED", 63), ("NOT_BUILT", 63)],
)
def test_the_exit_code_is_the_builds(jenkins: FakeJenkins, result: str, code: int) -> None:
    jenkins.add("ml/main", Play(result, waits=["no agent"], console=CONSOLE), parameters=PARAMETERS)
    done = ci(
        jenkins, "build", "--job", "ml", "-b", "main", "-p", "TRAIN=$(id) 'x'", "-p", "TRIAN=1",
        "--follow",
    )  # fmt: skip
    assert done.returncode == code
    lines = done.stdout.splitlines()
    assert lines[:2] == ["── Plan", "+ plan"]
    assert lines[2].startswith("── Plan ended after")
    assert lines[3:4] == ["Finished, says the fake"]
    assert lines[4].startswith(f"ml/main #1  {result}  1 s  {jenkins.url}/job/ml/job/main/1/")
    assert "in the queue: no agent" in done.stderr
    assert "knows no parameter 'TRIAN'" in done.stderr
    assert "Did you mean 'TRAIN'?" in done.stderr
    assert jenkins.jobs["ml/main"].builds[0].parameters == {**PARAMETERS, "TRAIN": "$(id) 'x'"}
    if code:
        assert "python -m ci jenkins logs 1 --job ml --branch main" in done.stderr


def test_a_document_is_alone_on_standard_output(jenkins: FakeJenkins) -> None:
    jenkins.add("ml", Play(console=CONSOLE), parameters=PARAMETERS)
    done = ci(jenkins, "build", "--job", "ml", "--follow", "--json")
    told = json.loads(done.stdout)
    assert (told["job"], told["number"], told["result"]) == ("ml", 1, "SUCCESS")
    assert told["parameters"] == PARAMETERS
    assert "+ plan" in done.stderr


def test_no_repository_is_needed_where_all_is_named(jenkins: FakeJenkins, tmp_path: Path) -> None:
    job = jenkins.add("ml/feature%2Fx", Play(console=CONSOLE, artifacts={"a/b.txt": b"fake"}))
    jenkins.leave(jenkins.put(job, "ci", {}))
    (tmp_path / "ci.yaml").write_text("not: [valid")  # and is not read
    named = ("--job", "ml/feature%2Fx")
    logs = ci(jenkins, "logs", *named, "--follow", cwd=tmp_path)
    assert logs.returncode == 0, logs.stderr
    assert "Finished, says the fake" in logs.stdout
    again = ci(jenkins, "logs", "1", *named, cwd=tmp_path)
    assert again.stdout == b"".join(CONSOLE).decode()
    status = ci(jenkins, "status", *named, "--json", cwd=tmp_path)
    assert json.loads(status.stdout)["result"] == "SUCCESS"
    fetched = ci(jenkins, "artifacts", *named, "--json", cwd=tmp_path)
    assert json.loads(fetched.stdout)["artifacts"][0]["checked"] is True
    assert (tmp_path / "build/jenkins/artifacts/1/a/b.txt").read_bytes() == b"fake"


def test_lint(jenkins: FakeJenkins, repository: Any) -> None:
    repository.write("Jenkinsfile", "pipeline { /* a fake one */ }")
    good = ci(jenkins, "lint", cwd=repository.root)
    assert (good.returncode, jenkins.seen[-1]) == (
        0, "POST /pipeline-model-converter/validateJenkinsfile",
    )  # fmt: skip
    jenkins.linter = ['WorkflowScript: 3: Missing required section "agent"\x1b[2J']
    bad = ci(jenkins, "lint", "Jenkinsfile", cwd=repository.root)
    assert bad.returncode == 65
    assert 'Missing required section "agent"\\x1b[2J' in bad.stdout
    jenkins.linter = None
    lacking = ci(jenkins, "lint", cwd=repository.root)
    assert lacking.returncode == 66
    assert "pipeline-model-definition" in lacking.stderr
    assert ci(jenkins, "lint", "none", cwd=repository.root).returncode == 8


@pytest.mark.parametrize(
    ("arguments", "more", "code", "said"),
    [
        (["status", "--job", "ml"], {"JENKINS_TOKEN": "wrong-one"}, 15, "refuses the user"),
        (
            ["status", "--job", "ml"],
            {"JENKINS_URL": f"http://ci:{TOKEN}@x"},
            3,
            "JENKINS_URL holds",
        ),
        (["status", "--job", "none"], {}, 60, "has no job 'none', or no permission"),
        (["status", "--job", "../x"], {}, 3, "is no job's name"),
        (["status", "--job", "ml", "-b", "x"], {}, 3, "has none for branch 'x'"),
        (["build", "--job", "ml", "-p", "x"], {}, 3, "is no parameter"),
        (["build", "--job", "new", "-p", "TRAIN=x"], {}, 3, "was never built"),
        (["status", "--job", "ml"], {"JENKINS_URL": ""}, 3, "no Jenkins is named"),
        (["status"], {}, 3, "no job of Jenkins is named"),
        (["status", "0", "--job", "ml"], {}, 2, "Invalid value"),
    ],
)
def test_mistakes_are_a_sentence(
    jenkins: FakeJenkins, tmp_path: Path, arguments: list[str], more: dict[str, str],
    code: int, said: str,
) -> None:  # fmt: skip
    jenkins.add("ml")
    jenkins.add("new", parameters=PARAMETERS, built=False)
    done = ci(jenkins, *arguments, cwd=tmp_path, **more)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert not jenkins.items
    assert bool(jenkins.seen) is (said not in NOT_ASKED)


def test_a_dry_run_asks_nobody(jenkins: FakeJenkins, tmp_path: Path) -> None:
    done = ci(
        jenkins, "build", "--job", "ml", "-b", "a/b", "-p", "X=$(id)", "--dry-run", cwd=tmp_path,
        JENKINS_TOKEN="",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "a%2Fb" in done.stdout
    assert "X='$(id)'" in done.stdout
    assert jenkins.seen == []


# Which controller and job ------------------------------------------------------------


def workspace(repository: Any) -> Workspace:
    return Workspace(repository.root, repository.root / "build", console=Console(quiet=True))


def test_options_then_the_environment_then_ci_yaml(
    jenkins: FakeJenkins, repository: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.write("ci.yaml", "jenkins: {url: 'https://of-yaml/x/', job: a/b}\n")
    here = workspace(repository)
    assert targets.address(here, None) == "https://of-yaml/x"
    monkeypatch.setenv("JENKINS_URL", "http://of-env/")
    assert targets.address(here, None) == "http://of-env"
    assert targets.address(here, "http://of-option:8080") == "http://of-option:8080"
    assert targets.job_name(here, None) == "a/b"
    assert targets.job_name(here, "c") == "c"


def test_ci_yaml_holds_no_token(repository: Any) -> None:
    repository.write("ci.yaml", f"jenkins: {{url: 'https://ci:{TOKEN}@jenkins'}}\n")
    with pytest.raises(ConfigError, match=r"jenkins\.url holds a user or a password") as error:
        targets.address(workspace(repository), None)
    assert TOKEN not in str(error.value)


def test_the_branch_is_the_current_one(
    jenkins: FakeJenkins, repository: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(jenkins).items():
        monkeypatch.setenv(name, value)
    jenkins.add("ml/main")
    jenkins.add("ml/fix%2Fit")
    repository.write("ci.yaml", "jenkins: {job: ml}\n")
    repository.commit()
    assert targets.target(workspace(repository), Named()).job.name == "ml/main"
    repository.git("checkout", "-q", "-b", "fix/it")
    assert targets.target(workspace(repository), Named()).job.name == "ml/fix%2Fit"
    assert targets.target(workspace(repository), Named(branch="main")).job.name == "ml/main"


def test_a_token_that_travels_in_the_clear_is_warned_of(
    repository: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ci_tools.jenkins import connection

    monkeypatch.setattr(connection.Connection, "who", lambda _: "ci")
    monkeypatch.setenv("JENKINS_USER", "ci")
    monkeypatch.setenv("JENKINS_TOKEN", TOKEN)
    here = workspace(repository)
    for url, warned in (("https://jenkins", 0), ("http://127.0.0.1:1", 0), ("http://jenkins", 1)):
        targets.connect(here, url)
        assert len(here.console.warnings) == warned


# Ctrl-C ------------------------------------------------------------------------------


def endless(fake: FakeJenkins) -> None:
    fake.add("ml", Play(console=[b"a fake line\n"] * 1_000_000), parameters=PARAMETERS)


def interrupted(fake: FakeJenkins, *options: str) -> tuple[int, str]:
    """A build that is followed until its first line, then SIGINT; exit code and stderr."""
    command = [sys.executable, "-m", "ci", "jenkins", "build", "--job", "ml", "--follow", *options]
    child = subprocess.Popen(
        command, cwd=ROOT, env=environment(fake), text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=1,
    )  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == "a fake line\n"
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=300)
    assert "Traceback" not in said
    return child.returncode, said


def test_without_a_terminal_it_detaches_and_says_how_to_go_on(jenkins: FakeJenkins) -> None:
    endless(jenkins)
    code, said = interrupted(jenkins)
    assert code == 130
    assert "detached: build 1 of ml goes on" in said
    assert "python -m ci jenkins logs 1 --follow --job ml" in said
    assert not any("stop" in it for it in jenkins.seen)


def test_abort_stops_the_build_and_waits_for_its_end(jenkins: FakeJenkins) -> None:
    endless(jenkins)
    # Nobody reads the console any more: the fake's build has to end by itself.
    stop = jenkins._stop

    def stopping(*it: Any) -> Any:
        answer = stop(*it)
        jenkins.jobs["ml"].builds[0].result = "ABORTED"
        return answer

    jenkins.route("POST", "/(job/ml)/(1)/stop", stopping)
    code, said = interrupted(jenkins, "--on-interrupt", "abort")
    assert code == 63
    assert "build 1 of 'ml' was aborted" in said


@pytest.mark.parametrize(
    ("answer", "code"), [(b"abort\n", 63), (b"\n", 130), (b"\x03", 130), (b"\x04", 130)]
)
def test_on_a_terminal_it_asks(jenkins: FakeJenkins, answer: bytes, code: int) -> None:
    endless(jenkins)
    stop = jenkins._stop

    def stopping(*it: Any) -> Any:
        done = stop(*it)
        jenkins.jobs["ml"].builds[0].result = "ABORTED"
        return done

    jenkins.route("POST", "/(job/ml)/(1)/stop", stopping)
    command = [sys.executable, "-m", "ci", "jenkins", "build", "--job", "ml", "--follow"]
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        os.execve(command[0], command, environment(jenkins))
    try:
        seen = until(terminal, b"a fake line")
        os.write(terminal, b"\x03")
        seen += until(terminal, b"[detach]: ")
        assert b"Detach from it, or abort it?" in seen
        os.write(terminal, answer)
        until(terminal, b"ERROR: ", again=answer)
        _, status = os.waitpid(child, 0)
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == code
    assert any("stop" in it for it in jenkins.seen) is (code == 63)


def until(terminal: int, wanted: bytes, again: bytes = b"") -> bytes:
    """What a terminal shows until it shows that.

    again: what a person presses once more when nothing happens. Python loses a Ctrl-C that
    comes just as it begins to read a line: it waits for a key then.
    """
    seen, end = b"", time.monotonic() + 300
    while wanted not in seen:
        assert time.monotonic() < end, seen.decode()
        if select.select([terminal], [], [], 20)[0]:
            seen += os.read(terminal, 65536)
        elif again:
            os.write(terminal, again)
    return seen


def target(fake: FakeJenkins, monkeypatch: pytest.MonkeyPatch, repository: Any) -> targets.Target:
    for name, value in environment(fake).items():
        monkeypatch.setenv(name, value)
    return targets.target(workspace(repository), Named(job="ml"))


def raising(_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("choice", ["detach", "abort"])
def test_ctrl_c_in_the_queue(
    jenkins: FakeJenkins, repository: Any, monkeypatch: pytest.MonkeyPatch, choice: Any
) -> None:
    job = jenkins.add("ml", Play(waits=["no agent"] * 1000))
    found = target(jenkins, monkeypatch, repository)
    console = Console(quiet=True)

    def told(text: str) -> None:
        if "no agent" in text:
            raise KeyboardInterrupt

    monkeypatch.setattr(console, "event", told)
    kind = InterruptedRunError if choice == "detach" else JenkinsBuildAbortedError
    with pytest.raises(kind, match="queue item 101"):
        start.start(found, {}, console, patience=60, on_interrupt=choice)
    assert jenkins.items[101].cancelled is (choice == "abort")
    assert job.builds == []


def test_abort_of_one_that_has_just_left_the_queue(
    jenkins: FakeJenkins, repository: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = jenkins.add("ml", Play(waits=["no agent"] * 1000))
    found = target(jenkins, monkeypatch, repository)
    console = Console(quiet=True)

    def told(text: str) -> None:
        if "no agent" in text:
            jenkins.leave(jenkins.items[101])
            raise KeyboardInterrupt

    monkeypatch.setattr(console, "event", told)
    with pytest.raises(JenkinsBuildAbortedError, match="was build 1 by then"):
        start.start(found, {}, console, patience=60, on_interrupt="abort")
    assert job.builds[0].play.result == "ABORTED"


def test_nobody_is_asked_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("click.prompt", raising)
    assert interruption.decide("ask", "it") == "detach"
    assert interruption.decide("abort", "it") == "abort"


def test_a_result_that_nobody_knows_is_no_success() -> None:
    from ci_tools.jenkins.builds import Build

    build = Build(
        job="ml", number=1, url="", result="NEW_WORD", name="", description=None, started=0,
        seconds=0, parameters={}, causes=[], queue_item=1,
    )  # fmt: skip
    with pytest.raises(Exception, match="ended as NEW_WORD"):
        follow.raise_result(build, Named())
