"""A run's tasks on the console, on a terminal and without one."""

from __future__ import annotations

import io
import sys

import pytest

from ci.console import Console
from ci.following import Following, line, summed
from ci_tools.kubeflow.progress import Task

RUNNING = Task("train", "RUNNING", 12.4)


@pytest.mark.parametrize(
    ("task", "told"),
    [
        (RUNNING, "train RUNNING 12 s"),
        (Task("train", "PENDING"), "train PENDING"),
        (Task("sub/train", "FAILED", 0.0), "sub/train FAILED"),
        (Task("", "PAUSED"), "the run is PAUSED"),
    ],
)
def test_a_task_in_a_line(task: Task, told: str) -> None:
    assert line(task) == told


def test_all_tasks_in_a_line() -> None:
    tasks = [Task("a", "SUCCEEDED", 3.0), Task("b", "SKIPPED"), RUNNING, Task("d", "PENDING")]
    assert summed(tasks) == "2/4 train RUNNING 12 s"
    assert summed([Task("", "PAUSED"), *tasks]) == "2/4 the run is PAUSED, train RUNNING 12 s"
    assert summed([Task("a", "PENDING")]) == "0/1"
    assert summed([]) == ""


def test_without_a_terminal_every_change_is_a_line_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console = Console()
    watch = Following(console, "training/smoke")
    with console.working("training/smoke", "training"):
        watch([Task("a", "PENDING"), Task("b", "PENDING")])
        watch([Task("a", "RUNNING", 0.0), Task("b", "PENDING")])
        watch([Task("a", "SUCCEEDED", 4.0), Task("b", "PENDING")])
        watch([Task("a", "SUCCEEDED", 4.0), Task("b", "RUNNING", 1.0)])
    lines = [it.partition("] ")[2] for it in capsys.readouterr().err.splitlines()]
    assert lines == [
        "training/smoke | training",
        "training/smoke | a RUNNING",
        "training/smoke | a SUCCEEDED 4 s",
        "training/smoke | b RUNNING 1 s",
    ]


def test_on_a_terminal_a_test_has_one_row_that_sums_its_tasks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for name in ("CI", "JENKINS_URL", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    console = Console()
    with console.live(2), console.working("training/smoke", "training"):
        Following(console, "training/smoke")(
            [Task("a", "SUCCEEDED", 4.0), Task("b", "RUNNING", 9.0)]
        )
        console.event("drawn")  # a line of its own makes the view be drawn anew
    shown = terminal.getvalue()
    assert "1/2 b RUNNING 9 s" in shown
    assert "a SUCCEEDED" not in shown
