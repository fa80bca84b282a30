"""The Docker engine: everything but building."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ci_tools import process
from ci_tools.errors import EngineError, ImageTestError, RegistryError
from ci_tools.images.registry import Registry
from ci_tools.images.transient import transient

if TYPE_CHECKING:
    import docker

LABEL = "kfp-ci"
_START = "Start Docker ('make run' installs and starts it on Debian), or set DOCKER_HOST"


class Engine:
    """A Docker engine that answered once. Safe to use from several threads."""

    def __init__(self, client: docker.DockerClient) -> None:
        self._client = client

    @classmethod
    def connect(cls) -> Engine:
        """The engine that DOCKER_HOST or the default socket leads to.

        Raises EngineError.
        """
        import docker

        try:
            client = docker.from_env(timeout=600)
            client.ping()
        except (docker.errors.DockerException, OSError) as error:
            raise EngineError("no Docker engine answers", _START) from error
        return cls(client)

    def pull(self, reference: str, registry: Registry) -> str:
        """Bring an image of the registry into the engine; its image id.

        Raises RegistryError.
        """
        import docker

        try:
            return str(self._client.images.pull(reference, **_login(registry)).id)
        except docker.errors.APIError as error:
            raise RegistryError(
                f"{reference} cannot be pulled ({error.explanation or error})",
                "Check the registry, or build again",
                again=transient(str(error.explanation or error)),
            ) from error

    def image_id(self, reference: str) -> str | None:
        """The id of an image that the engine has, by name or id; else None.

        One by digest counts only under the repository that is asked for.
        Raises EngineError.
        """
        import docker

        try:
            return str(self._client.images.get(reference).id)
        except docker.errors.ImageNotFound:
            return None
        except (docker.errors.DockerException, OSError) as error:
            raise EngineError(f"the Docker engine does not answer ({error})", _START) from error

    def layers(self, image_id: str) -> tuple[str, ...]:
        """An image's layers as diff ids; none where the engine does not tell."""
        import docker

        try:
            attributes = self._client.images.get(image_id).attrs
        except docker.errors.APIError:
            return ()
        return tuple((attributes.get("RootFS") or {}).get("Layers") or ())

    def push(
        self, registry: Registry, repository: str, tag: str, image_id: str
    ) -> tuple[str | None, str | None]:
        """Push an image under a tag: what went wrong, if anything, in the engine's
        words, and the digest that the engine says it pushed.

        image_id: the image in the engine, which keeps the tag's name for it.
        """
        import docker

        name = f"{registry.host}/{repository}"
        digest = None
        try:
            self._client.images.get(image_id).tag(name, tag)
            for line in self._client.images.push(
                name, tag=tag, stream=True, decode=True, **_login(registry)
            ):
                if process.stopping():
                    return "interrupted", None
                if "error" in line:
                    return str(line["error"]), None
                digest = (line.get("aux") or {}).get("Digest", digest)
        except docker.errors.APIError as error:
            return str(error.explanation or error), None
        return None, digest

    def untag(self, tag: str) -> None:
        """Take a name from an image, if it is there; the image keeps its others."""
        import docker

        with contextlib.suppress(docker.errors.APIError):
            self._client.images.remove(tag, noprune=False)

    def test(
        self, name: str, image_id: str, command: Sequence[str], timeout: float, log: Path
    ) -> None:
        """Run a declared test command in the built image, without a network.

        Raises ImageTestError with the exit code; the output is in `log`.
        """
        import docker
        import requests

        todo = "Read the test's output in the log and mend the component"
        container = None
        try:
            container = self._client.containers.create(
                image_id,
                entrypoint=list(command),
                network_mode="none",
                labels={LABEL: "test"},
            )
            container.start()
            status = container.wait(timeout=timeout)["StatusCode"]
        except docker.errors.APIError as error:
            raise ImageTestError(
                f"component '{name}' cannot run its test command ({error.explanation})", todo
            ) from error
        except requests.exceptions.RequestException as error:
            raise ImageTestError(
                f"component '{name}' has failing tests: no end within {timeout:.0f} s",
                todo,
                log=log,
            ) from error
        finally:
            if container is not None:
                process.append(log, container.logs().decode("utf-8", "replace"))
                with contextlib.suppress(docker.errors.NotFound):
                    container.remove(force=True)
        if status != 0:
            raise ImageTestError(
                f"component '{name}' has failing tests ({command[0]} exited with {status})",
                todo,
                log=log,
            )


def _login(registry: Registry) -> dict[str, Any]:
    """The option that docker-py takes credentials in; without it, docker's own config counts."""
    credentials = registry.credentials()
    if credentials is None:
        return {}
    return {"auth_config": dict(zip(("username", "password"), credentials, strict=True))}
