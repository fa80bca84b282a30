"""Bring the embedded environment up, say how it is, take it down."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from ci_tools.config import Environment, PredictionService, Registry
from ci_tools.errors import EngineError, LocalEnvironmentError, WriteError
from ci_tools.local import aws, daemon, registry, stand_in, state
from ci_tools.local.state import Part, State

_ATTEMPTS = 3  # somebody may take a port between our look and our start


@dataclass(frozen=True)
class Endpoints:
    """Where the running environment answers.

    registry: `127.0.0.1:<port>`. aws: the stand-in's URL. home: its directory.
    """

    registry: str
    aws: str
    home: Path


class Served(NamedTuple):
    """A prediction service behind a load balancer: container port, health path."""

    port: int
    health_path: str


class Status(NamedTuple):
    """One line of `local status`. pid: None for a container or when stopped."""

    part: str
    state: Literal["running", "stopped", "not answering"]
    address: str
    pid: int | None


class _Server(NamedTuple):
    preferred: int
    ready_seconds: float
    whose: Callable[[int, str], Literal["ours", "foreign"] | None]
    start: Callable[[Path, int], Part]
    log: Callable[[Path], Path]


_SERVERS = {
    "registry": _Server(
        registry.PREFERRED_PORT,
        registry.READY_SECONDS,
        registry.whose,
        registry.start,
        registry.log,
    ),
    "aws": _Server(
        stand_in.PREFERRED_PORT,
        stand_in.READY_SECONDS,
        stand_in.whose,
        stand_in.start,
        stand_in.log,
    ),
}


def up(home: Path) -> Endpoints:
    """Start what does not answer and wait until all of it does. Idempotent.

    Raises LocalEnvironmentError (naming the log of the part that failed),
    EngineError, WriteError.
    """
    with state.locked(home):
        known = state.load(home)
        for part, server in _SERVERS.items():
            _bring_up(part, server, home, known)
        return _endpoints(home, known)


def status(home: Path) -> list[Status]:
    """Each part with its state, address and pid. Changes nothing.

    Raises LocalEnvironmentError for a damaged local.json.
    """
    known = state.load(home)
    return [_status(part, server, home, known) for part, server in _SERVERS.items()]


def down(
    home: Path, *, wipe: bool = False, warn: Callable[[str], object] = lambda _: None
) -> list[str]:
    """Stop what `up` started, and nothing else; the names of what was stopped.

    Containers that the stand-in started for ECS tasks are removed. Images and
    ports stay, unless `wipe`: then everything of ours below `home` goes.
    warn: is told of containers that stay because no engine answers.

    Raises LocalEnvironmentError, WriteError.
    """
    if not home.exists():
        return []
    with state.locked(home):
        known = state.load(home)
        stopped = []
        for part in _SERVERS:
            recorded = known.parts.get(part)
            ran = recorded is not None and daemon.running(recorded.process)
            try:
                ran = _stop(part, home, known)
            except EngineError as error:  # then its containers do not run either
                warn(f"{error.what}. {_left(home, known.parts[part], wipe)}.")
            stopped += [part] if ran else []
        for part, recorded in sorted(known.parts.items()):
            if _SERVERS[part].whose(recorded.port, state.name(home)) == "ours":
                raise LocalEnvironmentError(
                    f"the local {part} still answers on port {recorded.port}, and "
                    f"{home / 'local.json'} no longer knows its process",
                    f"Find it with 'ss -ltnp sport = :{recorded.port}' and end it",
                )
        if wipe:
            _wipe(home)
        return stopped


def environment(endpoints: Endpoints, services: Mapping[str, Served]) -> Environment:
    """The `local` environment as ci.yaml would declare it.

    services: service name -> port and health path; each gets a load balancer.
    Raises LocalEnvironmentError.
    """
    groups = {}
    if services:
        aws.ensure_cluster(endpoints.aws)
        for name, served in services.items():
            groups[name], _ = aws.ensure_load_balancer(endpoints.aws, name, *served)
    return Environment(
        registry=Registry(host=endpoints.registry, plain_http=True),
        service=PredictionService(
            cluster=aws.CLUSTER,
            region=stand_in.REGION,
            endpoint_url=endpoints.aws,
            url=aws.url(endpoints.aws, "{service}"),
            subnets=list(aws.SUBNETS),
            security_groups=list(aws.SECURITY_GROUPS),
            target_groups=groups,
        ),
        allow_incomplete_scan=True,
    )


def _endpoints(home: Path, known: State) -> Endpoints:
    return Endpoints(
        registry=f"{daemon.LOOPBACK}:{known.parts['registry'].port}",
        aws=f"http://{daemon.LOOPBACK}:{known.parts['aws'].port}",
        home=home,
    )


def _bring_up(part: str, server: _Server, home: Path, known: State) -> None:
    owner = state.name(home)
    recorded = known.parts.get(part)
    port = recorded.port if recorded else server.preferred
    if server.whose(port, owner) == "ours":
        if recorded is None:  # local.json was lost; the server was not
            known.parts[part] = Part(port=port)
            state.save(home, known)
        return
    _stop(part, home, known)  # one that runs but does not answer
    for attempt in range(_ATTEMPTS):
        port = daemon.choose_port(port if attempt == 0 else 0)
        # Before the start: a session that is killed now leaves a port that the
        # next one asks, and finds its own server by its name.
        known.parts[part] = Part(port=port)
        state.save(home, known)
        known.parts[part] = server.start(home, port)
        state.save(home, known)
        found = _wait(known.parts[part], server, owner)
        if found == "ours":
            return
        _stop(part, home, known)
        if found is None:
            break
    log = server.log(home)
    raise LocalEnvironmentError(
        f"the local {part} did not start on port {port} ({daemon.last_line(log) or 'no output'})",
        "Read its log, then run 'python -m ci local up' again",
        log=log,
    )


def _wait(part: Part, server: _Server, owner: str) -> Literal["ours", "foreign"] | None:
    """Who answers on the part's port in the end; None when nobody does."""
    deadline = time.monotonic() + server.ready_seconds
    found = None
    while time.monotonic() < deadline:
        alive = _alive(part)  # asked first: who took the port from a dead one answers by now
        found = server.whose(part.port, owner)
        if found == "ours" or not alive:
            break
        time.sleep(0.05)
    return found


def _alive(part: Part) -> bool:
    if part.container is not None:
        return registry.container_running(part.container)
    return daemon.running(part.process)


def _stop(part: str, home: Path, known: State) -> bool:
    """Stop one part and forget its process; its port stays known."""
    recorded = known.parts.get(part)
    if recorded is None:
        return False
    stopped = False
    if recorded.process is not None:
        stopped = daemon.stop(recorded.process)
        if part == "aws":
            stand_in.remove_containers(home, recorded.port)
    elif recorded.container is not None:
        stopped = registry.remove_container(recorded.container)
    known.parts[part] = Part(port=recorded.port)
    state.save(home, known)
    return stopped


def _left(home: Path, part: Part, wipe: bool) -> str:
    """What to do about the containers of a part that no engine was asked to remove."""
    if not wipe:  # the part stays known, so that the next time finds them
        return "Once it runs, 'python -m ci local down' removes them"
    which = part.container or (f"$(docker ps -aq --filter label={stand_in.label(home, part.port)})")
    return f"Once it runs, remove them: docker rm -fv {which}"


def _status(part: str, server: _Server, home: Path, known: State) -> Status:
    recorded = known.parts.get(part)
    if recorded is None:
        return Status(part, "stopped", "", None)
    address = f"{daemon.LOOPBACK}:{recorded.port}"
    pid = recorded.process.pid if recorded.process and daemon.running(recorded.process) else None
    if server.whose(recorded.port, state.name(home)) == "ours":
        return Status(part, "running", address, pid)
    return Status(part, "not answering" if pid else "stopped", address, pid)


def _wipe(home: Path) -> None:
    """Remove what is ours. The directory may be a person's own by mistake."""
    for entry in state.OWN:
        path = home / entry
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise WriteError(
                f"{path} could not be removed ({error.strerror})",
                "Mend its permissions and run 'python -m ci local down --wipe' again",
            ) from error
