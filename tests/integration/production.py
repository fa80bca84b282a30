"""A small project, the machine that releases it, and a production apart from that.

Every part is real but AWS and Kubeflow, whose place ministack and the embedded catalogue
take: each machine has a registry, an ECS and a catalogue of its own, and a vulnerability
database as it fetches one. Everything is done through the command line.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import msgspec
import yaml

from ci_tools import local
from tests.integration import trivy_database
from tests.integration.images import AGELESS, LATER, OLD, debian
from tests.integration.prediction import PORT, ask, json_answer
from tests.integration.repositories import Answer, Machine, Repository, component, git, machine

SERVICE = "svc-answers"
NEWS, WAIVED = "CVE-2099-0042", "CVE-2099-0007"
_PASSPHRASE = {"KFP_CI_PASSPHRASE": "correct horse battery"}
_DATABASE = "trivy-db"
# Tests run in the very image that is shipped; it is Debian 12 with one package.
_DOCKERFILE = """\
FROM scratch AS runtime
COPY busybox /bin/busybox
COPY os-release debian_version /etc/
COPY status /var/lib/dpkg/status
COPY www /www
FROM runtime AS test
RUN ["/bin/busybox", "test", "-x", "/www/cgi-bin/predict"]
FROM runtime
CMD ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/www"]
"""
_TEMPLATE = """
name: train
outputs: [{name: accuracy, type: Float}]
implementation:
  container:
    image: train
    command: [/bin/busybox, sh, -c, 'echo -n 0.97 > "$0"']
    args: [{outputPath: accuracy}]
"""
_PIPELINE = """
from ci_tools.components import load
from kfp import dsl

train = load("train")


@dsl.pipeline(name="training")
def training() -> float:
    return train().outputs["accuracy"]
"""
_SERVABLE = {
    "service": SERVICE,
    "port": PORT,
    "health_check": {"path": "/cgi-bin/predict"},
    "smoke": [{"path": "/cgi-bin/predict", "expect": {"model": ""}}],
    "timeout": 60,
}


def policy(until: str = LATER[:10]) -> str:
    """A waiver holds until then."""
    waiver = {"id": WAIVED, "reason": "nobody calls it", "owner": "a test", "expires": until}
    return yaml.safe_dump({**AGELESS, "waivers": [waiver]})


def answering(version: str) -> str:
    return f"#!/bin/busybox sh\n{json_answer(version)}\n"


def _image(where: str, package: str) -> dict[str, str | bytes]:
    script = answering("1").encode()
    made = component("x", _DOCKERFILE, **debian(package), **{"www/cgi-bin/predict": script})
    return {name.replace("components/x", where, 1): text for name, text in made.items()}


def files(more: int = 0) -> dict[str, str | bytes]:
    """The project: a pipeline of `train`, a service of `servable`, and `more` components."""
    made = {**_image("components/train", "planted"), **_image("servable", "waived")}
    for number in range(more):
        made |= _image(f"components/more-{number:02}", f"package-{number}")
    return made | {
        "servable/servable.yaml": yaml.safe_dump(_SERVABLE),
        "component_specs/train.yaml": _TEMPLATE,
        "pipelines/training.py": _PIPELINE,
        "scan-policy.yaml": policy(),
    }


@dataclass(frozen=True)
class Project:
    """dev: who builds and releases. prod: production, with a clone of the repository."""

    dev: Repository
    prod: Repository

    def publish_database(self, updated: str, **advisories: Mapping[str, str]) -> None:
        """The vulnerability database that a machine without one fetches from now on."""
        trivy_database.publish(
            self.dev.machine.registry, _DATABASE, updated=updated,
            advisories={"waived": {WAIVED: "9"}, **advisories},
        )  # fmt: skip

    def released(self, version: str) -> str:
        """A release whose service answers with this version, by all the stages; its name."""
        self.dev.write({"servable/www/cgi-bin/predict": answering(version).encode()})
        self.dev.commit()
        git(self.dev.path, "push", "--quiet", "origin", "HEAD:main")
        self.dev.ci("run", "--train", "--deploy", "--env", "dev", env=_PASSPHRASE).done()
        release = self.dev.read("release.json")
        assert release["problems"] == []
        return str(release["name"])

    def fetch(self) -> None:
        git(self.prod.path, "fetch", "--quiet", "origin")

    def promote(self, release: str, *more: str, env: Mapping[str, str] | None = None) -> Answer:
        return self.prod.ci("promote", release, "--to", "prod", *more, env=env)

    def rollback(self, *more: str, env: Mapping[str, str] | None = None) -> Answer:
        return self.prod.ci("rollback", "--to", "prod", *more, env=env)

    def history(self) -> Any:
        return self.prod.ci("releases", "history", "--env", "prod", "--json").done().document

    def answer(self) -> str:
        """The version that production's service says it is, over HTTP."""
        return str(ask(_service(self.prod.machine), SERVICE)["version"])

    @property
    def _ecs(self) -> Any:
        return boto3.client(
            "ecs", endpoint_url=self.prod.machine.endpoints.aws, region_name="us-east-1",
            aws_access_key_id="test", aws_secret_access_key="test",
        )  # fmt: skip

    def service(self) -> Any:
        """Production's service, as ECS describes it."""
        found = self._ecs.describe_services(cluster="local", services=[SERVICE], include=["TAGS"])
        (service,) = found["services"]
        return service

    def world(self) -> dict[str, Any]:
        """All of production, not as we tell it: the registry's files, ECS, the catalogue."""
        home, service = self.prod.machine.endpoints.home, self.service()
        return {
            "files": {
                str(path.relative_to(home)): (path.stat().st_size, path.stat().st_mtime_ns)
                for part in ("registry", "catalogue")
                for path in (home / part).rglob("*")
                if path.is_file() and "_uploads" not in path.parts
            },
            "service": {
                key: service[key] for key in ("taskDefinition", "desiredCount", "status", "tags")
            },
            "definitions": self._ecs.list_task_definitions(familyPrefix=SERVICE)[
                "taskDefinitionArns"
            ],
            "runs": self.history()["runs"],
        }


def _service(on: Machine) -> Any:
    served = local.Served(PORT, "/cgi-bin/predict")
    found = local.environment(on.endpoints, {SERVICE: served}).service
    assert found is not None
    return found


@contextmanager
def project(folder: Path, more: int = 0) -> Iterator[Project]:
    """The project with its two machines, and what they made gone afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    with machine(folder / "dev-home") as dev, machine(folder / "prod-home") as prod:
        origin, public = folder / "origin.git", folder / "release.pub"
        subprocess.run(["git", "init", "--quiet", "--bare", origin], check=True)
        keygen = dev.repository(folder / "keys", {}).ci(
            "releases", "keygen", str(folder / "release"), env=_PASSPHRASE
        )
        assert keygen.code == 0, keygen.err
        made = dev.repository(
            folder / "dev", {**files(more), "release.pub": public.read_text()},
            project="ml",
            scan={"database": f"{dev.registry}/{_DATABASE}"},
            pipelines={"named": {"training": {
                "train": True, "expect": {"Output": {"min": 0.9}}}}},
            environments={
                "dev": {
                    "registry": {"host": dev.registry},
                    "service": msgspec.to_builtins(_service(dev)),
                    "signing": {
                        "key": str(folder / "release"), "passphrase_env": "KFP_CI_PASSPHRASE"
                    },
                },
                "prod": {
                    "registry": {"host": prod.registry, "prefix": "live"},
                    "service": msgspec.to_builtins(_service(prod)),
                    "promotion": {"keys": ["release.pub"], "after": "dev"},
                },
            },
        )  # fmt: skip
        git(made.path, "branch", "-M", "main")
        git(made.path, "remote", "add", "origin", str(origin))
        git(made.path, "push", "--quiet", "origin", "main")
        git(folder, "clone", "--quiet", "--branch", "main", str(origin), "prod")
        clone = Repository(folder / "prod", prod, made.config)
        done = Project(made, clone)
        done.publish_database(OLD)
        yield done


def apart(one: Project, folder: Path, **changes: str) -> Project:
    """The same production, from another clone whose files `changes` are otherwise."""
    git(folder, "clone", "--quiet", str(one.prod.path), "clone")
    git(
        folder / "clone",
        "remote",
        "set-url",
        "origin",
        git(one.prod.path, "remote", "get-url", "origin").strip(),
    )
    clone = Repository(folder / "clone", one.prod.machine, one.prod.config)
    clone.write(changes)
    return Project(one.dev, clone)


def journal(one: Project) -> Any:
    """What the last promotion did, step by step."""
    path = one.prod.machine.endpoints.home / "promotions/ml/prod.json"
    return json.loads(path.read_text())
