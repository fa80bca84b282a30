"""Ctrl-C and SIGTERM while tests run: nothing is left behind, or all of it with its link."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ci import train
from ci_tools import process, storage
from ci_tools.documents import Run, Training
from ci_tools.errors import InterruptedRunError
from tests.fakes.training import World, declaring, made, until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def world(repository: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with made(repository, monkeypatch) as one:
        yield one


@pytest.mark.parametrize("what", ["cancel", "leave"])
def test_ctrl_c_lets_go_of_every_run(world: World, what: Any, uncollected: None) -> None:
    tests = {name: f"{{parameters: {{rows: {number}}}}}" for number, name in enumerate("abcde")}
    world.tests = {"training": declaring(**tests)}
    world.commit()
    world.kubeflow.plays = {"training/a": [["SUCCEEDED"]]}
    world.kubeflow.states = ["RUNNING"]
    main = threading.main_thread().ident
    assert main is not None
    recorded = world.workspace().build / "train.json"

    def interrupt() -> None:
        def running() -> int:
            return sum("state" in run for run in list(world.kubeflow.runs.values()))

        try:
            until(lambda: running() == 5 and recorded.exists())  # `a` has ended
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
    assert list(world.cases()) == ["train.training/a.run"]


def test_an_embedded_run_that_was_stopped_is_no_time_out(
    world: World, monkeypatch: pytest.MonkeyPatch, uncollected: None
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
        out, err = child.communicate(timeout=300)
    finally:
        child.kill()
    assert child.returncode == 130, err
    (run,) = world.kubeflow.runs.values()
    assert run["states"][0] == state
    assert f"{said} ({world.kubeflow.endpoint}/#/runs/details/{run['run_id']})" in err
    assert "Traceback" not in out + err
