"""Build secrets in real builds: the step reads them, nothing keeps or shows them."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from ci_tools.config import BuildSecret
from ci_tools.errors import BuildError
from ci_tools.images import buildx
from ci_tools.images.buildx import Request
from ci_tools.images.secrets import Secrets
from tests.integration.repositories import BASE, BUSYBOX, run

pytestmark = pytest.mark.integration

FROM_FILE, FROM_ENV, FROM_AWS = "value-of-a-file", "value-of-a-variable", "value-of-aws"
TAG = f"kfp-ci-test-secrets:{uuid.uuid4().hex[:8]}"


class NotAws:
    """In place of Secrets Manager: botocore is held to it by the unit tests."""

    class exceptions:
        class ResourceNotFoundException(Exception): ...

    def get_secret_value(self, **_: str) -> dict[str, str]:
        return {"SecretString": FROM_AWS}


@pytest.fixture
def context(tmp_path: Path) -> Path:
    context = tmp_path / "context"
    context.mkdir()
    (context / "busybox").write_bytes(BUSYBOX.read_bytes())
    (context / "busybox").chmod(0o755)
    return context


@pytest.fixture
def cleaned() -> Iterator[None]:
    yield
    docker.from_env().images.remove(TAG, force=True)


def request(context: Path, dockerfile: str, secrets: Secrets) -> Request:
    file = context / "Dockerfile"
    file.write_text(dockerfile)
    return Request(name="a", dockerfile=file, context=context, offered=secrets.offered())


def built(request: Request, log: Path) -> str:
    """The image's id."""
    watch = buildx.Watch(timeout=600, log=log)
    return buildx.build(request, ["--load", f"--tag={TAG}"], watch).digest


def test_a_step_reads_them_and_nothing_keeps_them(
    context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cleaned: None
) -> None:
    monkeypatch.setenv("TOKEN", FROM_ENV)
    file = tmp_path / "a, file"
    file.write_text(FROM_FILE)
    secrets = Secrets(
        {"f": str(file), "v": BuildSecret(env="TOKEN"), "w": BuildSecret(aws="name")},
        client=lambda _: NotAws(),
    )
    dockerfile = BASE
    for name, value in {"f": FROM_FILE, "v": FROM_ENV, "w": FROM_AWS}.items():
        # It says the value, as a careless step does. The directory's name is there so
        # that the step is in no cache: then it would not run.
        digest = hashlib.sha256(value.encode()).hexdigest()
        dockerfile += run(
            f"b=/bin/busybox; s=/run/secrets/{name}; $b echo {tmp_path}; $b cat $s; "
            f"$b sha256sum $s | $b grep -q {digest} && $b echo yes >/had-{name}",
            f"type=secret,id={name}",
        )
    log = tmp_path / "log"
    image = built(request(context, dockerfile, secrets), log)
    saved = b"".join(docker.from_env().images.get(image).save())
    for name in "fvw":
        assert f"had-{name}".encode() in saved
    for value in (FROM_FILE, FROM_ENV, FROM_AWS):
        assert value not in log.read_text()
        assert value.encode() not in saved
    # They were printed, and blanked out. (Not in the order of the steps.)
    assert len(re.findall(r"^#\d+ [\d.]+ \*\*\*$", log.read_text(), re.M)) == 3


def test_a_value_is_not_in_the_error_either(
    context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", FROM_ENV)
    secrets = Secrets({"v": BuildSecret(env="TOKEN")})
    dockerfile = BASE + run(
        f"/bin/busybox echo {tmp_path}; /bin/busybox cat /run/secrets/v; exit 3",
        "type=secret,id=v",
    )
    log = tmp_path / "log"
    with pytest.raises(BuildError, match="exit code: 3") as caught:
        built(request(context, dockerfile, secrets), log)
    assert FROM_ENV not in str(caught.value) + log.read_text()
    assert "***" in log.read_text()


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A running agent with one key, whose public half is in the file."""
    for program in ("ssh-agent", "ssh-add", "ssh-keygen"):
        assert shutil.which(program), f"{program} is not installed (Debian: openssh-client)"
    key, socket = tmp_path / "id", tmp_path / "agent"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    running = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        until = time.monotonic() + 300
        while not socket.exists():
            assert time.monotonic() < until, "no agent"
            time.sleep(0.02)
        subprocess.run(["ssh-add", "-q", key], check=True)
        yield key
    finally:
        running.terminate()
        running.wait(timeout=300)


@pytest.mark.parametrize("how", ["default", "key"])
def test_a_step_asks_the_ssh_agent(agent: Path, context: Path, tmp_path: Path, how: str) -> None:
    name = "default" if how == "default" else "deploy"
    secrets = Secrets({}, ["default"] if how == "default" else [f"deploy={agent}"])
    program = shutil.which("ssh-add")
    assert program
    linked = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    for file in [program, *re.findall(r"(/\S+) \(0x", linked)]:
        copy = context / "root" / file.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    public = agent.with_suffix(".pub").read_text().split()[1]
    dockerfile = f"{BASE}COPY root /\n" + run(
        f"echo {tmp_path}; {program} -L >/known && /bin/busybox grep -q {public} /known && "
        "echo it knows the key",
        f"type=ssh,id={name}",
    )
    log = tmp_path / "log"
    built(request(context, dockerfile, secrets), log)
    docker.from_env().images.remove(TAG, force=True)
    assert re.search(r"^#\d+ [\d.]+ it knows the key$", log.read_text(), re.M)
    again = dockerfile.replace(f"echo {tmp_path}", "echo another")  # else it is in the cache
    with pytest.raises(BuildError, match="ssh-add"):
        built(request(context, again, Secrets({})), log)
