"""A server's task details as tasks: Argo's nodes without places, names from the IR."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ci_tools.kubeflow import endings, ir, tasks, workflow
from ci_tools.kubeflow.aftermath import FailedTask
from ci_tools.kubeflow.progress import Task

NOW = datetime(2026, 1, 1, 12, 0, 30, tzinfo=timezone.utc)
BEGAN = NOW - timedelta(seconds=30)
NEVER = datetime(1, 1, 1)  # Go's zero time


def node(name: str, state: str, began: Any = BEGAN, ended: Any = NEVER, **more: Any) -> Any:
    return SimpleNamespace(
        display_name=name, state=state, start_time=began, end_time=ended,
        error=more.get("error"),
    )  # fmt: skip


def pipeline(*names: str, **after: list[str]) -> ir.Ir:
    members = {
        name: {"componentRef": {"name": f"comp-{name}"}, "dependentTasks": after.get(name, [])}
        for name in names
    }
    return ir.Ir({"root": {"dag": {"tasks": members}}, "components": {}}, {})


ONE = pipeline("evaluate", "extract", "train", train=["extract"], evaluate=["train"])


def states(details: list[Any] | None, over: bool = False, one: ir.Ir = ONE) -> dict[str, str]:
    return {task.name: task.state for task in tasks.tasks(one, details, over=over, now=NOW)}


PROGRAM = """
from kfp import compiler, dsl

@dsl.container_component
def step():
    return dsl.ContainerSpec(image="x", command=["true"])

@dsl.pipeline
def inner():
    step().set_display_name("shown")

@dsl.pipeline
def outer():
    first = step()
    with dsl.ParallelFor(items=[1, 2]) as item:
        step().after(first)
    inner().after(first)

compiler.Compiler().compile(outer, "outer.yaml")
"""


def test_names_are_those_of_kfps_own_compiler(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, check=True, capture_output=True)
    found = tasks.paths(ir.load(tmp_path / "outer.yaml"))
    (loop,) = (path for path in found if "/" in path)
    assert re.fullmatch(r"for-loop-\d+/step-2", loop)
    assert sorted(found) == sorted([loop, "step"])  # the inner pipeline has a `step` too


def test_tasks_are_in_the_order_that_they_run_in_before_any_is_known() -> None:
    assert list(states(None)) == ["extract", "train", "evaluate"]
    assert set(states(None).values()) == {"PENDING"}


def test_drivers_and_argos_own_nodes_are_no_tasks() -> None:
    details = [
        node("training-x2x5k", "RUNNING"), node("root-driver", "SUCCEEDED"),
        node("root", "RUNNING"), node("extract-driver", "SUCCEEDED"),
        node("extract", "SUCCEEDED"), node("executor", "SUCCEEDED"),
        node("train-driver", "SUCCEEDED"), node("train", "RUNNING"),
        node("executor", "RUNNING"), node("executor(0)", "FAILED"),
    ]  # fmt: skip
    assert states(details) == {"extract": "SUCCEEDED", "train": "RUNNING", "evaluate": "PENDING"}


def test_a_driver_that_failed_fails_its_task() -> None:
    details = [node("extract-driver", "FAILED"), node("extract", "RUNTIME_STATE_UNSPECIFIED")]
    assert states(details, over=True) == {
        "extract": "FAILED",
        "train": "SKIPPED",
        "evaluate": "SKIPPED",
    }


def test_the_pipelines_own_driver_is_told_only_when_it_failed() -> None:
    assert states([node("root-driver", "FAILED")], over=True)["root-driver"] == "FAILED"
    assert "root-driver" not in states([node("root-driver", "SUCCEEDED")])


def test_a_task_of_a_loop_is_the_worst_of_its_iterations() -> None:
    def loop(*found: str) -> str:
        return states([node("train", state) for state in found])["train"]

    assert loop("SUCCEEDED", "RUNNING", "SUCCEEDED") == "RUNNING"
    assert loop("SUCCEEDED", "FAILED", "RUNNING") == "FAILED"
    assert loop("SUCCEEDED", "SKIPPED") == "SUCCEEDED"


def test_a_name_of_two_dags_is_there_once_since_argo_tells_no_places() -> None:
    inner = {"dag": {"tasks": {"train": {"componentRef": {"name": "comp-train"}}}}}
    both = {"train": {"componentRef": {"name": "comp-train"}},
            "sub": {"componentRef": {"name": "comp-sub"}}}  # fmt: skip
    one = ir.Ir({"root": {"dag": {"tasks": both}}, "components": {"comp-sub": inner}}, {})
    assert tasks.paths(one) == ["train"]
    del both["train"]
    assert tasks.paths(one) == ["sub/train"]


@pytest.mark.parametrize(
    ("began", "ended", "seconds"),
    [
        (BEGAN, NEVER, 30.0),
        (BEGAN, BEGAN + timedelta(seconds=12), 12.0),
        (BEGAN.replace(tzinfo=None), NEVER, 30.0),
        (NEVER, NEVER, None),
        (datetime(1970, 1, 1, tzinfo=timezone.utc), NEVER, None),
        (None, None, None),
        (NOW + timedelta(seconds=5), NEVER, 0.0),  # a server whose clock is ahead
    ],
)
def test_seconds(began: Any, ended: Any, seconds: float | None) -> None:
    (task,) = tasks.tasks(
        pipeline("go"), [node("go", "RUNNING", began, ended)], over=False, now=NOW
    )
    assert task.seconds == seconds


@pytest.mark.parametrize(
    "spec",
    [{}, {"root": None}, {"root": {"dag": {"tasks": []}}}, {"root": {"dag": {"tasks": {"a": 1}}}},
     {"root": {"dag": {"tasks": {"a": {"componentRef": {"name": "me"}}}}},
      "components": {"me": {"dag": {"tasks": {"a": {"componentRef": {"name": "me"}}}}}}},
     {"root": {"dag": {"tasks": {"a": {"dependentTasks": ["b"]},
                                 "b": {"dependentTasks": ["a"]}}}}, "components": {}}],
)  # fmt: skip
def test_whatever_a_server_sends_as_a_spec(spec: Any) -> None:
    assert isinstance(tasks.paths(ir.Ir(spec, {})), list)


# what their end means ------------------------------------------------------------------


FAILED = [Task("a", "SUCCEEDED", 3.0), Task("sub/train", "FAILED", 9.0), Task("z", "SKIPPED")]


def ending(*failures: FailedTask, error: str = "", details: Any = None) -> endings.Ending:
    return endings.of(FAILED, details, failures, error)


def test_a_failure_names_its_task_its_reason_and_its_last_lines() -> None:
    lines = [f"line {number}" for number in range(40)]
    end = ending(FailedTask("train", "Error (exit code 1)", ["", *lines, " "]))
    first, *rest = end.message.splitlines()
    assert first == "task 'sub/train' failed: Error (exit code 1)"
    assert [line.strip() for line in rest] == lines[-12:]
    assert end.infrastructure == ""
    assert [(it.name, it.state) for it in end.tasks] == [
        ("a", "SUCCEEDED"), ("sub/train", "FAILED"), ("z", "SKIPPED"),
    ]  # fmt: skip
    assert len(end.tasks[1].lines) == 42


def test_nothing_known_is_the_users_failure() -> None:
    assert ending().message == "task 'sub/train' failed"
    assert ending().infrastructure == ""


def test_every_failure_must_be_the_infrastructures() -> None:
    lost = FailedTask("train", "pod deleted")
    assert ending(lost).infrastructure == "task 'sub/train': its pod was deleted"
    assert ending(lost, FailedTask("other", "Error (exit code 1)")).infrastructure == ""
    assert (
        "task 'other' failed: Error (exit code 1)"
        in ending(lost, FailedTask("other", "Error (exit code 1)")).message
    )


def test_what_a_server_tells_of_a_task_counts_too() -> None:
    told = [node("train", "FAILED", error=SimpleNamespace(message="pod deleted"))]
    assert ending(details=told).infrastructure
    assert ending(error="it broke").message == "it broke; task 'sub/train' failed"


def test_all_that_is_said_of_one_task_counts_together() -> None:
    said = [
        FailedTask("train", "pod deleted"),
        FailedTask("train (iteration 0)", "", ["a"]),
        FailedTask("train (iteration 1)", "", ["b"]),
    ]
    end = ending(*said)
    assert end.message == "task 'sub/train' failed: pod deleted\n    a\n    b"
    assert end.infrastructure
    assert ending(*said, FailedTask("train", "Error (exit code 2)")).infrastructure == ""


# what Argo says ------------------------------------------------------------------------


def manifest(*nodes: tuple[str, str, str]) -> dict[str, Any]:
    found = {
        f"id-{number}": {"name": f"training-x2x5k.{name}", "phase": phase, "message": message,
                         "type": "Pod"}
        for number, (name, phase, message) in enumerate(nodes)
    }  # fmt: skip
    found["id-dag"] = {"name": "training-x2x5k.root", "phase": "Failed", "type": "DAG"}
    text = json.dumps({"status": {"nodes": found}})
    return {"run": {}, "pipeline_runtime": {"workflow_manifest": text}}


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("root.train.executor", "train"),
        ("root.train-driver", "train"),
        ("root.loop.iteration-iterations(1:1).iteration-item.train.executor", "train"),
        ("root.loop.iteration-iterations(1:1).train-driver", "train"),
        ("root.train", "train"),  # an importer's
        ("root-driver", "root-driver"),
    ],
)
def test_a_failed_pod_is_its_tasks(name: str, task: str) -> None:
    answer = manifest((name, "Failed", "OOMKilled (exit code 137)"), ("root.a", "Succeeded", ""))
    assert workflow.of(answer, ONE) == [FailedTask(task, "OOMKilled (exit code 137)")]


def test_only_the_last_attempt_of_a_step_that_retries_itself_counts() -> None:
    def told(*phases: str) -> list[str]:
        nodes = [
            (f"root.train.executor({number})", phase, f"message {number}")
            for number, phase in enumerate(phases)
        ]
        return [it.message for it in workflow.of(manifest(*nodes), ONE)]

    assert told("Failed", "Error", "Succeeded") == []
    assert told("Failed", "Succeeded", "Error") == ["message 2"]
    assert told(*["Failed"] * 12) == ["message 11"]


@pytest.mark.parametrize(
    "answer",
    [None, [], {}, {"pipeline_runtime": None}, {"pipeline_runtime": {"workflow_manifest": "{"}},
     {"pipeline_runtime": {"workflow_manifest": "[" * 100_000}},
     {"pipeline_runtime": {"workflow_manifest": '{"status": {"nodes": {"a": 1, "b": {}}}}'}}],
)  # fmt: skip
def test_whatever_a_server_sends_as_a_workflow(answer: Any) -> None:
    assert workflow.of(answer, ONE) == []


def test_a_run_that_did_not_fail_has_no_reasons() -> None:
    end = endings.of([Task("a", "SUCCEEDED")], None, (), "")
    assert (end.message, end.infrastructure) == ("", "")
