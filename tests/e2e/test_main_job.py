"""The main job on a fresh clone of this very repository, judged from outside.

Oracles: skopeo for the registry, PyYAML for templates and IR, hashlib for the
model, the engine for what runs, and this test's own HTTP requests.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import boto3
import docker
import pytest
import yaml
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from ci_tools import local
from ci_tools.local import Endpoints
from tests.fakes import ports
from tests.integration.repositories import (
    ROOT,
    Answer,
    Machine,
    Repository,
    Spy,
    command_path,
    forget_images,
    git,
    inspected,
)

pytestmark = pytest.mark.e2e
# Its clean-up image cannot be pulled on a closed network; `with` removes our containers.
testcontainers_config.ryuk_disabled = True

STAGES = "plan build pin compile upload train deploy release".split()


def clone(path: Path) -> None:
    """This repository as its next commit would have it, committed."""
    for name in git(ROOT, "ls-files", "-z", "-co", "--exclude-standard").split("\0"):
        source = ROOT / name
        if name and source.is_file():
            target = path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    git(path, "init", "--quiet")
    git(path, "add", "--all")
    git(path, "commit", "--quiet", "--message", "a clone")


class Job:
    """The main job's repository, its answer, and what it left at that time."""

    def __init__(self, repository: Repository, answer: Answer) -> None:
        self.repository = repository
        self.answer = answer
        self.config = yaml.safe_load((repository.path / "ci.yaml").read_text())
        self.lock = repository.read("images.lock.json")
        self.plan = repository.read("plan.json")
        self.release = repository.read("release.json")
        self.release_text = (repository.build / "release.json").read_text()
        self.canonical = (repository.build / "release/release.json").read_bytes()
        self.training = repository.read("train.json")
        self.service = repository.read("deploy.json")["services"]["servable"]
        self.pinned = {
            path.name: path.read_text()
            for path in (repository.build / "component_specs").glob("*.yaml")
        }
        self.ir = {
            path.stem: list(yaml.safe_load_all(path.read_text()))
            for path in (repository.build / "pipelines").glob("*.yaml")
        }

    def ci(self, *arguments: str, **env: str) -> Answer:
        return self.repository.ci(*arguments, env=env)

    @property
    def references(self) -> dict[str, str]:
        return {
            name: f"{image['repository']}@{image['digest']}"
            for name, image in self.lock["components"].items()
        }

    @property
    def run(self) -> dict[str, Any]:
        (run,) = self.training["runs"]
        assert isinstance(run, dict)
        return run

    @property
    def model(self) -> bytes:
        """The trained model's bytes, from where the run put them."""
        parts = urlsplit(self.run["artifacts"]["model"]["uri"])
        assert parts.scheme == "file"
        return Path(unquote(parts.path)).read_bytes()

    def revisions(self) -> list[str]:
        ecs = boto3.client(
            "ecs",
            endpoint_url=self.repository.machine.endpoints.aws,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        return ecs.list_task_definitions(familyPrefix="prediction")["taskDefinitionArns"]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    """`run --train --deploy` on a clone, on a machine where nothing runs yet."""
    path, home = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("home")
    clone(path)
    own = ports.of_an_environment(home)
    registry, aws = f"127.0.0.1:{own['registry']}", f"http://127.0.0.1:{own['aws']}"
    # The clone's own code runs, not that of the tree it was cloned from.
    machine = Machine(Endpoints(registry, aws, home), {"PYTHONPATH": str(path)})
    repository = Repository(path, machine, {})
    try:
        answer = repository.ci("run", "--train", "--deploy", "--json", timeout=1200)
        assert answer.code == 0, answer.err
        yield Job(repository, answer)
    finally:
        local.down(home, wipe=True)
        forget_images(registry)


@pytest.fixture
def spy(tmp_path: Path) -> Spy:
    return Spy(tmp_path / "spy").install()


def test_the_registry_holds_every_image_of_the_lock(job: Job) -> None:
    found = git(job.repository.path, "ls-files", "*Dockerfile").split()
    # What ci.yaml ignores: test data, and the agent's image, which has a ci.yaml of its own.
    ours = [name for name in found if not name.startswith(("tests/", "agent/"))]
    assert len(job.lock["components"]) == len(ours) > 0
    assert job.lock["failed"] == {}
    for name, reference in job.references.items():
        image = inspected(reference)
        assert image["Digest"] == job.lock["components"][name]["digest"]
        assert image["Labels"]["kfp-ci.key"] == job.lock["components"][name]["key"]
        assert job.lock["components"][name]["tests"] == "passed"
    assert job.answer.document["images"].keys() == job.lock["components"].keys()
    assert sorted(job.answer.document["built"]) == sorted(job.lock["components"])


def test_templates_are_pinned_and_otherwise_untouched(job: Job) -> None:
    sources = {p.name: p.read_text() for p in (job.repository.path / "component_specs").iterdir()}
    assert job.pinned.keys() == sources.keys()
    for name, source in sources.items():
        before, after = source.splitlines(), job.pinned[name].splitlines()
        assert len(before) == len(after)
        ((old, new),) = [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
        component = yaml.safe_load(source)["implementation"]["container"]["image"]
        assert (old.strip(), new.strip()) == (
            f"image: {component}",
            f"image: {job.references[component]}",
        )
    assert git(job.repository.path, "status", "--porcelain") == ""


def test_pipelines_name_only_the_images_of_the_lock(job: Job) -> None:
    assert sorted(job.ir) == sorted(job.answer.document["pipelines"])
    for documents in job.ir.values():
        images = {
            executor["container"]["image"]
            for document in documents
            for executor in document.get("deploymentSpec", {}).get("executors", {}).values()
            if "container" in executor
        }
        assert images
        assert images <= set(job.references.values())


def test_the_training_run_is_within_its_bounds(job: Job) -> None:
    assert job.run["state"] == "SUCCEEDED"
    assert job.run["unmet"] == []
    for metric, bound in job.config["pipelines"]["named"]["training"]["expect"].items():
        assert bound["min"] <= job.run["metrics"][metric] <= 1


def test_one_model_from_the_run_to_the_service(job: Job) -> None:
    sha256 = hashlib.sha256(job.model).hexdigest()
    assert job.run["artifacts"]["model"]["sha256"] == sha256
    assert job.run["outputs"]["model_sha256"] == sha256
    assert job.service["model"]["sha256"] == sha256
    assert job.release["servables"]["servable"]["model"]["sha256"] == sha256
    told = ask(f"{job.service['url']}/metadata")
    assert sha256 in json.dumps(told)


def test_the_service_predicts(job: Job) -> None:
    declared = yaml.safe_load((job.repository.path / "servable/servable.yaml").read_text())
    (request,) = declared["smoke"]
    malignant, benign = request["body"]["instances"]
    url = f"{job.service['url']}{request['path']}"
    # In another order than the smoke test asked: no answer by heart.
    answer = ask(url, {"instances": [benign, malignant, benign]})
    assert answer["predictions"] == [0, 1, 0]


def test_the_service_runs_the_image_of_the_lock(job: Job) -> None:
    assert job.service["image"] == job.references["servable"]
    running = docker.from_env().containers.list(
        filters={"label": "com.amazonaws.ecs.task-definition-family=prediction"},
        ignore_removed=True,
    )
    ours = [c for c in running if c.attrs["Config"]["Image"] == job.references["servable"]]
    assert len(ours) == 1
    assert ours[0].attrs["Image"] == job.lock["components"]["servable"]["config"]


def test_the_image_refuses_a_model_of_other_bytes(job: Job, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(job.model + b"one byte more")
    tmp_path.chmod(0o755)
    container = (
        DockerContainer(job.references["servable"])
        .with_env("MODEL_URI", "file:///models/model")
        .with_env("MODEL_SHA256", job.run["outputs"]["model_sha256"])
        .with_volume_mapping(str(tmp_path), "/models", "ro")
    )
    with container:
        ended = container.get_wrapped_container().wait(timeout=120)
        out, err = container.get_logs()
    assert ended["StatusCode"] == 3
    assert not out
    assert len(err.splitlines()) == 1
    assert b"sha256" in err.lower()


def test_the_release_is_named_by_its_content(job: Job) -> None:
    assert json.loads(job.canonical) == json.loads(job.release_text)
    name = job.release["name"]
    without = job.canonical.replace(f'"name":"{name}",'.encode(), b"", 1)
    assert name == f"release-{hashlib.sha256(without).hexdigest()}"
    assert job.answer.document["release"]["name"] == job.release["name"]
    head = git(job.repository.path, "rev-parse", "HEAD").strip()
    assert job.release["source"]["commit"] == head
    assert not job.release["source"]["dirty"]
    assert {n: i["reference"] for n, i in job.release["images"].items()} == job.references
    assert job.release["problems"] == job.answer.document["release"]["problems"]
    # Where no vulnerability database can be had, no image may be called sound; and
    # that is all there is to say against this release.
    images = job.release["images"].items()
    unsound = sorted(name for name, image in images if image["verdict"]["status"] != "pass")
    assert len(job.release["problems"]) == bool(unsound)
    assert all(name in job.release["problems"][0] for name in unsound)


def test_a_second_run_builds_and_deploys_nothing(job: Job, spy: Spy) -> None:
    before = job.revisions()
    answer = job.ci(
        "run", "--train", "--deploy", PATH=f"{spy.directory}{os.pathsep}{command_path()}"
    )
    answer.done()
    assert spy.builds == []
    assert spy.scans == []
    assert "nothing needs building" in answer.err
    assert "0 images built" in answer.out
    lock = job.repository.read("images.lock.json")["components"]
    assert not any(image["built"] for image in lock.values())
    assert {n: i["digest"] for n, i in lock.items()} == {
        n: i["digest"] for n, i in job.lock["components"].items()
    }
    service = job.repository.read("deploy.json")["services"]["servable"]
    assert not service["changed"]
    assert service["task_definition"] == job.service["task_definition"]
    assert job.revisions() == before
    uploads = job.repository.read("uploads.json")["pipelines"]
    assert not any(version["created"] for version in uploads.values())


def test_every_stage_runs_alone_from_the_files(job: Job) -> None:
    shutil.rmtree(job.repository.build / "pipelines")
    shutil.rmtree(job.repository.build / "component_specs")
    for stage in STAGES:
        assert job.ci(stage, "--json").done().document
    release = job.repository.read("release.json")
    assert {n: i["reference"] for n, i in release["images"].items()} == job.references
    assert release["pipelines"] == job.release["pipelines"]
    assert release["servables"]["servable"]["image"] == job.references["servable"]


def test_a_dry_run_needs_nothing_and_keys_as_the_real_one(job: Job, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may take the network away")
    repository = job.repository
    places = (repository.path, repository.machine.endpoints.home)
    before = [contents(place) for place in places]
    env = {
        key: value
        for key, value in repository.environment().items()
        if not key.startswith("AWS_ACCESS") and key != "KUBECONFIG"
    } | {"DOCKER_HOST": f"unix://{tmp_path}/no.sock", "HOME": str(tmp_path)}
    for stage in [*STAGES, "run"]:
        options = ["--train", "--deploy"] if stage == "run" else []
        done = subprocess.run(
            ["unshare", "--net", *repository.command(stage, "--dry-run", "--json", *options)],
            cwd=repository.path,
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{stage}: {done.stderr}"
        document = json.loads(done.stdout)
        if stage == "plan":
            keys = {one["name"]: one["key"] for one in document["components"]}
            assert keys == {one["name"]: one["key"] for one in job.plan["components"]}
            assert not any(one["provisional"] for one in document["components"])
    assert [contents(place) for place in places] == before


def contents(directory: Path) -> dict[str, tuple[int, int]]:
    """Every file but what a running server and Python's own caches write."""
    return {
        str(path.relative_to(directory)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in directory.rglob("*")
        if path.is_file()
        and not {"logs", "registry", "stand-in", "stand-in-data", "__pycache__"}
        & set(path.relative_to(directory).parts)
    }


def ask(url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)
