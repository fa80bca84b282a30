"""The lock between machines in S3: ministack as the server, and processes as the machines.

Oracle: the object itself, as a client of our own reads it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.integration.repositories import Machine

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
MANY = 6


class Contender:
    def __init__(self, name: str, folder: Path, endpoint: str, uri: str) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.contender", uri, str(folder / name), name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env={
                **os.environ, "PYTHONPATH": str(ROOT), "AWS_ENDPOINT_URL_S3": endpoint,
                "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
                "AWS_DEFAULT_REGION": "us-east-1",
            },
        )  # fmt: skip

    def send(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def __call__(self, line: str) -> str:
        self.send(line)
        return self.answer()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.kill()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream
            with suppress(BrokenPipeError):  # what it was never sent
                stream.close()


@pytest.fixture(scope="module")
def s3(machine: Machine) -> Any:
    client = boto3.client(
        "s3", endpoint_url=machine.endpoints.aws, region_name="us-east-1",
        aws_access_key_id="test", aws_secret_access_key="test",
    )  # fmt: skip
    client.create_bucket(Bucket="locks")
    return client


@pytest.fixture
def machines(
    machine: Machine, tmp_path: Path, s3: Any
) -> Iterator[Callable[[int], list[Contender]]]:
    with ExitStack() as stack:

        def made(count: int) -> list[Contender]:
            several = [
                Contender(f"machine-{number}", tmp_path, machine.endpoints.aws, "s3://locks/x")
                for number in range(count)
            ]
            for one in several:
                stack.callback(one.close)
            assert {one.answer() for one in several} == {"ready"}
            return several

        yield made


def held(s3: Any, name: str) -> dict[str, Any]:
    body = s3.get_object(Bucket="locks", Key=f"x/{name}")["Body"].read()
    return json.loads(body)


def all_at_once(several: list[Contender], line: str) -> dict[str, str]:
    for one in several:
        one.send(line)
    return {one.name: one.answer() for one in several}


def test_of_many_machines_at_once_exactly_one_gets_it(
    machines: Callable[[int], list[Contender]], s3: Any
) -> None:
    several = machines(MANY)
    for number in range(10):
        name = f"many-{number}"
        told = all_at_once(several, f"claim {name}")
        inside = [one for one in several if told[one.name] == "in"]
        assert len(inside) == 1, told
        assert all(one == "in" or "is promoting to 'prod'" in one for one in told.values()), told
        assert held(s3, name)["who"] == inside[0].name
        assert inside[0]("check") == "ours"
        assert inside[0]("leave") == "left"
        assert held(s3, name)["over"]


def test_of_many_who_take_it_over_exactly_one_gets_it(
    machines: Callable[[int], list[Contender]], s3: Any
) -> None:
    """The race for an object that is there: each has read the same one."""
    several = machines(MANY)
    for number in range(10):
        name = f"again-{number}"
        gone = {"nonce": "0", "who": "it", "release": "release-0", "machine": "m", "at": 0.0}
        body = json.dumps({**gone, "over": True}).encode()
        s3.put_object(Bucket="locks", Key=f"x/{name}", Body=body)
        told = all_at_once(several, f"claim {name}")
        inside = [one for one in several if told[one.name] == "in"]
        assert len(inside) == 1, told
        assert held(s3, name)["who"] == inside[0].name
        assert inside[0]("check") == "ours"
        inside[0]("leave")


def test_who_was_killed_is_waited_for_and_taken_over_from(
    machines: Callable[[int], list[Contender]], s3: Any
) -> None:
    first, second, third = machines(3)
    assert first("claim killed") == "in"
    # It lives longer than a claim does without a sign of life.
    assert second("claim killed wait=12") == "away: machine-0 with release-1 is promoting to 'prod'"
    assert first("check") == "ours"
    first.kill()
    assert third("claim killed").startswith("away: machine-0")
    assert third("claim killed wait=300") == "in"
    assert held(s3, "killed")["who"] == "machine-2"
    assert second("claim killed").startswith("away: machine-2")


def test_who_stood_still_and_was_overtaken_goes_no_step_further(
    machines: Callable[[int], list[Contender]], s3: Any
) -> None:
    first, second = machines(2)
    assert first("claim still") == "in"
    first.process.send_signal(signal.SIGSTOP)
    assert second("claim still wait=300") == "in"
    first.process.send_signal(signal.SIGCONT)
    told = first("check")
    assert told == "out: machine-1, who took the lock over, is promoting to 'prod'"
    assert first("leave") == "left"  # nothing that is another's
    assert second("check") == "ours"
    assert not held(s3, "still")["over"]


def test_it_is_broken_on_demand(machines: Callable[[int], list[Contender]]) -> None:
    first, second = machines(2)
    assert first("claim broken") == "in"
    assert second("claim broken").startswith("away: machine-0")
    assert second("claim broken take") == "in"
    assert first("check").startswith("out: machine-1, who took the lock over,")
    assert second("check") == "ours"
