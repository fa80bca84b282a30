"""A pipeline's steps as containers on this machine's engine."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ci_tools.kubeflow.local import limits as limiting
    from ci_tools.kubeflow.local import platform

LABEL = "kfp-ci.run"
TASK_LABEL = "kfp-ci.task"
_QUICK_SECONDS = 4  # removal must end within the grace period of a stopped process
_COMMAND_NOT_FOUND = 127
_NOT_STARTED = 125
_KILLED = 137


class Ended(NamedTuple):
    """code: the step's exit code. reason: one sentence, "" for 0. started: its program ran."""

    code: int
    reason: str
    started: bool = True


class Door:
    """Through which every new container goes, so that a stopped run gets no more of them."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._inside, self._closed = 0, False

    @contextlib.contextmanager
    def pass_through(self) -> Iterator[bool]:
        """Whether it is open; `close` waits for the end of the block."""
        with self._change:
            is_open = not self._closed
            self._inside += is_open
        try:
            yield is_open
        finally:
            with self._change:
                self._inside -= is_open
                self._change.notify_all()

    def close(self, seconds: float) -> bool:
        """Let nobody in any more; whether all were out in time.

        May be called by a signal handler, in a thread that starts no containers.
        """
        with self._change:
            self._closed = True
            return self._change.wait_for(lambda: not self._inside, seconds)


DOOR = Door()


class DockerEngine:
    """Steps of one run as containers; satisfies `local.step.Engine`.

    user: `uid:gid` that they run as.

    Raises docker.errors.DockerException when no engine answers.
    """

    def __init__(self, run_id: str, user: str) -> None:
        import docker

        from ci_tools.kubeflow.local.limits import Machine

        self._run_id, self._user = run_id, user
        with contextlib.closing(docker.from_env()) as client:
            info = client.info()
        self._shared = ",z" if "name=selinux" in (info.get("SecurityOptions") or []) else ""
        self.machine = Machine(
            info["NCPU"], info["MemTotal"], gpus="nvidia" in (info.get("Runtimes") or {})
        )

    def run(
        self,
        image: str,
        command: list[str],
        *,
        task: str,
        environment: Mapping[str, str],
        volumes: Mapping[str, Mapping[str, str]],
        limits: limiting.Limits,
        surroundings: platform.Surroundings,
        line: Callable[[str], None],
    ) -> Ended:
        """See `local.step.Engine`. Swap is no way around the limit of memory."""
        import docker
        from docker.types import DeviceRequest

        arguments: dict[str, Any] = {}
        if limits.nano_cpus:
            arguments["nano_cpus"] = limits.nano_cpus
        if limits.memory_bytes:
            arguments["mem_limit"] = arguments["memswap_limit"] = limits.memory_bytes
        if limits.gpus:
            arguments["device_requests"] = [
                DeviceRequest(count=limits.gpus, capabilities=[["gpu"]])
            ]
        if surroundings.shared_memory:
            arguments["shm_size"] = surroundings.shared_memory
        if surroundings.tmpfs:
            arguments["tmpfs"] = surroundings.tmpfs
        mounts = {
            path: {"bind": it["bind"], "mode": it["mode"] + self._shared}
            for path, it in volumes.items()
        }
        with contextlib.closing(docker.from_env()) as client:
            return run(
                client,
                image,
                command,
                mounts,
                line,
                environment=dict(environment),
                memory=limits.memory,
                deadline=surroundings.deadline,
                user=self._user,
                labels={LABEL: self._run_id, TASK_LABEL: task},
                **arguments,
            )


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
    memory: str = "",
    deadline: float = 0.0,
    **arguments: Any,
) -> Ended:
    """Run one step's container to its end and remove it.

    command:  the step's command and arguments; it replaces the image's ENTRYPOINT
              and CMD, as in a cluster. An empty one fails, as it does there
              (launcher_v2.go: "command and arguments are empty").
    line:     called with every line that the container writes.
    memory:   its limit as it was written, for the message of one that ran out of it.
    deadline: seconds from its start after which it is killed; 0 for none.

    The exit code is read from the stopped container before it is removed: with
    automatic removal one that exits at once is gone before anybody can ask.
    """
    from docker.errors import APIError

    if not command:
        return Ended(
            _NOT_STARTED, "it has no command, and Kubeflow does not use the image's own", False
        )
    variables = dict(environment or {})
    if not str(arguments.get("user", "")).startswith("0:"):
        # The caller is nobody in the image, where its home would be "/".
        variables.setdefault("HOME", "/tmp")  # noqa: S108 - inside the container
    try:
        _have(client, image)
        with DOOR.pass_through() as is_open:
            if not is_open:
                return Ended(_NOT_STARTED, "the run is being stopped", False)
            container = client.containers.create(
                image,
                command=command[1:],
                entrypoint=command[:1],
                volumes=volumes,
                environment=variables,
                **arguments,
            )
    except APIError as error:
        return Ended(_NOT_STARTED, f"image {image} cannot be run ({_said(error)})", False)
    try:
        try:
            container.start()
        except APIError as error:
            return Ended(_COMMAND_NOT_FOUND, f"its command cannot be started ({_said(error)})")
        with _killed_after(container, deadline) as late:
            for text in _lines(container.logs(stream=True, follow=True)):
                line(text)
            code = int(container.wait()["StatusCode"])
        if late.is_set():
            return Ended(code or _KILLED, f"stopped at its time-out of {deadline:g} s")
        if code == 0:
            return Ended(0, "")
        container.reload()
        killed = container.attrs["State"].get("OOMKilled")
        limit = f" (limit {memory})" if memory else ""
        return Ended(code, f"exit code {code}" + (f", out of memory{limit}" if killed else ""))
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


@contextlib.contextmanager
def _killed_after(container: Any, seconds: float) -> Iterator[threading.Event]:
    """The event is set when the container was killed for being late."""
    from docker.errors import APIError

    late = threading.Event()

    def kill() -> None:
        late.set()
        with contextlib.suppress(APIError):  # it ended by itself just now
            container.kill()

    timer = threading.Timer(seconds, kill)
    if seconds:
        timer.start()
    try:
        yield late
    finally:
        timer.cancel()


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
