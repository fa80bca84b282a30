"""The build stage on real parts: engine, registry, scanner.

Oracles: skopeo for what the registry holds, the engine for image ids, and
wrappers of `docker` and `trivy` for what was run.
"""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import tarfile
import uuid
import xml.etree.ElementTree as ET
from pathlib import Path

import docker
import pytest

from tests.integration.repositories import (
    BASE,
    BUSYBOX,
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

NAMES = ["alone", "base", "child", "copier"]


def family(machine: Machine, path: Path) -> Repository:
    """Two that build on `base`, one by FROM and one by COPY --from, and one apart."""
    files = {
        **component("base", BASE + run("busybox echo base-1 >/base.txt")),
        **component("child", f"FROM {path.name}/base\n" + run("busybox cat /base.txt >/child.txt")),
        **component(
            "copier", f"FROM scratch\nCOPY --from={path.name}/base /base.txt /from-base.txt\n"
        ),
        **component("alone", BASE + run("busybox echo alone-1 >/alone.txt")),
        "component_specs/child.yaml": "implementation: {container: {image: child}}\n",
    }
    # The name in FROM must be the project's, and the project of no other test.
    return machine.repository(path, files, project=path.name)


def unique(path: Path) -> Path:
    return path / f"family-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def built(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A family that was built once; tests must not change it."""
    repository = family(machine, unique(tmp_path_factory.mktemp("build")))
    repository.built().done()
    return repository


def test_the_registry_holds_what_the_lock_says(built: Repository) -> None:
    engine = docker.from_env()
    assert sorted(built.images) == NAMES
    for name, image in built.images.items():
        by_digest = inspected(built.reference(name))
        assert by_digest["Digest"] == image["digest"]
        # The key is a tag of the very same image, and the scanned one.
        assert inspected(built.tagged(name, image["key"]))["Digest"] == image["digest"]
        raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{built.reference(name)}")
        assert json.loads(raw)["config"]["digest"] == image["config"]
        assert engine.images.get(built.tagged(name, image["key"])).id == image["config"]
        assert by_digest["Labels"]["kfp-ci.key"] == image["key"]
        revision = by_digest["Labels"]["org.opencontainers.image.revision"]
        assert revision == built.read("plan.json")["source"]["commit"]


def test_buildx_sees_a_plain_image_under_the_digest(built: Repository) -> None:
    told = subprocess.run(
        ["docker", "buildx", "imagetools", "inspect", built.reference("child")],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert built.images["child"]["digest"] in told
    assert "image.index" not in told  # no attestations that change the digest


def test_siblings_are_built_on_this_builds_images(built: Repository, tmp_path: Path) -> None:
    base, child = (inspected(built.reference(name))["Layers"] for name in ("base", "child"))
    assert child[: len(base)] == base
    assert len(child) > len(base)
    assert files_of(built.reference("child"), tmp_path / "child")["child.txt"] == b"base-1\n"
    assert files_of(built.reference("copier"), tmp_path / "copier") == {
        "from-base.txt": b"base-1\n"
    }
    assert built.images["child"]["parents"] == ["base"]
    assert built.images["copier"]["parents"] == ["base"]


def test_every_image_has_a_log_a_report_an_sbom_and_a_suite(built: Repository) -> None:
    suites = {
        suite.get("name"): suite
        for suite in ET.parse(built.build / "reports/images.xml").iter("testsuite")
    }
    for name, image in built.images.items():
        assert (built.build / "logs" / f"{name}.log").stat().st_size > 0
        report = json.loads((built.build / image["verdict"]["report"]).read_text())
        assert report["image"] == image["config"]
        raw = json.loads((built.build / "reports" / name / "trivy.json").read_text())
        assert raw["Metadata"]["ImageID"] == image["config"]
        sbom = json.loads((built.build / image["verdict"]["sbom"]).read_text())
        assert sbom["bomFormat"] == "CycloneDX"
        suite = suites[f"image.{name}"]
        assert [case.get("name") for case in suite.iter("testcase")] == ["build", "scan", "push"]
        assert suite.get("failures") == "0"


def names_of_tests(repository: Repository) -> list[tuple[str, str]]:
    """As Jenkins knows tests: of all files that it is told to read."""
    names = [
        (case.get("classname", ""), case.get("name", ""))
        for report in repository.build.glob("reports/*.xml")
        for case in ET.parse(report).iter("testcase")
    ]
    assert len(names) == len(set(names))
    return sorted(names)


def test_the_second_run_builds_and_scans_nothing_and_says_so(
    machine: Machine, tmp_path: Path, spy: Spy
) -> None:
    repository = family(machine, unique(tmp_path))
    path = {"PATH": f"{spy.directory}:{repository.environment()['PATH']}"}
    repository.ci("plan", env=path).done()
    first = repository.ci("build", env=path).done()
    assert len(spy.builds) == len(NAMES)  # the spy sees
    assert [call for call in spy.scans if "--format=json" in call]
    assert first.err.count(": built,") == len(NAMES)
    images = repository.images
    spy.forget()
    reported = names_of_tests(repository)
    assert len(reported) == 4 * len(NAMES)  # build, scan and push, and the verdict

    # A stage that is run again, from the plan that still calls all missing.
    repository.ci("build", env=path).done()
    assert names_of_tests(repository) == reported
    assert spy.builds == []
    assert spy.scans == []

    told = repository.ci("run", env=path).done()
    assert spy.builds == []
    assert spy.scans == []
    assert "nothing needs building" in told.err
    assert "0 images built" in told.out
    assert {n: i["digest"] for n, i in repository.images.items()} == {
        n: i["digest"] for n, i in images.items()
    }
    assert not any(image["built"] for image in repository.images.values())


def test_a_changed_file_rebuilds_its_component_and_what_is_built_on_it(
    machine: Machine, tmp_path: Path, spy: Spy
) -> None:
    repository = family(machine, unique(tmp_path))
    repository.built().done()
    before = repository.images
    path = {"PATH": f"{spy.directory}:{repository.environment()['PATH']}"}

    repository.write(component("alone", BASE + run("busybox echo alone-2 >/alone.txt")))
    repository.built(env=path).done()
    assert {name for name, image in repository.images.items() if image["built"]} == {"alone"}
    assert len(spy.builds) == 1

    spy.forget()
    repository.write(component("base", BASE + run("busybox echo base-2 >/base.txt")))
    repository.built(env=path).done()
    changed = {name for name, image in repository.images.items() if image["built"]}
    assert changed == {"base", "child", "copier"}
    assert len(spy.builds) == 3
    for name in changed:
        assert repository.images[name]["key"] != before[name]["key"]
        assert repository.images[name]["digest"] != before[name]["digest"]
    assert files_of(repository.reference("child"), tmp_path / "child")["child.txt"] == b"base-2\n"
    assert inspected(repository.reference("base"))["Digest"] == repository.images["base"]["digest"]


def test_an_image_that_is_gone_from_the_registry_is_built_again(
    machine: Machine, tmp_path: Path
) -> None:
    repository = machine.repository(tmp_path / "r", component("one") | component("two"))
    repository.built().done()
    before = repository.images
    skopeo("delete", "--tls-verify=false", f"docker://{repository.reference('one')}")
    assert not in_registry(repository.tagged("one", before["one"]["key"]))

    repository.built().done()
    assert {n: i["built"] for n, i in repository.images.items()} == {"one": True, "two": False}
    assert in_registry(repository.tagged("one", before["one"]["key"]))


def test_without_the_build_directory_nothing_is_built_or_scanned(
    machine: Machine, tmp_path: Path, spy: Spy
) -> None:
    repository = machine.repository(tmp_path / "r", component("one"))
    repository.built().done()
    before = repository.images["one"]
    shutil.rmtree(repository.build)

    path = {"PATH": f"{spy.directory}:{repository.environment()['PATH']}"}
    repository.built(env=path).done()
    assert spy.builds == []
    assert not [call for call in spy.scans if "--format=json" in call]
    after = repository.images["one"]
    assert (after["digest"], after["config"], after["built"]) == (
        before["digest"],
        before["config"],
        False,
    )
    assert (repository.build / after["verdict"]["report"]).is_file()


def test_two_images_are_built_at_the_same_time(machine: Machine, tmp_path: Path) -> None:
    """Each waits for a file that only the other makes: one at a time, both fail."""
    place = uuid.uuid4().hex  # in the command too: a mount is no part of a step's cache key
    cache = f"type=cache,id={place},sharing=shared,target=/{place}"

    def meets(me: str, other: str) -> str:
        wait = (
            f"busybox touch /{place}/{me}; for i in $(busybox seq 300); do "
            f"[ -e /{place}/{other} ] && exit 0; busybox sleep 0.1; done; exit 1"
        )
        return BASE + run(wait, cache)

    repository = machine.repository(
        tmp_path / "r",
        component("one", meets("one", "two")) | component("two", meets("two", "one")),
    )
    repository.built("--jobs", "2").done()
    assert sorted(repository.images) == ["one", "two"]


def test_a_failure_keeps_the_other_images_and_spares_the_children(
    machine: Machine, tmp_path: Path
) -> None:
    repository = machine.repository(
        tmp_path / "r",
        {
            **component("broken", BASE + run("busybox echo this-is-why; exit 7")),
            **component("child", "FROM broken\n"),
            **component("good"),
        },
    )
    answer = repository.built()
    answer.refused(20, "'broken'", "exit code: 7", "also failed: child (parent)")
    assert list(repository.images) == ["good"]
    assert inspected(repository.reference("good"))["Digest"] == repository.images["good"]["digest"]
    assert repository.failed["broken"]["step"] == "build"
    assert repository.failed["child"]["step"] == "parent"
    assert "this-is-why" in Path(repository.failed["broken"]["log"]).read_text()
    suites = ET.parse(repository.build / "reports/images.xml").getroot()
    assert {s.get("name"): s.get("failures") for s in suites} == {
        "image.broken": "1",
        "image.child": "1",
        "image.good": "0",
    }
    kept = repository.build / "logs/failed"
    assert [log.name for log in kept.iterdir()] == ["broken.log"]
    assert "this-is-why" in (kept / "broken.log").read_text()
    names = names_of_tests(repository)

    # What was mended is built, what was good is not built again.
    repository.write(component("broken"))
    repository.built().done()
    assert not list(kept.iterdir())
    assert {one for one in names if one[0].startswith("image.")} <= {*names_of_tests(repository)}
    assert {n: i["built"] for n, i in repository.images.items()} == {
        "broken": True,
        "child": True,
        "good": False,
    }


def test_the_ca_bundle_is_offered_and_leaves_no_trace(machine: Machine, tmp_path: Path) -> None:
    marker = f"marker-{uuid.uuid4().hex}"
    bundle = tmp_path / "bundle.crt"
    bundle.write_text(f"# {marker}\n")
    target = "/etc/ssl/certs/ca-certificates.crt"
    dockerfile = BASE + run(
        f"busybox grep -c marker- {target} >/seen.txt", f"type=secret,id=ca-bundle,target={target}"
    )
    repository = machine.repository(tmp_path / "r", component("one", dockerfile))
    repository.built(env={"SSL_CERT_FILE": str(bundle)}).done()

    files = files_of(repository.reference("one"), tmp_path / "image")
    assert files.pop("seen.txt") == b"1\n"
    assert files.pop("bin/busybox") == BUSYBOX.read_bytes()
    assert not any(files.values())  # at most an empty place where the file was mounted
    blobs = [path for path in (tmp_path / "image").iterdir() if path.is_file()]
    written = [path for path in repository.build.rglob("*") if path.is_file()]
    assert len(blobs) >= 4
    assert len(written) >= 5
    for path in blobs + written:
        assert marker.encode() not in unpacked(path.read_bytes()), path


def test_a_bundle_of_another_machine_gives_the_same_key(machine: Machine, tmp_path: Path) -> None:
    repository = machine.repository(tmp_path / "r", component("one"))
    keys = []
    for content in ("# here\n", "# there\n"):
        (tmp_path / "bundle.crt").write_text(content)
        env = {"SSL_CERT_FILE": str(tmp_path / "bundle.crt")}
        plan = repository.ci("plan", "--dry-run", "--json", env=env).done().document
        keys.append([one["key"] for one in plan["components"]])
    assert keys[0] == keys[1]


@pytest.mark.parametrize("passes", [True, False])
def test_a_declared_test_is_run_in_the_image(
    machine: Machine, tmp_path: Path, passes: bool
) -> None:
    script = f": {tmp_path}; busybox cat /answer.txt; " + ("exit 0" if passes else "exit 5")
    repository = machine.repository(
        tmp_path / "r",
        component("one", BASE + run("busybox echo answer-of-the-image >/answer.txt")),
        components={"one": {"test": ["/bin/busybox", "sh", "-c", script]}},
    )
    answer = repository.built()
    log = repository.build / "logs" / "one.log"
    assert "answer-of-the-image" in log.read_text()
    if passes:
        answer.done()
        assert repository.images["one"]["tests"] == "passed"
    else:
        answer.refused(21, "'one'", "exited with 5", str(log))
        assert repository.images == {}
        key = repository.read("plan.json")["components"][0]["key"]
        assert not in_registry(repository.tagged("one", key))
    left = docker.from_env().containers.list(
        all=True, filters={"label": "kfp-ci=test"}, ignore_removed=True
    )
    # Other tests have theirs at this moment.
    assert [one for one in left if script in one.attrs["Config"]["Entrypoint"]] == []


def test_a_test_stage_is_run_and_not_shipped(machine: Machine, tmp_path: Path) -> None:
    stages = BASE.replace("scratch", "scratch AS shipped") + (
        "FROM shipped AS test\n" + run("busybox touch /only-in-test; {command}") + "FROM shipped\n"
    )
    repository = machine.repository(
        tmp_path / "r", component("one", stages.replace("{command}", "true"))
    )
    repository.built().done()
    assert repository.images["one"]["tests"] == "passed"
    assert list(files_of(repository.reference("one"), tmp_path / "image")) == ["bin/busybox"]

    repository.write(component("one", stages.replace("{command}", "exit 9")))
    repository.built().refused(21, "'one'", "exit code: 9")


def files_of(reference: str, directory: Path) -> dict[str, bytes]:
    """Every regular file of an image, read by skopeo and tarfile from the registry."""
    skopeo("copy", "--src-tls-verify=false", f"docker://{reference}", f"dir:{directory}")
    manifest = json.loads((directory / "manifest.json").read_text())
    files: dict[str, bytes] = {}
    for layer in manifest["layers"]:
        with tarfile.open(directory / layer["digest"].partition(":")[2]) as tar:
            for member in tar:
                if member.isreg():
                    content = tar.extractfile(member)
                    assert content is not None
                    files[member.name] = content.read()
    return files


def unpacked(data: bytes) -> bytes:
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
