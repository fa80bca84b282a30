"""The image of a Jenkins agent: made by our own tool, and a job's steps within it.

The slowest here: Debian's packages and the locked ones are installed once, and come
from BuildKit's cache the next time. One container a test, with the engine's socket and
as Jenkins starts it: not as root.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
import tempfile
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml

from ci_tools import git
from tests.integration import engines
from tests.integration.repositories import (
    BASE,
    ROOT,
    Files,
    Machine,
    Repository,
    component,
    forget_images,
    inspected,
    run,
)

pytestmark = pytest.mark.integration

SOCKET = Path("/var/run/docker.sock")
COMMITTED = (
    "set -o pipefail; git init --quiet && git add --all"
    " && git -c user.name=a -c user.email=a@example.com commit --quiet --message one"
)


@dataclass(frozen=True)
class Agent:
    """The image. reference: by digest. lock: its part of images.lock.json.
    build: where the stages wrote.
    """

    reference: str
    lock: dict[str, Any]
    build: Path

    def does(self, script: str, files: Files, network: str, builder: str = "") -> str:
        """What a shell says that works in a directory with these files, as jenkins.

        builder: the address of a BuildKit, in the place of the engine.
        """
        engine = [f"--group-add={SOCKET.stat().st_gid}", f"--volume={SOCKET}:/var/run/docker.sock"]
        done = subprocess.run(
            [
                "docker", "run", "--rm", "--interactive", f"--network={network}",
                *([f"--env=BUILDKIT_HOST={builder}"] if builder else engine),
                self.reference, "bash", "-ec", f"mkdir job && cd job && tar x && {script}",
            ],
            input=packed(files), capture_output=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
        return done.stdout.decode()


def packed(files: Files) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            data = content if isinstance(content, bytes) else content.encode()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            tar.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def checkout() -> Files:
    """This repository as git has it."""
    return {name: (ROOT / name).read_bytes() for name in git.files(ROOT) if name != ".venv"}


@pytest.fixture(scope="module")
def agent(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Agent:
    folder = tmp_path_factory.mktemp("agent")
    declared = yaml.safe_load((ROOT / "agent" / "ci.yaml").read_text())
    declared["scan"] = {"database": f"{machine.registry}/no-database"}
    (folder / "ci.yaml").write_text(yaml.safe_dump(declared))
    Repository(ROOT, machine, declared).ci(
        "build", "--plan", f"--config={folder}/ci.yaml", f"--build-dir={folder}/build", timeout=900
    ).done()
    lock = json.loads((folder / "build" / "images.lock.json").read_text())
    image = lock["components"]["agent"]
    return Agent(f"{image['repository']}@{image['digest']}", image, folder / "build")


def test_the_tool_makes_it_like_any_other_image(agent: Agent) -> None:
    assert inspected(agent.reference)["Digest"] == agent.lock["digest"]
    cases = {
        case.get("name"): [child.tag for child in case]
        for case in ET.parse(agent.build / "reports/images.xml").iter("testcase")
    }
    assert list(cases) == ["build", "test", "scan", "push"]
    assert "failure" not in [tag for tags in cases.values() for tag in tags]
    assert [base.partition("@")[0] for base in agent.lock["bases"]] == ["debian:trixie-slim"]
    sbom = json.loads((agent.build / agent.lock["verdict"]["sbom"]).read_text())
    assert {"docker-cli", "docker-buildx", "git", "kfp"} <= {
        one["name"] for one in sbom["components"]
    }
    config = docker.from_env().images.get(agent.reference).attrs["Config"]
    assert config["User"] == "1000:1000"
    assert config["Entrypoint"] == ["kfp-ci-agent"]


def test_bootstrap_finds_all_and_installs_nothing(agent: Agent) -> None:
    """Without a network it could not install a thing."""
    said = agent.does(
        "scripts/bootstrap.sh && cd / && for program in python trivy hadolint docker git java; do"
        " PATH=$HOME/job/.venv/bin:$PATH command -v $program; done;"
        " $HOME/job/.venv/bin/python -c 'import ci, kfp; print(ci.__file__, kfp.__file__)';"
        " cd $HOME/job && .venv/bin/python -m ci plan --dry-run && id -u",
        checkout(),
        network="none",
    )
    lines = said.splitlines()
    told = {line.split()[1]: " ".join(line.split()[2:]) for line in lines if "bootstrap:" in line}
    assert told.pop("mmdebstrap").startswith("missing")  # a real base is pulled
    assert told == {
        "engine": "found",
        "buildx": "found",
        "docker-registry": "found",
        "python": "found in /opt/kfp-ci",
    }
    job = "/home/jenkins/job"
    assert {f"{job}/.venv/bin/{name}" for name in ("python", "trivy", "hadolint")} <= set(lines)
    # The checkout's own files, on the image's packages.
    (modules,) = (line for line in lines if line.startswith(f"{job}/ci/__init__.py"))
    assert modules.split()[1].startswith("/opt/kfp-ci/venv/lib/")
    assert any("base_images/python/Dockerfile" in line for line in lines)
    assert lines[-1] == "1000"


def small(machine: Machine, project: str) -> Files:
    """A repository that only uses the package: one component, and its test."""
    settings = {
        "project": project,
        "scan": {"database": f"{machine.registry}/no-database"},
        "environments": {
            "dev": {"registry": {"host": machine.registry}, "allow_incomplete_scan": True}
        },
    }
    dockerfile = (
        BASE.replace("scratch", "scratch AS base")
        + run("busybox echo 1 >/made.txt")
        + "FROM base AS test\n"
        + run("test -f /made.txt")
        + "FROM base\n"
    )
    return {"ci.yaml": yaml.safe_dump(settings), **component("one", dockerfile)}


def test_a_job_builds_and_pushes_from_within(agent: Agent, machine: Machine) -> None:
    """A branch's images go to dev, here the machine's registry; a pull request's to the
    agent's own, which it starts."""
    project = f"within-{agent.lock['key'][:12]}"
    said = agent.does(
        f"{COMMITTED} && export KFP_CI_HOME=$HOME/state"
        " && KFP_CI_ENVIRONMENT=dev python -m ci plan --quiet >&2"
        " && KFP_CI_ENVIRONMENT=dev python -m ci build --quiet --json | tr -d '\n'"
        " && echo && python -m ci build --plan --quiet --json | tr -d '\n'"
        " && python -m ci local down >&2 && echo && test ! -e $KFP_CI_HOME/stand-in && id -u",
        small(machine, project),
        network="host",
    )
    dev, local, user = said.splitlines()
    image, own = (json.loads(lock)["components"]["one"] for lock in (dev, local))
    forget_images(own["repository"].partition("/")[0])
    assert image["built"]
    found = inspected(f"{machine.registry}/{project}/one@{image['digest']}")
    assert found["Digest"] == image["digest"]
    assert found["Labels"]["kfp-ci.key"] == image["key"]
    assert own["built"]
    assert not own["repository"].startswith(machine.registry)
    assert own["key"] == image["key"]
    assert user == "1000"


def test_a_remote_builder_stands_for_the_engine(agent: Agent, machine: Machine) -> None:
    """As in a pod, where no engine is: BuildKit is the one of a second engine."""
    project = f"remote-{agent.lock['key'][:12]}"
    of_bootstrap = ("scripts/bootstrap.sh", "setup.cfg", "pyproject.toml")
    tool = {
        name: content
        for name, content in checkout().items()
        if name in of_bootstrap or name.startswith("requirements/")
    }
    directory = Path(tempfile.mkdtemp(prefix="kfp-ci-"))
    try:
        with engines.other_engine(directory) as engine, engines.bridge(engine.socket) as port:
            said = agent.does(
                f"scripts/bootstrap.sh && {COMMITTED} && KFP_CI_ENVIRONMENT=dev"
                " python -m ci build --plan --quiet --json | tr -d '\n'",
                {**tool, **small(machine, project)},
                network="host",
                builder=f"tcp://127.0.0.1:{port}",
            )
    finally:
        shutil.rmtree(directory)
    *told, lock = said.splitlines()
    assert "bootstrap: engine      none; images are built on buildx' remote builder" in told
    image = json.loads(lock)["components"]["one"]
    assert image["built"]
    found = inspected(f"{machine.registry}/{project}/one@{image['digest']}")
    assert found["Labels"]["kfp-ci.key"] == image["key"]
