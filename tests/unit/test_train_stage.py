"""The stage `train` against a fake API server and a fake registry, through the real clients."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ci import records, release, train
from ci.workspace import Workspace
from ci_tools import process, storage
from ci_tools.config_training import Expect
from ci_tools.documents import Artifact, Run, Training, Uploads
from ci_tools.errors import (
    ConfigError,
    CredentialsError,
    ExpectationError,
    InterruptedRunError,
    KubeflowError,
    RunFailedError,
    RunInfrastructureError,
    RunTimeoutError,
)
from ci_tools.kubeflow import ir, runs, server
from ci_tools.kubeflow.aftermath import FailedTask, Outcome
from tests.fakes import kubeflow as fake_kubeflow
from tests.fakes import registry as fake_registry
from tests.unit.test_kubeflow_server import spec

ROOT = Path(__file__).parents[2]


class World:
    """A repository with uploaded pipelines, and what its environment `dev` is.

    metrics, artifacts, logs: what is found out of a run after its end.
    """

    def __init__(self, repository: Any, kubeflow: Any, registry: Any, host: str) -> None:
        self.repository, self.kubeflow, self.registry, self.host = (
            repository, kubeflow, registry, host,
        )  # fmt: skip
        self.metrics: dict[str, float] = {"accuracy": 0.95}
        self.artifacts: dict[str, Artifact] = {}
        self.logs: list[FailedTask] = []
        self.pipelines: dict[str, str] = {"training": spec()}
        self.tests: dict[str, str] = {}
        self.branches = ""
        self._tagged: set[str] = set()
        registry.before = self._by_repository
        self.commit()

    def _by_repository(self, method: str, path: str) -> Any:
        """The fake has one set of tags for all repositories; a registry has not."""
        if "/manifests/" in path and "/manifests/sha256:" not in path:
            if method == "PUT":
                self._tagged.add(path)
            elif path not in self._tagged:
                return fake_registry.error(404, "MANIFEST_UNKNOWN")
        return None

    def commit(self) -> None:
        """Write everything down, as a commit, and upload the pipelines."""
        self.repository.write(
            "ci.yaml",
            f"project: ml\nenvironments: {{dev: {{registry: {{host: '{self.host}'{self.branches}}},"
            f" kubeflow: {{endpoint: '{self.kubeflow.endpoint}'}}}}}}\n",
        )
        self.repository.write(".gitignore", "build\n")
        for name, text in self.tests.items():
            self.repository.write(f"pipelines/{name}.test.yaml", text)
        self.repository.commit()
        client = server.KubeflowServer(self.workspace().environment.kubeflow)  # type: ignore[arg-type]
        uploads = Uploads(environment="dev", pipelines={})
        for name, text in self.pipelines.items():
            path = self.repository.write(f"build/pipelines/{name}.yaml", text)
            sha256 = ir.canonical_sha256(ir.load(path))
            uploads.pipelines[name] = client.upload(
                name, path, sha256=sha256, version=f"v-{sha256[:8]}", description=""
            )
        storage.write(self.repository.root / "build/uploads.json", uploads)

    def workspace(self) -> Workspace:
        root = self.repository.root
        return Workspace(repository=root, build=root / "build", environment_name="dev",
                         home=root / "build/home")  # fmt: skip

    def train(self, *names: str, **options: Any) -> Training:
        return train.train(self.workspace(), names, options.pop("parameters", None), **options)

    def argo_says(self, message: str) -> None:
        """Of the pod of task `go`, in every run."""
        node = {"type": "Pod", "phase": "Failed", "message": message, "name": "w.root.go.executor"}
        self.kubeflow.nodes = {"w-1": node}

    def launched(self) -> list[str]:
        return [run["display_name"] for run in self.kubeflow.runs.values()]

    def cases(self) -> dict[str, str]:
        """Of the JUnit report: suite/case -> passed, or what stands there instead."""
        root = ET.parse(self.repository.root / "build/reports/training.xml").getroot()
        return {
            f"{case.get('classname')}/{case.get('name')}": (
                "passed" if len(case) == 0 else f"{case[0].tag}: {case[0].get('message')}"
            )
            for case in root.iter("testcase")
        }


def declaring(pipeline: str = "training", **tests: str) -> str:
    body = "".join(f"  {name}: {text}\n" for name, text in tests.items())
    return f"pipeline: {pipeline}\ntests:\n{body}"


@pytest.fixture
def world(repository: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name in ("CHANGE_ID", "BRANCH_NAME", "GIT_BRANCH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(process, "_stopping", False)
    monkeypatch.setitem(server.KubeflowServer.__init__.__kwdefaults__, "poll", (0.01, 0.05))
    monkeypatch.setitem(server.KubeflowServer.__init__.__kwdefaults__, "patience", 5.0)
    registry = fake_registry.FakeRegistry()
    with (
        fake_kubeflow.serve(fake_kubeflow.FakeKubeflow()) as kubeflow,
        fake_registry.serve(registry) as host,
    ):
        made = World(repository, kubeflow, registry, host)
        asked = runs.Runs.__init__.__kwdefaults__
        monkeypatch.setitem(
            asked, "outcome", lambda *_: Outcome(metrics=made.metrics, artifacts=made.artifacts)
        )
        monkeypatch.setitem(asked, "logs", lambda *_: made.logs)
        yield made


def until(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to that")


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
    assert run.unmet == ["accuracy is 0.8, below 0.9", "loss was not reported"]
    assert world.cases() == {
        "training.training/smoke.run": "passed",
        "training.training/smoke.metrics.accuracy": "failure: accuracy is 0.8, below 0.9",
        "training.training/smoke.metrics.loss": "failure: loss was not reported",
        "training.training/smoke.duration": "passed",
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
    assert world.cases()["training.training/default.run"].startswith("failure: FAILED task 'go'")
    log = Path(run.log).read_text()
    assert all(f"\n{line}\n" in log for line in lines)  # all of it is there, and only there
    assert "line 150\n" not in run.message
    assert len(run.tasks[0].lines) == 50


def test_logs_that_cannot_be_had_hide_no_failure(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise CredentialsError("the pods may not be looked at", "Ask for it")

    monkeypatch.setitem(runs.Runs.__init__.__kwdefaults__, "logs", refuse)
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

    monkeypatch.setitem(runs.Runs.__init__.__kwdefaults__, "outcome", refuse)
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
    monkeypatch.setattr(runs, "_GRACE_SECONDS", 0.2)
    world.kubeflow.states, world.kubeflow.stubborn = ["RUNNING"], stubborn
    world.kubeflow.task_details = [{"display_name": "go", "state": "RUNNING"}]
    world.tests = {"training": declaring(slow="{timeout: 1}")}
    world.commit()
    training = world.train()
    (run,) = training.runs
    assert run.state == "TIMEOUT"
    assert run.message.startswith("cancelled after 1 seconds while go was RUNNING")
    assert ("has not ended it yet" in run.message) == stubborn
    (kept,) = world.kubeflow.runs.values()
    assert kept["state"] == ("CANCELING" if stubborn else "CANCELED")
    with pytest.raises(RunTimeoutError, match="training/slow"):
        train.raise_failures(training)


def test_a_run_whose_time_is_over_while_nobody_answers_may_still_go_on(world: World) -> None:
    world.kubeflow.states = ["RUNNING"]
    world.tests = {"training": declaring(slow="{timeout: 1}")}
    world.commit()

    def away() -> None:
        until(lambda: any("GET" in it and "/runs/" in it for it in list(world.kubeflow.requests)))
        world.kubeflow.failing = 10_000

    threading.Thread(target=away, daemon=True).start()
    (run,) = world.train().runs
    assert (run.state, run.message) == (
        "TIMEOUT", "it could not be cancelled after 1 seconds, and may still go on",
    )  # fmt: skip


def test_a_run_that_ends_just_when_its_time_is_over_is_what_it_is(world: World) -> None:
    """The server refuses to terminate what has ended."""
    world.kubeflow.states = ["RUNNING"]
    world.tests = {"training": declaring(slow="{timeout: 1}")}
    world.commit()

    def terminate(run_id: str) -> Any:
        world.kubeflow.runs[run_id]["states"] = ["SUCCEEDED"]
        raise fake_kubeflow.Refused(400, "Failed to terminate a run. Row not found")

    world.kubeflow.terminate = terminate
    (run,) = world.train().runs
    assert (run.state, run.passed) == ("SUCCEEDED", True)


def test_a_server_that_is_away_in_the_middle(world: World) -> None:
    world.kubeflow.states = ["RUNNING"] * 5 + ["SUCCEEDED"]

    def away() -> None:
        until(lambda: any("GET" in it and "/runs/" in it for it in list(world.kubeflow.requests)))
        world.kubeflow.failing = 3

    threading.Thread(target=away, daemon=True).start()
    (run,) = world.train("training").runs
    assert run.state == "SUCCEEDED"
    assert "answered 503" in Path(run.log).read_text()


def test_a_request_that_hangs_is_given_up_and_made_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ci_tools.kubeflow import api

    monkeypatch.setattr(api, "_TIMEOUT", (1, 0.2))
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

    def away() -> None:
        until(lambda: any("GET" in it and "/runs/" in it for it in list(world.kubeflow.requests)))
        world.kubeflow.failing = 10_000

    threading.Thread(target=away, daemon=True).start()
    training = world.train("training")
    (run,) = training.runs
    assert (run.state, run.exit_code) == ("ERROR", 32)
    with pytest.raises(KubeflowError, match=r"may still go on.*'training'"):
        train.raise_failures(training)


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


# unchanged ----------------------------------------------------------------------------------


TWO = declaring(smoke="{parameters: {rows: 1}}", full="{parameters: {rows: 2}}")


def test_what_passed_is_not_run_again_until_something_that_it_depends_on_changes(
    world: World,
) -> None:
    world.tests = {"training": TWO}
    world.commit()
    first = world.train()
    assert not any(run.unchanged for run in first.runs)
    second = world.train()
    assert [run.unchanged for run in second.runs] == [True, True]
    assert [run.run_id for run in second.runs] == [run.run_id for run in first.runs]
    assert second.runs[0].notes[0].startswith(f"unchanged since run {first.runs[0].run_id} of")
    assert second.runs[0].log == ""
    assert len(world.kubeflow.runs) == 2
    assert world.cases()["training.training/smoke.run"].startswith("skipped: unchanged since run")
    train.raise_failures(second)


def test_a_changed_component_changes_the_ir_and_with_it_the_verdict(world: World) -> None:
    """The IR names every component's image by digest."""
    world.tests = {"training": TWO}
    world.commit()
    world.train()
    digest = "sha256:" + "a" * 64
    assert digest in world.pipelines["training"]
    world.pipelines["training"] = spec().replace(digest, "sha256:" + "b" * 64)
    world.commit()
    assert [run.unchanged for run in world.train().runs] == [False, False]
    world.pipelines["training"] = "# another comment\n" + world.pipelines["training"]
    world.commit()
    assert [run.unchanged for run in world.train().runs] == [True, True]


def test_only_the_test_that_changed_runs(world: World) -> None:
    world.tests = {"training": TWO}
    world.commit()
    world.train()
    world.tests["training"] = TWO.replace("rows: 2", "rows: 3")
    world.commit()
    assert [(run.test, run.unchanged) for run in world.train().runs] == [
        ("smoke", True), ("full", False),
    ]  # fmt: skip
    assert [run.unchanged for run in world.train(parameters={"rows": 1}).runs] == [True, True]


def test_again_and_a_name_run_it_all_the_same(world: World) -> None:
    world.tests = {"training": TWO}
    world.commit()
    world.train()
    assert [run.unchanged for run in world.train(again=True).runs] == [False, False]
    assert [run.unchanged for run in world.train("training/smoke").runs] == [False]
    assert len(world.kubeflow.runs) == 5


def test_what_failed_or_was_not_good_enough_runs_again(world: World) -> None:
    world.tests = {"training": declaring(smoke="{expect: {metrics: {accuracy: {min: 0.99}}}}")}
    world.commit()
    world.train()
    world.kubeflow.states = ["FAILED"]
    world.train()
    world.train()
    assert len(world.kubeflow.runs) == 3


def test_what_was_made_on_another_machine_is_made_again(world: World, tmp_path: Path) -> None:
    world.tests = {"training": declaring(smoke="{expect: {outputs: {model: {min_bytes: 3}}}}")}
    world.commit()
    model = tmp_path / "my model"
    model.write_bytes(b"1234")
    world.artifacts = {"model": Artifact(uri=model.as_uri(), sha256="0" * 64)}
    (run,) = world.train().runs
    assert run.artifacts["model"].size == 4
    assert world.train().runs[0].unchanged
    model.unlink()
    (run,) = world.train().runs
    assert not run.unchanged
    assert run.unmet == ["output model was not written"]


def test_an_unchanged_run_counts_for_the_release_though_its_version_is_another() -> None:
    from tests.unit.test_release import everything

    inputs = everything()
    inputs["runs"].runs[0].version_id = "of an earlier commit"
    assert release.assemble(**inputs).problems == ["the training test of 'training' was not run"]
    inputs["runs"].runs[0].unchanged = True
    inputs["runs"].runs[0].sha256 = "s"
    assert release.assemble(**inputs).problems == []
    inputs["runs"].runs[0].sha256 = "another"
    assert release.assemble(**inputs).problems != []


def test_the_key_depends_on_all_that_the_brief_says_and_on_nothing_else() -> None:
    base = ("dev", "p", "0" * 64, {"a": 1, "b": [2]}, Expect())
    keys = {records.key(*base)}
    for number, other in enumerate(
        ("prod", "q", "1" * 64, {"a": 2, "b": [2]}, Expect(metrics={"m": records_bound()}))
    ):
        keys.add(records.key(*base[:number], other, *base[number + 1 :]))  # type: ignore[arg-type]
    assert len(keys) == 6
    assert records.key("dev", "p", "0" * 64, {"b": [2], "a": 1}, Expect()) in keys


def records_bound() -> Any:
    from ci_tools.config_kubeflow import Bound

    return Bound(min=1)


# the baseline -------------------------------------------------------------------------------


COMPARED = declaring(
    smoke="{expect: {metrics: {accuracy: {main: {relative: 0.01, better: higher}}}}}"
)


def test_mains_last_passed_run_is_what_a_branch_is_compared_with(world: World) -> None:
    world.tests = {"training": COMPARED}
    world.commit()
    (run,) = world.train().runs
    assert run.baseline is None
    assert run.notes == ["metrics.accuracy.main: main has no passed run of this test yet"]
    case = world.cases()["training.training/smoke.metrics.accuracy.main"]
    assert case == "skipped: main has no passed run of this test yet"
    world.repository.git("checkout", "-q", "-b", "feature")
    world.metrics = {"accuracy": 0.90}
    training = world.train("training")
    assert training.runs[0].baseline is not None
    assert training.runs[0].baseline.run_id == run.run_id
    assert training.runs[0].baseline.commit == world.workspace().source.commit
    with pytest.raises(ExpectationError, match=r"behind main's 0\.95"):
        train.raise_failures(training)


def _branch(world: World) -> None:
    world.repository.git("checkout", "-q", "-b", "feature")


def _dirty(world: World) -> None:
    world.repository.write("pipelines/new.py", "")


@pytest.mark.parametrize(
    ("change", "environment", "options", "metrics"),
    [
        (_branch, {}, {}, {"accuracy": 0.9}),
        (_dirty, {}, {}, {"accuracy": 0.9}),
        (lambda _: None, {"CHANGE_ID": "7"}, {}, {"accuracy": 0.9}),
        (lambda _: None, {}, {"parameters": {"rows": 4}}, {"accuracy": 0.9}),
        (lambda _: None, {}, {}, {}),  # a run that does not pass
    ],
)
def test_nobody_else_writes_the_baseline(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    change: Any,
    environment: Any,
    options: Any,
    metrics: dict[str, float],
) -> None:
    world.tests = {"training": declaring(smoke="{expect: {metrics: {accuracy: {}}}}")}
    world.commit()
    change(world)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    world.metrics = metrics
    world.train(again=True, **options)
    kept = records.Records(world.workspace())
    assert kept.baseline("training", "smoke")[0] is None


def test_a_build_of_main_writes_it(world: World) -> None:
    world.tests = {"training": declaring(smoke="{expect: {metrics: {accuracy: {}}}}")}
    world.commit()
    (run,) = world.train().runs
    found, why = records.Records(world.workspace()).baseline("training", "smoke")
    assert found is not None
    assert (found.run_id, found.metrics, found.test, why) == (
        run.run_id, {"accuracy": 0.95}, "smoke", "",
    )  # fmt: skip
    assert records.Records(world.workspace()).baseline("training", "other")[0] is None


def test_branches_that_are_kept_apart_keep_their_verdicts_apart(world: World) -> None:
    world.tests = {"training": TWO}
    world.branches = ", branches: {main: [trunk], prefix: theirs}"
    world.commit()  # the branch is called main, which is not trunk
    world.train()
    paths = {path.split("/manifests/")[0] for method, path in world.registry.asked
             if method == "PUT" and "/manifests/" in path}  # fmt: skip
    assert paths == {"/v2/theirs/ml/reports/training"}
    assert all(run.unchanged for run in world.train().runs)
    assert records.of_main(world.workspace()) is False


def test_main_believes_no_branch_and_branches_believe_main(world: World) -> None:
    world.tests = {"training": TWO}
    world.branches = ", branches: {main: [main], prefix: theirs}"
    world.commit()
    world.repository.git("checkout", "-q", "-b", "feature")
    world.train()
    world.repository.git("checkout", "-q", "main")
    assert not any(run.unchanged for run in world.train().runs)
    world.repository.git("checkout", "-q", "-b", "other")
    assert all(run.unchanged for run in world.train().runs)


def test_an_unchanged_run_that_main_has_overtaken_runs_again(world: World) -> None:
    world.tests = {"training": COMPARED}
    world.commit()
    world.repository.git("checkout", "-q", "-b", "feature")
    assert not world.train().runs[0].unchanged
    assert world.train().runs[0].unchanged
    world.repository.git("checkout", "-q", "main")
    world.pipelines["training"] = spec("better")
    world.metrics = {"accuracy": 0.99}
    world.commit()
    world.train()
    world.repository.git("checkout", "-q", "feature")
    world.pipelines["training"] = spec()
    world.commit()
    (run,) = world.train().runs
    assert not run.unchanged  # with 0.95 it would not have passed
    assert run.passed


def test_what_a_branch_ran_is_mains_baseline_once_it_is_merged(world: World) -> None:
    world.tests = {"training": COMPARED}
    world.commit()
    world.repository.git("checkout", "-q", "-b", "feature")
    (run,) = world.train().runs
    assert records.Records(world.workspace()).baseline("training", "smoke")[0] is None
    world.repository.git("checkout", "-q", "main")
    assert world.train().runs[0].unchanged
    found, _ = records.Records(world.workspace()).baseline("training", "smoke")
    assert found is not None
    assert found.run_id == run.run_id


def test_a_baseline_with_other_parameters_is_said(world: World) -> None:
    world.tests = {"training": COMPARED}
    world.commit()
    world.train()
    (run,) = world.train("training", parameters={"rows": 8}).runs
    assert run.notes == ["main's last run had other parameters"]


@pytest.mark.parametrize("status", [401, 403, 405, 500])
def test_a_registry_that_refuses_fails_no_build(world: World, status: int) -> None:
    world.tests = {"training": COMPARED}
    world.commit()
    world.registry.before = lambda method, path: fake_registry.error(status, "DENIED")
    workspace = world.workspace()
    training = train.train(workspace)
    assert training.runs[0].passed
    assert "the registry could not be asked" in training.runs[0].notes[0]
    assert any("training tests" in warning for warning in workspace.console.warnings)
    train.raise_failures(training)


@pytest.mark.parametrize("content", [b"", b"{", b'{"schema": 1}', b"[" * 100_000])
def test_what_the_registry_keeps_may_be_anything(world: World, content: bytes) -> None:
    from ci_tools.images import moving
    from ci_tools.images.registry import Registry

    world.tests = {"training": COMPARED}
    world.commit()
    kept = records.Records(world.workspace())
    tag = kept._baseline_tag("training", "smoke")
    registry = Registry.of(world.workspace().registry)
    moving.put(registry, "ml/reports/training", tag, records.BASELINE, content)
    (run,) = world.train().runs
    assert run.passed
    assert "another version of this tool" in run.notes[0]


# interrupted --------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["cancel", "leave"])
def test_ctrl_c_lets_go_of_every_run(world: World, what: Any) -> None:
    tests = {name: f"{{parameters: {{rows: {number}}}}}" for number, name in enumerate("abcde")}
    world.tests = {"training": declaring(**tests)}
    world.commit()
    world.kubeflow.plays = {"training/a": [["SUCCEEDED"]]}
    world.kubeflow.states = ["RUNNING"]
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        def running() -> int:
            return sum("state" in run for run in list(world.kubeflow.runs.values()))

        try:
            until(lambda: running() == 5)
        finally:
            signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(InterruptedRunError) as caught:
        world.train(on_interrupt=what)
    kept = {run["display_name"].split()[0]: run for run in world.kubeflow.runs.values()}
    others = [kept[f"training/{name}"] for name in "bcde"]
    said = "is cancelled" if what == "cancel" else "goes on"
    for run in others:
        assert f"run {run['run_id']} of 'training' {said} (" in str(caught.value)
        assert run["states"] == (["CANCELING", "CANCELED"] if what == "cancel" else ["RUNNING"])
    written = storage.read(world.workspace().build / "train.json", Training, made_by="train")
    assert [run.test for run in written.runs] == ["a"]
    assert list(world.cases()) == ["training.training/a.run"]


def test_an_embedded_run_that_was_stopped_is_no_time_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child that runs it is ended, which looks like its time being over."""
    main = threading.main_thread().ident
    assert main is not None

    class Embedded:
        def launch(self, pipeline: str, *_: Any, **__: Any) -> Run:
            signal.pthread_kill(main, signal.SIGINT)
            until(process.stopping)
            return Run(pipeline=pipeline, run_id="r", version_id="v", state="TIMEOUT")

    monkeypatch.setattr(train.kubeflow, "connect", lambda *_, **__: Embedded())
    with pytest.raises(InterruptedRunError, match="'training' was stopped"):
        world.train("training")
    written = storage.read(world.workspace().build / "train.json", Training, made_by="train")
    assert written.runs == []


@pytest.mark.parametrize(
    ("number", "option", "state", "said"),
    [
        (signal.SIGTERM, "cancel", "CANCELING", "is cancelled"),
        (signal.SIGTERM, "leave", "RUNNING", "goes on"),
        (signal.SIGINT, "cancel", "CANCELING", "is cancelled"),
    ],
)
def test_signals_to_the_command(
    world: World, number: int, option: str, state: str, said: str
) -> None:
    world.kubeflow.states = ["RUNNING"]
    child = subprocess.Popen(
        [sys.executable, "-m", "ci", "train", "training", "--env", "dev",
         "--repo", world.repository.root, "--on-interrupt", option],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        until(lambda: any("state" in run for run in list(world.kubeflow.runs.values())))
        child.send_signal(number)
        out, err = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 130, err
    (run,) = world.kubeflow.runs.values()
    assert run["states"][0] == state
    assert f"{said} ({world.kubeflow.endpoint}/#/runs/details/{run['run_id']})" in err
    assert "Traceback" not in out + err


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
