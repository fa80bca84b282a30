"""Registries of a test's own: distribution's program with any configuration."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ci_tools.local import daemon
from ci_tools.local.registry import configuration
from tests.fakes import ports

USER, PASSWORD = "somebody", "correct horse"
# bcrypt of PASSWORD, at the lowest cost
_HASH = "$2y$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2"


@contextlib.contextmanager
def registry(home: Path, data: Path | None = None, **more: Any) -> Iterator[str]:
    """The host of a registry. data: images of another one to serve; more: sections
    of its configuration."""
    home.mkdir(parents=True, exist_ok=True)
    port = ports.reserved()
    host = f"{daemon.LOOPBACK}:{port}"
    settings = configuration(address=host, data=str(data or home / "data"), owner="test")
    for section, value in more.items():
        settings[section] = {**settings.get(section, {}), **value}
    (home / "registry.yml").write_text(yaml.safe_dump(settings))
    program = shutil.which("docker-registry") or shutil.which("registry")
    assert program, "distribution's registry is not installed"
    with (home / "log").open("w") as log:
        child = subprocess.Popen(
            [program, "serve", str(home / "registry.yml")], stdout=log, stderr=log
        )
    try:
        until = time.monotonic() + 300
        while daemon.get(port, "/") is None:
            assert child.poll() is None, (home / "log").read_text()
            assert time.monotonic() < until, "the registry does not answer"
            time.sleep(0.05)
        yield host
    finally:
        child.terminate()
        child.wait(timeout=300)


def private(home: Path) -> dict[str, Any]:
    """The section that lets nobody in but USER with PASSWORD."""
    home.mkdir(parents=True, exist_ok=True)
    file = home / "htpasswd"
    file.write_text(f"{USER}:{_HASH}\n")
    return {"htpasswd": {"realm": "test", "path": str(file)}}


def docker_config(directory: Path, host: str, password: str = PASSWORD, **more: Any) -> Path:
    """A docker configuration directory that is logged in to a registry."""
    directory.mkdir(parents=True, exist_ok=True)
    login = base64.b64encode(f"{USER}:{password}".encode()).decode()
    content = {"auths": {host: {"auth": login}}, **more}
    (directory / "config.json").write_text(json.dumps(content))
    return directory
