"""A pipeline's steps as containers on this machine's engine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

LABEL = "kfp-ci.run"
_QUICK_SECONDS = 4  # removal must end within the grace period of a stopped process
_COMMAND_NOT_FOUND = 127
_NOT_STARTED = 125


class Ended(NamedTuple):
    """code: the step's exit code. reason: one sentence, "" for 0."""

    code: int
    reason: str


def unreachable() -> str:
    """Why no Docker engine answers; "" when one does."""
    import docker
    from docker.errors import DockerException

    try:
        with contextlib.closing(docker.from_env(timeout=_QUICK_SECONDS)) as client:
            client.ping()
    except (DockerException, OSError) as error:
        return " ".join(str(error).split())
    return ""


def run(
    client: Any,
    image: str,
    command: list[str],
    volumes: dict[str, Any],
    line: Callable[[str], None],
    *,
    environment: dict[str, str] | None = None,
    **arguments: Any,
) -> Ended:
    """Run one step's container to its end and remove it.

    command: the step's command and arguments; it replaces the image's ENTRYPOINT
             and CMD, as in a cluster. An empty one fails, as it does there
             (launcher_v2.go: "command and arguments are empty").
    line:    called with every line that the container writes.

    The exit code is read from the stopped container before it is removed: with
    automatic removal one that exits at once is gone before anybody can ask.
    """
    from docker.errors import APIError

    if not command:
        return Ended(_NOT_STARTED, "it has no command, and Kubeflow does not use the image's own")
    variables = dict(environment or {})
    if not str(arguments.get("user", "")).startswith("0:"):
        # The caller is nobody in the image, where its home would be "/".
        variables.setdefault("HOME", "/tmp")  # noqa: S108 - inside the container
    try:
        _have(client, image)
        container = client.containers.create(
            image,
            command=command[1:],
            entrypoint=command[:1],
            volumes=volumes,
            environment=variables,
            **arguments,
        )
    except APIError as error:
        return Ended(_NOT_STARTED, f"image {image} cannot be run ({_said(error)})")
    try:
        try:
            container.start()
        except APIError as error:
            return Ended(_COMMAND_NOT_FOUND, f"its command cannot be started ({_said(error)})")
        for text in _lines(container.logs(stream=True, follow=True)):
            line(text)
        code = int(container.wait()["StatusCode"])
        if code == 0:
            return Ended(0, "")
        container.reload()
        killed = ", out of memory" if container.attrs["State"].get("OOMKilled") else ""
        return Ended(code, f"exit code {code}{killed}")
    finally:
        with contextlib.suppress(APIError):  # removed already, by whoever stops the run
            container.remove(force=True, v=True)


def remove_all(run_id: str) -> int:
    """Remove every container of a run, running or not; how many there were.

    Does nothing when no engine answers: then none of its containers runs.
    """
    import docker
    from docker.errors import APIError, DockerException

    count = 0
    with (
        contextlib.suppress(DockerException, OSError),
        contextlib.closing(docker.from_env(timeout=_QUICK_SECONDS)) as client,
    ):
        for container in client.containers.list(
            all=True, filters={"label": f"{LABEL}={run_id}"}, ignore_removed=True
        ):
            with contextlib.suppress(APIError):  # somebody else was faster
                container.remove(force=True, v=True)
                count += 1
    return count


def _have(client: Any, image: str) -> None:
    """Pull an image that the engine does not have; asks for this one only.

    A reference by digest is present only if the engine knows it under that
    repository: the same bytes under another name are pulled, layers shared.
    """
    from docker.errors import ImageNotFound

    try:
        client.images.get(image)
    except ImageNotFound:
        client.images.pull(image)


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    """Chunks cut anywhere, as whole lines."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (piece.decode("utf-8", "replace").rstrip("\r") for piece in whole)
    if rest:
        yield rest.decode("utf-8", "replace")


def _said(error: Any) -> str:
    return " ".join(str(error.explanation or error).split())
