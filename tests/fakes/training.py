"""A repository whose environment is a fake API server and a fake registry, for tests only."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ci import train
from ci.workspace import Workspace
from ci_tools import process, storage
from ci_tools.documents import Artifact, Training, Uploads
from ci_tools.kubeflow import evidence, ir, server
from ci_tools.kubeflow.aftermath import FailedTask, Outcome
from ci_tools.kubeflow.names import ending
from ci_tools.kubeflow.wanted import Wanted
from tests.fakes import kubeflow as fake_kubeflow
from tests.fakes import registry as fake_registry
from tests.unit.test_kubeflow_server import spec


class World:
    """A repository with uploaded pipelines, and what its environment `dev` is.

    metrics, artifacts, logs: what is found out of a run after its end.
    """

    def __init__(self, repository: Any, kubeflow: Any, registry: Any, host: str) -> None:
        self.repository, self.kubeflow, self.registry, self.host = (
            repository, kubeflow, registry, host,
        )  # fmt: skip
        self.metrics: dict[str, float] = {"accuracy": 0.95}
        self.artifacts: dict[str, Artifact] = {}
        self.logs: list[FailedTask] = []
        self.pipelines: dict[str, str] = {"training": spec()}
        self.tests: dict[str, str] = {}
        self.branches = ""
        self._tagged: set[str] = set()
        registry.before = self._by_repository
        self.commit()

    def _by_repository(self, method: str, path: str) -> Any:
        """The fake has one set of tags for all repositories; a registry has not."""
        if "/manifests/" in path and "/manifests/sha256:" not in path:
            if method == "PUT":
                self._tagged.add(path)
            elif path not in self._tagged:
                return fake_registry.error(404, "MANIFEST_UNKNOWN")
        return None

    def commit(self) -> None:
        """Write everything down, as a commit, and upload the pipelines."""
        self.repository.write(
            "ci.yaml",
            f"project: ml\nenvironments: {{dev: {{registry: {{host: '{self.host}'{self.branches}}},"
            f" kubeflow: {{endpoint: '{self.kubeflow.endpoint}'}}}}}}\n",
        )
        self.repository.write(".gitignore", "build\n")
        for name, text in self.tests.items():
            self.repository.write(f"pipelines/{name}.test.yaml", text)
        self.repository.commit()
        client = server.KubeflowServer(self.workspace().environment.kubeflow)  # type: ignore[arg-type]
        uploads = Uploads(environment="dev", pipelines={})
        for name, text in self.pipelines.items():
            path = self.repository.write(f"build/pipelines/{name}.yaml", text)
            sha256 = ir.canonical_sha256(ir.load(path))
            uploads.pipelines[name] = client.upload(
                Wanted(name, path, sha256, f"v{ending(sha256)}")
            )
        storage.write(self.repository.root / "build/uploads.json", uploads)

    def workspace(self) -> Workspace:
        root = self.repository.root
        return Workspace(repository=root, build=root / "build", environment_name="dev",
                         home=root / "build/home")  # fmt: skip

    def train(self, *names: str, **options: Any) -> Training:
        return train.train(self.workspace(), names, options.pop("parameters", None), **options)

    def argo_says(self, message: str) -> None:
        """Of the pod of task `go`, in every run."""
        node = {"type": "Pod", "phase": "Failed", "message": message, "name": "w.root.go.executor"}
        self.kubeflow.nodes = {"w-1": node}

    def launched(self) -> list[str]:
        return [run["display_name"] for run in self.kubeflow.runs.values()]

    def cases(self) -> dict[str, str]:
        """Of the JUnit report: suite/case -> passed, or what stands there instead."""
        root = ET.parse(self.repository.root / "build/reports/training.xml").getroot()
        return {
            f"{case.get('classname')}/{case.get('name')}": (
                "passed" if len(case) == 0 else f"{case[0].tag}: {case[0].get('message')}"
            )
            for case in root.iter("testcase")
        }


def declaring(pipeline: str = "training", **tests: str) -> str:
    body = "".join(f"  {name}: {text}\n" for name, text in tests.items())
    return f"pipeline: {pipeline}\ntests:\n{body}"


@contextmanager
def made(repository: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A world that is quick and knows of no branch but the repository's."""
    for name in ("CHANGE_ID", "BRANCH_NAME", "GIT_BRANCH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(process, "_stopping", False)
    monkeypatch.setattr(train, "_LAST_WORDS_SECONDS", 60.0)  # a busy machine needs more
    monkeypatch.setitem(server.KubeflowServer.__init__.__kwdefaults__, "poll", (0.01, 0.05))
    monkeypatch.setitem(server.KubeflowServer.__init__.__kwdefaults__, "patience", 30.0)
    registry = fake_registry.FakeRegistry()
    with (
        fake_kubeflow.serve(fake_kubeflow.FakeKubeflow()) as kubeflow,
        fake_registry.serve(registry) as host,
    ):
        one = World(repository, kubeflow, registry, host)
        monkeypatch.setattr(
            evidence, "outcome", lambda *_: Outcome(metrics=one.metrics, artifacts=one.artifacts)
        )
        monkeypatch.setattr(evidence, "logs", lambda *_, **__: one.logs)
        yield one


def until(condition: Callable[[], bool]) -> None:
    for _ in range(30_000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to that")


TWO = declaring(smoke="{parameters: {rows: 1}}", full="{parameters: {rows: 2}}")
