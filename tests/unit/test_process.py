"""Child processes: nothing of them is left, nothing they said is lost."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from ci_tools import process
from ci_tools.errors import ToolError, WriteError


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_stopping", threading.Event())
    monkeypatch.setattr(process, "_GRACE_SECONDS", 0.5)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def gone(pid: int) -> bool:
    for _ in range(500):
        if not alive(pid):
            return True
        time.sleep(0.01)
    return False


def number_in(path: Path) -> int:
    for _ in range(1000):
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
    done = process.run(shell(script), timeout=1, log=log)
    assert done.returncode is None
    assert not done.ok
    assert done.output == "before\n"
    assert log.read_text().endswith("before\n")
    assert gone(number_in(pid))


def test_one_that_fled_its_group_does_not_hold_us_up(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"echo before; setsid sh -c 'echo $$ >{pid}; exec sleep 60' & wait"
    done = process.run(shell(script), timeout=1)
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


def test_an_interrupt_stops_the_child_and_keeps_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid, log = tmp_path / "pid", tmp_path / "log"
    original = process.subprocess.Popen.communicate
    calls: list[int] = []

    def interrupted(self: object, *arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 1:
            number_in(pid)
            raise KeyboardInterrupt
        return original(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(process.subprocess.Popen, "communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        process.run(shell(f"echo said; echo $$ >{pid}; exec sleep 60"), log=log)
    assert gone(number_in(pid))
    assert "said" in log.read_text()


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
