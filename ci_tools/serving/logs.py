"""What a service's containers wrote: in CloudWatch, or on this machine's engine."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec

from ci_tools.config import PredictionService
from ci_tools.serving import aws
from ci_tools.serving.asked import Client
from ci_tools.serving.rollout import text
from ci_tools.serving.task_definition import LOG_STREAMS

_LONGEST = 4000  # characters of a line
_LATE = timedelta(seconds=10)  # lines of several tasks do not arrive in order
_PAUSE = 1.0


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """at: RFC 3339, UTC. task: its id. key: tells it from an equal line."""

    at: str
    container: str
    task: str
    message: str
    key: str = ""


Fetch = Callable[[datetime], list[Line]]  # all lines since then, oldest first


def tail(
    fetch: Fetch,
    since: datetime,
    *,
    follow: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Line]:
    """Lines since then, each once. follow: and those that come, for ever."""
    seen: set[tuple[str, str]] = set()
    while True:
        told = [line for line in fetch(since) if (line.at, line.key) not in seen]
        yield from told
        if not follow:
            return
        if told:
            since = max(since, datetime.fromisoformat(told[-1].at) - _LATE)
            seen = {one for one in seen if datetime.fromisoformat(one[0]) >= since}
            seen |= {(line.at, line.key) for line in told}
        sleep(_PAUSE)


def cloudwatch(
    settings: PredictionService,
    clients: Client,
    group: str,
    *,
    pattern: str | None,
    container: str | None,
) -> Fetch:
    """From CloudWatch Logs. pattern: CloudWatch's own filter pattern.

    What it gives raises CredentialsError, or ServiceError for a group that is
    not there.
    """

    def fetch(since: datetime) -> list[Line]:
        order: dict[str, Any] = {
            "logGroupName": group,
            "startTime": int(since.timestamp() * 1000),
            "logStreamNamePrefix": f"{LOG_STREAMS}/{container}/" if container else LOG_STREAMS,
        }
        if pattern:
            order["filterPattern"] = pattern
        found: list[Line] = []
        with aws.translated(settings, "CloudWatch Logs"):
            pages = clients("logs").get_paginator("filter_log_events").paginate(**order)
            for page in pages:
                found += [_line(event) for event in page["events"]]
        if container:  # the prefix only saves CloudWatch from reading the others
            found = [line for line in found if line.container == container]
        return sorted(found, key=lambda line: (line.at, line.key))

    return fetch


def _line(event: dict[str, Any]) -> Line:
    _, _, rest = event["logStreamName"].partition("/")  # ecs/CONTAINER/TASK
    name, _, task = rest.partition("/")
    at = datetime.fromtimestamp(event["timestamp"] / 1000, timezone.utc)
    return Line(
        at=at.isoformat(timespec="milliseconds"),
        container=name,
        task=task,
        message=text(event["message"], _LONGEST),
        key=event["eventId"],
    )


def engine(label: str, service: str, *, pattern: str | None, container: str | None) -> Fetch:
    """From this machine's engine, for a stand-in's containers.

    label: that all containers of the stand-in bear. pattern: a part of the line.
    What it gives raises EngineError.
    """

    def fetch(since: datetime) -> list[Line]:
        import docker
        from docker.errors import DockerException, NotFound

        from ci_tools.errors import EngineError

        family = f"com.amazonaws.ecs.task-definition-family={service}"
        found: list[Line] = []
        try:
            with contextlib.closing(docker.from_env(timeout=60)) as client:
                # What ends while the list is read is no failure.
                those = client.containers.list(
                    all=True, filters={"label": [label, family]}, ignore_removed=True
                )
                for one in those:
                    name = one.labels.get("com.amazonaws.ecs.container-name", "")
                    if container and name != container:
                        continue
                    task = one.labels.get("com.amazonaws.ecs.task-arn", "").rpartition("/")[2]
                    with contextlib.suppress(NotFound):  # it went meanwhile
                        said = one.logs(timestamps=True, since=since.timestamp())
                        found += _engine_lines(said, name, task)
        except (DockerException, OSError) as error:  # requests' own are the latter
            raise EngineError(
                f"the containers' logs could not be read ({text(error)})", "Start the engine"
            ) from error
        return sorted(
            (line for line in found if not pattern or pattern in line.message),
            key=lambda line: (line.at, line.key),
        )

    return fetch


def _engine_lines(said: bytes, container: str, task: str) -> list[Line]:
    made = []
    # Only what ends a line to the engine: a progress bar's \r does not.
    for raw in said.decode(errors="replace").split("\n"):
        if not raw:
            continue
        stamp, _, message = raw.partition(" ")
        made.append(
            Line(
                at=_moment(stamp).isoformat(timespec="microseconds"),
                container=container,
                task=task,
                message=text(message, _LONGEST),
                key=f"{task}/{stamp}/{message}",
            )
        )
    return made


def _moment(stamp: str) -> datetime:
    """The engine's RFC 3339, which has as many digits as are not zero, up to nine."""
    seconds, _, fraction = stamp.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{seconds}.{fraction[:6].ljust(6, '0')}+00:00")
