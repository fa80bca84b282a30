"""The stage `train` against a fake API server and a fake registry, through the real clients."""

from __future__ import annotations

import json
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ci import train
from ci_tools import storage
from ci_tools.documents import Run, Training
from ci_tools.errors import (
    ConfigError,
    CredentialsError,
    ExpectationError,
    KubeflowError,
    RunFailedError,
    RunInfrastructureError,
    RunTimeoutError,
)
from ci_tools.kubeflow import connection, evidence, runs, server
from ci_tools.kubeflow.aftermath import FailedTask
from ci_tools.kubeflow.progress import Task
from tests.fakes import kubeflow as fake_kubeflow
from tests.fakes.training import TWO, World, declaring, made, until
from tests.unit.test_kubeflow_server import spec


@pytest.fixture
def world(repository: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with made(repository, monkeypatch) as one:
        yield one


# runs and their verdicts -------------------------------------------------------------------


def test_a_test_is_run_judged_and_reported(world: World) -> None:
    smoke = (
        "{parameters: {rows: 7}, expect: {metrics: {accuracy: {min: 0.9, max: 1}, loss: {max: 1}},"
        " duration: {max: 600}}}"
    )
    world.tests = {"training": declaring(smoke=smoke)}
    world.metrics = {"accuracy": 0.8}
    world.commit()
    training = world.train()
    (run,) = training.runs
    assert (run.test, run.state, run.parameters) == ("smoke", "SUCCEEDED", {"rows": 7})
    assert run.unmet == ["accuracy is 0.8, below 0.9", "loss was not reported (reported: accuracy)"]
    assert world.cases() == {
        "train.training/smoke.run": "passed",
        "train.training/smoke.metrics.accuracy": "failure: accuracy is 0.8, below 0.9",
        "train.training/smoke.metrics.loss": "failure: loss was not reported (reported: accuracy)",
        "train.training/smoke.duration": "passed",
    }
    root = ET.parse(world.repository.root / "build/reports/training.xml").getroot()
    properties = {it.get("name"): it.get("value") for it in root.iter("property")}
    assert properties["smoke.run_id"] == run.run_id
    assert properties["smoke.url"] == run.url
    assert run.run_id in run.url
    written = storage.read(world.workspace().build / "train.json", Training, made_by="train")
    assert written == training
    with pytest.raises(ExpectationError, match=r"training/smoke.*below 0\.9.*was not reported"):
        train.raise_failures(training)
    assert "v-" in Path(run.log).read_text()


def test_what_is_given_overrides_what_is_declared(world: World) -> None:
    world.tests = {"training": declaring(smoke="{parameters: {rows: 7}}")}
    world.commit()
    (run,) = world.train(parameters={"rows": "9"}).runs
    assert run.parameters == {"rows": 9}


def test_a_failed_run_says_which_task_what_it_said_last_and_where_the_rest_is(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.kubeflow.states = ["RUNNING", "FAILED"]
    world.kubeflow.task_details = [
        {"display_name": "go-driver", "state": "SUCCEEDED"},
        {"display_name": "go", "state": "FAILED", "start_time": "2026-01-01T10:00:00Z",
         "end_time": "2026-01-01T10:00:12Z"},
        {"display_name": "executor", "state": "FAILED"},
    ]  # fmt: skip
    lines = [f"line {number}" for number in range(200)]
    world.argo_says("Error (exit code 1)")
    world.logs = [FailedTask("go", "", [*lines, "KeyError: 'age'"])]
    training = world.train("training")
    with pytest.raises(RunFailedError) as caught:
        train.raise_failures(training)
    (run,) = training.runs
    assert [(it.name, it.state, it.seconds) for it in run.tasks] == [("go", "FAILED", 12.0)]
    for told in (capsys.readouterr().err, str(caught.value)):
        assert "task 'go' failed: Error (exit code 1)" in told
        assert "KeyError: 'age'" in told
        assert run.url in told
        assert run.log in told
    assert world.cases()["train.training/default.run"].startswith("failure: FAILED task 'go'")
    log = Path(run.log).read_text()
    assert all(f"\n{line}\n" in log for line in lines)  # all of it is there, and only there
    assert "line 150\n" not in run.message
    assert len(run.tasks[0].lines) == 50


def test_logs_that_cannot_be_had_hide_no_failure(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise CredentialsError("the pods may not be looked at", "Ask for it")

    monkeypatch.setattr(evidence, "logs", refuse)
    world.kubeflow.states = ["FAILED"]
    world.kubeflow.task_details = [{"display_name": "go", "state": "FAILED"}]
    (run,) = world.train("training").runs
    assert run.message == "task 'go' failed"
    log = Path(run.log).read_text()
    assert "the logs of its tasks could not be had: the pods may not be looked at" in log


def test_a_server_without_v1beta1_is_believed_to_have_no_excuse(world: World) -> None:
    def gone(_: str) -> Any:
        raise fake_kubeflow.Refused(404, "Not Found")

    world.argo_says("pod deleted")
    world.kubeflow.run_v1 = gone
    world.kubeflow.states = ["FAILED"]
    world.kubeflow.task_details = [{"display_name": "go", "state": "FAILED"}]
    (run,) = world.train("training").runs
    assert (run.state, run.infrastructure, run.attempts) == ("FAILED", "", [])
    assert "Argo's own messages could not be had" in Path(run.log).read_text()


def test_results_that_cannot_be_had_miss_what_is_expected_and_say_why(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise KubeflowError("the metadata store does not answer", "Wait")

    monkeypatch.setattr(evidence, "outcome", refuse)
    world.tests = {"training": declaring(smoke="{expect: {metrics: {accuracy: {}}}}")}
    world.commit()
    (run,) = world.train().runs
    assert run.unmet == ["accuracy was not reported (the metadata store does not answer)"]


def test_progress_is_a_line_for_every_change_of_a_task(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.kubeflow.states = ["PENDING", "PAUSED", "RUNNING", "SUCCEEDED"]
    world.kubeflow.task_details = [{"display_name": "go", "state": "RUNNING"}]
    world.train("training")
    lines = [line.partition("] ")[2] for line in capsys.readouterr().err.splitlines()]
    assert [line for line in lines if " | " in line] == [
        "training | training",
        "training | go RUNNING",
        "training | the run is PAUSED",
    ]


@pytest.mark.parametrize(
    ("states", "error", "told"),
    [
        (["RUNNING", "CANCELING", "FAILED"], RunFailedError, "somebody else cancelled it"),
        (["CANCELED"], RunFailedError, "somebody else cancelled it"),
        (["SKIPPED"], RunFailedError, "SKIPPED"),
    ],
)
def test_other_ends(world: World, states: list[str], error: Any, told: str) -> None:
    world.kubeflow.states = states
    with pytest.raises(error, match=told):
        train.raise_failures(world.train("training"))


def test_a_run_that_somebody_cancels_while_we_wait(world: World) -> None:
    world.kubeflow.states = ["RUNNING"]

    def somebody() -> None:
        until(lambda: any("/runs/" in request for request in list(world.kubeflow.requests)))
        for run_id in list(world.kubeflow.runs):
            world.kubeflow.terminate(run_id)

    threading.Thread(target=somebody, daemon=True).start()
    (run,) = world.train("training").runs
    assert (run.state, run.message) == ("CANCELED", "somebody else cancelled it")
    assert not any("terminate" in request for request in world.kubeflow.requests)


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_run_that_takes_too_long_is_cancelled_and_waited_for(
    world: World, stubborn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_GRACE_SECONDS", 0.2 if stubborn else 60.0)
    world.kubeflow.states, world.kubeflow.stubborn = ["RUNNING"], stubborn
    world.kubeflow.task_details = [{"display_name": "go", "state": "RUNNING"}]
    world.tests = {"training": declaring(slow="{timeout: 3}")}
    world.commit()
    training = world.train()
    (run,) = training.runs
    assert run.state == "TIMEOUT"
    assert run.message.startswith("cancelled after 3 seconds while go was RUNNING")
    assert ("has not ended it yet" in run.message) == stubborn
    (kept,) = world.kubeflow.runs.values()
    assert kept["state"] == ("CANCELING" if stubborn else "CANCELED")
    with pytest.raises(RunTimeoutError, match="training/slow"):
        train.raise_failures(training)


def test_a_run_that_waits_for_a_person_says_so_when_its_time_is_over(world: World) -> None:
    world.kubeflow.states = ["RUNNING", "PAUSED"]
    world.tests = {"training": declaring(slow="{timeout: 1}")}
    world.commit()
    training = world.train()
    with pytest.raises(RunTimeoutError, match=r"cancelled after 1 seconds while it was PAUSED"):
        train.raise_failures(training)


def away_once_it_is_watched(world: World, requests: int) -> None:
    """The second look at the run, and so many requests in all, get no answer but 503."""
    looks = []

    def gate(method: str, path: str, *_: Any) -> None:
        if method == "GET" and "/runs/" in path:
            looks.append(path)
            if len(looks) == 2:
                world.kubeflow.failing = requests

    world.kubeflow.gate = gate


def test_a_run_whose_time_is_over_while_nobody_answers_may_still_go_on(world: World) -> None:
    world.kubeflow.states = ["RUNNING"]
    world.tests = {"training": declaring(slow="{timeout: 3}")}
    world.commit()

    away_once_it_is_watched(world, 10_000)
    (run,) = world.train().runs
    assert (run.state, run.message) == (
        "TIMEOUT", "it could not be cancelled after 3 seconds, and may still go on",
    )  # fmt: skip


def test_a_run_that_ends_just_when_its_time_is_over_is_what_it_is(world: World) -> None:
    """The server refuses to terminate what has ended."""
    world.kubeflow.states = ["RUNNING"]
    world.tests = {"training": declaring(slow="{timeout: 3}")}
    world.commit()

    def terminate(run_id: str) -> Any:
        world.kubeflow.runs[run_id]["states"] = ["SUCCEEDED"]
        raise fake_kubeflow.Refused(400, "Failed to terminate a run. Row not found")

    world.kubeflow.terminate = terminate
    (run,) = world.train().runs
    assert (run.state, run.passed) == ("SUCCEEDED", True)


def test_a_server_that_is_away_in_the_middle(world: World) -> None:
    world.kubeflow.states = ["RUNNING"] * 5 + ["SUCCEEDED"]

    away_once_it_is_watched(world, 3)
    (run,) = world.train("training").runs
    assert run.state == "SUCCEEDED"
    assert "answered 503" in Path(run.log).read_text()


def test_a_request_that_hangs_is_given_up_and_made_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "TIMEOUT", (10, 2.0))
    world.kubeflow.hanging = threading.Event()

    def mend() -> None:
        until(lambda: bool(world.kubeflow.runs))
        log = world.workspace().build / "logs/run-training.log"
        until(lambda: log.exists() and "no answer" in log.read_text())
        world.kubeflow.hanging.set()

    threading.Thread(target=mend, daemon=True).start()
    (run,) = world.train("training").runs
    assert run.state == "SUCCEEDED"


def test_a_server_that_stays_away_is_the_error_of_its_test_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(server.KubeflowServer.__init__.__kwdefaults__, "patience", 0.3)
    world.kubeflow.states = ["RUNNING"]

    away_once_it_is_watched(world, 10_000)
    training = world.train("training")
    (run,) = training.runs
    assert (run.state, run.exit_code) == ("ERROR", 32)
    with pytest.raises(KubeflowError, match=r"may still go on.*'training'"):
        train.raise_failures(training)


def test_what_an_embedded_run_told_of_its_tasks_is_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Embedded:
        def launch(self, pipeline: str, *_: Any, watch: Any, **__: Any) -> Run:
            watch([Task("go", "RUNNING", 1.0)])
            watch([Task("", "PAUSED"), Task("go", "SUCCEEDED", 2.0)])
            return Run(pipeline=pipeline, run_id="r", version_id="v", state="SUCCEEDED")

    monkeypatch.setattr(train.kubeflow, "connect", lambda *_, **__: Embedded())
    (run,) = world.train("training").runs
    assert [(it.name, it.state, it.seconds) for it in run.tasks] == [("go", "SUCCEEDED", 2.0)]
    assert run.sha256


# several at once ----------------------------------------------------------------------------


def test_four_at_once_each_with_its_log_and_failures_stop_no_other(world: World) -> None:
    names = ["a", "b", "c", "d"]
    world.pipelines = {name: spec(name) for name in names}
    world.tests = {name: declaring(name, smoke="{parameters: {rows: 1}}") for name in names}
    world.tests["c"] = declaring("c", smoke="{parameters: {row: 1}}")
    world.commit()
    world.kubeflow.plays = {"b/": [["RUNNING", "FAILED"]]}
    world.kubeflow.states = ["RUNNING"]  # the others end only when all are there

    def let_go() -> None:
        until(lambda: len(world.kubeflow.runs) == 3)
        for run in world.kubeflow.runs.values():
            if not run["display_name"].startswith("b/"):
                run["states"] = ["SUCCEEDED"]

    threading.Thread(target=let_go, daemon=True).start()
    training = world.train()
    assert [(run.pipeline, run.state) for run in training.runs] == [
        ("a", "SUCCEEDED"), ("b", "FAILED"), ("c", "ERROR"), ("d", "SUCCEEDED"),
    ]  # fmt: skip
    logs = [Path(run.log).name for run in training.runs if run.log]
    assert logs == ["run-a.smoke.log", "run-b.smoke.log", "run-d.smoke.log"]
    with pytest.raises(ConfigError, match=r"Did you mean 'rows'|has no parameter 'row'"):
        train.raise_failures(training)


def test_how_many_at_once(world: World) -> None:
    assert train.jobs_at_once(world.workspace(), 9) == 4
    assert train.jobs_at_once(world.workspace(), 2) == 2
    assert train.jobs_at_once(world.workspace(), 0) == 1
    world.repository.write("ci.yaml", "pipelines: {jobs: 7}\n" + (
        world.repository.root / "ci.yaml").read_text())  # fmt: skip
    assert train.jobs_at_once(world.workspace(), 9) == 7


def test_no_more_than_allowed_run_at_once(world: World) -> None:
    tests = {name: f"{{parameters: {{rows: {number}}}}}" for number, name in enumerate("abc")}
    world.tests = {"training": declaring(**tests)}
    world.commit()
    world.kubeflow.states = ["RUNNING", "RUNNING", "SUCCEEDED"]
    most = 0
    look = world.kubeflow.run

    def watching(run_id: str) -> Any:
        nonlocal most
        answer = look(run_id)
        busy = [it for it in world.kubeflow.runs.values() if it.get("state") != "SUCCEEDED"]
        most = max(most, len(busy))
        return answer

    world.kubeflow.run = watching
    assert [run.unchanged for run in world.train(jobs=1).runs] == [False] * 3
    assert most == 1


# retries ------------------------------------------------------------------------------------


def test_a_failure_of_the_infrastructure_is_tried_again_and_every_attempt_is_kept(
    world: World,
) -> None:
    world.kubeflow.plays = {"training": [["RUNNING", "FAILED"], ["RUNNING", "SUCCEEDED"]]}
    world.kubeflow.task_details = [{"display_name": "go", "state": "FAILED"}]
    world.argo_says("pod deleted")
    training = world.train("training")
    (run,) = training.runs
    assert run.state == "SUCCEEDED"
    (before,) = run.attempts
    assert before.reason == "task 'go': its pod was deleted"
    assert (before.run_id, run.run_id) == tuple(world.kubeflow.runs)
    assert world.launched()[1].endswith("(attempt 2)")
    assert [Path(log).name for log in (before.log, run.log)] == [
        "run-training.log", "run-training.2.log",
    ]  # fmt: skip
    assert before.run_id in Path(before.log).read_text()
    train.raise_failures(training)


def test_a_failure_of_the_infrastructure_that_stays_is_told_as_such(world: World) -> None:
    world.kubeflow.states = ["FAILED"]
    world.kubeflow.task_details = [{"display_name": "go", "state": "FAILED"}]
    world.argo_says("pod deleted")
    world.tests = {"training": declaring(smoke="{retries: 2}")}
    world.commit()
    training = world.train()
    assert len(world.kubeflow.runs) == 3
    assert len(training.runs[0].attempts) == 2
    with pytest.raises(RunInfrastructureError, match="3 times"):
        train.raise_failures(training)


@pytest.mark.parametrize("message", ["Error (exit code 1)", "OOMKilled (exit code 137)", ""])
def test_a_users_failure_is_never_tried_again(world: World, message: str) -> None:
    world.kubeflow.states = ["FAILED"]
    world.kubeflow.task_details = [{"display_name": "go", "state": "FAILED"}]
    world.argo_says(message)
    world.logs = [FailedTask("go", "", ["pod deleted"])]
    with pytest.raises(RunFailedError):
        train.raise_failures(world.train("training"))
    assert len(world.kubeflow.runs) == 1


# the command --------------------------------------------------------------------------------


def test_the_command(world: World) -> None:
    from click.testing import CliRunner

    from ci.cli import cli

    world.tests = {"training": TWO}
    world.commit()
    command = ["train", "--env", "dev", "--repo", str(world.repository.root), "--json"]
    done = CliRunner().invoke(cli, [*command, "-j", "2"])
    assert done.exit_code == 0, done.output
    assert [run["test"] for run in json.loads(done.stdout)["runs"]] == ["smoke", "full"]
    again = json.loads(CliRunner().invoke(cli, command).stdout)
    assert all(run["unchanged"] for run in again["runs"])
    forced = json.loads(CliRunner().invoke(cli, [*command, "--again"]).stdout)
    assert not any(run["unchanged"] for run in forced["runs"])


def test_a_dry_run_says_what_it_cannot_know(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from ci import compile as compiling
    from ci_tools.documents import Compiled, CompiledPipeline

    one = CompiledPipeline(path="", source="", function="", sha256="", images=[], components=[])
    monkeypatch.setattr(compiling, "dry_run", lambda _: Compiled(pipelines={"training": one}))
    world.tests = {"training": TWO + "  night: {environments: [local]}\n"}
    world.commit()
    before = len(world.kubeflow.requests)
    assert train.dry_run(world.workspace(), (), {"rows": 5}) == [
        "training/smoke: would run with {'rows': 5}, unless it passed before with all that it "
        "depends on (only the registry knows)",
        "training/full: would run with {'rows': 5}, unless it passed before with all that it "
        "depends on (only the registry knows)",
        "training/night: would not run, it is for local only",
    ]
    assert train.dry_run(world.workspace(), ("training/smoke",), {}) == [
        "training/smoke: would run with {'rows': 1}"
    ]
    assert len(world.kubeflow.requests) == before
