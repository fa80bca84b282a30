"""What goes wrong with deployments to ministack, and the way back that is asked for.

After each the world is looked at: which revision the service is set to, which
container runs, what it answers, and what is recorded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from ci_tools.config import PredictionService
from ci_tools.documents import Model
from ci_tools.errors import (
    DeploymentFailedError,
    DeploymentSupersededError,
    ServiceError,
    ServicePreflightError,
    SmokeTestError,
)
from ci_tools.local import stand_in
from ci_tools.serving import logs, revisions
from ci_tools.serving.declaration import Servable, SmokeTest
from ci_tools.serving.ecs import PredictionServices
from ci_tools.serving.parts import Sidecar
from tests.integration.prediction import (
    PORT,
    Parts,
    ask,
    json_answer,
    running,
    servable,
    weights,
)

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    with running(tmp_path_factory.mktemp("home")) as made:
        yield made


@pytest.fixture(scope="module")
def v1(parts: Parts) -> str:
    return parts.image("v1", answer=json_answer("1"))


@pytest.fixture(scope="module")
def v2(parts: Parts) -> str:
    return parts.image("v2", answer=json_answer("2"))


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return weights(tmp_path)


class World:
    """One service of the environment, and what is known of it from outside."""

    def __init__(self, parts: Parts, name: str, model: Model) -> None:
        self.parts = parts
        self.name = name
        self.model = model
        self.settings: PredictionService = parts.settings(name)
        self.services = PredictionServices(self.settings, smoke_seconds=5)
        self.told: list[str] = []

    def deploy(self, image: str, **changes: Any) -> Any:
        tags = changes.pop("tags", {})
        return self.services.deploy(
            servable(self.name, **changes), image, self.model, on_event=self.told.append, tags=tags
        )

    def back(self, to: str | None = None) -> Any:
        return self.services.rollback(servable(self.name), to, on_event=self.told.append)

    def serves(self, version: str, image: str, revision: str) -> None:
        """The whole of it: set, recorded, running and answering."""
        assert self.parts.service(self.name)["taskDefinition"] == revision
        assert self.parts.verified(self.name) == revision
        assert self.parts.images(self.name, [image]) == [image]
        assert ask(self.settings, self.name)["version"] == version


def test_a_missing_secret_is_found_before_anything_is_changed(
    parts: Parts, v1: str, v2: str, model: Model
) -> None:
    world = World(parts, "ops-secret", model)
    good = world.deploy(v1)
    nowhere = "arn:aws:secretsmanager:us-east-1:000000000000:secret:nowhere-AbCdEf"
    gone = f"{v2.partition('@')[0]}@sha256:{'0' * 64}"
    with pytest.raises(ServicePreflightError) as failed:
        world.deploy(gone, secrets={"TOKEN": nowhere})
    assert f"there is no secret {nowhere}" in failed.value.what
    assert f"the registry has no image {gone}" in failed.value.what
    assert parts.registered(world.name) == [good.task_definition]
    world.serves("1", v1, good.task_definition)


def test_a_secret_that_is_there_reaches_the_container(parts: Parts, model: Model) -> None:
    import boto3

    world = World(parts, "ops-secret-there", model)
    client = boto3.client(
        "secretsmanager", endpoint_url=parts.endpoints.aws, region_name="us-east-1",
        aws_access_key_id="test", aws_secret_access_key="test",
    )  # fmt: skip
    arn = client.create_secret(Name="ops", SecretString=json.dumps({"word": "open-sesame"}))["ARN"]
    answer = (
        'echo "Content-Type: application/json"; echo; '
        '[ "$WORD" = open-sesame ] && echo "{\\"bytes\\": \\"weights\\", \\"version\\": \\"s\\"}"'
    )
    image = parts.image("says-word", answer=answer)
    with pytest.raises(ServicePreflightError, match="has no key 'other'"):
        world.deploy(image, secrets={"WORD": f"{arn}:other::"})
    made = world.deploy(image, secrets={"WORD": f"{arn}:word::"})
    world.serves("s", image, made.task_definition)
    assert "open-sesame" not in repr((made, world.told))


def test_ecs_goes_back_and_says_so(parts: Parts, v1: str, model: Model) -> None:
    dies = parts.image(
        "ops-dies", answer="true", command=["/bin/busybox", "sh", "-c", "echo no model; exit 3"]
    )
    world = World(parts, "ops-breaker", model)
    good = world.deploy(v1)
    with pytest.raises(DeploymentFailedError) as failed:
        world.deploy(dies)
    assert failed.value.what.startswith("ECS rolled the deployment of ops-breaker:2 back (")
    assert "circuit breaker was triggered" in failed.value.what
    assert "ops-breaker exited with 3" in failed.value.what
    assert "the last verified revision, ops-breaker:1, serves again" in failed.value.what
    world.serves("1", v1, good.task_definition)
    assert world.services.history(world.name)[0].verified is None


def test_a_service_that_never_gets_well(parts: Parts, v1: str, model: Model) -> None:
    """It runs, so ECS is content; nobody ever answers."""
    deaf = parts.image("ops-deaf", answer="true", command=["/bin/busybox", "sleep", "3600"])
    world = World(parts, "ops-deaf", model)
    good = world.deploy(v1)
    with pytest.raises(SmokeTestError) as failed:
        world.deploy(deaf)
    assert "the last verified revision, ops-deaf:1, serves again" in failed.value.what
    world.serves("1", v1, good.task_definition)


def test_an_answer_that_comes_too_late(parts: Parts, v1: str, model: Model) -> None:
    slow = parts.image("ops-slow", answer=f"/bin/busybox sleep 1; {json_answer('slow')}")
    world = World(parts, "ops-slow", model)
    quick = [SmokeTest(path="/cgi-bin/predict", expect={"bytes": "weights"}, max_seconds=0.8)]
    good = world.deploy(v1, smoke=quick)
    with pytest.raises(SmokeTestError, match=r"more than the 0\.8 s allowed"):
        world.deploy(slow, smoke=quick)
    world.serves("1", v1, good.task_definition)


def test_somebody_else_deploys_meanwhile(parts: Parts, v1: str, v2: str, model: Model) -> None:
    world = World(parts, "ops-superseded", model)
    first = world.deploy(v1)
    theirs: list[str] = []

    def meanwhile(line: str) -> None:
        if "tasks run" in line and not theirs:
            made = parts.ecs.register_task_definition(
                family=world.name,
                networkMode="awsvpc",
                requiresCompatibilities=["FARGATE"],
                cpu="256",
                memory="512",
                containerDefinitions=[
                    {
                        "name": world.name,
                        "image": v1,
                        "portMappings": [{"containerPort": PORT}],
                        "environment": [{"name": "BY", "value": "hand"}],
                    }
                ],
            )["taskDefinition"]["taskDefinitionArn"]
            theirs.append(made)
            parts.ecs.update_service(cluster="local", service=world.name, taskDefinition=made)

    with pytest.raises(DeploymentSupersededError) as failed:
        world.services.deploy(servable(world.name), v2, model, on_event=meanwhile)
    assert failed.value.exit_code == 42
    assert "ops-superseded:3 is being deployed instead" in failed.value.what
    now = parts.service(world.name)
    assert now["taskDefinition"] == theirs[0]  # it is left to them
    assert parts.verified(world.name) == first.task_definition  # and is not proven by us
    assert not world.services.status(world.name).verified


def test_status_history_and_the_way_back(parts: Parts, v1: str, v2: str, model: Model) -> None:
    world = World(parts, "ops-back", model)
    assert not world.services.status(world.name).there
    commits = {"1": "a" * 40, "2": "b" * 40}
    first = world.deploy(v1, tags=revisions.tags(commit=commits["1"], build="https://ci/1"))
    second = world.deploy(v2, tags=revisions.tags(commit=commits["2"]))
    now = world.services.status(world.name)
    assert (now.verified, now.running, now.image, now.commit) == (True, 1, v2, commits["2"])
    assert now.model is not None
    assert now.model.sha256 == model.sha256
    newest, oldest = world.services.history(world.name)
    assert (newest.image, newest.commit, oldest.commit) == (v2, commits["2"], commits["1"])
    assert oldest.build == "https://ci/1"
    assert newest.verified
    assert oldest.verified

    gone_back = world.back()
    assert (gone_back.image, gone_back.changed) == (v1, True)
    world.serves("1", v1, first.task_definition)
    assert world.services.history(world.name)[0].rolled_back
    with pytest.raises(ServiceError, match="verified before ops-back:1"):
        world.back()
    world.serves("1", v1, first.task_definition)

    forward = world.back(commits["2"][:12])
    world.serves("2", v2, second.task_definition)
    assert forward.task_definition == second.task_definition
    assert world.services.history(world.name)[0].rolled_back is None
    assert len(parts.registered(world.name)) == 2


def test_a_diff_sees_what_somebody_changed_by_hand(parts: Parts, v1: str, model: Model) -> None:
    world = World(parts, "ops-drift", model)
    made = world.deploy(v1)
    declared = servable(world.name)
    assert world.services.diff(declared, v1, model) == []
    parts.ecs.update_service(cluster="local", service=world.name, desiredCount=2)
    assert world.services.diff(declared, v1, model) == ["service.desiredCount: 2 -> 1"]
    assert world.deploy(v1).task_definition == made.task_definition
    assert world.services.diff(declared, v1, model) == []
    world.serves("1", v1, made.task_definition)


def test_old_revisions_go(parts: Parts, v1: str, v2: str, model: Model) -> None:
    world = World(parts, "ops-old", model)
    world.settings.keep_revisions = 2
    named = world.deploy(v1, tags=revisions.tags(release="release-1"))
    images = [v2, v1, v2, v1]
    made = [world.deploy(image).task_definition for image in images]
    assert parts.registered(world.name) == [named.task_definition, *made[-2:]]
    world.serves("1", v1, made[-1])


def test_a_sidecar_runs_beside_and_its_words_are_told(
    parts: Parts, v1: str, model: Model, tmp_path: Path
) -> None:
    talks = parts.image(
        "ops-talks", answer="true",
        command=["/bin/busybox", "sh", "-c", "echo I am beside; sleep 3600"],
    )  # fmt: skip
    world = World(parts, "ops-sidecar", model)
    beside = {"talker": Sidecar(image="talks")}
    declared: Servable = servable(world.name, sidecars=beside)
    made = world.services.deploy(declared, v1, model, images={"talks": talks})
    assert parts.service(world.name)["taskDefinition"] == made.task_definition
    assert sorted(parts.images(world.name, [v1, talks])) == sorted([v1, talks])
    label = stand_in.label(parts.home, int(parts.endpoints.aws.rpartition(":")[2]))
    fetch = logs.engine(label, world.name, pattern="beside", container="talker")
    (line,) = fetch(datetime(2024, 1, 1, tzinfo=timezone.utc))
    assert (line.container, line.message) == ("talker", "I am beside")
