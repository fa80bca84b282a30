"""A second Docker engine of the tests' own, and its BuildKit as a remote builder.

The engine keeps its images in containerd, which the machine's own does not, and
has nothing in its cache: to a build it is another agent. BuildKit's own server
is in no package here, but an engine hands out the same API at `/grpc`: a bridge
from a port to that is a remote builder as `docker buildx create --driver remote`
knows it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

_UPGRADE = b"POST /grpc HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
_START_SECONDS = 300


@dataclass(frozen=True)
class OtherEngine:
    """socket: where it listens. host: for DOCKER_HOST."""

    socket: Path

    @property
    def host(self) -> str:
        return f"unix://{self.socket}"

    def docker(self, *arguments: str) -> str:
        return subprocess.run(
            ["docker", "--host", self.host, *arguments], check=True, capture_output=True, text=True
        ).stdout

    def forget_builds(self) -> None:
        """What an agent is that was just started."""
        self.docker("builder", "prune", "--all", "--force")


@contextlib.contextmanager
def other_engine(directory: Path) -> Iterator[OtherEngine]:
    """Start an engine below `directory`, which must be short: sockets have short names."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("a second engine needs root and dockerd")
    # A bridge of its own: an engine without one removes the other engine's.
    chance = uuid.uuid4()  # another one may be there at the same time
    bridge, network = f"kfpci{chance.hex[:6]}", 192 + chance.int % 62
    subprocess.run(["ip", "link", "add", "name", bridge, "type", "bridge"], check=True)
    subprocess.run(["ip", "addr", "add", f"172.31.{network}.1/24", "dev", bridge], check=True)
    subprocess.run(["ip", "link", "set", bridge, "up"], check=True)
    engine = OtherEngine(directory / "docker.sock")
    settings = {
        "features": {"containerd-snapshotter": True},
        "data-root": str(directory / "data"),
        "exec-root": str(directory / "exec"),
        "pidfile": str(directory / "pid"),
        "hosts": [engine.host],
        "bridge": bridge,
        "iptables": False,
        "ip-masq": False,
    }
    (directory / "daemon.json").write_text(json.dumps(settings))
    with (directory / "dockerd.log").open("wb") as log:
        daemon = subprocess.Popen(
            ["dockerd", "--config-file", str(directory / "daemon.json")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(subprocess.CalledProcessError):
                engine.docker("version")
                break
            words = (directory / "dockerd.log").read_text()
            assert time.monotonic() < deadline, words[-2000:]
            assert daemon.poll() is None, words[-2000:]
            time.sleep(0.1)
        yield engine
    finally:
        daemon.terminate()
        daemon.wait(timeout=300)
        subprocess.run(["ip", "link", "delete", bridge], check=True)


@dataclass(frozen=True)
class RemoteBuilder:
    """env: what makes `docker buildx` use it, and nothing else."""

    env: dict[str, str]


@contextlib.contextmanager
def remote_builder(engine: OtherEngine, directory: Path) -> Iterator[RemoteBuilder]:
    """The engine's BuildKit as a builder of buildx' driver `remote`."""
    env = {"BUILDX_CONFIG": str(directory / "buildx"), "BUILDX_BUILDER": "remote"}
    with bridge(engine.socket) as port:
        subprocess.run(
            ["docker", "buildx", "create", "--name", "remote", "--driver", "remote",
             f"tcp://127.0.0.1:{port}"],
            check=True,
            capture_output=True,
            env={**os.environ, "BUILDX_CONFIG": env["BUILDX_CONFIG"]},
        )  # fmt: skip
        yield RemoteBuilder(env)


@contextlib.contextmanager
def bridge(engine: Path) -> Iterator[int]:
    """The port at which the BuildKit of the engine at this socket answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):  # the server is closed at the end
                while True:
                    client, _ = server.accept()
                    threading.Thread(target=_connect, args=(client, engine), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def _connect(client: socket.socket, engine: Path) -> None:
    with client, socket.socket(socket.AF_UNIX) as upstream:
        upstream.connect(str(engine))
        upstream.sendall(_UPGRADE)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += upstream.recv(1)
        there = threading.Thread(target=_pump, args=(client, upstream), daemon=True)
        there.start()
        _pump(upstream, client)
        there.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
