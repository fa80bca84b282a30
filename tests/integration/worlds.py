"""Worlds to promote in, each a production of its own, on what `promoting` says is real and
what is fake.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from ci import history, live, promote
from ci.promotion.target import Target
from ci_tools import documents as d
from ci_tools.images import referrers, referrers_tag
from ci_tools.images.registry import Registry
from ci_tools.kubeflow import ir
from ci_tools.promotion import lease
from ci_tools.release import bundle as bundles
from ci_tools.release import signing, store
from ci_tools.release.bundle import Bundle
from tests.fakes.kubeflow import FakeKubeflow, serve
from tests.fakes.releases import Pen
from tests.integration import promoting, registries
from tests.integration.contents import image

ROOT = Path(__file__).parents[2]
SBOM = "application/vnd.cyclonedx+json"
IR = """\
components:
  comp-train:
    executorLabel: exec-train
deploymentSpec:
  executors:
    exec-train:
      container:
        image: {image}
        command: [train]
pipelineInfo:
  name: training
root:
  dag:
    tasks:
      train:
        componentRef:
          name: comp-train
        taskInfo:
          name: train
schemaVersion: 2.1.0
sdkVersion: kfp-2.11.0
"""


class Driver:
    """Commands in processes that may be killed. Safe to use from several threads."""

    def __init__(self, errors: Path) -> None:
        self.errors = errors
        self._lock = threading.Lock()
        self._under_way: dict[int, Future[int]] = {}
        with errors.open("w") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.promoting"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._child.stdout
        for line in self._child.stdout:
            answer = json.loads(line)
            self._under_way.pop(answer["id"]).set_result(answer["code"])
        for one in self._under_way.values():
            one.set_exception(AssertionError(self.errors.read_text()))

    def __call__(self, world: World, do: str, release: str = "", kill: int = 0) -> int:
        ended: Future[int] = Future()
        request = {
            "id": id(ended), "do": do, "release": release, "kill": kill,
            "folder": str(world.folder), "repository": str(world.written()),
        }  # fmt: skip
        assert self._child.stdin
        with self._lock:
            self._under_way[id(ended)] = ended
            self._child.stdin.write(json.dumps(request) + "\n")
            self._child.stdin.flush()
        return ended.result(timeout=600)

    def close(self) -> None:
        assert self._child.stdin
        self._child.stdin.close()
        self._child.wait(timeout=300)


@dataclass
class Parts:
    """What all worlds share."""

    dev: str
    prod: str
    storage: Path  # of prod's registry, a directory for each prefix
    kubeflow: FakeKubeflow
    origin: Path
    repository: Path
    commits: list[str]
    pen: Pen
    driver: Driver
    worlds: int = 0
    releases: dict[str, Bundle] = field(default_factory=dict)

    def made(self, number: int, *, sign: bool = True, **changes: Any) -> Bundle:
        """A release of two images, a pipeline and a service, published in dev."""
        references = {}
        for name in ("train", "serve"):
            put = image(
                self.dev, f"ml/{name}", b"base" * 1000, f"{name} {number}".encode() * 50,
            )  # fmt: skip
            references[name] = f"{self.dev}/ml/{name}@{put['digest']}"
            registry = Registry(self.dev)
            if not referrers.attached(registry, f"ml/{name}", put["digest"], SBOM):
                referrers.attach(
                    registry, f"ml/{name}", put["digest"], artifact_type=SBOM,
                    files={SBOM: b'{"of": "%d"}' % number}, annotations={},
                )  # fmt: skip
        text = IR.format(image=references["train"])
        files = {
            "pipelines/training.yaml": text.encode(),
            "servables/serve.yaml": b"service: answers\nport: 8080\n",
        }
        revision = d.Revision(
            service="answers", cluster="dev", image=references["serve"], model=None,
            task_definition="arn:dev", task_definition_sha256="f" * 64, changed=True,
        )  # fmt: skip
        whole: dict[str, Any] = {
            "name": "",
            "project": "ml",
            "environment": "dev",
            "source": d.Source(commit=self.commits[number], branch="main"),
            "repository": "https://git.example/ml",
            "images": {
                name: d.ReleasedImage(
                    reference=reference, digest=reference.partition("@")[2], key="k" * 64,
                    verdict=d.Verdict(status="pass", trivy="1", database="d", policy="p"),
                    tests="passed",
                )
                for name, reference in references.items()
            },
            "pipelines": {
                "training": d.ReleasedPipeline(
                    sha256=ir.canonical_sha256(ir.parse(text, "x")),
                    file="pipelines/training.yaml",
                    components=["train"], images=[references["train"]],
                    version="v", version_id="1",
                )
            },
            "servables": {
                "serve": d.ReleasedServable(
                    service="answers", file="servables/serve.yaml", image=references["serve"],
                    task_definition_sha256="f" * 64, revision=revision,
                )
            },
        }  # fmt: skip
        made = bundles.of(d.Release(**(whole | changes)), files)
        if sign:
            made = signing.sign(made, self.pen)
        store.publish(Registry(self.dev), "ml/releases", made)
        return made

    def world(self, tmp_path: Path, **promotion: Any) -> World:
        self.worlds += 1
        number = self.worlds
        config = {
            "project": "ml",
            "environments": {
                "dev": {"registry": {"host": self.dev}},
                "prod": {
                    "registry": {"host": self.prod, "prefix": f"w{number}"},
                    "kubeflow": {"endpoint": self.kubeflow.endpoint, "namespace": f"w{number}"},
                    "service": {"cluster": "prod", "region": "eu-west-1"},
                    "promotion": {
                        "keys": ["release.pub"], "after": "dev", "branches": ["main"],
                        "approvals": 1, **promotion,
                    },
                },
            },
        }  # fmt: skip
        folder = tmp_path / f"w{number}"
        folder.mkdir()
        subprocess.run(
            ["git", "clone", "-q", "--shared", self.repository, folder / "repository"], check=True
        )
        subprocess.run(
            ["git", "-C", folder / "repository", "remote", "set-url", "origin", self.origin],
            check=True,
        )
        return World(self, folder, f"w{number}", config)


@dataclass
class World:
    """One production of its own. prefix: of its repositories, and its namespace."""

    parts: Parts
    folder: Path
    prefix: str
    config: dict[str, Any]

    def written(self) -> Path:
        """The clone, with its ci.yaml as it is to be now."""
        (self.repository / "ci.yaml").write_text(yaml.safe_dump(self.config))
        return self.repository

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    def fresh(self, folder: Path | None = None) -> Any:
        promoting.fakes(self.folder)
        return promoting.workspace(folder or self.folder, self.written())

    def promote(self, what: str, **asked: Any) -> d.Promotion:
        request = promote.Request(**{"approvals": ("ann",), **asked})
        return promote.promote(self.fresh(), what, request)

    def rollback(self, what: str | None = None, **asked: Any) -> d.Promotion:
        request = promote.Request(**{"approvals": ("ann",), **asked})
        return promote.rollback(self.fresh(), what, request)

    def versions(self) -> list[str]:
        """Pipeline and commit of each version, the oldest first. What else is in its name
        is a hash, also over where the images are."""
        kubeflow = self.parts.kubeflow
        return [
            f"{kubeflow.pipelines[one['pipeline_id']]['name']} {one['name'][:12]}"
            for one in kubeflow.versions.values()
            if kubeflow.pipelines[one["pipeline_id"]]["namespace"] == self.prefix
        ]

    def seen(self) -> dict[str, Any]:
        """All that anybody who uses production can see."""
        space = self.fresh()
        services = promoting.FileServices(self.folder / "services.json").read()
        kubeflow = self.parts.kubeflow
        return {
            "runs": history.history(space).runs,
            "services": {
                name: (one["runs"], one["desired"])
                for name, one in services.items()
                if one["desired"]
            },
            "versions": self.versions(),
            "pipelines": [
                one["name"] for one in kubeflow.pipelines.values()
                if one["namespace"] == self.prefix
            ],
        }  # fmt: skip

    def copied(self) -> World:
        """Another world that is as this one, to go on from there."""
        parts, before = self.parts, self.prefix
        parts.worlds += 1
        after = f"w{parts.worlds}"
        # What in it names this world's registry, nobody reads again.
        shutil.copytree(parts.storage / before, parts.storage / after)
        folder = self.folder.with_name(after)
        shutil.copytree(self.folder, folder)
        parts.kubeflow.copy(before, after)
        config = copy.deepcopy(self.config)
        config["environments"]["prod"]["registry"]["prefix"] = after
        config["environments"]["prod"]["kubeflow"]["namespace"] = after
        return World(parts, folder, after, config)

    def actions(self) -> list[str]:
        """What the driver's last command in this world did, as far as it came."""
        return (self.folder / "actions").read_text().split("\n")[:-1]

    def image_of(self, bundle: Bundle, name: str) -> str:
        digest = bundle.release.images[name].digest
        return f"{self.parts.prod}/{self.prefix}/ml/{name}@{digest}"


@contextmanager
def running(home: Path) -> Iterator[Parts]:
    """Registries, Kubeflow, git and three releases `a`, `b`, `c`, gone afterwards."""
    origin, clone = home / "origin.git", home / "clone"

    def git(*arguments: str, at: Path = clone) -> str:
        return subprocess.run(
            ["git", "-C", at, "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments],
            check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip

    origin.mkdir()
    clone.mkdir()
    git("init", "-q", "--bare", at=origin)
    git("init", "-q", "-b", "main")
    git("remote", "add", "origin", str(origin))
    pen = Pen()
    (clone / "release.pub").write_bytes(pen.key.pem)
    commits = []
    for number in range(4):
        git("add", "-A")
        git("commit", "-q", "--allow-empty", "-m", str(number))
        commits.append(git("rev-parse", "HEAD"))
    git("push", "-q", "origin", "main")
    git("checkout", "-q", "-b", "feature")
    git("commit", "-q", "--allow-empty", "-m", "not on main")
    commits.append(git("rev-parse", "HEAD"))
    git("push", "-q", "origin", "feature")
    driver = Driver(home / "errors")
    with (
        pytest.MonkeyPatch.context() as patched,
        registries.registry(home / "dev") as dev,
        registries.registry(home / "prod") as prod,
        serve(FakeKubeflow()) as kubeflow,
    ):
        put_back(patched)  # what is done before the first test, too
        storage = home / "prod/data/docker/registry/v2/repositories"
        made = Parts(dev, prod, storage, kubeflow, origin, clone, commits, pen, driver)
        made.releases = {"a": made.made(0), "b": made.made(1), "c": made.made(2)}
        yield made
        driver.close()


def put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what `promoting.fakes` replaces be put back after a test."""
    monkeypatch.setattr(live, "judged", live.judged)
    monkeypatch.setattr(Target, "services", Target.__dict__["services"])
    monkeypatch.setattr(lease, "TIMING", lease.TIMING)
    monkeypatch.setattr(referrers_tag, "_SETTLED", referrers_tag._SETTLED)
    monkeypatch.setenv("BUILD_USER_ID", "eve")


def name(parts: Parts, key: str) -> str:
    return parts.releases[key].release.name


def fixtures() -> tuple[Any, Any]:
    """Of a module of tests: `parts`, that all of its tests share, and `world`, each test's own."""

    @pytest.fixture(scope="module")
    def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
        with running(tmp_path_factory.mktemp("parts")) as made:
            yield made

    @pytest.fixture
    def world(parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
        put_back(monkeypatch)
        return parts.world(tmp_path)

    return parts, world
