"""CI builds and publishes; a clone on a laptop runs with those images, or with its own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from ci_tools.images import buildx
from ci_tools.kubeflow.containers import LABEL
from tests.integration.repositories import (
    BASE,
    Machine,
    Repository,
    component,
    forget_images,
    git,
    in_registry,
)

pytestmark = pytest.mark.integration

TEMPLATE = """
name: train
inputs: [{name: word, type: String}]
outputs: [{name: said, type: String}]
implementation:
  container:
    image: train
    command:
      - /bin/busybox
      - sh
      - -c
      - read -r a < /greeting; read -r b < /said; echo -n "$a $b $0" > "$1"
    args: [{inputValue: word}, {outputPath: said}]
"""
PIPELINE = """
from ci_tools.components import load
from kfp import dsl

train = load("train")


@dsl.pipeline(name="training")
def training(word: str = "hello") -> str:
    return train(word=word).outputs["said"]
"""
DOCKERFILE = "FROM base\nCOPY said /said\n"


@pytest.fixture(scope="module")
def ci(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository that CI built on main, for environment `dev`."""
    made = machine.repository(
        tmp_path_factory.mktemp("ci") / "repository",
        {
            **component("base", BASE + "COPY greeting /greeting\n", greeting="old\n"),
            **component("train", DOCKERFILE, said="from CI\n"),
            "component_specs/train.yaml": TEMPLATE,
            "pipelines/training.py": PIPELINE,
        },
        environments={
            "dev": {"registry": {"host": machine.registry}, "allow_incomplete_scan": True}
        },
    )
    git(made.path, "branch", "-M", "main")
    answer = made.ci("build", "--plan", "--env", "dev").done()
    assert "the lock is published as" in answer.err
    return made


@pytest.fixture
def laptop(ci: Repository, tmp_path: Path) -> Repository:
    """Somebody's clone, with a branch of his own that no CI has seen."""
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(ci.path), str(clone))
    made = Repository(clone, ci.machine, ci.config)
    git(clone, "checkout", "--quiet", "-b", "mine")
    made.commit()
    return made


@contextlib.contextmanager
def created() -> Iterator[list[dict[str, Any]]]:
    """The containers of runs that the engine made meanwhile, as it tells itself."""
    client = docker.from_env()
    begun, found = int(time.time()), []
    yield found
    filters = {"event": "create", "label": LABEL}
    events = client.events(since=begun, until=int(time.time()) + 1, filters=filters, decode=True)
    found += [event["Actor"]["Attributes"] for event in events]


def run_of(answer: Any) -> dict[str, Any]:
    (run,) = answer.document["runs"]
    assert isinstance(run, dict)
    return run


def folder_of(machine: Machine, run: dict[str, Any]) -> Path:
    folder = Path(run["log"]).parent
    assert machine.endpoints.home in folder.parents
    return folder


def identity(image: str) -> str:
    return str(docker.from_env().images.get(image).id)


def test_a_clone_runs_what_ci_built(ci: Repository, laptop: Repository, spy: Any) -> None:
    with created() as containers:
        answer = laptop.ci(
            "launch", "training", "-p", "word=you", "--json",
            env={"PATH": f"{spy.directory}:{laptop.environment()['PATH']}"},
        ).done()  # fmt: skip
    run = run_of(answer)
    assert run["state"] == "SUCCEEDED"
    assert run["outputs"] == {"Output": "old from CI you"}
    mine = [it for it in containers if it[LABEL] == run["run_id"]]
    assert [it["image"] for it in mine] == [ci.reference("train")]
    assert spy.builds == []
    assert "WARNING" not in answer.err
    assert git(laptop.path, "status", "--porcelain", "--ignored") == ""
    assert not laptop.build.exists()


def test_changes_of_a_component_are_told_and_not_run(laptop: Repository) -> None:
    laptop.write({"components/train/said": "from the laptop\n"})
    answer = laptop.ci("launch", "training", "--json").done()
    assert run_of(answer)["outputs"] == {"Output": "old from CI hello"}
    assert "train has changes here that no image holds" in answer.err


@pytest.fixture
def own(laptop: Repository, tmp_path: Path) -> Iterator[str]:
    """The laptop's own image of `train`, in its engine only."""
    files = component(
        "x", BASE + "COPY said greeting /\n", said="from the laptop\n", greeting="own\n"
    )
    for path, content in files.items():
        target = tmp_path / "own" / Path(path).name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
        target.chmod(0o755)
    tag = f"{laptop.project}-train:dev"
    subprocess.run(["docker", "build", "-q", "-t", tag, str(tmp_path / "own")], check=True)
    yield tag
    docker.from_env().images.remove(tag, force=True)


def test_an_image_of_one_s_own_runs_and_is_never_released(
    laptop: Repository, own: str, tmp_path: Path
) -> None:
    with created() as containers:
        answer = laptop.ci("launch", "training", "--image", f"train={own}", "--json").done()
    run = run_of(answer)
    assert run["outputs"] == {"Output": "own from the laptop hello"}
    assert [it["image"] for it in containers if it[LABEL] == run["run_id"]] == [identity(own)]
    assert f"this run is unpinned (train={own})" in answer.err
    assert answer.document["launched"]["unpinned"] == {"train": identity(own)}
    assert answer.document["launched"]["named"] == {"train": own}
    folder = folder_of(laptop.machine, run)
    (version,) = json.loads((folder / "uploads.json").read_text())["pipelines"].values()
    assert version["version"].endswith("-unpinned")
    catalogued = Path(version["url"].removeprefix("file://")).with_suffix(".json")
    assert "unpinned=train" in json.loads(catalogued.read_text())["description"]
    for build in (folder, laptop.path / "build"):
        if not build.exists():
            subprocess.run(["cp", "-r", str(folder), str(build)], check=True)
        laptop.ci("release", "--build-dir", str(build)).refused(50, "launch by", "never released")


def test_a_component_is_built_here_on_what_ci_built(laptop: Repository, spy: Any) -> None:
    laptop.write({"components/train/said": "from the laptop\n"})
    env = {"PATH": f"{spy.directory}:{laptop.environment()['PATH']}"}
    with created() as containers:
        answer = laptop.ci("launch", "training", "--build", "train", "--json", env=env).done()
    run = run_of(answer)
    assert run["outputs"] == {"Output": "old from the laptop hello"}
    assert len(spy.builds) == 1
    assert "has changes here" not in answer.err
    tag = answer.document["launched"]["named"]["train"]
    try:
        assert tag.startswith(f"{laptop.project}/train:")
        assert [it["image"] for it in containers if it[LABEL] == run["run_id"]] == [identity(tag)]
        folder = folder_of(laptop.machine, run)
        laptop.ci("release", "--build-dir", str(folder)).refused(50, "never released")
    finally:
        docker.from_env().images.remove(tag, force=True)


@pytest.mark.skipif(buildx.driver().containerd, reason="containerd's store finds no parent")
def test_a_changed_parent_is_built_first(laptop: Repository) -> None:
    laptop.write({"components/base/greeting": "new\n"})
    answer = laptop.ci("launch", "training", "--build", "train", "--json").done()
    assert run_of(answer)["outputs"] == {"Output": "new from CI hello"}
    forget_images(laptop.project)


def test_an_image_id_runs_as_it_is(laptop: Repository, own: str) -> None:
    answer = laptop.ci("launch", "training", "--image", f"train={identity(own)}", "--json").done()
    assert run_of(answer)["outputs"] == {"Output": "own from the laptop hello"}


def test_an_image_that_nobody_has(laptop: Repository) -> None:
    laptop.ci("launch", "training", "--image", "train=nobody-has-this:dev").refused(
        3, "the engine has no image 'nobody-has-this:dev'", "docker build -t"
    )


def test_a_commit_that_ci_never_built(laptop: Repository) -> None:
    refused = laptop.ci("launch", "training", "--commit", "HEAD").refused(39, "published no lock")
    assert f"{laptop.machine.registry}/{laptop.project}/locks" in refused.err


def test_a_build_of_a_dirty_tree_publishes_nothing(ci: Repository, laptop: Repository) -> None:
    laptop.write({"notes": "not committed"})
    answer = laptop.ci("build", "--plan", "--env", "dev").done()
    assert "published" not in answer.err
    head = git(laptop.path, "rev-parse", "HEAD").strip()
    where = f"{laptop.machine.registry}/{laptop.project}/locks"
    assert not in_registry(f"{where}:{head}-dev")
    main = git(ci.path, "rev-parse", "HEAD").strip()
    assert in_registry(f"{where}:{main}-dev")


def test_what_was_built_on_this_machine_comes_first(laptop: Repository) -> None:
    laptop.write({"components/train/said": "from here\n"})
    laptop.commit()
    assert "the lock is published as" in laptop.built().done().err
    answer = laptop.ci("launch", "training", "--json").done()
    assert "in environment 'local'" in answer.err
    assert run_of(answer)["outputs"] == {"Output": "old from here hello"}
    assert "WARNING" not in answer.err


def test_shards_publish_once_they_are_merged(laptop: Repository) -> None:
    head = git(laptop.path, "rev-parse", "HEAD").strip()
    name = f"{laptop.machine.registry}/{laptop.project}/locks:{head}-dev"
    dev = ("--env", "dev")
    laptop.ci("plan", "--shards", "1", *dev).done()
    laptop.ci("build", "--shard", "1/1", *dev).done()
    assert not in_registry(name)
    laptop.ci("merge", *dev).done()
    assert in_registry(name)
    assert run_of(laptop.ci("launch", "training", "--json").done())["state"] == "SUCCEEDED"
