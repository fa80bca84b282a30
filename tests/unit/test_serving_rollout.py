"""Judging a deployment: success is ours alone, and is never guessed."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from ci_tools.serving.rollout import Rollout, events, judge, judge_service_deployment, reasons, text

OLD, NEW, THIRD = (f"arn:aws:ecs:r:1:task-definition/iris:{n}" for n in (1, 2, 3))
OURS = Rollout(service="iris", deployment="ecs-svc/2", task_definition=NEW, before=OLD)


def deployment(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"ecs-svc/{number}",
        "status": "PRIMARY",
        "taskDefinition": [OLD, NEW, THIRD][number - 1],
        "rolloutState": "COMPLETED",
        "runningCount": 2,
        **changes,
    }


def service(*deployments: dict[str, Any], desired: int = 2) -> dict[str, Any]:
    running = sum(d["runningCount"] for d in deployments)
    return {"desiredCount": desired, "runningCount": running, "deployments": list(deployments)}


ACTIVE = {"status": "ACTIVE"}
UNDER_WAY = {"rolloutState": "IN_PROGRESS"}
FAILED = {"rolloutState": "FAILED", "rolloutStateReason": "tasks failed to start"}
CRASH = {"stopCode": "EssentialContainerExited"}


@pytest.mark.parametrize(
    ("described", "outcome"),
    [
        (service(deployment(2)), "settled"),
        (service(deployment(2), deployment(1, **ACTIVE, runningCount=0)), "settled"),
        (service(deployment(2), deployment(1, **ACTIVE, runningCount=1)), "waiting"),
        (service(deployment(2, **UNDER_WAY)), "waiting"),
        (service(deployment(2, runningCount=1)), "waiting"),
        (service(deployment(2, runningCount=0)), "waiting"),
        # Rolled back, and stable: a waiter for "services stable" would be content.
        (service(deployment(1)), "rolled back"),
        (service(deployment(1), deployment(2, **ACTIVE, **FAILED, runningCount=0)), "rolled back"),
        (service(deployment(2, **FAILED)), "failed"),
        # Somebody else deployed; ours is gone or on its way out.
        (service(deployment(3)), "superseded"),
        (service(deployment(3, **UNDER_WAY), deployment(2, **ACTIVE)), "superseded"),
        # Nothing runs on purpose: that is not a success.
        (service(deployment(2, runningCount=0), desired=0), "failed"),
        (service(), "failed"),
    ],
)
def test_deployments_of_the_service(described: dict[str, Any], outcome: str) -> None:
    assert judge(OURS, described).outcome == outcome


def test_a_first_deployment_that_vanished_was_superseded() -> None:
    first = Rollout(service="iris", deployment="ecs-svc/2", task_definition=NEW, before=None)
    assert judge(first, service(deployment(1))).outcome == "superseded"


def test_tasks_that_keep_dying_after_completion_are_a_failure() -> None:
    described = service(deployment(2, runningCount=0))
    assert judge(OURS, described, [CRASH] * 2).outcome == "waiting"
    assert judge(OURS, described, [CRASH] * 3).outcome == "failed"
    scaled_in = [{"stopCode": "ServiceSchedulerInitiated"}] * 9
    assert judge(OURS, described, scaled_in).outcome == "waiting"
    # While ECS' own circuit breaker counts, it decides.
    assert judge(OURS, service(deployment(2, **UNDER_WAY)), [CRASH] * 9).outcome == "waiting"


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("PENDING", "waiting"),
        ("IN_PROGRESS", "waiting"),
        ("STOP_REQUESTED", "waiting"),
        ("ROLLBACK_REQUESTED", "waiting"),
        ("ROLLBACK_IN_PROGRESS", "waiting"),
        ("SUCCESSFUL", "succeeded"),
        ("ROLLBACK_SUCCESSFUL", "rolled back"),
        ("ROLLBACK_FAILED", "rolled back"),
        ("STOPPED", "failed"),
    ],
)
def test_statuses_of_the_service_deployment(status: str, outcome: str) -> None:
    found = judge_service_deployment(OURS, {"status": status}, service(deployment(2)))
    assert found.outcome == outcome


def test_every_status_that_aws_knows_is_judged() -> None:
    import botocore.session

    model = botocore.session.get_session().get_service_model("ecs")
    for status in model.shape_for("ServiceDeploymentStatus").enum:
        outcome = judge_service_deployment(OURS, {"status": status}, service(deployment(2))).outcome
        assert (outcome == "succeeded") == (status == "SUCCESSFUL")


def test_a_stopped_service_deployment_may_be_superseded() -> None:
    assert (
        judge_service_deployment(OURS, {"status": "STOPPED"}, service(deployment(3))).outcome
        == "superseded"
    )


def test_what_made_ecs_go_back_is_told() -> None:
    told = {
        "status": "ROLLBACK_SUCCESSFUL",
        "statusReason": "Service deployment rolled back.",
        "alarms": {"status": "TRIGGERED", "triggeredAlarmNames": ["errors-5xx"]},
        "deploymentCircuitBreaker": {"status": "TRIGGERED", "failureCount": 3, "threshold": 3},
    }
    reason = judge_service_deployment(OURS, told, service(deployment(1))).reason
    assert "alarms that went off: errors-5xx" in reason
    assert "the circuit breaker counted 3 failed tasks (threshold 3)" in reason
    quiet = {**told, "alarms": {"status": "MONITORING"}, "deploymentCircuitBreaker": {}}
    reason = judge_service_deployment(OURS, quiet, service(deployment(1))).reason
    assert reason == "ROLLBACK_SUCCESSFUL: Service deployment rolled back."


def test_the_stage_of_a_deployment_that_moves_traffic_is_told() -> None:
    told = {"status": "IN_PROGRESS", "lifecycleStage": "BAKE_TIME"}
    found = judge_service_deployment(OURS, told, service(deployment(2)))
    assert (found.outcome, found.reason) == ("waiting", "IN_PROGRESS at BAKE_TIME")


def test_a_successful_deployment_of_no_tasks_is_not_one() -> None:
    described = service(deployment(2, runningCount=0), desired=0)
    assert judge_service_deployment(OURS, {"status": "SUCCESSFUL"}, described).outcome == "failed"


def test_why_tasks_stopped_is_told_once_each() -> None:
    task = {
        "stoppedReason": "Essential container in task exited",
        "containers": [{"name": "iris", "exitCode": 137, "reason": "OutOfMemoryError: killed"}],
    }
    pull = {"stopCode": "TaskFailedToStart", "containers": [{"name": "iris", "reason": "no image"}]}
    assert reasons([task, task, pull]) == [
        "Essential container in task exited, iris exited with 137 (OutOfMemoryError: killed)",
        "TaskFailedToStart, iris: no image",
    ]


def test_what_others_say_cannot_drive_the_terminal() -> None:
    assert text("a\x1b[2J\nb\x00") == "a[2J b"
    assert len(text("x" * 10_000)) == 300
    assert events({"events": [{"message": str(n)} for n in range(9)]}) == ["0", "1", "2"]


def test_events_from_before_are_not_told() -> None:
    then, before = (
        datetime(2024, 1, 2, tzinfo=timezone.utc),
        datetime(2024, 1, 1, tzinfo=timezone.utc),
    )
    described = {
        "events": [
            {"createdAt": then, "message": "ours"},
            {"createdAt": before, "message": "an old failure"},
        ]
    }
    assert events(described, then) == ["ours"]
