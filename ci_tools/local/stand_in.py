"""The AWS stand-in: ministack, in a virtual environment of its own.

It speaks ECS, Elastic Load Balancing, S3, ECR and more, and runs the tasks of ECS
services as containers on this machine's engine.

Two environments on one engine: when it starts and when it stops, ministack
removes every container whose label `ministack.instance` is its own host and
port, and, when it starts, those with its service label but no instance at all
(ministack/core/container_reaper.py). The host part is MINISTACK_HOSTNAME or
else the machine's name, so two environments that use one port after the other
would take each other's containers. Each therefore gets its own name as
MINISTACK_HOSTNAME, and everything it starts carries the label.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Literal

from ci_tools import process, storage
from ci_tools.errors import EngineError, LocalEnvironmentError, WriteError
from ci_tools.local import daemon
from ci_tools.local.state import Part, name

PREFERRED_PORT = 4566
READY_SECONDS = 60.0
REGION = "us-east-1"
_LOCK_FILE = Path(__file__).with_name("stand-in.txt")
_IMAGE = "KFP_CI_PREPARED"  # where an agent's image has it, as scripts/bootstrap.sh calls it
_INSTALL_SECONDS = 600.0
_HEALTH = "/_ministack/health"


def settings(home: Path, port: int) -> dict[str, str]:
    """Environment variables of the stand-in.

    Source: the os.environ look-ups in ministack 1.5: app.py, core/, services/.
    """
    data = home / "stand-in-data"
    return {
        "GATEWAY_PORT": str(port),
        "BIND_HOST": daemon.LOOPBACK,  # its default is every interface
        # These two listen on every interface whatever BIND_HOST says.
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "MINISTACK_HOSTNAME": name(home),
        "MINISTACK_EDITION": name(home),  # told by the health check: whose it is
        "MINISTACK_REGION": REGION,
        "S3_DATA_DIR": str(data / "s3"),
        "S3_PERSIST": "1",
        "STATE_DIR": str(data / "state"),
        "TMPDIR": str(data / "tmp"),  # its pid file, and Lambda's code
    }


def whose(port: int, owner: str) -> Literal["ours", "foreign"] | None:
    """Who answers on a port: our stand-in, somebody else, or nobody."""
    answer = daemon.get(port, _HEALTH)
    if answer is None:
        return None
    try:
        health = json.loads(answer.body) if answer.status == 200 else {}
    except ValueError:
        health = {}
    ours = isinstance(health, dict) and health.get("edition") == owner
    return "ours" if ours else "foreign"


def start(home: Path, port: int) -> Part:
    """Start the stand-in on `127.0.0.1:port`; the caller waits until it answers.

    Raises LocalEnvironmentError, WriteError.
    """
    python = install(home)
    env = settings(home, port)
    for variable in ("S3_DATA_DIR", "STATE_DIR", "TMPDIR"):
        Path(env[variable]).mkdir(parents=True, exist_ok=True)
    started = daemon.start([python, "-m", "ministack"], home=home, log=log(home), env=env)
    return Part(port=port, process=started)


def install(home: Path) -> Path:
    """Make the stand-in's virtual environment unless it is there; its Python.

    What is installed is exactly what `stand-in.txt` lists, hashes checked; an agent's
    image may have done so. Raises LocalEnvironmentError, WriteError.
    """
    there = _of_the_image()
    if there is not None:
        return there
    directory = home / "stand-in"
    python, stamp = directory / "bin" / "python", directory / ".installed"
    wanted = hashlib.sha256(_LOCK_FILE.read_bytes() + sys.version.encode()).hexdigest()
    with contextlib.suppress(OSError):
        if stamp.read_text() == wanted and python.exists():
            return python
    try:
        if directory.exists():
            shutil.rmtree(directory)
    except OSError as error:
        raise WriteError(
            f"{directory} could not be replaced ({error.strerror})", "Mend its permissions"
        ) from error
    for command in _install_commands(directory, python):
        done = process.run(command, timeout=_INSTALL_SECONDS, log=install_log(home))
        if not done.ok:
            raise LocalEnvironmentError(
                f"the AWS stand-in could not be installed ({done.tail(1).strip()[:300]})",
                "Check that the package index can be reached, then run "
                "'python -m ci local up' again",
                log=install_log(home),
            )
    storage.write_bytes(stamp, wanted.encode())
    return python


def _of_the_image() -> Path | None:
    """The Python of the stand-in that an agent's image (agent/Dockerfile) holds, where it
    is of this very lock. Nothing is written there."""
    image = Path(os.environ.get(_IMAGE) or "/opt/kfp-ci")
    python = image / "stand-in" / "bin" / "python"
    with contextlib.suppress(OSError):
        if (image / _LOCK_FILE.name).read_bytes() == _LOCK_FILE.read_bytes() and python.exists():
            return python
    return None


def _install_commands(directory: Path, python: Path) -> list[list[str]]:
    """With uv where it is at hand (a second), else with venv and pip (ten)."""
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    lock = ["--require-hashes", "-r", str(_LOCK_FILE)]
    if uv:
        return [
            [uv, "venv", "--quiet", "--python", sys.executable, str(directory)],
            [uv, "pip", "install", "--quiet", "--python", str(python), *lock],
        ]
    return [
        [sys.executable, "-m", "venv", str(directory)],
        [str(python), "-m", "pip", "install", "--quiet", "--no-deps", *lock],
    ]


def remove_containers(home: Path, port: int) -> int:
    """Remove what the stand-in started on the engine; how many containers.

    It does so itself when it is asked to stop; this is for one that was killed.
    Raises EngineError.
    """
    import docker
    from docker.errors import DockerException, NotFound

    removed = 0
    try:
        with contextlib.closing(docker.from_env(timeout=60)) as client:
            for container in client.containers.list(
                all=True, filters={"label": label(home, port)}, ignore_removed=True
            ):
                with contextlib.suppress(NotFound):  # it went by itself meanwhile
                    container.remove(force=True, v=True)
                    removed += 1
    except (DockerException, OSError) as error:  # requests' own are the latter
        raise EngineError(
            "the Docker engine does not answer, so that containers of the stand-in, if there "
            f"are any, were not removed ({error})",
            "Start it and run 'python -m ci local down' again",
        ) from error
    return removed


def label(home: Path, port: int) -> str:
    """What every container that the stand-in starts on the engine is labelled with."""
    return f"ministack.instance={name(home)}:{port}"


def log(home: Path) -> Path:
    """Where the stand-in's own output goes."""
    return home / "logs" / "stand-in.log"


def install_log(home: Path) -> Path:
    """Where its installation's output goes."""
    return home / "logs" / "stand-in-install.log"
