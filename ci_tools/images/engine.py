"""The Docker engine: everything but building."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
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
_LOOK_SECONDS = 0.25  # how soon a test that runs notices that we are stopping


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

        Raises RegistryError, EngineError.
        """
        import docker

        with _answering():
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

        with _answering():
            try:
                return str(self._client.images.get(reference).id)
            except docker.errors.ImageNotFound:
                return None

    def layers(self, image_id: str) -> tuple[str, ...]:
        """An image's layers as diff ids; none where the engine does not tell.

        Raises EngineError.
        """
        import docker

        with _answering():
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

        Raises EngineError when the engine is gone.
        """
        import docker

        name = f"{registry.host}/{repository}"
        digest = None
        with _answering():
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
        """Take a name from an image, if it is there; the image keeps its others.

        A name that stays harms nobody, so an engine that is gone is no error here.
        """
        with contextlib.suppress(EngineError), _answering():
            self._client.images.remove(tag, noprune=False)

    def test(
        self, name: str, image_id: str, command: Sequence[str], timeout: float, log: Path
    ) -> None:
        """Run a declared test command in the built image, without a network.

        Raises ImageTestError with the exit code, also for one that did not end in time
        or because we are stopping, EngineError. The output is in `log`.
        """
        import docker

        todo = "Read the test's output in the log and mend the component"
        with _answering():
            container = None
            try:
                container = self._client.containers.create(
                    image_id,
                    entrypoint=list(command),
                    network_mode="none",
                    labels={LABEL: "test"},
                )
                container.start()
                status = _exit_status(container, timeout)
            except docker.errors.APIError as error:
                raise ImageTestError(
                    f"component '{name}' cannot run its test command ({error.explanation})", todo
                ) from error
            finally:
                if container is not None:
                    _removed(container, log)
        if status is None:
            why = "interrupted" if process.stopping() else f"no end within {timeout:.0f} s"
            raise ImageTestError(f"component '{name}' has failing tests: {why}", todo, log=log)
        if status != 0:
            raise ImageTestError(
                f"component '{name}' has failing tests ({command[0]} exited with {status})",
                todo,
                log=log,
            )


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    """Raises EngineError where the engine does not answer, or goes in the middle of it.

    docker-py lets out what requests says of that, which is an OSError, and in a
    stream what urllib3 does.
    """
    from docker.errors import DockerException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except (DockerException, HTTPError, OSError) as error:
        raise EngineError(f"the Docker engine does not answer ({error})", _START) from error


def _exit_status(container: Any, timeout: float) -> int | None:
    """Of a container that runs; None for one that was still running after `timeout`
    seconds, or when we are stopping."""
    from requests.exceptions import ConnectionError, Timeout
    from urllib3.exceptions import ReadTimeoutError

    until = time.monotonic() + timeout
    while not process.stopping() and (left := until - time.monotonic()) > 0:
        try:
            return int(container.wait(timeout=min(left, _LOOK_SECONDS))["StatusCode"])
        except Timeout:
            pass
        except ConnectionError as error:
            # How requests calls time that ran out in the body, whose headers come at once.
            if not (error.args and isinstance(error.args[0], ReadTimeoutError)):
                raise
    return None


def _removed(container: Any, log: Path) -> None:
    """Keep what it said and remove it. An engine that is gone was told of elsewhere."""
    from docker.errors import DockerException
    from urllib3.exceptions import HTTPError

    try:
        with contextlib.suppress(DockerException, HTTPError, OSError):
            process.append(log, container.logs().decode("utf-8", "replace"))
    finally:
        with contextlib.suppress(DockerException, HTTPError, OSError):
            container.remove(force=True)


def _login(registry: Registry) -> dict[str, Any]:
    """The option that docker-py takes credentials in; without it, docker's own config counts."""
    credentials = registry.credentials()
    if credentials is None:
        return {}
    return {"auth_config": dict(zip(("username", "password"), credentials, strict=True))}
