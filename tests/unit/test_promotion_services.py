"""The services of a promotion, and their way back, on a model of ECS."""

from __future__ import annotations

from typing import Any

import pytest

from ci.promotion.services import EcsServices
from ci.promotion.steps import Service
from ci.promotion.wanted import Wanted
from ci.promotion.ways import ServicesBack
from ci_tools import documents as d
from ci_tools.errors import DeploymentSupersededError
from ci_tools.serving import declaration
from ci_tools.serving.cluster import Cluster
from tests.fakes.ecs import SETTINGS, V1, V2, V3, FakeECS, Run

TEXT = "service: iris\ncount: 2\n"


class World:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, *fates: str) -> None:
        self.ecs = FakeECS(*fates)
        self.run = Run(self.ecs, monkeypatch)
        self.run.declared = {"service": "iris", "count": 2}
        cluster = Cluster(SETTINGS, self.ecs, lambda _: None)  # type: ignore[arg-type]
        self.services = EcsServices(self.run.services, cluster)

    def step(self, image: str) -> Service:
        servable = declaration.of(TEXT.encode(), "prod")
        wanted = Wanted("iris", servable, TEXT, image, None, {})
        return Service(wanted, self.services, {}, lambda _: None)

    def begun(self, image: str) -> d.JournalStep:
        before = self.step(image).look()
        return d.JournalStep(kind="service", name="service iris", state="begun", before=before)

    def undo(self, entry: d.JournalStep) -> str:
        return ServicesBack(lambda: self.services, "prod", lambda _: None).undo(entry)

    def promoted(self, image: str) -> d.JournalStep:
        entry = self.begun(image)
        entry.result = self.step(image).do()
        return entry


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_a_service_goes_back_to_the_very_revision_it_ran(world: World) -> None:
    first = world.promoted(V1)
    entry = world.promoted(V2)
    assert entry.before["task_definition"] == first.result["task_definition"]
    assert world.ecs.runs == "iris:2"
    assert world.undo(entry) == "iris:1 serves again"
    assert (world.ecs.runs, world.ecs.verified) == ("iris:1", "iris:1")
    # A second time nothing is done.
    calls = len(world.ecs.named("update_service"))
    assert world.undo(entry) == "iris:1 serves as before"
    assert len(world.ecs.named("update_service")) == calls
    assert world.ecs.deregistered == []


def test_the_same_again_has_nothing_to_undo(world: World) -> None:
    world.promoted(V1)
    entry = world.promoted(V1)
    assert entry.result["changed"] is False
    assert world.undo(entry) == "iris:1 serves as before"


def test_a_service_that_was_not_there_is_scaled_to_nothing(world: World) -> None:
    entry = world.promoted(V1)
    assert world.undo(entry) == "scaled to 0 tasks, as before"
    assert world.ecs.verified is None  # and nobody goes back to it later
    assert world.ecs.service is not None
    assert world.ecs.service["desiredCount"] == 0
    assert world.undo(entry) == "it does not run, as before"


def test_one_that_was_never_begun_has_nothing_to_undo(world: World) -> None:
    assert world.undo(world.begun(V1)) == "it does not run, as before"


def test_killed_while_it_was_deployed(world: World) -> None:
    """The journal knows no result, but what the release's revision looks like."""
    world.promoted(V1)
    entry = world.begun(V2)
    world.step(V2).do()
    assert world.undo(entry) == "iris:1 serves again"
    assert world.ecs.runs == "iris:1"


def test_what_somebody_else_deployed_is_left_alone(world: World) -> None:
    world.promoted(V1)
    entry = world.promoted(V2)
    world.run.deploy(V3)
    with pytest.raises(DeploymentSupersededError, match="iris:3, which neither was there"):
        world.undo(entry)
    assert world.ecs.runs == "iris:3"


def test_the_plan_tells_the_differences(world: World) -> None:
    world.promoted(V1)
    calls = len(world.ecs.calls)
    told = world.services.diff(world.step(V2).wanted)
    assert any(V2 in line for line in told)
    assert world.services.diff(world.step(V1).wanted) == []
    changing: list[Any] = [
        name for name, _ in world.ecs.calls[calls:] if not name.startswith(("describe", "list"))
    ]
    assert changing == []
