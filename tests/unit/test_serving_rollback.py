"""Beyond one deployment: checks before it, roll-backs, old revisions, the autoscaler."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import moto
import pytest

from ci_tools.documents import Model
from ci_tools.errors import (
    CredentialsError,
    DeploymentFailedError,
    ServiceError,
    ServicePreflightError,
    SmokeTestError,
)
from ci_tools.serving import revisions, status
from ci_tools.serving.asked import Findings
from ci_tools.serving.declaration import Servable
from ci_tools.serving.strategy import Autoscaling
from tests.fakes.ecs import PREFIX, SETTINGS, V1, V2, V3, FakeECS, Run, error, wrong


@pytest.fixture
def ecs() -> FakeECS:
    return FakeECS()


@pytest.fixture
def run(ecs: FakeECS, monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(ecs, monkeypatch)


def back(run: Run, to: str | None = None) -> Any:
    servable = Servable(**run.declared)
    return run.services.rollback(servable, to, on_event=run.told.append)


# before anything is changed -------------------------------------------------------


def test_what_is_missing_is_told_together_and_nothing_is_changed(ecs: FakeECS, run: Run) -> None:
    run.deploy(V1)
    asked = len(ecs.calls)
    run.found = Findings(problems=["there is no role 'a'", "there is no secret b"])
    failed = run.fails(ServicePreflightError, V2)
    assert failed.what.endswith(":\n  there is no role 'a'\n  there is no secret b")
    assert failed.exit_code == 46
    changing = ("register", "create", "update", "tag", "deregister")
    assert [name for name, _ in ecs.calls[asked:] if name.startswith(changing)] == []
    assert (ecs.runs, ecs.verified) == ("iris:1", "iris:1")


def test_what_could_not_be_checked_is_told_and_stops_nothing(run: Run) -> None:
    run.found = Findings(remarks=["the roles could not be checked"])
    assert run.deploy(V1).changed
    assert "iris: the roles could not be checked" in run.told


def test_nothing_is_checked_where_nothing_changes(run: Run) -> None:
    run.deploy(V1)
    run.found = Findings(problems=["there is no role"])
    assert not run.deploy(V1).changed


# what differs ---------------------------------------------------------------------


def test_a_diff_asks_and_changes_nothing(ecs: FakeECS, run: Run) -> None:
    servable = Servable(**run.declared)
    assert run.services.diff(servable, V1, None) == ["service: (none) -> 'iris'"]
    run.deploy(V1)
    asked = len(ecs.calls)
    assert run.services.diff(servable, V1, None) == []
    (line,) = run.services.diff(servable, V2, None)
    assert line == f"containerDefinitions.iris.image: {V1} -> {V2}"
    model = Model(uri="s3://b/m", sha256="c" * 64)
    lines = run.services.diff(servable, V1, model)
    assert any("MODEL_SHA256" in line and "c" * 64 in line for line in lines)
    assert {name for name, _ in ecs.calls[asked:]} == {
        "describe_services",
        "describe_task_definition",
    }


# ECS goes back --------------------------------------------------------------------


def test_a_roll_back_by_ecs_has_its_own_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    ecs = FakeECS("completes", "rolls back", api=True)
    run = Run(ecs, monkeypatch)
    run.deploy(V1)
    ecs.details = {"alarms": {"status": "TRIGGERED", "triggeredAlarmNames": ["errors"]}}
    failed = run.fails(DeploymentFailedError, V2)
    assert failed.exit_code == 41
    assert failed.what.startswith("ECS rolled the deployment of iris:2 back (ROLLBACK_SUCCESSFUL")
    assert "alarms that went off: errors" in failed.what
    assert "iris exited with 3" in failed.what
    assert (ecs.runs, ecs.verified) == ("iris:1", "iris:1")


def test_whoever_may_only_list_service_deployments_is_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ecs = FakeECS(api=True)
    ecs.refuse["describe_service_deployments"] = error("AccessDeniedException")
    assert Run(ecs, monkeypatch).deploy(V1).changed


# where a revision comes from ------------------------------------------------------


def test_a_revision_tells_where_it_comes_from(ecs: FakeECS, run: Run) -> None:
    run.tags = revisions.tags(commit="c" * 40, build="https://ci.example/job/7/")
    run.deploy(V1)
    (known,) = run.services.history("iris")
    assert (known.commit, known.build) == ("c" * 40, "https://ci.example/job/7/")
    assert (known.image, known.cluster) == (V1, "prod")
    assert known.verified
    assert "tags" not in ecs.definitions[0]


def test_an_unchanged_deployment_of_a_release_is_named_by_it(run: Run) -> None:
    run.deploy(V1)
    run.tags = revisions.tags(release="release-1")
    assert not run.deploy(V1).changed
    (known,) = run.services.history("iris")
    assert known.release == "release-1"
    run.services.mark_release(known.task_definition, "release-2")
    assert run.services.history("iris")[0].release == "release-2"


def test_other_clusters_revisions_are_not_ours(ecs: FakeECS, run: Run) -> None:
    run.deploy(V1)
    ecs.do_register_task_definition(family="iris", containerDefinitions=[], tags=[
        {"key": "kfp-ci:cluster", "value": "dev"}, {"key": "kfp-ci:image", "value": "x"}
    ])  # fmt: skip
    ecs.do_register_task_definition(family="iris-2", containerDefinitions=[])
    assert [one.revision for one in run.services.history("iris")] == [1]


# old revisions --------------------------------------------------------------------


def test_old_revisions_go_and_needed_ones_stay(
    ecs: FakeECS, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run.services.settings, "keep_revisions", 2)
    images = [f"registry.example/iris@sha256:{n:064x}" for n in range(1, 7)]
    run.tags = revisions.tags(release="release-1")
    run.deploy(images[0])
    run.tags = {}
    for image in images[1:]:
        run.deploy(image)
    assert [arn.rpartition(":")[2] for arn in ecs.deregistered] == ["2", "3", "4"]
    assert "iris: deregistered iris:4" in run.told
    assert [one.revision for one in run.services.history("iris")] == [6, 5, 1]


def test_a_family_of_many_is_not_looked_at_whole(
    ecs: FakeECS, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(200):
        ecs.do_register_task_definition(family="iris", containerDefinitions=[])
    run.deploy(V1)
    assert len(ecs.named("describe_task_definition")) < 50
    assert ecs.deregistered == []  # somebody else's


def test_a_failed_deployment_removes_nothing(
    ecs: FakeECS, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.deploy(V1)
    run.deploy(V2)
    monkeypatch.setattr(run.services.settings, "keep_revisions", 2)
    run.smoke = wrong
    run.fails(SmokeTestError, V3)
    assert ecs.deregistered == []


def test_whoever_may_not_deregister_may_deploy(
    ecs: FakeECS, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run.services.settings, "keep_revisions", 2)
    ecs.refuse["deregister_task_definition"] = error("AccessDeniedException")
    for n in range(1, 5):
        run.deploy(f"registry.example/iris@sha256:{n:064x}")
    assert ecs.runs == "iris:4"
    assert any("old revisions stay" in line for line in run.told)


# the way back, asked for ----------------------------------------------------------


def test_back_to_the_one_before_and_no_further_than_there_is(ecs: FakeECS, run: Run) -> None:
    for image in (V1, V2, V3):
        run.deploy(image)
    revision = back(run)
    assert (revision.image, revision.changed) == (V2, True)
    assert revision.task_definition == f"{PREFIX}iris:2"
    assert (ecs.runs, ecs.verified) == ("iris:2", "iris:2")
    assert len(ecs.definitions) == 3  # none is made for it
    assert back(run).image == V1
    with pytest.raises(ServiceError, match="verified before iris:1"):
        back(run)
    assert ecs.runs == "iris:1"


def test_a_revision_that_was_left_is_not_gone_back_to_unasked(ecs: FakeECS, run: Run) -> None:
    run.deploy(V1)
    run.deploy(V2)
    back(run)
    run.deploy(V3)
    assert back(run).image == V1
    assert back(run, "iris:2").image == V2  # by name it is
    assert [one.rolled_back for one in run.services.history("iris")][1] is None


def test_back_to_a_commit(ecs: FakeECS, run: Run) -> None:
    for image, commit in ((V1, "a" * 40), (V2, "b" * 40), (V3, "c" * 40)):
        run.tags = revisions.tags(commit=commit)
        run.deploy(image)
    assert back(run, "aaaaaaa").image == V1
    with pytest.raises(ServiceError, match="no revision 'nowhere'"):
        back(run, "nowhere")


def test_a_way_back_that_fails_ends_where_it_began(ecs: FakeECS, run: Run) -> None:
    run.deploy(V1)
    run.deploy(V2)
    ecs.fates = ["fails", "completes"]
    with pytest.raises(DeploymentFailedError, match="iris:2, serves again"):
        back(run)
    assert (ecs.runs, ecs.verified) == ("iris:2", "iris:2")
    assert run.services.history("iris")[0].rolled_back is None
    run.smoke = wrong
    with pytest.raises(SmokeTestError):
        back(run)
    assert (ecs.runs, ecs.verified) == ("iris:2", "iris:2")


def test_there_is_no_way_back_from_nothing(run: Run) -> None:
    with pytest.raises(ServiceError, match="no service 'iris'"):
        back(run)


def test_a_deployment_after_a_way_back_fails_onto_what_was_gone_back_to(
    ecs: FakeECS, run: Run
) -> None:
    run.deploy(V1)
    run.deploy(V2)
    back(run)
    run.smoke = wrong
    failed = run.fails(SmokeTestError, V3)
    assert "iris:1, serves again" in failed.what


def test_a_first_deployment_can_be_taken_back(ecs: FakeECS, run: Run) -> None:
    run.services.withdraw("iris")  # nothing is there, and nothing happens
    run.deploy(V1)
    run.services.withdraw("iris")
    assert ecs.service is not None
    assert (ecs.service["desiredCount"], ecs.verified) == (0, None)
    run.smoke = wrong
    failed = run.fails(SmokeTestError, V2)  # and nobody goes back to it
    assert "scaled to 0" in failed.what
    assert ecs.service["desiredCount"] == 0
    run.smoke = lambda: None
    run.deploy(V3)
    assert (ecs.runs, ecs.verified, ecs.service["desiredCount"]) == ("iris:3", "iris:3", 1)
    with pytest.raises(ServiceError, match="verified before iris:3"):
        back(run)


# status ---------------------------------------------------------------------------


def test_the_status_of_a_service(ecs: FakeECS, run: Run) -> None:
    assert not run.services.status("iris").there
    assert status.lines(run.services.status("iris")) == ["iris in cluster prod: not there"]
    run.tags = revisions.tags(commit="c" * 40)
    run.deploy(V1)
    now = run.services.status("iris")
    assert (now.there, now.verified, now.desired, now.running) == (True, True, 1, 1)
    assert (now.image, now.commit, now.url) == (V1, "c" * 40, "http://127.0.0.1:1/iris")
    ecs.do_register_task_definition(family="iris", containerDefinitions=[])
    ecs.begin(f"{PREFIX}iris:2")
    now = run.services.status("iris")
    assert not now.verified
    assert now.last_verified == f"{PREFIX}iris:1"
    assert any("iris:2, NOT VERIFIED" in line for line in status.lines(now))
    assert not any("hunter2" in line for line in status.lines(now))


# the autoscaler -------------------------------------------------------------------


@pytest.fixture
def scaling(ecs: FakeECS, run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """moto's Application Auto Scaling, which wants the service to be in moto's ECS too."""
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "x")
    with moto.mock_aws():
        real = boto3.client("ecs", region_name=SETTINGS.region)
        real.create_cluster(clusterName="prod")
        real.register_task_definition(
            family="iris", containerDefinitions=[{"name": "iris", "image": "x", "memory": 8}]
        )
        real.create_service(cluster="prod", serviceName="iris", taskDefinition="iris")
        run.scaling = boto3.client("application-autoscaling", region_name=SETTINGS.region)
        yield run.scaling


def policies(client: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.describe_scaling_policies(ServiceNamespace="ecs")[
        "ScalingPolicies"
    ]
    return found


def targets(client: Any) -> list[tuple[int, int]]:
    found = client.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"]
    return [(target["MinCapacity"], target["MaxCapacity"]) for target in found]


def test_an_autoscaler_is_set_up_once_changed_and_taken_away(
    scaling: Any, ecs: FakeECS, run: Run
) -> None:
    run.declared["autoscaling"] = Autoscaling(min=2, max=5, metric="memory", target=70)
    run.deploy(V1)
    assert ecs.service is not None
    assert ecs.service["desiredCount"] == 2
    assert targets(scaling) == [(2, 5)]
    (policy,) = policies(scaling)
    configuration = policy["TargetTrackingScalingPolicyConfiguration"]
    assert configuration["TargetValue"] == 70
    assert configuration["PredefinedMetricSpecification"] == {
        "PredefinedMetricType": "ECSServiceAverageMemoryUtilization"
    }
    assert ecs.tags["kfp-ci:autoscaling"] == "memory"

    told = len(run.told)
    run.deploy(V1)
    assert not any("autoscaling" in line for line in run.told[told:])
    servable = Servable(**run.declared)
    assert run.services.diff(servable, V1, None) == []

    ecs.service["desiredCount"] = 4  # the autoscaler's, and none of our business
    ecs.deployments[0]["runningCount"] = 4
    run.declared["autoscaling"] = Autoscaling(min=2, max=9, metric="memory", target=70)
    servable = Servable(**run.declared)
    assert run.services.diff(servable, V1, None) == ["autoscaling.max: 5 -> 9"]
    run.deploy(V1)
    assert targets(scaling) == [(2, 9)]
    assert len(policies(scaling)) == 1
    assert ecs.service["desiredCount"] == 4

    del run.declared["autoscaling"]
    run.deploy(V1)
    assert targets(scaling) == []
    assert not any("autoscaling" in line for line in run.services.diff(
        Servable(**run.declared), V1, None))  # fmt: skip


def test_a_first_deployment_is_taken_back_with_its_autoscaler(
    scaling: Any, ecs: FakeECS, run: Run
) -> None:
    run.declared["autoscaling"] = Autoscaling(min=2, max=5)
    run.deploy(V1)
    assert targets(scaling) == [(2, 5)]
    run.services.withdraw("iris")
    assert targets(scaling) == []  # or its minimum would start two tasks again
    assert ecs.service is not None
    assert ecs.service["desiredCount"] == 0
    assert "kfp-ci:autoscaling" not in ecs.tags


def test_what_serves_goes_on_when_its_autoscaler_fails(ecs: FakeECS, run: Run) -> None:
    run.declared["autoscaling"] = Autoscaling()

    class Refuses:
        def describe_scalable_targets(self, **_: Any) -> Any:
            raise error("AccessDeniedException", "DescribeScalableTargets")

    run.scaling = Refuses()
    failed = run.fails(CredentialsError, V1)
    assert "iris:1 serves and is verified, but its autoscaling" in failed.what
    assert (ecs.runs, ecs.verified) == ("iris:1", "iris:1")
