"""The services of a promotion, and their way back, on a model of ECS."""

from __future__ import annotations

from typing import Any

import pytest

from ci.promotion.services import EcsServices
from ci.promotion.steps import Service
from ci.promotion.wanted import Wanted
from ci.promotion.ways import PipelinesBack, ServicesBack
from ci_tools import documents as d
from ci_tools.errors import (
    DeploymentFailedError,
    DeploymentSupersededError,
    MissingInputError,
    ServiceError,
)
from ci_tools.serving import declaration
from ci_tools.serving.cluster import Cluster
from ci_tools.serving.revisions import RELEASE
from tests.fakes.ecs import PREFIX, SETTINGS, V1, V2, V3, FakeECS, Run, error

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
        tags = {RELEASE: "release-1"}
        return Service(wanted, self.services, tags, lambda _: None)

    def begun(self, image: str) -> d.JournalStep:
        before = self.step(image).look()
        return d.JournalStep(kind="service", name="service iris", state="begun", before=before)

    def undo(self, entry: d.JournalStep) -> str:
        return ServicesBack(lambda: self.services, "prod", lambda _: None).undo(entry)

    def killed(self, image: str) -> d.JournalStep:
        """Before the service is made, and after its task definition is registered."""
        entry = self.begun(image)
        self.ecs.refuse["create_service"] = KeyboardInterrupt()  # type: ignore[assignment]
        with pytest.raises(KeyboardInterrupt):
            self.step(image).do()
        del self.ecs.refuse["create_service"]
        return entry

    def names(self, revision: int) -> str | None:
        """The release that a revision is tagged with."""
        return self.ecs.definition_tags[f"{PREFIX}iris:{revision}"].get(RELEASE)

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


def test_an_undone_revision_is_named_by_no_release_and_goes_with_the_others(
    world: World,
) -> None:
    """Once it is one of those that nobody needs, and not while a service names it."""
    world.undo(world.promoted(V1))
    assert (world.ecs.runs, world.names(1)) == ("iris:1", None)
    assert world.ecs.deregistered == []
    # The same again finds it, and no other: ECS takes none that is deregistered.
    world.promoted(V1)
    assert (world.ecs.runs, world.names(1)) == ("iris:1", "release-1")
    world.undo(world.promoted(V2))
    assert (world.ecs.runs, world.names(1), world.names(2)) == ("iris:1", "release-1", None)
    assert world.ecs.deregistered == []
    for number in range(SETTINGS.keep_revisions + 2):
        world.promoted(V3.replace("3" * 64, f"{number:064}"))
    assert world.ecs.deregistered == [f"{PREFIX}iris:2"]


def test_a_revision_that_cannot_be_disowned_stays_and_the_service_is_back(world: World) -> None:
    world.promoted(V1)
    entry = world.promoted(V2)
    told: list[str] = []
    back = ServicesBack(lambda: world.services, "prod", told.append)
    real = world.services.disown

    def refused(task_definition: str) -> None:
        world.ecs.refuse["untag_resource"] = error("AccessDeniedException", "UntagResource")
        real(task_definition)

    world.services.disown = refused  # type: ignore[method-assign]
    assert back.undo(entry) == "iris:1 serves again"
    assert any(one.startswith("iris:2 stays registered (") for one in told)


def test_killed_between_the_task_definition_and_the_service(world: World) -> None:
    """Nothing can be using it; what others registered is theirs."""
    world.ecs.do_register_task_definition(family="iris", containerDefinitions=[])
    entry = world.killed(V1)
    world.killed(V2)
    assert world.undo(entry) == "it does not run, as before, and iris:2 is deregistered"
    assert world.ecs.deregistered == [f"{PREFIX}iris:2"]
    assert world.undo(entry) == "it does not run, as before"


def test_what_was_verified_or_is_another_cluster_s_is_not_cleared(world: World) -> None:
    entry = world.killed(V1)
    told = world.ecs.definition_tags[f"{PREFIX}iris:1"]
    told["kfp-ci:cluster"] = "other"
    assert world.undo(entry) == "it does not run, as before"
    told |= {"kfp-ci:cluster": "prod", "kfp-ci:verified": "2026-01-01T00:00:00+00:00"}
    assert world.undo(entry) == "it does not run, as before"
    assert world.ecs.deregistered == []


def test_what_cannot_be_cleared_is_no_reason_to_be_stuck(world: World) -> None:
    entry = world.killed(V1)
    world.ecs.refuse["deregister_task_definition"] = error("AccessDeniedException", "Deregister")
    told = world.undo(entry)
    assert told.startswith("it does not run, as before; what was registered for it stays (")


def test_one_that_was_never_begun_has_nothing_to_undo(world: World) -> None:
    assert world.undo(world.begun(V1)) == "it does not run, as before"


def test_killed_while_it_was_deployed(world: World) -> None:
    """The journal knows no result, but what the release's revision looks like."""
    world.promoted(V1)
    entry = world.begun(V2)
    world.step(V2).do()
    assert world.undo(entry) == "iris:1 serves again"
    assert world.ecs.runs == "iris:1"


def by_hand(world: World) -> None:
    """Somebody has another revision run, which nobody ever verified."""
    world.ecs.do_register_task_definition(family="iris", containerDefinitions=[])
    world.ecs.begin(f"{PREFIX}iris:{len(world.ecs.definitions)}")


@pytest.mark.parametrize("wait", [True, False], ids=["failed", "interrupted"])
def test_a_failed_deployment_over_what_was_done_by_hand_is_undone(world: World, wait: bool) -> None:
    """It goes back to the last verified revision, and no further: nobody is left with a
    promotion that can never be closed."""
    world.promoted(V1)
    by_hand(world)
    world.ecs.look()
    world.ecs.fates = ["fails"] if wait else ["completes", "hangs"]
    entry = world.begun(V2)
    if wait:
        with pytest.raises(DeploymentFailedError, match="last verified revision, iris:1, serves"):
            world.step(V2).do()
    else:
        world.run.smoke = interrupted
        with pytest.raises(KeyboardInterrupt):
            world.step(V2).do()
        world.run.smoke = lambda: None
    told = "iris:1 serves again; iris:2, which ran before, was never verified"
    assert world.undo(entry) == told
    assert (world.ecs.runs, world.ecs.verified, world.names(1)) == ("iris:1", "iris:1", "release-1")
    assert world.undo(entry) == told


def interrupted() -> None:
    raise KeyboardInterrupt


def test_killed_over_what_was_done_by_hand_that_serves_again(world: World) -> None:
    world.promoted(V1)
    by_hand(world)
    world.ecs.look()
    entry = world.promoted(V2)
    assert world.undo(entry) == "iris:2 serves again"
    assert (world.ecs.runs, world.names(3)) == ("iris:2", None)


@pytest.mark.parametrize(
    "before", [{}, {"service": "iris"}, {"service": 1, "declaration": [], "desired": "2"}]
)
def test_a_journal_that_does_not_say_what_was_before(world: World, before: d.Json) -> None:
    world.promoted(V1)
    entry = d.JournalStep(kind="service", name="service iris", state="begun", before=before)
    with pytest.raises(MissingInputError, match="does not say what was there before"):
        world.undo(entry)


@pytest.mark.parametrize("ending", ["", "-", "1", "-0123"])
def test_no_journal_has_all_versions_of_a_pipeline_deleted(ending: str) -> None:
    before = {"training": {"pipeline_id": "1", "versions": [], "ending": ending}}
    entry = d.JournalStep(kind="pipelines", name="pipelines", state="begun", before=before)

    def never() -> Any:
        raise AssertionError

    with pytest.raises(MissingInputError):
        PipelinesBack(never).undo(entry)


def test_a_service_that_is_gone_is_not_called_put_back(world: World) -> None:
    world.promoted(V1)
    entry = world.promoted(V2)
    world.ecs.service = None
    with pytest.raises(ServiceError, match="the service 'iris' is gone, which ran iris:1 before"):
        world.undo(entry)


def test_what_somebody_else_deployed_is_left_alone(world: World) -> None:
    world.promoted(V1)
    entry = world.promoted(V2)
    by_hand(world)
    with pytest.raises(DeploymentSupersededError, match="let it run iris:1 again") as refused:
        world.undo(entry)
    assert "runs iris:3, which neither was there before" in refused.value.what
    assert world.ecs.runs == "iris:3"
    # What it says does: the promotion can be closed, and what they deployed stays.
    assert "service rollback iris --to iris:3 --env prod" in refused.value.what
    servable = declaration.of(TEXT.encode(), "prod")
    world.run.services.rollback(servable, "iris:3")
    told = "iris:3 serves, which somebody else deployed meanwhile, and is verified"
    assert world.undo(entry) == told
    assert world.ecs.runs == "iris:3"


def test_what_somebody_else_deployed_and_verified_is_theirs(world: World) -> None:
    world.promoted(V1)
    entry = world.promoted(V2)
    world.run.deploy(V3)
    assert world.undo(entry).startswith("iris:3 serves, which somebody else deployed")
    assert (world.ecs.runs, world.ecs.verified) == ("iris:3", "iris:3")
    world.ecs.fates = ["hangs"]
    world.ecs.do_update_service(forceNewDeployment=True)
    with pytest.raises(DeploymentSupersededError):  # not while it does not serve
        world.undo(entry)


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
