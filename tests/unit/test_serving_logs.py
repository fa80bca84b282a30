"""What containers wrote, told once each and in order."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import islice
from pathlib import Path
from typing import Any

import boto3
import docker
import moto
import pytest

from ci_tools.config import PredictionService
from ci_tools.errors import EngineError, ServiceError
from ci_tools.local import registry, stand_in
from ci_tools.serving import logs
from ci_tools.serving.logs import Line, tail

THEN = datetime(2024, 1, 1, 12, tzinfo=timezone.utc)
SETTINGS = PredictionService(cluster="prod", region="eu-west-1")


def line(seconds: float, message: str) -> Line:
    at = (THEN + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
    return Line(at=at, container="iris", task="t", message=message, key=message)


def test_without_following_it_ends() -> None:
    assert list(tail(lambda _: [line(1, "a")], THEN, follow=False)) == [line(1, "a")]


def test_following_tells_each_line_once_late_ones_too() -> None:
    written = [line(1, "a"), line(30, "b"), line(29, "late"), line(31, "c"), line(31, "c2")]
    there = 2
    asked: list[datetime] = []

    def fetch(since: datetime) -> list[Line]:
        asked.append(since)
        moments = [one for one in written[:there] if datetime.fromisoformat(one.at) >= since]
        return sorted(moments, key=lambda one: one.at)

    def sleep(_: float) -> None:
        nonlocal there
        there = min(there + 1, len(written))

    found = list(islice(tail(fetch, THEN, follow=True, sleep=sleep), 5))
    assert [one.message for one in found] == ["a", "b", "late", "c", "c2"]
    assert asked[0] == THEN
    assert asked[-1] > THEN  # not everything is asked for again


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "x")
    with moto.mock_aws():
        yield boto3.client("logs", region_name="eu-west-1")


def put(client: Any, container: str, *messages: tuple[int, str]) -> None:
    stream = f"ecs/{container}/task1"
    client.create_log_stream(logGroupName="/ecs/iris", logStreamName=stream)
    now = datetime.now(timezone.utc).timestamp()
    client.put_log_events(
        logGroupName="/ecs/iris",
        logStreamName=stream,
        logEvents=[
            {"timestamp": int((now - ago) * 1000), "message": said} for ago, said in messages
        ],
    )


def test_lines_of_cloudwatch(client: Any) -> None:
    client.create_log_group(logGroupName="/ecs/iris")
    put(client, "iris", (3000, "old"), (500, "one \x1b[2J ERROR"), (300, "three"))
    put(client, "proxy", (400, "two"))
    since = datetime.now(timezone.utc) - timedelta(minutes=10)

    def messages(**changes: Any) -> list[tuple[str, str, str]]:
        asked = {"pattern": None, "container": None, **changes}
        fetch = logs.cloudwatch(SETTINGS, lambda _: client, "/ecs/iris", **asked)
        return [(one.container, one.task, one.message) for one in fetch(since)]

    assert messages() == [
        ("iris", "task1", "one [2J ERROR"),  # and no escape for the terminal
        ("proxy", "task1", "two"),
        ("iris", "task1", "three"),
    ]
    assert [message for *_, message in messages(container="proxy")] == ["two"]
    assert [message for *_, message in messages(pattern="ERROR")] == ["one [2J ERROR"]


def test_a_group_that_is_not_there_is_told(client: Any) -> None:
    fetch = logs.cloudwatch(SETTINGS, lambda _: client, "/none", pattern=None, container=None)
    with pytest.raises(ServiceError, match="CloudWatch Logs refuses FilterLogEvents"):
        fetch(THEN)


@pytest.mark.parametrize(
    ("stamp", "at"),
    [
        ("2024-01-01T12:00:00.123456789Z", "2024-01-01T12:00:00.123456+00:00"),
        ("2024-01-01T12:00:00.12Z", "2024-01-01T12:00:00.120000+00:00"),
        ("2024-01-01T12:00:00Z", "2024-01-01T12:00:00.000000+00:00"),
    ],
)
def test_the_engines_moments(stamp: str, at: str) -> None:
    (one,) = logs._engine_lines(f"{stamp} said \xff\n".encode("latin-1"), "iris", "t")
    assert (one.at, one.message) == (at, "said \ufffd")


def test_a_progress_bar_of_a_container_is_one_line() -> None:
    said = "2024-01-01T12:00:00Z 10%\r20%\r\n2024-01-01T12:00:01Z a\x0cb\u2028c\n"
    bar, last = logs._engine_lines(said.encode(), "iris", "t")
    assert "10%" in bar.message
    assert "20%" in bar.message
    assert last.at.startswith("2024-01-01T12:00:01")


@pytest.fixture
def a_container_that_went(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that lists a container which is gone when it is asked for."""
    monkeypatch.setattr("docker.APIClient._retrieve_server_version", lambda _: "1.45")
    monkeypatch.setattr("docker.APIClient.containers", lambda *_, **__: [{"Id": "a"}])

    def gone(*_: Any) -> None:
        raise docker.errors.NotFound("no such container: a")

    monkeypatch.setattr("docker.APIClient.inspect_container", gone)


@pytest.mark.usefixtures("a_container_that_went")
def test_a_container_that_goes_while_the_engine_is_asked_is_no_failure(tmp_path: Path) -> None:
    assert logs.engine("label", "svc", pattern=None, container=None)(THEN) == []
    assert stand_in.remove_containers(tmp_path, 1) == 0


def test_an_engine_that_goes_in_the_middle_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It told its version and then was gone: requests' error, which docker-py lets out."""
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    monkeypatch.setattr("docker.APIClient._retrieve_server_version", lambda _: "1.45")
    with pytest.raises(EngineError):
        logs.engine("label", "svc", pattern=None, container=None)(THEN)
    for ask in (
        lambda: stand_in.remove_containers(tmp_path, 1),
        lambda: registry.remove_container("a"),
        lambda: registry.container_running("a"),
    ):
        with pytest.raises(EngineError):
            ask()
