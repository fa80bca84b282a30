"""Ctrl-C and its kin, on a process of its own: it ends, and so does all it started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUBBORN = "trap '' TERM INT HUP; echo $$ >{pid}; while :; do sleep 0.05; done"

# A command that is busy as a stage is: a child that ignores SIGTERM and, in
# threads of a pool, another one and a socket that never answers.
PROGRAM = f"""
import os, socket, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from ci import __main__ as entry
from ci.cli import cli
from ci_tools import process
from ci_tools.errors import InterruptedRunError, ServiceError

here = Path(sys.argv.pop(1))
process._GRACE_SECONDS = 0.3
stubborn = lambda name: ["sh", "-c", {STUBBORN!r}.format(pid=here / name)]

def pool():
    threads = ThreadPoolExecutor()
    threads.submit(process.run, stubborn("in-thread"), log=here / "log")
    one, other = socket.socketpair()
    threads.submit(one.recv, 1)
    return threads, other

def ready():
    while not (here / "in-thread").exists():
        time.sleep(0.01)
    (here / "ready").touch()

@cli.command()
def in_main():
    kept = pool()
    ready()
    process.run(stubborn("in-main"))

def long():
    # Not in one piece: a signal just before a sleep begins does not shorten it.
    for _ in range(6000):
        time.sleep(0.1)

@cli.command()
def waits():
    kept = pool()
    ready()
    long()

@cli.command()
def tells():
    try:
        waits.callback()
    except KeyboardInterrupt:
        raise InterruptedRunError("interrupted; 3 of 6 images are in the lock", "Run it again")

@cli.command()
def puts_back():
    try:
        waits.callback()
    except KeyboardInterrupt:
        (here / "putting-back").touch()
        time.sleep(float(os.environ.get("SECONDS", "1")))
        (here / "put-back").touch()
        raise ServiceError("interrupted", "Run it again")

@cli.command()
def swallows():
    kept = pool()
    try:
        ready()  # the signal may come at once
        long()
    except BaseException:
        print("on stdout")

entry.main()
"""


class Session:
    def __init__(self, here: Path) -> None:
        self.here = here
        self._child: subprocess.Popen[str] | None = None

    def start(self, command: str, **environment: str) -> subprocess.Popen[str]:
        self._child = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, self.here, command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        )
        self.wait_for("ready")
        return self._child

    def wait_for(self, name: str) -> None:
        for _ in range(30_000):
            if (self.here / name).exists():
                return
            time.sleep(0.01)
        raise AssertionError(f"{name} was not written")

    def ended(self, code: int = 130) -> str:
        """What it said at last; of its children none is left."""
        assert self._child is not None
        out, err = self._child.communicate(timeout=300)
        assert self._child.returncode == code, err
        assert "Traceback" not in err + out
        for name in ("in-main", "in-thread"):
            if (self.here / name).exists():
                assert not alive(int((self.here / name).read_text()))
        self.out = out
        return err.rstrip("\n").rpartition("\n")[2]

    def clean(self) -> None:
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
        for name in ("in-main", "in-thread"):
            if (self.here / name).exists():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(int((self.here / name).read_text()), signal.SIGKILL)


def alive(pid: int) -> bool:
    """A process that nobody reaps, as in a container without an init, is dead all the same."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    one = Session(tmp_path)
    yield one
    one.clean()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("command", ["in-main", "waits"])
def test_nothing_is_left(session: Session, command: str, number: int) -> None:
    child = session.start(command)
    if command == "in-main":
        session.wait_for("in-main")
    child.send_signal(number)
    assert session.ended() == (
        "ERROR: interrupted; nothing is left half-written. Run the same command again."
    )


def test_a_stage_says_how_far_it_came(session: Session) -> None:
    session.start("tells").send_signal(signal.SIGINT)
    assert session.ended() == ("ERROR: interrupted; 3 of 6 images are in the lock. Run it again.")


def test_impatience_disturbs_nobody_who_puts_things_back(session: Session) -> None:
    child = session.start("puts-back")
    child.send_signal(signal.SIGINT)
    session.wait_for("putting-back")
    child.send_signal(signal.SIGINT)
    assert session.ended(code=40).startswith("ERROR: interrupted. Run it again.")
    assert (session.here / "put-back").exists()


def test_the_third_time_is_believed(session: Session) -> None:
    child = session.start("puts-back", SECONDS="600")
    child.send_signal(signal.SIGINT)
    session.wait_for("putting-back")
    for _ in range(600):  # two at once may wake the main thread only once
        child.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.1)
            break
    assert session.ended() == "ERROR: interrupted three times; left at once."


def test_an_interruption_that_is_swallowed(session: Session) -> None:
    session.start("swallows").send_signal(signal.SIGTERM)
    assert session.ended().startswith("ERROR: interrupted; ")
    assert session.out == "on stdout\n"


def test_under_nohup_a_hang_up_is_nothing(session: Session) -> None:
    before: Callable[..., object] | int | None = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        child = session.start("waits")
    finally:
        signal.signal(signal.SIGHUP, before)
    child.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(1)
    child.send_signal(signal.SIGTERM)
    session.ended()
