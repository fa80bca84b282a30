"""A run on a server, from upload to verdict: what it gave comes from the metadata store,
and why it failed from its pods, all through one connection. Both servers are fakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ci_tools.kubeflow import auth
from tests.fakes import metadata
from tests.fakes.kubeflow import FakeKubeflow, serve
from tests.unit.test_kubeflow_server import client, launch

STORE = "/ml_metadata.MetadataStoreService/"
Write = Callable[[metadata.FakeMetadata, str, int], None]


@pytest.fixture
def fake() -> Iterator[FakeKubeflow]:
    with serve(FakeKubeflow()) as one:
        yield one


class Behind:
    """The metadata store and the pods' logs, on the API server's own host."""

    def __init__(self, fake: FakeKubeflow, write: Write, log: bytes = b"") -> None:
        self.fake, self.write, self.log = fake, write, log
        self.store = metadata.FakeMetadata()
        self.headers: list[dict[str, str]] = []

    def __call__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
        if path.startswith("/k8s/pod/logs?podname=demo-go-1&"):
            self.headers.append(headers)
            return 200, {"kind": "text/plain"}, self.log
        if not path.startswith(STORE):
            return None
        self.headers.append(headers)
        (run_id,) = self.fake.runs
        if run_id not in self.store.contexts:
            self.write(self.store, run_id, self.store.run(run_id))
        answer = self.store.call(path.removeprefix(STORE), metadata.read(body[5:]))
        content = metadata.frame(0, answer) + metadata.trailers(0)
        return 200, {"kind": metadata.KIND}, content


def test_metrics_and_artefacts_of_a_run(fake: FakeKubeflow, tmp_path: Path) -> None:
    def write(store: metadata.FakeMetadata, run_id: str, root: int) -> None:
        step = store.execution(run_id, "go", root)
        store.artifact(step, "scores", "system.Metrics", "s3://b/scores", accuracy=0.93)
        store.artifact(step, "model", "system.Model", "s3://b/model")

    fake.gate = behind = Behind(fake, write)
    credentials = auth.bearer(lambda: "tok", what="a token", remedy="-")
    run = launch(client(fake, namespace="team", credentials=credentials), tmp_path, "demo")
    assert (run.state, run.unknown) == ("SUCCEEDED", "")
    assert run.metrics == {"accuracy": 0.93}
    assert run.artifacts["go.model"].uri == "s3://b/model"
    assert {it["authorization"] for it in behind.headers} == {"Bearer tok"}


def test_why_a_task_failed(fake: FakeKubeflow, tmp_path: Path) -> None:
    def write(store: metadata.FakeMetadata, run_id: str, root: int) -> None:
        store.execution(run_id, "go", root, state=metadata.FAILED, pod_name="demo-go-1")

    log = b"reading rows\nTraceback (most recent call last):\n\x1b[31mKeyError: 'age'\x1b[0m\n"
    fake.gate = Behind(fake, write, log)
    fake.states = ["FAILED"]
    fake.task_details = [{"display_name": "go", "state": "FAILED"}]
    run = launch(client(fake, namespace="team"), tmp_path, "demo")
    assert run.state == "FAILED"
    assert run.message.startswith("task 'go' failed")
    assert "KeyError: 'age'" in run.message
    assert "\x1b" not in run.message
    assert "reading rows" in (tmp_path / "logs/run.log").read_text()


def test_without_a_store_nothing_is_known_and_it_is_said(
    fake: FakeKubeflow, tmp_path: Path
) -> None:
    run = launch(client(fake), tmp_path, "demo")
    assert run.state == "SUCCEEDED"
    assert (run.metrics, run.outputs) == ({}, {})
    assert "metadata" in run.unknown
