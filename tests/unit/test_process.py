"""Child processes: nothing of them is left, nothing they said is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ci_tools import process
from ci_tools.errors import ToolError, WriteError
from ci_tools.output import Output


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_stopping", False)
    monkeypatch.setattr(process, "_interrupts", [])
    monkeypatch.setattr(process, "_GRACE_SECONDS", 0.5)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def gone(pid: int) -> bool:
    for _ in range(10_000):
        if not alive(pid):
            return True
        time.sleep(0.01)
    return False


def number_in(path: Path) -> int:
    for _ in range(10_000):
        if path.exists() and path.read_text().endswith("\n"):
            return int(path.read_text())
        time.sleep(0.01)
    raise AssertionError(f"{path} was not written")


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


def test_both_streams_and_the_exit_code(tmp_path: Path) -> None:
    log = tmp_path / "deep" / "log"
    done = process.run(shell("echo out; echo err >&2; exit 3"), log=log)
    assert (done.returncode, done.ok) == (3, False)
    assert sorted(done.output.split()) == ["err", "out"]
    process.run(shell("echo again"), log=log)
    assert log.read_text().count("$ sh -c ") == 2
    assert log.read_text().endswith("again\n")


def test_input_environment_and_directory(tmp_path: Path) -> None:
    done = process.run(shell("cat; echo $X; pwd"), stdin=b"in\n", env={"X": "1"}, cwd=tmp_path)
    assert done.output.split() == ["in", "1", str(tmp_path)]


def test_no_shell_is_involved() -> None:
    hostile = "$(touch x); `y` 'z'\n"
    assert process.run(["printf", "%s", hostile]).output == hostile


def test_much_output_is_kept_and_bytes_that_are_no_text_too() -> None:
    script = "import sys; sys.stdout.buffer.write(b'x' * 1_000_000 + b'\\xff')"
    output = process.run([sys.executable, "-c", script]).output
    assert len(output) == 1_000_001
    assert output.endswith("\ufffd")


@pytest.mark.parametrize("polite", [True, False])
def test_a_time_out_ends_grandchildren_and_keeps_the_log(tmp_path: Path, polite: bool) -> None:
    trap = "" if polite else "trap '' TERM; "
    pid, log = tmp_path / "pid", tmp_path / "log"
    # The leader ends at once on SIGTERM; its child holds the pipe and may not.
    script = f'echo before; sh -c "{trap}echo \\$\\$ >{pid}; while :; do sleep 0.05; done" & wait'
    done = process.run(shell(script), timeout=3, log=log)
    assert done.returncode is None
    assert not done.ok
    assert done.output == "before\n"
    assert log.read_text().endswith("before\n")
    assert gone(number_in(pid))


def test_one_that_fled_its_group_does_not_hold_us_up(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"echo before; setsid sh -c 'echo $$ >{pid}; exec sleep 60' & wait"
    done = process.run(shell(script), timeout=3)
    try:
        assert done == (None, "before\n")
    finally:
        os.kill(number_in(pid), 9)


def test_secrets_are_blanked_everywhere(tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = process.run(shell("echo a hunter2 b"), log=log, secrets=["hunter2", ""])
    assert done.output == "a *** b\n"
    assert "hunter2" not in log.read_text()


def test_stop_all_ends_what_runs_and_what_would_start(tmp_path: Path) -> None:
    pid, log = tmp_path / "pid", tmp_path / "log"
    results: list[process.Finished] = []
    script = f"echo said; echo $$ >{pid}; while :; do sleep 0.05; done"
    thread = threading.Thread(target=lambda: results.append(process.run(shell(script), log=log)))
    thread.start()
    child = number_in(pid)
    process.stop_all()
    thread.join(30)
    assert not thread.is_alive()
    assert gone(child)
    assert not results[0].ok
    assert "said" in log.read_text()
    late = process.run(shell("sleep 60"))
    assert not late.ok
    assert process.stopping()


@pytest.fixture
def interruptible(uncollected: None) -> Iterator[Callable[[], None]]:
    """A signal that is handled as Ctrl-C is; what sends it to the main thread."""
    before = signal.signal(signal.SIGUSR1, lambda *_: process.interrupt())
    try:
        yield lambda: os.kill(os.getpid(), signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_an_interruption_while_a_program_beside_starts_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interruptible: Callable[[], None]
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = process._start

    def interrupted(*given: Any) -> subprocess.Popen[bytes]:
        started.append(start(*given))
        interruptible()
        return started[0]

    monkeypatch.setattr(process, "_start", interrupted)
    with (
        pytest.raises(KeyboardInterrupt),
        process.beside(shell("sleep 60"), log=tmp_path / "log"),
    ):
        raise AssertionError("went on")
    assert gone(started[0].pid)


def afterwards(pid: Path, do: Callable[[], None]) -> threading.Thread:
    """Once a child has written its number, `do`."""

    def wait() -> None:
        number_in(pid)
        do()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_an_interrupt_stops_the_child_and_keeps_its_log(
    tmp_path: Path, interruptible: Callable[[], None]
) -> None:
    pid, log = tmp_path / "pid", tmp_path / "log"
    thread = afterwards(pid, interruptible)
    with pytest.raises(KeyboardInterrupt):
        process.run(shell(f"printf said; echo $$ >{pid}; exec sleep 60"), log=log)
    thread.join()
    assert process.stopping()
    assert gone(number_in(pid))
    assert log.read_text().endswith("\nsaid\n")


def test_an_interrupt_stops_what_other_threads_run(
    tmp_path: Path, interruptible: Callable[[], None]
) -> None:
    """Though nobody calls stop_all, and though the child ignores SIGTERM."""
    pid = tmp_path / "pid"
    script = f"trap '' TERM; echo $$ >{pid}; while :; do sleep 0.05; done"
    results: list[process.Finished] = []
    thread = threading.Thread(target=lambda: results.append(process.run(shell(script))))
    thread.start()
    number_in(pid)
    with pytest.raises(KeyboardInterrupt):
        interruptible()
    thread.join(30)
    assert gone(number_in(pid))
    assert not results[0].ok


def test_a_second_interrupt_kills_at_once_and_raises_nothing(
    tmp_path: Path, interruptible: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_GRACE_SECONDS", 600)
    pid = tmp_path / "pid"
    script = f"trap '' TERM; echo $$ >{pid}; while :; do sleep 0.05; done"
    thread = threading.Thread(target=lambda: process.run(shell(script)))
    thread.start()
    number_in(pid)
    with pytest.raises(KeyboardInterrupt):
        interruptible()
    assert alive(number_in(pid))
    interruptible()
    process.stop_all()
    assert gone(number_in(pid))
    thread.join(30)
    assert not thread.is_alive()


def test_an_interrupt_while_a_child_starts_does_not_lose_it(
    tmp_path: Path, interruptible: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    children: list[subprocess.Popen[bytes]] = []

    class Slow(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            children.append(self)
            interruptible()

    monkeypatch.setattr(process.subprocess, "Popen", Slow)
    with pytest.raises(KeyboardInterrupt):
        process.run(shell("trap '' TERM; while :; do sleep 0.05; done"))
    assert gone(children[0].pid)


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(ToolError, match="'no-such-program' cannot be started"):
        process.run(["no-such-program"])
    with pytest.raises(ToolError, match=r"not on PATH. Get it"):
        process.which("no-such-program", todo="Get it")
    assert process.which("sh", todo="")


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(WriteError):
        process.run(["true"], log=tmp_path)


def test_the_tail_says_something() -> None:
    assert process.Finished(1, "a\n\nb\n  \nc\n").tail(2) == "b\nc"


# Streaming ------------------------------------------------------------------------


def test_lines_come_as_they_are_said(tmp_path: Path) -> None:
    """The child goes on only when its line has reached log and caller."""
    log, told = tmp_path / "log", []

    def on_line(line: str) -> None:
        assert log.read_text().endswith(f"{line}\n")
        told.append(line)
        (tmp_path / line).touch()

    script = (
        "for n in 1 2 3; do echo $n; "
        f"until [ -e {tmp_path}/$n ]; do sleep 0.01; done; done; printf end"
    )
    done = process.run(shell(script), log=log, on_line=on_line, timeout=60)
    assert done == (0, "1\n2\n3\nend")
    assert told == ["1", "2", "3", "end"]
    assert log.read_text() == f"$ sh -c {script}\n1\n2\n3\nend\n"


def test_lines_without_a_log() -> None:
    told: list[str] = []
    done = process.run(shell("printf 'a\\r\\nb\\n\\nc'"), on_line=told.append)
    assert done.output == "a\r\nb\n\nc"
    assert told == ["a", "b", "", "c"]


def test_a_child_that_reads_only_after_it_has_written_much() -> None:
    script = (
        "import sys; sys.stdout.write('x' * 1_000_000); sys.stdout.flush(); "
        "sys.stdout.write(str(len(sys.stdin.read())))"
    )
    done = process.run([sys.executable, "-c", script], stdin=b"y" * 1_000_000, timeout=60)
    assert done.output == "x" * 1_000_000 + "1000000"


def test_a_child_that_does_not_listen() -> None:
    assert process.run(["true"], stdin=b"y" * 1_000_000, timeout=60).ok


def test_a_variable_is_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X", "1")
    assert process.run(shell("echo ${X-gone}"), env={"X": None}).output == "gone\n"


def test_a_caller_that_fails_stops_the_child(tmp_path: Path) -> None:
    pid, log = tmp_path / "pid", tmp_path / "log"

    def on_line(line: str) -> None:
        raise ValueError(line)

    with pytest.raises(ValueError, match="said"):
        process.run(shell(f"echo $$ >{pid}; echo said; exec sleep 60"), log=log, on_line=on_line)
    assert gone(number_in(pid))
    assert log.read_text().endswith("said\n")


def test_a_full_disk_stops_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid, log = tmp_path / "pid", tmp_path / "log"
    log.symlink_to("/dev/full")
    monkeypatch.setattr(Output, "head", lambda *_: None)  # so that the child is started
    with pytest.raises(WriteError, match=r"No space left on device.+Free some disk space"):
        process.run(shell(f"echo $$ >{pid}; echo said; exec sleep 60"), log=log)
    assert gone(number_in(pid))
