"""A local run's results: failures, artefacts and metrics by name."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import pytest

from ci_tools.kubeflow import recorder, results
from ci_tools.kubeflow.containers import Door, _lines
from ci_tools.kubeflow.local.resolve import NOTHING, Scope, Values
from ci_tools.kubeflow.local.step import Job
from ci_tools.kubeflow.progress import Task


def made(name: str, order: int, **metadata: Any) -> tuple[Job, Values]:
    scope = Scope(NOTHING, {}, {})
    job = Job(name, (name,), name, {}, NOTHING, scope, (order,))
    kind = {"schemaTitle": "system.Metrics"}
    artifact = {"name": "m", "uri": f"/{order}", "type": kind, "metadata": metadata}
    return job, Values({}, {"m": [artifact]})


def test_metrics_of_one_name_are_told_apart() -> None:
    found = [("a", "auc", 0.5), ("b", "auc", 0.6), ("b", "auc", 0.7), ("b", "loss", 1.0)]
    assert results.metrics(found) == {"a.auc": 0.5, "b.auc": 0.6, "b.auc-2": 0.7, "loss": 1.0}


def test_results_do_not_depend_on_which_task_ended_first() -> None:
    def told(*orders: int) -> dict[str, Any]:
        one = recorder.Recorder(lambda _: None, lambda *_: None)
        for order in orders:
            one.succeeded(f"measure#{order}", *made("measure", order, auc=order / 10, text="x"))
        return one.results(Values({"Output": 0.5, "name": "x", "yes": True}, {}))

    assert told(0, 1, 2) == told(2, 0, 1)
    found = told(1, 0)
    assert found["artifacts"]["measure.m"] == {"path": "/0", "type": "system.Metrics"}
    assert found["artifacts"]["measure.m-2"]["path"] == "/1"
    assert found["metrics"] == {"measure.auc": 0.0, "measure.auc-2": 0.1, "Output": 0.5}
    assert found["outputs"] == {"Output": 0.5, "name": "x", "yes": True}


def test_every_failed_task_is_named_and_told() -> None:
    changes: list[Task] = []
    told: list[tuple[str, str]] = []
    one = recorder.Recorder(changes.append, lambda *it: told.append(it))
    for label in ("train", "test"):
        one.pending(label)
    one.running("train")
    one.failed("train", "exit code 3\nno space left")
    one.failed("test", "its input 'n' has no value")
    one.failed("for-loop-1", "")
    assert one.message() == (
        "task 'train' failed: exit code 3\nno space left; "
        "task 'test' failed: its input 'n' has no value"
    )
    assert told == [
        ("train", "failed: exit code 3"),
        ("test", "failed: its input 'n' has no value"),
    ]
    assert [(it.name, it.state, it.seconds is None) for it in changes] == [
        ("train", "PENDING", True),
        ("test", "PENDING", True),
        ("train", "RUNNING", False),
        ("train", "FAILED", False),
        ("test", "FAILED", True),
        ("for-loop-1", "FAILED", True),
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_lines_are_whole_wherever_the_stream_is_cut(size: int) -> None:
    data = "one\r\nzwö\n\nlast".encode()
    chunks = [data[start : start + size] for start in range(0, len(data), size)]
    assert list(_lines(iter(chunks))) == ["one", "zwö", "", "last"]


def test_a_closed_door_waits_for_who_is_inside_and_lets_nobody_in() -> None:
    door, inside, leave = Door(), threading.Event(), threading.Event()
    entered: list[bool] = []

    def enter() -> None:
        with door.pass_through() as is_open:
            entered.append(is_open)
            inside.set()
            assert leave.wait(300)

    first = threading.Thread(target=enter)
    first.start()
    assert inside.wait(300)
    assert not door.close(0.01)  # one is still being made
    leave.set()
    assert door.close(300)
    enter()
    assert entered == [True, False]
    first.join()


def test_nothing_heavy_on_the_start_up_path() -> None:
    program = (
        "import sys; import ci_tools.kubeflow.compiler, ci_tools.kubeflow.server, "
        "ci_tools.kubeflow.embedded; print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"kfp", "kfp_server_api", "docker", "requests", "urllib3", "tenacity"} & set(loaded)


def test_the_process_that_compiles_imports_little_but_kfp() -> None:
    """What it imports is waited for by everybody who compiles, besides kfp."""
    program = (
        "import sys; import ci_tools.kubeflow.child, ci_tools.kubeflow.compile_child; "
        "print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"ci_tools.config", "ci_tools.documents", "msgspec", "yaml"} & set(loaded)


def test_a_run_needs_nothing_of_kfp() -> None:
    """Whatever release of kfp compiled it, or none: no inner function of it can break a run."""
    program = "import sys; import ci_tools.kubeflow.run_child; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {it for it in loaded if it.partition(".")[0] in ("kfp", "google")}
