"""What the engine is asked for, and how a step's end is told, on an engine that is a script."""

from __future__ import annotations

from typing import Any

import pytest

from ci_tools.kubeflow import containers
from ci_tools.kubeflow.containers import DockerEngine, Door, Ended
from ci_tools.kubeflow.local.limits import Limits, Machine
from ci_tools.kubeflow.local.platform import Surroundings

BARE = Surroundings({}, frozenset(), {}, {}, 0, 0.0, ())


class Client:
    """One engine whose only container ends as `state` says."""

    def __init__(self, info: dict[str, Any], code: int = 0, **state: Any) -> None:
        self._info, self._code = info, code
        self.attrs = {"State": state}
        self.asked: dict[str, Any] = {}
        self.removed = 0
        self.containers = self.images = self

    def info(self) -> dict[str, Any]:
        return {"NCPU": 2, "MemTotal": 1 << 30} | self._info

    def get(self, image: str) -> None:
        pass

    def create(self, image: str, **asked: Any) -> Client:
        self.asked = {"image": image} | asked
        return self

    def start(self) -> None:
        pass

    def logs(self, **_: Any) -> list[bytes]:
        return [b"one\ntw", b"o\n"]

    def wait(self) -> dict[str, int]:
        return {"StatusCode": self._code}

    def reload(self) -> None:
        pass

    def remove(self, **_: Any) -> None:
        self.removed += 1

    def close(self) -> None:
        pass


def run(
    client: Client, monkeypatch: pytest.MonkeyPatch, limits: Limits, around: Surroundings = BARE
) -> tuple[Ended, list[str], Machine]:
    monkeypatch.setattr("docker.from_env", lambda **_: client)
    engine, lines = DockerEngine("r1", "7:8"), list[str]()
    ended = engine.run(
        "i@sha256:0",
        ["prog", "a"],
        task="train#1",
        environment={"A": "1"},
        volumes={"/w": {"bind": "/w", "mode": "rw"}},
        limits=limits,
        surroundings=around,
        line=lines.append,
    )
    return ended, lines, engine.machine


def test_nothing_that_was_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client({})
    ended, lines, machine = run(client, monkeypatch, Limits())
    assert (ended, lines, machine) == (Ended(0, ""), ["one", "two"], Machine(2, 1 << 30, False))
    assert client.asked == {
        "image": "i@sha256:0",
        "entrypoint": ["prog"],
        "command": ["a"],
        "volumes": {"/w": {"bind": "/w", "mode": "rw"}},
        "environment": {"A": "1", "HOME": "/tmp"},
        "user": "7:8",
        "labels": {"kfp-ci.run": "r1", "kfp-ci.task": "train#1"},
    }
    assert client.removed == 1


def test_limits_and_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client({"Runtimes": {"nvidia": {}}, "SecurityOptions": ["name=selinux"]})
    around = BARE._replace(tmpfs={"/t": "mode=1777"}, shared_memory=64)
    _, _, machine = run(client, monkeypatch, Limits(500, 1000, "1k", gpus=2), around)
    assert machine.gpus
    (request,) = client.asked["device_requests"]
    assert (request["Count"], request["Capabilities"]) == (2, [["gpu"]])
    wanted = {"nano_cpus": 500, "mem_limit": 1000, "memswap_limit": 1000, "shm_size": 64}
    assert wanted.items() <= client.asked.items()
    assert client.asked["tmpfs"] == {"/t": "mode=1777"}
    assert client.asked["volumes"] == {"/w": {"bind": "/w", "mode": "rw,z"}}


@pytest.mark.parametrize(
    ("code", "killed", "limits", "reason"),
    [
        (3, False, Limits(), "exit code 3"),
        (137, True, Limits(), "exit code 137, out of memory"),
        (
            137,
            True,
            Limits(memory_bytes=1, memory="256Mi"),
            "exit code 137, out of memory (limit 256Mi)",
        ),
        (137, False, Limits(memory_bytes=1, memory="256Mi"), "exit code 137"),
    ],
)
def test_how_it_ended(
    monkeypatch: pytest.MonkeyPatch, code: int, killed: bool, limits: Limits, reason: str
) -> None:
    client = Client({}, code, OOMKilled=killed)
    assert run(client, monkeypatch, limits)[0] == Ended(code, reason)
    assert client.removed == 1


def test_a_run_that_is_being_stopped_gets_no_container(monkeypatch: pytest.MonkeyPatch) -> None:
    door = Door()
    door.close(0)
    monkeypatch.setattr(containers, "DOOR", door)
    client = Client({})
    ended = run(client, monkeypatch, Limits())[0]
    assert ended == Ended(125, "the run is being stopped", started=False)
    assert client.asked == {}
