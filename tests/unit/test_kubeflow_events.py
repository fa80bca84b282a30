"""Events of a run's process, as whoever watches gets them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from ci_tools.kubeflow.events import Events, following
from ci_tools.kubeflow.progress import Task


def write(path: Path, *tasks: Task, end: str = "\n") -> None:
    with path.open("a", encoding="utf-8") as stream:
        stream.write("\n".join(json.dumps(task) for task in tasks) + end)


def states(tasks: Sequence[Task] | None) -> list[tuple[str, str]]:
    return [(task.name, task.state) for task in tasks or []]


def test_news_are_all_tasks_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.touch()
    events = Events(path)
    assert events.news() is None
    write(path, Task("b", "PENDING"), Task("a", "PENDING"))
    assert states(events.news()) == [("b", "PENDING"), ("a", "PENDING")]
    assert events.news() is None
    write(path, Task("a", "RUNNING", 0.0))
    running = events.news()
    assert states(running) == [("b", "PENDING"), ("a", "RUNNING")]
    assert running is not None
    assert running[1].seconds is not None
    write(path, Task("a", "SUCCEEDED", 7.5))
    assert events.news() == [Task("b", "PENDING"), Task("a", "SUCCEEDED", 7.5)]


def test_a_line_that_is_half_written_waits(tmp_path: Path) -> None:
    path = tmp_path / "events"
    write(path, Task("a", "PENDING"), Task("ä", "PENDING"), end="")
    events = Events(path)
    assert states(events.news()) == [("a", "PENDING")]
    write(path, end="\n")
    assert states(events.news()) == [("a", "PENDING"), ("ä", "PENDING")]


def test_what_was_left_open_was_canceled(tmp_path: Path) -> None:
    seen: list[Sequence[Task]] = []
    path = tmp_path / "events"
    with following(path, seen.append):
        write(path, Task("a", "SUCCEEDED", 1.0), Task("b", "RUNNING", 0.0), Task("c", "PENDING"))
    assert states(seen[-1]) == [("a", "SUCCEEDED"), ("b", "CANCELED"), ("c", "CANCELED")]
    assert seen[-1][1].seconds is not None


def test_the_last_news_are_not_lost(tmp_path: Path) -> None:
    seen: list[Sequence[Task]] = []
    path = tmp_path / "events"
    with following(path, seen.append):
        write(path, Task("a", "SUCCEEDED", 1.0))
    assert seen == [[Task("a", "SUCCEEDED", 1.0)]]


def test_a_watcher_s_error_is_raised_and_ends_the_following(tmp_path: Path) -> None:
    calls = 0

    def refuse(_: Sequence[Task]) -> None:
        nonlocal calls
        calls += 1
        raise RuntimeError("no terminal")

    path = tmp_path / "events"
    with pytest.raises(RuntimeError, match="no terminal"), following(path, refuse):
        write(path, Task("a", "PENDING"))
    assert calls == 1


def test_the_run_s_own_error_comes_first(tmp_path: Path) -> None:
    def refuse(_: Sequence[Task]) -> None:
        raise RuntimeError("no terminal")

    def run() -> None:
        with following(tmp_path / "events", refuse):
            write(tmp_path / "events", Task("a", "PENDING"))
            raise KeyError("interrupted")

    with pytest.raises(KeyError):
        run()
