"""Child processes: no shell, a bounded time, a log, and nothing left running."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ci_tools.errors import ToolError, WriteError

_GRACE_SECONDS = 5.0
_running: set[subprocess.Popen[bytes]] = set()
_lock = threading.Lock()
_stopping = threading.Event()


class Finished(NamedTuple):
    """returncode: None when the time ran out. output: both streams, mixed."""

    returncode: int | None
    output: str

    @property
    def ok(self) -> bool:
        return self.returncode == 0

    def tail(self, lines: int = 12) -> str:
        """The last lines that say something."""
        return "\n".join([line for line in self.output.splitlines() if line.strip()][-lines:])


def which(program: str, *, todo: str) -> str:
    """The path of a program. Raises ToolError, whose advice is `todo`."""
    path = shutil.which(program)
    if path is None:
        raise ToolError(f"the program '{program}' is not on PATH", todo)
    return path


def run(
    command: Sequence[str | os.PathLike[str]],
    *,
    timeout: float | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    log: Path | None = None,
    stdin: bytes | None = None,
    secrets: Iterable[str] = (),
) -> Finished:
    """Run a command to its end; its output also goes to `log`, appended.

    env:     variables added to this process' own.
    timeout: seconds; the whole process group is then stopped.
    secrets: strings that are blanked out in output and log.

    Raises ToolError when the program cannot be started, WriteError when the
    log cannot be written. A non-zero exit is returned, not raised.
    """
    name = Path(command[0]).name
    try:
        child = subprocess.Popen(
            [os.fspath(part) for part in command],
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            start_new_session=True,  # so that stop_all reaches grandchildren too
        )
    except OSError as error:
        raise ToolError(
            f"the program '{name}' cannot be started ({error.strerror})",
            "Install it, or put it on PATH",
        ) from error
    with _lock:
        _running.add(child)
    interrupted: BaseException | None = None
    try:
        if _stopping.is_set():
            _stop([child])
        raw, _ = child.communicate(stdin, timeout=timeout)
        returncode: int | None = child.returncode
    except subprocess.TimeoutExpired:
        raw, returncode = _stopped(child), None
    except BaseException as error:  # Ctrl-C: what the child said so far belongs in the log
        raw, returncode, interrupted = _stopped(child), None, error
    finally:
        with _lock:
            _running.discard(child)
    told = f"$ {' '.join(os.fspath(part) for part in command)}\n"
    output = raw.decode("utf-8", "replace")
    for secret in filter(None, secrets):
        told, output = told.replace(secret, "***"), output.replace(secret, "***")
    if log is not None:
        append(log, told + output)
    if interrupted is not None:
        raise interrupted
    return Finished(returncode, output)


def stop_all() -> None:
    """Stop every child that `run` started; later ones stop at once."""
    _stopping.set()
    with _lock:
        children = list(_running)
    _stop(children)


def _stopped(child: subprocess.Popen[bytes]) -> bytes:
    """Stop a child; what it wrote. A process that fled its group may hold the
    pipe open for ever, so the end of the output is not waited for long.
    """
    _stop([child])
    try:
        return child.communicate(timeout=_GRACE_SECONDS)[0]
    except subprocess.TimeoutExpired as error:
        return error.output or b""


def _stop(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """End the children's process groups, all at once: politely, then not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for child in children:
            _signal(child, number)
        until = time.monotonic() + _GRACE_SECONDS
        while any(_signal(child, 0) for child in children) and time.monotonic() < until:
            time.sleep(0.02)


def _signal(child: subprocess.Popen[bytes], number: int) -> bool:
    """Send a signal to a child's group; whether the group still has a member."""
    child.poll()  # reaps the leader, which as a zombie would count as a member
    try:
        os.killpg(child.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def append(log: Path, text: str) -> None:
    """Add to a log file, made when missing. Raises WriteError."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as stream:
            stream.write(text if text.endswith("\n") else text + "\n")
    except OSError as error:
        raise WriteError(
            f"{log} could not be written ({error.strerror})",
            "Free some disk space or mend the permissions, then run the stage again",
        ) from error
