"""Tiny repositories on real parts, and the command line driven as a user drives it.

Images are `FROM scratch` with one static program, so that a build takes about a
second and nothing is asked of a network.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import yaml

from ci_tools import local
from ci_tools.local import Endpoints
from tests.fakes import ports

ROOT = Path(__file__).resolve().parents[2]
BUSYBOX = Path(shutil.which("busybox") or "/bin/busybox")
BASE = "FROM scratch\nCOPY busybox /bin/busybox\n"
Files = Mapping[str, str | bytes]


@dataclass(frozen=True)
class Answer:
    """What one invocation of the command line came to."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    def done(self) -> Answer:
        """Itself, when it succeeded."""
        assert self.code == 0, self.err
        return self

    def refused(self, code: int, *words: str) -> Answer:
        """Itself, when it failed as a user is promised.

        That is: the documented exit code, and as the end of stderr one sentence that
        holds `words`, lines below it that say why, and one sentence of what to do.
        """
        assert "Traceback" not in self.err + self.out
        assert self.code == code, self.err
        last = ("\n" + self.err).rpartition("\nERROR: ")[2].rstrip("\n")
        last = f"ERROR: {last}"
        one, several = r"ERROR: \S.+\. \S.+[.?]", r"ERROR: \S.+(\n  \S.+)+\n\S.+[.?]"
        assert re.fullmatch(rf"({one}|{several})( Log: .+)?", last), self.err
        assert sum(line.startswith("ERROR: ") for line in self.err.splitlines()) == 1
        for word in words:
            assert word in last
        return self


@dataclass(frozen=True)
class Spy:
    """Wrappers of `docker` and `trivy` on PATH that write down each call."""

    directory: Path

    @property
    def _log(self) -> Path:
        return self.directory / "calls.log"

    def install(self) -> Spy:
        self.directory.mkdir()
        for program in ("docker", "trivy"):
            real = shutil.which(program, path=command_path())
            wrapper = self.directory / program
            wrapper.write_text(
                f"#!/bin/sh\necho {program} \"$@\" >>'{self._log}'\nexec '{real}' \"$@\"\n"
            )
            wrapper.chmod(0o755)
        self.forget()
        return self

    def forget(self) -> None:
        self._log.write_text("")

    @property
    def calls(self) -> list[str]:
        return self._log.read_text().splitlines()

    @property
    def builds(self) -> list[str]:
        return [call for call in self.calls if call.startswith("docker buildx build")]

    @property
    def scans(self) -> list[str]:
        """Scans, conversions and fetches of the database; asking the version is none."""
        return [call for call in self.calls if re.match(r"trivy (image|convert)", call)]


@dataclass
class Machine:
    """An embedded environment of the tests' own."""

    endpoints: Endpoints
    env: dict[str, str] = field(default_factory=dict)

    @property
    def registry(self) -> str:
        return self.endpoints.registry

    def repository(self, path: Path, files: Files, **config: Any) -> Repository:
        """A committed git repository. config: what ci.yaml says beyond the defaults.

        The project's name is the directory's path, so that no test finds the
        images of another in the registry they share. No test asks the internet
        for a vulnerability database.
        """
        path.mkdir(parents=True)
        settings: dict[str, Any] = {
            "project": re.sub(r"[^a-z0-9]+", "-", str(path).lower()).strip("-")[-60:].strip("-"),
            "scan": {"database": f"{self.registry}/no-database"},
            **config,
        }
        made = Repository(path, self, settings)
        made.write({"ci.yaml": yaml.safe_dump(settings), ".gitignore": "/build/\n", **files})
        git(path, "init", "--quiet")
        made.commit()
        return made


@dataclass(frozen=True)
class Repository:
    path: Path
    machine: Machine
    config: dict[str, Any]

    @property
    def build(self) -> Path:
        return self.path / "build"

    @property
    def project(self) -> str:
        return str(self.config["project"])

    def write(self, files: Files) -> None:
        for name, content in files.items():
            target = self.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content if isinstance(content, bytes) else content.encode())
            target.chmod(0o755 if isinstance(content, bytes) else 0o644)

    def commit(self) -> None:
        git(self.path, "add", "--all")
        git(self.path, "commit", "--quiet", "--allow-empty", "--message", "a test's repository")

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "ci", *arguments]

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        return {
            **os.environ,
            "PATH": command_path(),
            "PYTHONPATH": str(ROOT),
            "KFP_CI_HOME": str(self.machine.endpoints.home),
            **self.machine.env,
            **(env or {}),
        }

    def ci(
        self, *arguments: str, env: Mapping[str, str] | None = None, timeout: float = 900
    ) -> Answer:
        """Run `python -m ci ...` in the repository."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.path,
            env=self.environment(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def built(self, *arguments: str, env: Mapping[str, str] | None = None) -> Answer:
        """Plan, then build: the answer of the build."""
        self.ci("plan", env=env).done()
        return self.ci("build", *arguments, env=env)

    def read(self, name: str) -> Any:
        """A document of the build directory."""
        return json.loads((self.build / name).read_text())

    @property
    def images(self) -> dict[str, Any]:
        images = self.read("images.lock.json")["components"]
        assert isinstance(images, dict)
        return images

    @property
    def failed(self) -> dict[str, Any]:
        failed = self.read("images.lock.json")["failed"]
        assert isinstance(failed, dict)
        return failed

    def reference(self, component: str) -> str:
        """The image by digest, as the lock names it."""
        image = self.images[component]
        return f"{image['repository']}@{image['digest']}"

    def tagged(self, component: str, key: str) -> str:
        return f"{self.machine.registry}/{self.project}/{component}:{key}"


def component(name: str, dockerfile: str = BASE, **more: str | bytes) -> dict[str, str | bytes]:
    """The files of one component, with the program that its image is made of."""
    files: dict[str, str | bytes] = {"Dockerfile": dockerfile, **more}
    if "COPY busybox" in dockerfile:
        files["busybox"] = BUSYBOX.read_bytes()
    return {f"components/{name}/{file}": content for file, content in files.items()}


def run(script: str, mount: str = "") -> str:
    """A RUN instruction for an image that holds nothing but busybox."""
    flag = f"--mount={mount} " if mount else ""
    return f"RUN {flag}{json.dumps(['/bin/busybox', 'sh', '-c', script])}\n"


def command_path() -> str:
    """PATH with the programs of this Python's environment first."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


def git(path: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    return subprocess.run(
        ["git", *identity, "-C", str(path), *arguments], check=True, capture_output=True, text=True
    ).stdout


def skopeo(*arguments: str) -> str:
    """skopeo's answer: it knows registries, and nothing of us."""
    return subprocess.run(["skopeo", *arguments], check=True, capture_output=True, text=True).stdout


def inspected(reference: str) -> dict[str, Any]:
    """What the registry holds under a reference, as skopeo sees it."""
    found = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{reference}"))
    assert isinstance(found, dict)
    return found


def in_registry(reference: str) -> bool:
    command = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"]
    return subprocess.run(command, capture_output=True).returncode == 0


@contextlib.contextmanager
def machine(home: Path) -> Iterator[Machine]:
    """An embedded environment on ports of its own; at the end nothing of it is left."""
    home.mkdir()
    registry = ports.of_an_environment(home)["registry"]
    try:
        yield Machine(local.up(home))
    finally:
        local.down(home, wipe=True)
        forget_images(f"127.0.0.1:{registry}")


def image_names(start: str) -> list[str]:
    """The names that begin so, tags and digests, of all images that the engine has.

    One question: `images.list()` asks for every image by itself, and fails when
    another test removes one of its own meanwhile.
    """
    return [
        name
        for image in docker.from_env().api.images()
        for name in [*(image["RepoTags"] or []), *(image["RepoDigests"] or [])]
        if name.startswith(start)
    ]


def forget_images(host: str) -> None:
    """Take the names of a registry's images out of the engine.

    By name, not by id: other environments may know the same image by theirs.
    """
    for name in image_names(f"{host}/"):
        with contextlib.suppress(docker.errors.ImageNotFound):
            docker.from_env().images.remove(name, force=True)
