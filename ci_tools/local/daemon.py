"""Servers on loopback that outlive the session that started them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ci_tools import process
from ci_tools.errors import LocalEnvironmentError, WriteError
from ci_tools.local.state import Process

LOOPBACK = "127.0.0.1"

# What a server gets of our environment. Everything else stays here: credentials
# have no business in a process that lives on, and Jenkins ends every process that
# carries its build's cookie when the build is over.
_PASSED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "TZ",
    "DOCKER_HOST",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
)
_PROBE_SECONDS = 10.0  # a busy machine's server is slow, and not to be replaced for that
_STOP_SECONDS = 10.0
_children: dict[int, subprocess.Popen[bytes]] = {}  # kept so that they can be reaped


class Answer(NamedTuple):
    """An HTTP answer. headers: names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def get(port: int, path: str, headers: Mapping[str, str] | None = None) -> Answer | None:
    """GET `path` from a loopback port; None where nothing listens.

    Something that listens but does not speak HTTP answers with status 0.
    """
    import http.client  # 30 ms that a dry run need not spend

    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=_PROBE_SECONDS)
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        response = connection.getresponse()
        found = {key.lower(): value for key, value in response.getheaders()}
        return Answer(response.status, found, response.read(1 << 20))
    except ConnectionRefusedError:
        return None
    except (OSError, http.client.HTTPException):
        return Answer(0, {}, b"")
    finally:
        connection.close()


def choose_port(preferred: int) -> int:
    """`preferred` if it is free on loopback, else one that the kernel picks."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            # Without it a server that was just stopped keeps its port for a minute.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind((LOOPBACK, port))
                return int(probe.getsockname()[1])
    raise LocalEnvironmentError(
        "no port is free on loopback", "End some of the servers on this machine"
    )


def start(
    command: Sequence[str | os.PathLike[str]],
    *,
    home: Path,
    log: Path,
    env: Mapping[str, str] | None = None,
) -> Process:
    """Start a server in a session of its own, its output appended to `log`.

    Raises LocalEnvironmentError when it cannot be started, WriteError when the
    log cannot be written.
    """
    passed_on = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        output = log.open("ab")
    except OSError as error:
        raise WriteError(
            f"{log} could not be written ({error.strerror})",
            "Mend the permissions of its directory",
        ) from error
    with output:
        try:
            child = subprocess.Popen(
                [os.fspath(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=home,
                env={**passed_on, **(env or {})},
                start_new_session=True,
            )
        except OSError as error:
            raise LocalEnvironmentError(
                f"{command[0]} cannot be started ({error.strerror})", "Mend its installation"
            ) from error
    _children[child.pid] = child
    return Process(pid=child.pid, identity=identity(child.pid) or "")


def identity(pid: int) -> str | None:
    """When a process was started; None when it is not running.

    A pid alone proves nothing: the kernel gives it away again. Linux tells the
    start in ticks since boot (proc(5), field 22 of stat), so the boot belongs to
    it; elsewhere `ps` tells the time of day. The command line would say no more,
    and reads as empty for a moment after the start.
    """
    child = _children.get(pid)
    if child is not None and child.poll() is not None:
        return None
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.exists():
        found = process.run(["ps", "-o", "lstart=", "-p", str(pid)], timeout=10)
        return found.output.strip() or None if found.ok else None
    try:
        stat = Path("/proc", str(pid), "stat").read_text()
        booted = boot.read_text().strip()
    except OSError:
        return None
    # The program's name stands in parentheses and may hold any character.
    fields = stat.rpartition(")")[2].split()
    state, started = fields[0], fields[19]
    return None if state in "ZX" else f"{started}@{booted}"


def running(recorded: Process | None) -> bool:
    """Whether the very process that was recorded still runs."""
    return (
        recorded is not None
        and bool(recorded.identity)
        and identity(recorded.pid) == recorded.identity
    )


def stop(recorded: Process) -> bool:
    """Stop a process that we started, with its children; False if it did not run.

    Raises LocalEnvironmentError when it cannot be stopped.
    """
    if not running(recorded):
        return False
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(recorded.pid, number)  # it leads a session, hence a group
        except ProcessLookupError:
            return True
        except PermissionError as error:
            raise LocalEnvironmentError(
                f"process {recorded.pid} belongs to another user",
                "Stop it as the user who started it",
            ) from error
        deadline = time.monotonic() + _STOP_SECONDS
        while running(recorded):
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        else:
            _children.pop(recorded.pid, None)
            return True
    raise LocalEnvironmentError(
        f"process {recorded.pid} does not end", f"End it by hand: kill -9 {recorded.pid}"
    )


def last_line(log: Path) -> str:
    """The last line of a log that says something, at most 300 characters."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - 8192))
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")
