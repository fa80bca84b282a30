"""A builder that is not the engine's: images go straight to the registry, without
a tag until they have passed. It is a real BuildKit, on a second engine that has
nothing in its cache, which is what a new agent is.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.integration.engines import OtherEngine, RemoteBuilder, other_engine, remote_builder
from tests.integration.images import KEY_ID, SECRET
from tests.integration.repositories import (
    BASE,
    Machine,
    Repository,
    Spy,
    component,
    in_registry,
    inspected,
    run,
    skopeo,
)

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def engine() -> Iterator[OtherEngine]:
    directory = Path(tempfile.mkdtemp(prefix="kfp-ci-"))
    try:
        with other_engine(directory) as running:
            yield running
    finally:
        shutil.rmtree(directory)


@pytest.fixture(scope="module")
def remote(
    engine: OtherEngine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RemoteBuilder]:
    with remote_builder(engine, tmp_path_factory.mktemp("remote")) as builder:
        yield builder


def raw(reference: str) -> Any:
    return json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{reference}"))


def key_of(repository: Repository, name: str) -> str:
    planned = repository.read("plan.json")["components"]
    return str(next(one["key"] for one in planned if one["name"] == name))


def test_images_go_to_the_registry_and_not_through_the_engine(
    machine: Machine, remote: RemoteBuilder, tmp_path: Path
) -> None:
    repository = machine.repository(
        tmp_path / "r",
        {
            **component("base", BASE + run("busybox echo 1 >/one.txt")),
            **component("child", "FROM base\n" + run("busybox cat /one.txt >/two.txt")),
        },
    )
    # No engine at all: only the builder is there.
    nowhere = {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    repository.built(env={**remote.env, **nowhere}).done()
    for name, image in repository.images.items():
        assert inspected(repository.reference(name))["Digest"] == image["digest"]
        assert inspected(repository.tagged(name, image["key"]))["Digest"] == image["digest"]
        assert raw(repository.reference(name))["config"]["digest"] == image["config"]
        with pytest.raises(docker.errors.ImageNotFound):
            docker.from_env().images.get(image["config"])
    base, child = (inspected(repository.reference(name))["Layers"] for name in ("base", "child"))
    assert child[: len(base)] == base


def test_several_platforms_are_one_index_each_scanned(
    machine: Machine, remote: RemoteBuilder, tmp_path: Path
) -> None:
    repository = machine.repository(
        tmp_path / "r",
        component("one", "FROM scratch\nARG TARGETARCH\nCOPY busybox /bin/$TARGETARCH\n",
                  busybox=b"binary"),
        build={"platforms": ["linux/amd64", "linux/arm64"]},
    )  # fmt: skip
    repository.built(env=remote.env).done()
    image = repository.images["one"]
    index = raw(repository.reference("one"))
    platforms = {
        f"{m['platform']['os']}/{m['platform']['architecture']}" for m in index["manifests"]
    }
    assert platforms == {"linux/amd64", "linux/arm64"} == set(image["platforms"])
    for platform, config in image["platforms"].items():
        report = repository.build / "reports/one" / platform.replace("/", "-") / "trivy.json"
        metadata = json.loads(report.read_text())["Metadata"]
        assert metadata["ImageID"] == config
        assert metadata["ImageConfig"]["architecture"] == platform.partition("/")[2]
    assert image["digest"] == inspected(repository.tagged("one", image["key"]))["Digest"]


def test_several_platforms_need_a_builder_that_can(machine: Machine, tmp_path: Path) -> None:
    repository = machine.repository(
        tmp_path / "r", component("one"), build={"platforms": ["linux/amd64", "linux/arm64"]}
    )
    answer = repository.built()
    answer.refused(10, "one platform at a time", "docker buildx create")


def test_a_refused_image_gets_no_key(
    machine: Machine, remote: RemoteBuilder, tmp_path: Path
) -> None:
    keys = f"[default]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n"
    repository = machine.repository(
        tmp_path / "r", component("one", BASE + "COPY credentials /root/.aws/\n", credentials=keys)
    )
    repository.built(env=remote.env).refused(22, "'one'")
    assert not in_registry(repository.tagged("one", key_of(repository, "one")))


def test_the_same_commit_gives_the_same_bytes_on_another_machine(
    machine: Machine, engine: OtherEngine, remote: RemoteBuilder, tmp_path: Path
) -> None:
    repository = machine.repository(
        tmp_path / "r", component("one", BASE + run("busybox date +%s | busybox wc -c >/now.txt"))
    )
    # A layer that an earlier build left bears the time of that build's file, which
    # BuildKit does not count: both builds begin with nothing.
    engine.forget_builds()
    repository.built(env=remote.env).done()
    first = repository.images["one"]
    skopeo("delete", "--tls-verify=false", f"docker://{repository.reference('one')}")
    shutil.rmtree(repository.build)
    engine.forget_builds()
    repository.built(env=remote.env).done()
    again = repository.images["one"]
    assert again["built"]
    assert again["digest"] == first["digest"]


def test_layers_in_the_registry_spare_a_new_agent_the_work(
    machine: Machine, engine: OtherEngine, remote: RemoteBuilder, tmp_path: Path
) -> None:
    dockerfile = BASE + run("busybox cat /proc/sys/kernel/random/uuid >/random.txt")
    repository = machine.repository(
        tmp_path / "r",
        component("one", dockerfile + "COPY more.txt /\n", **{"more.txt": "1"}),
        build={"cache": {}},
    )
    repository.built(env=remote.env).done()
    before = inspected(repository.reference("one"))["Layers"]
    manifest = raw(f"{machine.registry}/{repository.project}/cache:one")
    assert "manifests" not in manifest  # one manifest: ECR takes no other
    engine.forget_builds()
    repository.write({"components/one/more.txt": "2"})
    repository.built(env=remote.env).done()
    after = inspected(repository.reference("one"))["Layers"]
    assert repository.images["one"]["built"]
    assert after[:2] == before[:2]  # a random file, which nobody makes twice
    assert after[2] != before[2]


def test_the_engine_of_docker_host_is_used(
    machine: Machine, engine: OtherEngine, tmp_path: Path, spy: Spy
) -> None:
    repository = machine.repository(tmp_path / "r", component("one"))
    repository.built(env={"DOCKER_HOST": engine.host}).done()
    image = repository.images["one"]
    assert image["key"] in engine.docker("image", "ls", "--format", "{{.Tag}}")
    # containerd's store: its image id is the manifest's digest.
    tagged = repository.tagged("one", image["key"])
    assert (
        engine.docker("image", "inspect", tagged, "--format", "{{.Id}}").strip() == image["digest"]
    )
    assert inspected(repository.reference("one"))["Digest"] == image["digest"]


def test_a_builder_that_is_not_there_is_told(machine: Machine, tmp_path: Path) -> None:
    repository = machine.repository(tmp_path / "r", component("one"))
    repository.built(env={"BUILDX_BUILDER": "nobody"}).refused(10, "nobody", "docker buildx ls")
