"""What the local run does without an engine: refuse another kfp, name results."""

from __future__ import annotations

import logging
import subprocess
import sys
import types
from typing import Any

import pytest

from ci_tools.kubeflow import recorder, results, run_child
from ci_tools.kubeflow.containers import _lines


def test_this_kfp_still_has_what_is_replaced() -> None:
    """Fails when kfp is upgraded to a release that moved these functions."""
    import importlib

    names = ["docker_task_handler", "executor_input_utils", "executor_output_utils"]
    modules = [importlib.import_module(f"kfp.local.{name}") for name in names]
    modules.append(importlib.import_module("kfp.local.importer_handler"))
    modules.append(importlib.import_module("kfp.local.orchestrator.task_executor"))
    factory = logging.getLogRecordFactory()
    before = [dict(vars(module)) for module in modules]
    try:
        run_child._mend(recorder.Recorder(), "/root-of-a-run")
        changed = {
            name
            for module, old in zip(modules, before, strict=True)
            for name, value in vars(module).items()
            if old.get(name) is not value
        }
    finally:
        logging.setLogRecordFactory(factory)
        for module, old in zip(modules, before, strict=True):
            vars(module).update(old)
    assert changed == {
        "run_docker_container",
        "construct_executor_input",
        "get_outputs_for_task",
        "get_importer_uri",
        "execute_single_task",
    }


@pytest.mark.parametrize("other", [None, lambda client, image: 0])
def test_another_kfp_is_refused(other: Any) -> None:
    module = types.ModuleType("kfp.local.somewhere")
    if other is not None:
        module.run_docker_container = other  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"kfp\.local\.somewhere\.run_docker_container"):
        run_child._replace(module, "run_docker_container", {"client", "volumes"}, lambda it: it)


def test_metrics_of_one_name_are_told_apart() -> None:
    found = [("a", "auc", 0.5), ("b", "auc", 0.6), ("b", "auc", 0.7), ("b", "loss", 1.0)]
    assert results.metrics(found) == {"a.auc": 0.5, "b.auc": 0.6, "b.auc-2": 0.7, "loss": 1.0}


def test_failures_are_told_by_task() -> None:
    one = recorder.Recorder()
    one.begin("train")
    one.because("exit code 3\nno space left")
    one.failed()
    assert one.message(RuntimeError("kfp's")) == "task 'train' failed: exit code 3\nno space left"
    assert recorder.Recorder().message(RuntimeError("kfp's  own")) == "kfp's own"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_lines_are_whole_wherever_the_stream_is_cut(size: int) -> None:
    data = "one\r\nzwö\n\nlast".encode()
    chunks = [data[start : start + size] for start in range(0, len(data), size)]
    assert list(_lines(iter(chunks))) == ["one", "zwö", "", "last"]


def test_nothing_heavy_on_the_start_up_path() -> None:
    program = (
        "import sys; import ci_tools.kubeflow.compiler, ci_tools.kubeflow.server, "
        "ci_tools.kubeflow.embedded; print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"kfp", "kfp_server_api", "docker", "requests", "urllib3", "tenacity"} & set(loaded)
