"""The embedded image registry: distribution, as a process or as a container."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from pathlib import Path
from typing import Any, Literal

from ci_tools import storage
from ci_tools.errors import EngineError, LocalEnvironmentError
from ci_tools.local import daemon
from ci_tools.local.state import Part, name

PREFERRED_PORT = 5100
READY_SECONDS = 60.0
IMAGE_VARIABLE = "KFP_CI_REGISTRY_IMAGE"  # a company's mirror of the image below
_IMAGE = "registry:2"
_PROGRAMS = ("docker-registry", "registry")  # Debian's name, upstream's name
_HEADER = "X-Kfp-Ci-Environment"
_IN_CONTAINER = {"config": "/etc/kfp-ci/registry.yml", "data": "/var/lib/registry"}


def configuration(*, address: str, data: str, owner: str) -> dict[str, Any]:
    """distribution's configuration for one environment.

    address: host and port to listen on. data: directory of the images. owner:
    the environment's name, sent with every answer, so that a registry on our
    port can be told from a stranger's.
    Source: distribution's configuration reference, version 2.8.
    """
    return {
        "version": 0.1,
        # A line a request would fill the disk of a machine that runs for months.
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": data},
            "cache": {"blobdescriptor": "inmemory"},
            "delete": {"enabled": True},
        },
        "http": {
            "addr": address,
            "headers": {"X-Content-Type-Options": ["nosniff"], _HEADER: [owner]},
        },
    }


def whose(port: int, owner: str) -> Literal["ours", "foreign"] | None:
    """Who answers on a port: our registry, somebody else, or nobody."""
    answer = daemon.get(port, "/v2/")
    if answer is None:
        return None
    ours = answer.status == 200 and answer.headers.get(_HEADER.lower()) == owner
    return "ours" if ours else "foreign"


def start(home: Path, port: int) -> Part:
    """Start the registry on `127.0.0.1:port`; the caller waits until it answers.

    Uses distribution's own program where it is on PATH, else a container.
    Raises LocalEnvironmentError, EngineError, WriteError.
    """
    import yaml

    program = next((path for path in map(shutil.which, _PROGRAMS) if path), None)
    data, file = home / "registry", home / "registry.yml"
    data.mkdir(parents=True, exist_ok=True)
    config = configuration(
        address=f"{daemon.LOOPBACK}:{port}" if program else ":5000",
        data=str(data) if program else _IN_CONTAINER["data"],
        owner=name(home),
    )
    storage.write_bytes(file, yaml.safe_dump(config).encode())
    if program is None:
        return Part(port=port, container=_start_container(home, port))
    # It signs the state of unfinished uploads, which end with the process.
    env = {"REGISTRY_HTTP_SECRET": secrets.token_hex(16)}
    started = daemon.start([program, "serve", file], home=home, log=log(home), env=env)
    return Part(port=port, process=started)


def _start_container(home: Path, port: int) -> str:
    import docker
    from docker.errors import DockerException

    image = os.environ.get(IMAGE_VARIABLE) or _IMAGE
    todo = (
        "Install distribution's program (Debian: apt-get install docker-registry), "
        f"or name an image that can be pulled in {IMAGE_VARIABLE}"
    )
    try:
        with contextlib.closing(docker.from_env(timeout=120)) as client:
            remove_container(container_name(home))
            container = client.containers.run(
                image,
                ["serve", _IN_CONTAINER["config"]],
                name=container_name(home),
                detach=True,
                ports={"5000/tcp": (daemon.LOOPBACK, port)},
                volumes={
                    str(home / "registry"): {"bind": _IN_CONTAINER["data"], "mode": "rw"},
                    str(home / "registry.yml"): {"bind": _IN_CONTAINER["config"], "mode": "ro"},
                },
            )
    except (DockerException, OSError) as error:  # requests' own are the latter
        raise LocalEnvironmentError(
            f"the registry could not be started from image {image} ({error})", todo
        ) from error
    return str(container.id)


def container_name(home: Path) -> str:
    """Name of the registry's container, one an environment."""
    return f"{name(home)}-registry"


def container_running(container: str) -> bool:
    """Whether the engine runs this container. Raises EngineError."""
    import docker
    from docker.errors import DockerException, NotFound

    try:
        with contextlib.closing(docker.from_env(timeout=30)) as client:
            return bool(client.containers.get(container).status == "running")
    except NotFound:
        return False
    except (DockerException, OSError) as error:
        raise _no_engine(error) from error


def remove_container(container: str) -> bool:
    """Remove the registry's container (its data is outside); False if it was gone.

    Raises EngineError.
    """
    import docker
    from docker.errors import DockerException, NotFound

    try:
        with contextlib.closing(docker.from_env(timeout=60)) as client:
            client.containers.get(container).remove(force=True, v=True)
    except NotFound:
        return False
    except (DockerException, OSError) as error:
        raise _no_engine(error) from error
    return True


def _no_engine(error: Exception) -> EngineError:
    return EngineError(
        f"the Docker engine does not answer ({error})", "Start it: scripts/bootstrap.sh"
    )


def log(home: Path) -> Path:
    """Where the registry's own output goes."""
    return home / "logs" / "registry.log"
