"""Whole deployments against a small model of ECS, with a clock that only sleeping moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.stub import Stubber

from ci_tools.config import PredictionService
from ci_tools.errors import (
    CIError,
    CredentialsError,
    DeploymentFailedError,
    DeploymentSupersededError,
    DeploymentTimeoutError,
    ServiceError,
    SmokeTestError,
)
from ci_tools.serving import aws
from ci_tools.serving.ecs import PredictionServices
from tests.fakes.ecs import PREFIX, V1, V2, V3, FakeECS, Fate, Run, error, wrong


@pytest.fixture(params=[False, True], ids=["deployments", "service deployments API"])
def api(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_a_first_deployment(api: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    ecs = FakeECS(api=api)
    run = Run(ecs, monkeypatch)
    revision = run.deploy(V1, count=2)
    assert revision.changed
    assert revision.deployment == "ecs-svc/1"
    assert revision.url == "http://127.0.0.1:1/iris"
    (created,) = ecs.named("create_service")
    assert created["desiredCount"] == 2
    assert created["launchType"] == "FARGATE"
    breaker = created["deploymentConfiguration"]["deploymentCircuitBreaker"]
    assert breaker == {"enable": True, "rollback": True}
    assert ecs.verified == "iris:1"
    assert ecs.named("create_cluster") == []  # on AWS that is not ours to do


def test_nothing_is_registered_for_what_runs_already(
    api: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ecs = FakeECS(api=api)
    run = Run(ecs, monkeypatch)
    first = run.deploy(V1)
    again = run.deploy(V1)
    assert not again.changed
    assert again.task_definition == first.task_definition
    assert len(ecs.definitions) == 1
    assert ecs.named("update_service") == []
    assert len(ecs.named("tag_resource")) == 2  # the revision and the service, once


def test_an_update_is_rendered_from_our_template(monkeypatch: pytest.MonkeyPatch) -> None:
    ecs = FakeECS()
    run = Run(ecs, monkeypatch)
    run.deploy(V1)
    ecs.definitions[0]["pidMode"] = "task"  # drift, by somebody's hand
    second = run.deploy(V2)
    assert second.task_definition == f"{PREFIX}iris:2"
    assert "pidMode" not in ecs.definitions[1]
    assert ecs.verified == "iris:2"


def test_drift_alone_is_put_right(monkeypatch: pytest.MonkeyPatch) -> None:
    ecs = FakeECS()
    run = Run(ecs, monkeypatch)
    run.deploy(V1)
    ecs.definitions[0]["pidMode"] = "task"
    assert run.deploy(V1).changed
    assert ecs.runs == "iris:2"


@pytest.mark.parametrize("fate", ["rolls back", "rolls back and forgets", "fails"])
def test_a_failed_deployment_ends_on_the_verified_revision(
    api: bool, fate: Fate, monkeypatch: pytest.MonkeyPatch
) -> None:
    ecs = FakeECS("completes", fate, api=api and fate == "rolls back")
    run = Run(ecs, monkeypatch)
    run.deploy(V1)
    failed = run.fails(DeploymentFailedError, V2)
    assert "iris exited with 3" in failed.what
    assert "(service iris) has begun" in failed.what
    assert "last verified revision, iris:1, serves again" in failed.what
    assert (ecs.runs, ecs.verified) == ("iris:1", "iris:1")
    assert ecs.deployments[0]["runningCount"] == 1


def test_a_deployment_superseded_is_left_alone(api: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    ecs = FakeECS("completes", "is superseded", api=api)
    run = Run(ecs, monkeypatch)
    run.deploy(V1)
    if api:
        ecs.records[0]["status"] = "SUCCESSFUL"
        original = ecs.begin

        def begin(arn: str) -> None:
            if ecs.records:
                ecs.records[0]["status"] = "STOPPED"
            original(arn)

        ecs.begin = begin  # type: ignore[method-assign]
    failed = run.fails(DeploymentSupersededError, V2)
    assert "iris:3" in failed.what
    assert (ecs.runs, ecs.verified) == ("iris:3", "iris:1")
    assert len(ecs.named("update_service")) == 1


@pytest.mark.parametrize("verdict", [wrong, lambda: None], ids=["wrong", "right"])
def test_superseded_during_the_smoke_test(
    verdict: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    ecs = FakeECS()
    run = Run(ecs, monkeypatch)
    run.deploy(V1)

    def meanwhile() -> None:
        ecs.do_register_task_definition(family="iris", containerDefinitions=[])
        ecs.begin(f"{PREFIX}iris:3")
        verdict()

    run.smoke = meanwhile
    run.fails(DeploymentSupersededError, V2)
    assert (ecs.runs, ecs.verified) == ("iris:3", "iris:1")
    assert len(ecs.named("update_service")) == 1  # ours, and no way back


def test_a_deployment_that_hangs_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ecs = FakeECS("completes", "hangs")
    run = Run(ecs, monkeypatch, timeout=120)
    run.deploy(V1)
    began = run.now
    failed = run.fails(DeploymentTimeoutError, V2)
    assert run.now - began >= 120
    assert "0 of 1 tasks run" in failed.what
    assert (ecs.runs, ecs.verified) == ("iris:1", "iris:1")


def test_a_task_that_ran_for_a_moment_is_not_success(monkeypatch: pytest.MonkeyPatch) -> None:
    ecs = FakeECS("completes", "dies while starting")
    run = Run(ecs, monkeypatch)
    run.deploy(V1)
    failed = run.fails(DeploymentFailedError, V2)
    assert "3 tasks ended by themselves" in failed.what
    assert ecs.runs == "iris:1"


def test_an_older_success_of_the_same_revision_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The list of service deployments may lag behind the service."""
    ecs = FakeECS("completes", "hangs", api=True)
    run = Run(ecs, monkeypatch)
    run.deploy(V1)
    assert ecs.service is not None
    ecs.deployments[0].update(rolloutState="FAILED", runningCount=1)  # so it is forced anew
    lagging = {"serviceDeployments": list(ecs.records)}
    ecs.do_list_service_deployments = lambda **_: lagging  # type: ignore[method-assign]
    run.fails(DeploymentTimeoutError, V1)
    assert ecs.named("update_service")[0]["forceNewDeployment"]


def test_scaled_to_nothing_is_not_success(monkeypatch: pytest.MonkeyPatch) -> None:
    ecs = FakeECS("completes", "is scaled to 0")
    run = Run(ecs, monkeypatch)
    run.deploy(V1)
    run.fails(DeploymentFailedError, V2)
    assert ecs.verified == "iris:1"


def test_a_failed_smoke_test_goes_back_to_the_verified_revision(
    api: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not to the one before, which somebody deployed by hand."""
    ecs = FakeECS(api=api)
    run = Run(ecs, monkeypatch)
    run.deploy(V1)
    by_hand = dict(ecs.definitions[0], cpu="1024", memory="2048")
    ecs.do_register_task_definition(**by_hand)
    ecs.begin(f"{PREFIX}iris:2")
    run.smoke = wrong
    failed = run.fails(SmokeTestError, V3)
    assert "status 500" in failed.what
    assert "last verified revision, iris:1, serves again" in failed.what
    assert (ecs.runs, ecs.verified) == ("iris:1", "iris:1")
    assert ecs.deployments[0]["rolloutState"] == "COMPLETED"


def test_a_service_never_verified_goes_back_to_what_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ecs = FakeECS()
    run = Run(ecs, monkeypatch)
    run.deploy(V1)
    ecs.tags.clear()  # as if it had been made by another tool
    run.smoke = wrong
    failed = run.fails(SmokeTestError, V2)
    assert "revision before, iris:1, serves again" in failed.what
    assert (ecs.runs, ecs.verified) == ("iris:1", None)


@pytest.mark.parametrize("fate", ["completes", "fails", "hangs"])
def test_a_first_deployment_that_fails_is_scaled_to_0(
    fate: Fate, monkeypatch: pytest.MonkeyPatch
) -> None:
    ecs = FakeECS(fate)
    run = Run(ecs, monkeypatch)
    run.smoke = wrong
    with pytest.raises(CIError, match="scaled to 0"):
        run.deploy(V1)
    assert ecs.service is not None
    assert ecs.service["desiredCount"] == 0
    assert ecs.verified is None

    ecs.fates = [fate]
    with pytest.raises(CIError, match="scaled to 0"):
        run.deploy(V1)
    assert ecs.service["desiredCount"] == 0

    run.smoke = lambda: None  # and the next one is whole again
    assert run.deploy(V1).changed
    assert ecs.service["desiredCount"] == 1
    assert ecs.verified == "iris:1"


def test_an_equal_deployment_under_way_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that an agent began and did not live to see."""
    ecs = FakeECS()
    run = Run(ecs, monkeypatch)
    run.deploy(V1)
    ecs.deployments[0].update(rolloutState="IN_PROGRESS", runningCount=0)

    original = ecs.do_list_tasks

    def then_complete(**arguments: Any) -> Any:  # asked while ours is waited for
        ecs.deployments[0].update(rolloutState="COMPLETED", runningCount=1)
        return original(**arguments)

    ecs.do_list_tasks = then_complete  # type: ignore[method-assign]
    assert not run.deploy(V1).changed
    assert ecs.named("update_service") == []


def test_a_verified_revision_that_no_longer_answers_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ecs = FakeECS()
    run = Run(ecs, monkeypatch)
    run.deploy(V1)
    run.smoke = wrong
    failed = run.fails(SmokeTestError, V1)
    assert "stays" in failed.what
    assert ecs.named("update_service") == []


def test_when_the_way_back_fails_too_the_message_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ecs = FakeECS()
    run = Run(ecs, monkeypatch)
    run.deploy(V1)

    def and_then() -> None:
        ecs.refuse["update_service"] = error("ServerException")
        wrong()

    run.smoke = and_then
    failed = run.fails(SmokeTestError, V2)
    assert "status 500" in failed.what
    assert "COULD NOT BE PUT BACK" in failed.what


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_whoever_stops_us_leaves_the_old_revision_ordered(
    kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    ecs = FakeECS()
    run = Run(ecs, monkeypatch)
    run.deploy(V1)

    def stop() -> None:
        raise kind

    run.smoke = stop
    with pytest.raises(kind):
        run.deploy(V2)
    assert (ecs.runs, ecs.verified) == ("iris:1", "iris:1")


def test_an_autoscalers_count_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    ecs = FakeECS()
    run = Run(ecs, monkeypatch, autoscaled=True, count=2)
    run.deploy(V1)
    assert ecs.service is not None
    ecs.service["desiredCount"] = 7
    ecs.deployments[0]["runningCount"] = 7
    assert not run.deploy(V1).changed
    run.deploy(V2)
    assert ecs.service["desiredCount"] == 7
    assert "desiredCount" not in ecs.named("update_service")[0]


def test_a_new_count_does_not_replace_the_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    ecs = FakeECS()
    run = Run(ecs, monkeypatch)
    run.deploy(V1)
    ecs.deployments[0]["runningCount"] = 3  # ECS starts the others at once here
    run.deploy(V1, count=3)
    (updated,) = ecs.named("update_service")
    assert updated["desiredCount"] == 3
    assert not updated["forceNewDeployment"]
    assert len(ecs.definitions) == 1


@pytest.mark.parametrize(
    "code", ["AccessDeniedException", "UnknownOperationException", "UnsupportedFeatureException"]
)
def test_without_the_service_deployments_api_deployments_are_read(
    code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ecs = FakeECS(api=True)
    ecs.refuse["list_service_deployments"] = error(code, "ListServiceDeployments")
    assert Run(ecs, monkeypatch).deploy(V1).changed


def test_a_deleted_service_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ecs = FakeECS()
    run = Run(ecs, monkeypatch)
    run.deploy(V1)

    def gone() -> None:
        ecs.service = None

    run.smoke = gone
    run.fails(DeploymentSupersededError, V2)


# AWS' refusals --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("AccessDeniedException", CredentialsError),
        ("ExpiredTokenException", CredentialsError),
        ("UnrecognizedClientException", CredentialsError),
        ("ClusterNotFoundException", ServiceError),
        ("ServerException", ServiceError),
    ],
)
def test_refusals_are_our_own_errors(code: str, kind: type[CIError]) -> None:
    local = PredictionService(cluster="c", region="r", endpoint_url="http://127.0.0.1:1")
    client = aws.Clients(local)("ecs")
    with Stubber(client) as stub:
        stub.add_client_error("describe_services", code, "no")
        services = PredictionServices(
            PredictionService(cluster="c", region="eu-west-1"), client=client
        )
        with pytest.raises(kind, match=code) as caught:
            services.current("iris")
    assert type(caught.value) is kind


def test_no_credentials_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.delenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", raising=False)
    services = PredictionServices(PredictionService(cluster="c", region="eu-west-1"))
    with pytest.raises(CredentialsError):
        services.current("iris")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    services = PredictionServices(PredictionService(cluster="c", region="eu-west-1"))
    with pytest.raises(CredentialsError):
        services.current("iris")


def test_a_stand_in_on_loopback_never_gets_real_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAREAL")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "real")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "real")
    local = PredictionService(cluster="c", region="r", endpoint_url="http://127.0.0.1:1")
    credentials = aws.Clients(local)("ecs")._request_signer._credentials
    assert credentials.access_key == "test"
    assert credentials.token is None


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://127.0.0.1:4566", True),
        ("http://[::1]:1", True),
        ("http://localhost", True),
        ("https://ecs.eu-west-1.amazonaws.com", False),
        ("http://127.0.0.1.evil.example", False),
        ("http://10.0.0.1", False),
        (None, False),
    ],
)
def test_what_is_loopback(url: str | None, loopback: bool) -> None:
    assert aws.is_loopback(url) is loopback
