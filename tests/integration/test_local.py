"""The embedded environment on real parts: engine, registry, AWS stand-in."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from ci_tools.local import (
    Endpoints,
    Served,
    aws,
    bases,
    daemon,
    debian,
    down,
    ensure_load_balancer,
    environment,
    recorded,
    registry,
    stand_in,
    state,
    status,
    substitute,
    up,
)
from tests.fakes import ports
from tests.integration.repositories import forget_images

pytestmark = pytest.mark.integration

UP = "import sys; from pathlib import Path; from ci_tools.local import up; up(Path(sys.argv[1]))"


def new_home(directory: Path) -> Path:
    directory.mkdir()
    ports.of_an_environment(directory)
    return directory


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    directory = new_home(tmp_path / "home")
    yield directory
    down(directory, wipe=True)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    directory = new_home(tmp_path_factory.mktemp("shared") / "home")
    host = f"127.0.0.1:{state.load(directory).parts['registry'].port}"
    try:
        yield up(directory)
    finally:
        down(directory, wipe=True)
        forget_images(host)


def pids(home: Path) -> dict[str, int | None]:
    return {line.part: line.pid for line in status(home)}


def stand_still(pid: int) -> None:
    """Stop a process, and wait until all of its threads have."""
    os.kill(pid, signal.SIGSTOP)
    threads = [path / "stat" for path in Path(f"/proc/{pid}/task").iterdir()]
    while any(one.read_text().rpartition(")")[2].split()[0] != "T" for one in threads):
        time.sleep(0.01)


def listeners() -> list[tuple[str, int]]:
    """(address, pid) of every TCP listener, as the kernel tells it to ss."""
    lines = subprocess.run(
        ["ss", "-H", "-ltnp"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    return [(line.split()[3], int(pid)) for line in lines for pid in re.findall(r"pid=(\d+)", line)]


def import_image(client: docker.DockerClient, tag: str, files: dict[str, Path], change: str) -> str:
    """An image of a few files; the id of its config."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, source in files.items():
            tar.add(source.resolve(), arcname=name)
    stream.seek(0)
    repository, _, name = tag.rpartition(":")
    answer = client.api.import_image_from_data(
        stream.read(), repository=repository, tag=name, changes=[change]
    )
    return str(json.loads(answer.splitlines()[-1])["status"])


def push_busybox(endpoints: Endpoints, answer: str) -> str:
    """An image that answers every request for / with `answer`; by digest."""
    client = docker.from_env()
    tag = f"{endpoints.registry}/hello:{answer}"
    script = f"mkdir -p /www; echo {answer} >/www/index.html; exec busybox httpd -f -p 8080 -h /www"
    command = json.dumps(["/bin/busybox", "sh", "-c", script.replace("mkdir", "busybox mkdir")])
    import_image(client, tag, {"bin/busybox": Path("/bin/busybox")}, f"CMD {command}")
    try:
        client.images.push(tag)
        return str(client.images.get(tag).attrs["RepoDigests"][0])
    finally:
        client.images.remove(tag)


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return str(answer.read().decode().strip())


def eventually(url: str, wanted: str) -> str:
    """What a URL answers in the end, `wanted` as soon as it does."""
    deadline = time.monotonic() + 300
    found = ""
    while found != wanted and time.monotonic() < deadline:
        try:
            found = read(url)
        except urllib.error.URLError as error:
            found = str(error)
        time.sleep(0.2)
    return found


def test_up_twice_status_down_and_up_again(home: Path) -> None:
    assert {line.state for line in status(home)} == {"stopped"}
    first = up(home)
    started = pids(home)
    assert {line.state for line in status(home)} == {"running"}
    assert None not in started.values()
    assert up(home) == first
    assert pids(home) == started

    assert down(home) == ["registry", "aws"]
    assert {line.state for line in status(home)} == {"stopped"}
    for pid in started.values():
        assert pid is not None
        assert daemon.identity(pid) is None
    assert down(home) == []

    assert up(home) == first  # ports are kept: image references stay valid


def test_two_sessions_at_once_start_one_environment(home: Path) -> None:
    sessions = [subprocess.Popen([sys.executable, "-c", UP, str(home)]) for _ in range(3)]
    assert [session.wait(600) for session in sessions] == [0, 0, 0]
    with_our_config = subprocess.run(
        ["pgrep", "-f", str(home / "registry.yml")], capture_output=True, text=True
    ).stdout.split()
    assert with_our_config == [str(pids(home)["registry"])]


def test_servers_outlive_their_session_and_hold_nothing_of_it(home: Path) -> None:
    # A server that held the session's pipe would keep this call waiting.
    subprocess.run(
        [sys.executable, "-c", UP, str(home)], check=True, capture_output=True, timeout=600
    )
    for pid in pids(home).values():
        assert pid is not None
        assert os.getsid(pid) == pid
        for handle in (0, 1, 2):
            target = str(Path(f"/proc/{pid}/fd/{handle}").readlink())
            assert target == "/dev/null" or target.startswith(str(home))


def test_a_killed_server_comes_back_on_its_port(home: Path) -> None:
    first = up(home)
    killed = pids(home)["aws"]
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    assert up(home) == first
    assert pids(home)["aws"] not in (None, killed)


def test_a_stranger_on_the_port_is_left_alone(home: Path) -> None:
    port = state.load(home).parts["registry"].port
    with socket.create_server(("127.0.0.1", port)):
        endpoints = up(home)
        assert endpoints.registry != f"127.0.0.1:{port}"
        assert read(f"http://{endpoints.registry}/v2/") == "{}"
    assert up(home) == endpoints  # the new port is kept, though the old one is free


def test_a_hung_server_is_replaced(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    up(home)
    hung = pids(home)["registry"]
    assert hung is not None
    stand_still(hung)
    monkeypatch.setattr(daemon, "_PROBE_SECONDS", 1.0)
    assert {line.part: line.state for line in status(home)}["registry"] == "not answering"
    endpoints = up(home)
    assert read(f"http://{endpoints.registry}/v2/") == "{}"
    assert daemon.identity(hung) is None


def test_listens_on_loopback_only(running: Endpoints) -> None:
    environment(running, {"any": Served(8080, "/")})  # loads the services that we use
    sessions = set(pids(running.home).values())
    ours = []
    for address, pid in listeners():
        try:
            if os.getsid(pid) in sessions:
                ours.append(address)
        except ProcessLookupError:
            continue
    wanted = {running.registry, running.aws.removeprefix("http://")}
    assert set(ours) == wanted
    assert all(address.startswith("127.0.0.1:") for address in wanted)


def test_a_request_through_the_load_balancer_reaches_the_container(
    running: Endpoints, tmp_path: Path
) -> None:
    settings = environment(running, {"hello": Served(8080, "/")}).service
    assert settings is not None
    assert settings.url is not None
    assert environment(running, {"hello": Served(8080, "/")}).service == settings  # idempotent
    client = aws.session().client("ecs", endpoint_url=running.aws)
    url = settings.url.format(service="hello") + "/"

    def register(image: str) -> str:
        definition = client.register_task_definition(
            family="hello",
            requiresCompatibilities=["FARGATE"],
            networkMode="awsvpc",
            cpu="256",
            memory="512",
            containerDefinitions=[
                {"name": "hello", "image": image, "portMappings": [{"containerPort": 8080}]}
            ],
        )
        return str(definition["taskDefinition"]["taskDefinitionArn"])

    client.create_service(
        cluster=settings.cluster,
        serviceName="hello",
        taskDefinition=register(push_busybox(running, "one")),
        desiredCount=1,
        launchType="FARGATE",
        networkConfiguration={"awsvpcConfiguration": {"subnets": settings.subnets}},
        loadBalancers=[
            {
                "targetGroupArn": settings.target_groups["hello"],
                "containerName": "hello",
                "containerPort": 8080,
            }
        ],
    )
    assert eventually(url, "one") == "one"
    client.update_service(
        cluster=settings.cluster,
        service="hello",
        taskDefinition=register(push_busybox(running, "two")),
    )
    assert eventually(url, "two") == "two"

    # Another environment on the same engine comes and goes.
    other = new_home(tmp_path / "other")
    try:
        up(other)
    finally:
        down(other, wipe=True)
    assert read(url) == "two"

    label = f"ministack.instance={state.name(running.home)}:{running.aws.rpartition(':')[2]}"
    engine = docker.from_env()
    assert engine.containers.list(filters={"label": label})
    killed = pids(running.home)["aws"]
    assert killed is not None
    os.kill(killed, signal.SIGKILL)  # it cannot clean up after itself now
    down(running.home)
    assert engine.containers.list(all=True, filters={"label": label}) == []
    assert up(running.home) == running


def test_a_changed_port_replaces_the_target_group(running: Endpoints) -> None:
    first, url = ensure_load_balancer(running.aws, "moves", 8080, "/")
    assert ensure_load_balancer(running.aws, "moves", 8080, "/healthz") == (first, url)
    second, same = ensure_load_balancer(running.aws, "moves", 9090, "/healthz")
    assert same == url
    groups = aws.session().client("elbv2", endpoint_url=running.aws)
    found = groups.describe_target_groups(Names=["moves"])["TargetGroups"]
    assert [(tg["TargetGroupArn"], tg["Port"], tg["HealthCheckPath"]) for tg in found] == [
        (second, 9090, "/healthz")
    ]


def test_the_subnets_and_groups_we_name_exist(running: Endpoints) -> None:
    client = aws.session().client("ec2", endpoint_url=running.aws)
    assert client.describe_subnets(SubnetIds=list(aws.SUBNETS))["Subnets"]
    assert client.describe_security_groups(GroupIds=list(aws.SECURITY_GROUPS))["SecurityGroups"]


def test_the_stand_in_installs_without_uv(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = Path(sys.base_prefix, "bin", "python3")  # beside which there is no uv
    assert not base.with_name("uv").exists()
    monkeypatch.setattr(stand_in.sys, "executable", str(base))
    monkeypatch.setattr(stand_in.shutil, "which", lambda _: None)
    python = stand_in.install(home)
    assert subprocess.run([python, "-c", "import ministack.app, docker"]).returncode == 0
    stamp = python.stat().st_mtime_ns
    assert stand_in.install(home) == python
    assert python.stat().st_mtime_ns == stamp


def test_registry_in_a_container_where_the_program_is_missing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = shutil.which("docker-registry")
    assert program is not None
    engine = docker.from_env()
    tag = f"kfp-ci-test-registry-{uuid.uuid4().hex[:8]}:2"
    # What the official image holds: the program as entry point.
    libraries = re.findall(
        r"(/\S+)", subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    )
    files = {path.lstrip("/"): Path(path) for path in [program, *libraries]}
    import_image(engine, tag, files, f'ENTRYPOINT ["{program}"]')
    monkeypatch.setattr(registry, "_PROGRAMS", ())
    monkeypatch.setenv(registry.IMAGE_VARIABLE, tag)
    try:
        first = up(home)
        assert up(home) == first
        assert read(f"http://{first.registry}/v2/") == "{}"
        published = engine.containers.get(registry.container_name(home)).ports["5000/tcp"]
        assert [binding["HostIp"] for binding in published] == ["127.0.0.1"]
        digest = push_busybox(first, "kept").rpartition("@")[2]
        assert "registry" in down(home)
        assert up(home) == first
        read(f"http://{first.registry}/v2/hello/manifests/kept")
        assert digest.startswith("sha256:")
    finally:
        host = f"127.0.0.1:{state.load(home).parts['registry'].port}"
        down(home, wipe=True)
        forget_images(host)
        engine.images.remove(tag)


def test_a_base_made_of_debian_packages(
    running: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bases, "_ask_engine", lambda _: False)  # as on a closed network
    reference = "python:3.11-slim"
    found = substitute(reference, running.registry, running.home)
    assert found is not None
    assert recorded(running.home) == {reference: found.image}
    repository, _, digest = found.image.partition("@")

    inspected = subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", f"docker://{found.image}"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert json.loads(inspected)["Digest"] == digest
    assert json.loads(inspected)["Name"] == repository

    program = "import sys, pip, ssl, venv; print('%d.%d' % sys.version_info[:2], sys.prefix)"
    engine = docker.from_env()
    try:
        said = engine.containers.run(found.image, ["python", "-c", program], remove=True)
        assert said.decode().split() == ["3.11", "/usr/local"]
    finally:
        engine.images.remove(found.image, force=True)

    # Another spelling of the same base is the same image, and nothing is made twice.
    monkeypatch.setattr(debian, "make", lambda *_: pytest.fail("was made again"))
    again = substitute("python:3.11-slim-bookworm", running.registry, running.home)
    assert again is not None
    assert again.image == found.image
