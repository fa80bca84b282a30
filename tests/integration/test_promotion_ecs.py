"""A promotion that ends in real containers: ministack runs what ECS would.

Oracles: the service's own answers over HTTP, and boto3. The scan is the one FAKE.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from ci import live, promote
from ci.promotion import promoted
from ci.workspace import Workspace
from ci_tools import documents as d
from ci_tools.errors import PromotionUndoneError
from ci_tools.images.registry import Registry
from ci_tools.promotion import lease
from ci_tools.release import bundle as bundles
from ci_tools.release import signing, store
from ci_tools.release.bundle import Bundle
from tests.fakes.releases import Pen
from tests.integration import promoting, registries
from tests.integration.prediction import PORT, Parts, ask, json_answer, running
from tests.integration.repositories import forget_images

pytestmark = pytest.mark.integration

SERVICE = "svc-promoted"
DECLARED = {
    "service": SERVICE,
    "port": PORT,
    "health_check": {"path": "/cgi-bin/predict"},
    "timeout": 60,
}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    with running(tmp_path_factory.mktemp("home")) as made:
        yield made


def released(parts: Parts, pen: Pen, commit: str, image: str) -> Bundle:
    revision = d.Revision(
        service=SERVICE, cluster="dev", image=image, model=None, task_definition="arn",
        task_definition_sha256="f" * 64, changed=True,
    )  # fmt: skip
    release = d.Release(
        name="", project="serving-test", environment="dev",
        source=d.Source(commit=commit, branch="main"),
        images={
            image.partition("@")[0].rpartition("/")[2]: d.ReleasedImage(
                reference=image, digest=image.partition("@")[2], key="k" * 64, tests="passed",
                verdict=d.Verdict(status="pass", trivy="1", database="d", policy="p"),
            )
        },
        pipelines={},
        servables={
            image.partition("@")[0].rpartition("/")[2]: d.ReleasedServable(
                service=SERVICE, file="servables/serve.yaml", image=image,
                task_definition_sha256="f" * 64, revision=revision,
            )
        },
    )  # fmt: skip
    made = bundles.of(release, {"servables/serve.yaml": yaml.safe_dump(DECLARED).encode()})
    made = signing.sign(made, pen)
    store.publish(Registry(parts.endpoints.registry), "serving-test/releases", made)
    return made


def test_a_release_serves_from_the_other_registry_and_one_that_dies_is_taken_back(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "judged", promoting.scanned)
    monkeypatch.setattr(lease, "TIMING", lease.Timing(settle=0.0))
    pen, clone, origin = Pen(), tmp_path / "clone", tmp_path / "origin.git"

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", clone, "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments],
            check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip

    subprocess.run(["git", "init", "-q", "--bare", origin], check=True)
    subprocess.run(["git", "init", "-q", "-b", "main", clone], check=True)
    git("remote", "add", "origin", str(origin))
    git("commit", "-q", "--allow-empty", "-m", "one")
    git("push", "-q", "origin", "main")
    commit = git("rev-parse", "HEAD")
    (clone / "release.pub").write_bytes(pen.key.pem)
    settings = parts.settings(SERVICE)
    good = released(parts, pen, commit, parts.image("good", answer=json_answer("1")))
    dies = released(
        parts, pen, commit,
        parts.image("bad", answer="true", command=["/bin/busybox", "sh", "-c", "exit 3"]),
    )  # fmt: skip
    with registries.registry(tmp_path / "prod") as host:
        config: dict[str, Any] = {
            "project": "serving-test",
            "environments": {
                "dev": {"registry": {"host": parts.endpoints.registry}},
                "prod": {
                    "registry": {"host": host, "prefix": "live"},
                    "service": msgspec.to_builtins(settings),
                    "promotion": {"keys": ["release.pub"], "after": "dev"},
                },
            },
        }
        (clone / "ci.yaml").write_text(yaml.safe_dump(config))

        def workspace() -> Workspace:
            return Workspace(
                repository=clone, build=tmp_path / "build", environment_name="prod",
                home=tmp_path / "home",
            )  # fmt: skip

        try:
            done = promote.promote(workspace(), good.release.name, promote.Request())
            assert ask(settings, SERVICE)["version"] == "1"
            served = done.services["good"]
            assert served.image.startswith(f"{host}/live/serving-test/good@sha256:")
            assert parts.images(SERVICE, [served.image]) == [served.image]
            with pytest.raises(PromotionUndoneError, match="exited with 3"):
                promote.promote(workspace(), dies.release.name, promote.Request())
            assert parts.service(SERVICE)["taskDefinition"] == served.task_definition
            assert parts.verified(SERVICE) == served.task_definition
            assert ask(settings, SERVICE)["version"] == "1"
            now = promoted.release(workspace())
            assert now is not None
            assert now.name == good.release.name
        finally:
            parts.ecs.update_service(cluster="local", service=SERVICE, desiredCount=0)
            parts.images(SERVICE, [])
            forget_images(host)
