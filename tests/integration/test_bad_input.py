"""What a user can do wrong, and what a machine can lack: each as the user meets it.

Every case ends with its documented exit code and one sentence with what to do
(`Answer.refused`), and leaves nothing half-done.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.integration.repositories import (
    BASE,
    Machine,
    Repository,
    component,
    in_registry,
    inspected,
    run,
)

pytestmark = pytest.mark.integration

TEMPLATE = (
    "name: {0}\nimplementation: {{container: {{image: {0}, command: [/bin/busybox, 'true']}}}}\n"
)
PIPELINE = """from pathlib import Path
from kfp import components, dsl

SPECS = Path(__file__).resolve().parent.parent / "component_specs"
step = components.load_component_from_file(str(SPECS / "one.yaml"))


@dsl.pipeline(name="simple")
def simple():
    step()
"""


def planned(repository: Repository) -> dict[str, str]:
    return {c["name"]: c["key"] for c in repository.read("plan.json")["components"]}


def written(repository: Repository) -> dict[str, bytes]:
    """Every document of the build directory; logs and reports tell of failures too."""
    return {
        str(path.relative_to(repository.build)): path.read_bytes()
        for path in repository.build.rglob("*")
        if path.is_file() and not {"logs", "reports", ".gitignore"} & set(path.parts)
    }


# The machine --------------------------------------------------------------------


def test_no_engine(machine: Machine, tmp_path: Path) -> None:
    repository = machine.repository(tmp_path / "r", component("one"))
    repository.ci("plan").done()
    before = written(repository)
    env = {"DOCKER_HOST": f"unix://{tmp_path}/no.sock"}
    repository.ci("build", env=env).refused(10, "no Docker engine answers", "DOCKER_HOST")
    assert written(repository) == before
    repository.ci("build").done()


def test_a_docker_client_without_buildx(machine: Machine, tmp_path: Path) -> None:
    """The classic builder is never used in BuildKit's place."""
    repository = machine.repository(tmp_path / "r", component("one"))
    repository.ci("plan").done()
    real = shutil.which("docker", path=repository.environment()["PATH"])
    calls = tmp_path / "calls"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/docker").write_text(
        f'#!/bin/sh\necho "$@" >>{calls}\n'
        '[ "$1" = buildx ] && { echo "docker: unknown command: docker buildx" >&2; exit 1; }\n'
        f'exec {real} "$@"\n'
    )
    (tmp_path / "bin/docker").chmod(0o755)
    path = f"{tmp_path}/bin:{repository.environment()['PATH']}"
    repository.ci("build", env={"PATH": path}).refused(10, "has no buildx", "Install")
    assert not [call for call in calls.read_text().splitlines() if call.startswith("build ")]
    assert not in_registry(repository.tagged("one", planned(repository)["one"]))


def test_no_registry(machine: Machine, tmp_path: Path) -> None:
    with socket.socket() as held:  # bound and not listening: every connection is refused
        held.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{held.getsockname()[1]}"
        repository = machine.repository(
            tmp_path / "r", component("one"), environments={"dev": {"registry": {"host": host}}}
        )
        repository.ci("plan", "--env", "dev").refused(11, host, "does not answer")
        assert not (repository.build / "plan.json").exists()


def test_the_registry_goes_away_between_plan_and_build(machine: Machine, tmp_path: Path) -> None:
    with socket.socket() as listening:
        repository = machine.repository(
            tmp_path / "r",
            component("one"),
            environments={"dev": {"registry": {"host": machine.registry}}},
        )
        repository.ci("plan", "--env", "dev").done()
        listening.bind(("127.0.0.1", 0))
        gone = {"registry": {"host": f"127.0.0.1:{listening.getsockname()[1]}"}}
        config = {**repository.config, "environments": {"dev": gone}}
        repository.write({"ci.yaml": json.dumps(config)})
        repository.ci("build", "--env", "dev").refused(11, "does not answer")
        assert not (repository.build / "images.lock.json").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "kfp-ci-test", str(place)], check=True
    )
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk(machine: Machine, tmp_path: Path, small_disk: Path) -> None:
    repository = machine.repository(tmp_path / "r", component("one"))
    build = ("--build-dir", str(small_disk))
    repository.ci("plan", *build).done()
    before = (small_disk / "plan.json").read_bytes()
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(1024))
    names = sorted(path.name for path in small_disk.iterdir())

    for stage in ("plan", "build"):
        repository.ci(stage, *build).refused(12, str(small_disk), "No space left on device", "Free")
        assert (small_disk / "plan.json").read_bytes() == before
    after = sorted(path.name for path in small_disk.iterdir())
    assert set(after) - set(names) <= {"logs", "reports"}  # empty, or cut short

    filler.unlink()
    repository.ci("build", *build).done()


# The repository -------------------------------------------------------------------


def test_a_dockerfile_that_does_not_parse(machine: Machine, tmp_path: Path) -> None:
    repository = machine.repository(
        tmp_path / "r", component("good") | component("bad", "FROM scratch\nCOPPY a /a\n")
    )
    answer = repository.ci("plan")
    answer.refused(4, "components/bad/Dockerfile", "line 2", "COPPY")
    assert not repository.build.exists()


def test_two_components_of_one_name(machine: Machine, tmp_path: Path) -> None:
    files = {**component("same"), "elsewhere/same/Dockerfile": BASE}
    repository = machine.repository(tmp_path / "r", files)
    repository.ci("plan").refused(
        5, "'same'", "components/same/Dockerfile", "elsewhere/same/Dockerfile"
    )
    assert not repository.build.exists()


def test_components_that_build_from_each_other(machine: Machine, tmp_path: Path) -> None:
    files = {**component("egg", "FROM hen\n"), **component("hen", "FROM egg\n")}
    machine.repository(tmp_path / "r", files).ci("plan").refused(6, "egg", "hen")


def test_a_template_of_an_unknown_component(machine: Machine, tmp_path: Path) -> None:
    repository = machine.repository(
        tmp_path / "r",
        {**component("trainer"), "component_specs/t.yaml": TEMPLATE.format("traner")},
    )
    answer = repository.ci("plan")
    answer.refused(7, "component_specs/t.yaml", "'traner'", "trainer")
    assert not repository.build.exists()


def test_a_typing_error_in_ci_yaml(machine: Machine, tmp_path: Path) -> None:
    repository = machine.repository(tmp_path / "r", component("one"))
    repository.write({"ci.yaml": "scan: {severites: {vulnerability: [HIGH]}}\n"})
    repository.ci("plan").refused(3, "'scan.severites'", "Did you mean 'severities'")
    repository.write({"ci.yaml": "scan: [\n"})
    repository.ci("plan").refused(3, "ci.yaml does not parse at line 2")


def test_a_stage_without_its_input(machine: Machine, tmp_path: Path) -> None:
    repository = machine.repository(tmp_path / "r", component("one"))
    for stage, earlier in (("build", "plan"), ("pin", "build"), ("compile", "build")):
        repository.ci(stage).refused(8, f"Run 'python -m ci {earlier}'")
    repository.ci("plan").done()
    plan = repository.build / "plan.json"
    plan.write_bytes(plan.read_bytes()[:-20])
    repository.ci("build").refused(8, "plan.json", "damaged")


# Images -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "step", "dockerfile", "why"),
    [
        (20, "build", BASE + run("busybox echo the-reason; exit 3"), "exit code: 3"),
        (20, "build", BASE + "COPY not-there /\n", "not-there"),
        (
            21,
            "test",
            BASE.replace("scratch", "scratch AS it")
            + "FROM it AS test\n"
            + run("busybox echo the-reason; exit 4")
            + "FROM it\n",
            "exit code: 4",
        ),
    ],
)
def test_an_image_that_fails_keeps_the_others_and_pins_nothing(
    machine: Machine, tmp_path: Path, code: int, step: str, dockerfile: str, why: str
) -> None:
    template = TEMPLATE.format("bad")
    repository = machine.repository(
        tmp_path / "r",
        {
            **component("bad", dockerfile),
            **component("good"),
            "component_specs/bad.yaml": template,
            "component_specs/good.yaml": TEMPLATE.format("good"),
        },
    )
    log = repository.build / "logs" / "bad.log"
    answer = repository.ci("run")
    answer.refused(code, "'bad'", why, str(log))
    assert why in log.read_text() or "the-reason" in log.read_text()
    assert repository.failed["bad"]["step"] == step
    assert inspected(repository.reference("good"))["Digest"] == repository.images["good"]["digest"]
    assert not in_registry(repository.tagged("bad", planned(repository)["bad"]))
    assert set(written(repository)) == {"plan.json", "images.lock.json"}
    repository.ci("pin").refused(code, "'bad'")
    assert set(written(repository)) == {"plan.json", "images.lock.json"}
    assert (repository.path / "component_specs/bad.yaml").read_text() == template


def test_a_failure_after_a_good_run_leaves_the_good_pins(machine: Machine, tmp_path: Path) -> None:
    repository = machine.repository(
        tmp_path / "r", {**component("one"), "component_specs/one.yaml": TEMPLATE.format("one")}
    )
    repository.built().done()
    repository.ci("pin").done()
    pinned = repository.build / "component_specs/one.yaml"
    before = pinned.read_bytes()
    assert repository.reference("one").encode() in before

    repository.write(component("one", BASE + run("exit 1")))
    repository.ci("run").refused(20, "'one'")
    assert pinned.read_bytes() == before


# Pipelines --------------------------------------------------------------------------


def test_a_pipeline_that_does_not_compile(machine: Machine, tmp_path: Path) -> None:
    repository = machine.repository(
        tmp_path / "r",
        {
            **component("one"),
            "component_specs/one.yaml": TEMPLATE.format("one"),
            "pipelines/simple.py": PIPELINE.replace("step()", "step(no_such_input=1)"),
        },
    )
    repository.ci("run").refused(30, "pipelines/simple.py", "no_such_input")
    assert set(written(repository)) == {
        "plan.json",
        "images.lock.json",
        "pins.json",
        "component_specs/one.yaml",
    }
    repository.ci("upload").refused(8, "Run 'python -m ci compile'")

    repository.write({"pipelines/simple.py": PIPELINE})
    repository.ci("compile").done()
    assert {"pipelines.json", "pipelines/simple.yaml"} <= set(written(repository))
    repository.write({"pipelines/simple.py": PIPELINE.replace("step()", "stop()")})
    repository.ci("compile").refused(30, "pipelines/simple.py", "stop")
    # Not even the last good one: it is not what the repository says now.
    assert not [name for name in written(repository) if name.startswith("pipelines")]
    repository.ci("upload").refused(8, "Run 'python -m ci compile'")


# Deployments ------------------------------------------------------------------------

PREDICT = (
    '#!/bin/busybox sh\necho "Status: {status}"; echo "Content-Type: application/json"; echo\n'
    "echo '{{\"version\": {version}}}'\n"
)
SERVE = 'CMD ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/www"]\n'


def servable(version: int, status: str = "200 OK", command: str = SERVE) -> dict[str, str | bytes]:
    """An image that answers /cgi-bin/predict with `status` and its version."""
    files = component("servable", BASE + "COPY predict /www/cgi-bin/predict\n" + command)
    script = PREDICT.format(status=status, version=version).encode()  # bytes: executable
    return {
        **{name.removeprefix("components/"): content for name, content in files.items()},
        "servable/predict": script,
    }


def declaration(service: str, timeout: int = 60) -> str:
    return (
        f"service: {service}\n"
        "health_check: {path: /cgi-bin/predict, command: [/bin/busybox, 'true']}\n"
        f"timeout: {timeout}\n"
    )


def deployed(repository: Repository) -> Any:
    """Plan, build and deploy: the answer of the deployment."""
    repository.built().done()
    return repository.ci("deploy")


def ecs_service(machine: Machine, name: str) -> Any:
    client = boto3.client(
        "ecs",
        endpoint_url=machine.endpoints.aws,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    return client.describe_services(cluster="local", services=[name])["services"][0]


DIES = 'CMD ["/bin/busybox", "sh", "-c", "busybox echo no model >&2; exit 3"]\n'


def test_a_first_revision_that_dies_leaves_no_task(machine: Machine, tmp_path: Path) -> None:
    name = f"svc-{uuid.uuid4().hex[:8]}"
    repository = machine.repository(
        tmp_path / "r",
        {**servable(1, command=DIES), "servable/servable.yaml": declaration(name)},
    )
    answer = deployed(repository)
    assert answer.code in (41, 44)
    answer.refused(answer.code, name, "scaled to 0")
    assert "exited with 3" in answer.err
    assert ecs_service(machine, name)["desiredCount"] == 0
    told = repository.read("deploy.json")
    assert told["services"] == {}
    assert told["failed"]["servable"]["exit_code"] == answer.code


def test_a_next_revision_that_answers_500_is_taken_back(machine: Machine, tmp_path: Path) -> None:
    name = f"svc-{uuid.uuid4().hex[:8]}"
    repository = machine.repository(
        tmp_path / "r", {**servable(1), "servable/servable.yaml": declaration(name)}
    )
    deployed(repository).done()
    service = repository.read("deploy.json")["services"]["servable"]
    assert version(service["url"]) == 1

    repository.write(servable(2, "500 Internal Server Error"))
    repository.write({"servable/servable.yaml": declaration(name, timeout=20)})
    answer = deployed(repository)
    assert answer.code in (41, 44)
    answer.refused(answer.code, f"'{name}'", "500")
    assert version(service["url"]) == 1
    assert ecs_service(machine, name)["taskDefinition"] == service["task_definition"]
    told = repository.read("deploy.json")  # no release is made of what is not served
    assert (told["services"], list(told["failed"])) == ({}, ["servable"])


def version(url: str) -> int:
    with urllib.request.urlopen(f"{url}/cgi-bin/predict", timeout=60) as answer:
        return int(json.load(answer)["version"])


# Interruptions ----------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build(machine: Machine, tmp_path: Path, number: int) -> None:
    seconds = f"3{uuid.uuid4().int % 10**6:06}"  # how the process in the container is found
    repository = machine.repository(
        tmp_path / "r",
        component("good") | component("slow", BASE + run(f"busybox sleep {seconds}")),
    )
    repository.ci("plan").done()
    mark = f"KFP_CI_TEST={uuid.uuid4().hex}"
    child = start(repository, mark, "build", "--jobs", "2")
    eventually(lambda: any(f"sleep {seconds}" in line for line in commands().values()))
    eventually(lambda: in_registry(repository.tagged("good", planned(repository)["good"])))
    child.send_signal(number)
    _, err = child.communicate(timeout=300)

    assert child.returncode == 130
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("ERROR: interrupted")
    eventually(lambda: having(mark) == {})  # what was killed takes a moment to go
    eventually(lambda: not any(f"sleep {seconds}" in line for line in commands().values()))
    assert hidden(repository) == []
    assert set(repository.images) <= {"good"}
    assert repository.failed == {} or set(repository.failed) == {"slow"}

    repository.write(component("slow", BASE))
    repository.built().done()
    assert sorted(repository.images) == ["good", "slow"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_scan(machine: Machine, tmp_path: Path, number: int) -> None:
    """A trivy that hangs, with a child of its own, as in a real scan of hours."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "trivy").write_text(
        "#!/bin/sh\ncase $1 in\n"
        '--version) echo \'{"Version": "0.0.0"}\' ;;\n'
        '*) case "$*" in *--download-db-only*) exit 1 ;; esac\n'
        f"   touch {tmp_path}/scanning; sleep 3000; sleep 3001 ;;\nesac\n"
    )
    (bin_ / "trivy").chmod(0o755)
    repository = machine.repository(tmp_path / "r", component("one"))
    repository.ci("plan").done()
    mark = f"KFP_CI_TEST={uuid.uuid4().hex}"
    path = f"{bin_}:{repository.environment()['PATH']}"
    child = start(repository, mark, "build", PATH=path)
    eventually((tmp_path / "scanning").exists)
    assert len(having(mark)) >= 3  # this tool, trivy, its child
    child.send_signal(number)
    _, err = child.communicate(timeout=300)

    assert child.returncode == 130
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("ERROR: interrupted")
    eventually(lambda: having(mark) == {})  # what was killed takes a moment to go
    assert hidden(repository) == []
    assert not in_registry(repository.tagged("one", planned(repository)["one"]))
    repository.built().done()


def start(repository: Repository, mark: str, *arguments: str, **env: str) -> subprocess.Popen[str]:
    name, _, value = mark.partition("=")
    return subprocess.Popen(
        repository.command(*arguments),
        cwd=repository.path,
        env=repository.environment({name: value, **env}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def commands(file: str = "cmdline") -> dict[int, str]:
    """Process -> command line, as the kernel tells; containers' processes too."""
    found = {}
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            with contextlib.suppress(OSError):
                text = (directory / file).read_bytes().decode("utf-8", "replace")
                found[int(directory.name)] = text.replace("\0", " ")
    return found


def having(mark: str) -> dict[int, str]:
    """The processes that inherited an environment variable of one invocation."""
    return {pid: text for pid, text in commands("environ").items() if mark in text}


def hidden(repository: Repository) -> list[Path]:
    """Files that were being written: their names begin with a dot until they are whole."""
    files = repository.build.rglob("*")
    return [path for path in files if path.name.startswith(".") and path.name != ".gitignore"]


def eventually(holds: Any, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)
