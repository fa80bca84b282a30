"""The docker client finds credentials that only we have, and keeps all that it had."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import docker
import pytest

from ci_tools.errors import ConfigError
from ci_tools.images import login
from ci_tools.images.registry import Registry
from tests.integration import registries
from tests.integration.repositories import BUSYBOX, forget_images

pytestmark = pytest.mark.integration


class Own(Registry):
    """A registry whose credentials are ours, as ECR's are."""

    password = registries.PASSWORD

    def credentials(self) -> tuple[str, str]:
        return registries.USER, self.password


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry that lets nobody in but one user."""
    home = tmp_path_factory.mktemp("private")
    with registries.registry(home, auth=registries.private(home)) as running:
        yield running
        forget_images(running)


@pytest.fixture
def base(host: str, tmp_path: Path) -> str:
    """An image in that registry by digest, one for each test of each run: BuildKit
    asks no registry for a digest that it has from an earlier build."""
    context = tmp_path / "base"
    context.mkdir()
    (context / "busybox").write_bytes(BUSYBOX.read_bytes())
    (context / "busybox").chmod(0o755)
    (context / "unique").write_text(uuid.uuid4().hex)
    (context / "Dockerfile").write_text("FROM scratch\nCOPY busybox /bin/busybox\nCOPY unique /\n")
    name = f"{host}/base"
    docker_("buildx", "build", "--load", f"--tag={name}:1", str(context))
    client = docker.from_env()
    auth = {"username": registries.USER, "password": registries.PASSWORD}
    client.images.push(name, tag="1", auth_config=auth)
    image = Own(host).image("base", "1")
    assert image is not None
    client.images.remove(f"{name}:1", force=True)
    return f"{name}@{image.digest}"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without any docker configuration."""
    for variable in ("DOCKER_CONFIG", "BUILDX_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def built(base: str, where: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess:
    where.mkdir()
    # A step of its own, so that the base is needed and not only its name. The
    # directory's name is in it: what BuildKit has in its cache it does not pull.
    (where / "Dockerfile").write_text(f'FROM {base}\nRUN ["/bin/busybox", "echo", "{where}"]\n')
    return subprocess.run(
        ["docker", "buildx", "build", "--output=type=cacheonly", "--progress=plain", str(where)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_docker_pulls_with_our_credentials_only_inside(
    host: str, base: str, home: Path, tmp_path: Path
) -> None:
    outside = built(base, tmp_path / "before", {})
    assert outside.returncode != 0
    assert "401 Unauthorized" in outside.stderr or "no basic auth" in outside.stderr
    with login.client_environment(Own(host), tmp_path / "scratch") as environment:
        assert registries.PASSWORD not in str(environment)
        inside = built(base, tmp_path / "inside", environment)
    assert inside.returncode == 0, inside.stderr
    assert registries.PASSWORD not in inside.stderr
    assert list((tmp_path / "scratch").iterdir()) == []


def test_the_users_logins_plugins_builders_and_contexts_stay(
    host: str, base: str, home: Path, tmp_path: Path
) -> None:
    """Our host's login is ours alone; the user's own, for another host, still works."""
    registries.docker_config(home / ".docker", host)  # the user's own
    plugin = home / ".docker" / "cli-plugins" / "docker-hello"
    plugin.parent.mkdir()
    plugin.write_text(
        '#!/bin/sh\n[ "$1" = docker-cli-plugin-metadata ] && echo \'{"SchemaVersion":"0.1.0",'
        '"Vendor":"t","Version":"1","ShortDescription":"hello"}\' || echo hello\n'
    )
    plugin.chmod(0o755)
    docker_("context", "create", "mine", "--docker=host=unix:///var/run/docker.sock")
    docker_("buildx", "create", "--name=kept", "--driver=docker-container", "--bootstrap=false")
    before = docker_("buildx", "ls"), docker_("context", "ls")
    other = Own("127.0.0.1:1")
    with login.client_environment(other, tmp_path / "scratch") as environment:
        assert (
            docker_("buildx", "ls", **environment),
            docker_("context", "ls", **environment),
        ) == before
        assert docker_("hello", **environment) == "hello\n"
        inside = built(base, tmp_path / "inside", environment)
        assert inside.returncode == 0, inside.stderr
        docker_("buildx", "create", "--name=new", "--driver=docker-container", **environment)
    assert "kept" in before[0]
    assert "new" in docker_("buildx", "ls")
    assert plugin.exists()


def docker_(*arguments: str, **environment: str) -> str:
    return subprocess.run(
        ["docker", *arguments],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def helper(environment: Mapping[str, str], verb: str, server: str) -> tuple[int, str]:
    """What the helper answers docker."""
    done = subprocess.run(
        [f"docker-credential-{login.HELPER}", verb],
        env={**os.environ, **environment},
        input=server,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout


def test_only_this_user_can_read_it(home: Path, tmp_path: Path) -> None:
    with login.client_environment(Own("127.0.0.1:5"), tmp_path) as environment:
        directory = Path(environment["DOCKER_CONFIG"])
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        for path in directory.rglob("*"):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert not directory.exists()


def test_the_helper_speaks_dockers_protocol(home: Path, tmp_path: Path) -> None:
    for host in ("127.0.0.1:5", "111111111111.dkr.ecr.eu-west-1.amazonaws.com"):
        scratch = tmp_path / "it's a place"
        with login.client_environment(Own(host), scratch) as environment:
            for server in (host, f"https://{host}", f"{host}\n"):
                code, answer = helper(environment, "get", server)
                assert code == 0
                assert json.loads(answer)["Secret"] == registries.PASSWORD
            code, answer = helper(environment, "get", f"{host}.evil.example")
            assert code == 1
            assert answer == "credentials not found in native keychain\n"
            assert helper(environment, "erase", host)[0] == 1
            assert helper(environment, "get", host)[0] == 0


def test_a_renewed_token_reaches_docker(home: Path, tmp_path: Path) -> None:
    registry = Own("127.0.0.1:5")
    with login.client_environment(registry, tmp_path, look_seconds=0.01) as environment:
        registry.password = "another"
        until = time.monotonic() + 300
        while json.loads(helper(environment, "get", registry.host)[1])["Secret"] != "another":
            assert time.monotonic() < until, "the new one never came"


def test_docker_knows_all_other_registries(home: Path, tmp_path: Path) -> None:
    with login.client_environment(Registry("127.0.0.1:5"), tmp_path) as environment:
        assert environment == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": {"h": {"auth": "c2VjcmV0'])
def test_a_configuration_that_does_not_parse(home: Path, tmp_path: Path, text: str) -> None:
    (home / ".docker").mkdir(parents=True)
    (home / ".docker" / "config.json").write_text(text)
    with (
        pytest.raises(ConfigError, match=r"config\.json"),
        login.client_environment(Own("127.0.0.1:5"), tmp_path / "scratch"),
    ):
        pass
