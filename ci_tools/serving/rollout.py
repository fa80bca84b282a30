"""What became of a deployment, judged from what ECS says. Pure.

`services_stable` is not asked: it is also true after ECS rolled back. Only the
service deployments API's SUCCESSFUL counts, or, where a server has no such
API, that *our* deployment is PRIMARY, COMPLETED and runs all its tasks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

Outcome = Literal["waiting", "settled", "succeeded", "failed", "rolled back", "superseded"]

CRASHES = 3  # tasks that ended by themselves: ECS' own smallest threshold
_OWN_END = ("EssentialContainerExited", "TaskFailedToStart")


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment of ours that is under way.

    deployment:      ECS' id of it (`ecs-svc/...`).
    task_definition: ARN that it brings.
    before:          ARN that ran before, None on a first deployment.
    began:           when, by ECS' clock.
    """

    service: str
    deployment: str
    task_definition: str
    before: str | None
    began: datetime | None = None


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """settled: looks done, to be seen twice; succeeded: ECS itself says so;
    rolled back: by ECS, whose circuit breaker or an alarm gave up on ours."""

    outcome: Outcome
    reason: str


def judge(
    rollout: Rollout, service: Mapping[str, Any], stopped: Iterable[Mapping[str, Any]] = ()
) -> Judgement:
    """Judge a described service by its `deployments`.

    stopped: described stopped tasks of our revision; they matter where ECS
             calls a deployment COMPLETED while its tasks keep dying, which its
             circuit breaker no longer watches.
    """
    deployments = service.get("deployments") or []
    ours = next((d for d in deployments if d.get("id") == rollout.deployment), None)
    primary = next((d for d in deployments if d.get("status") == "PRIMARY"), None)
    if ours is not None and ours.get("rolloutState") == "FAILED":
        back = primary is not ours and rollout.before == (primary or {}).get("taskDefinition")
        return Judgement(
            outcome="rolled back" if back else "failed",
            reason=text(ours.get("rolloutStateReason")),
        )
    if primary is None:
        return Judgement(outcome="failed", reason="the service has no deployment any more")
    if ours is None or primary is not ours:
        return _displaced(rollout, primary)
    desired, running = int(service.get("desiredCount", 0)), int(ours.get("runningCount", 0))
    if desired == 0:
        return Judgement(outcome="failed", reason="the service was scaled to 0 tasks")
    state = ours.get("rolloutState", "COMPLETED")  # external controllers give none
    others = sum(int(d.get("runningCount", 0)) for d in deployments if d is not ours)
    progress = f"{running} of {desired} tasks run"
    if state == "COMPLETED" and running >= desired:
        if others:
            return Judgement(outcome="waiting", reason=f"{others} old tasks still run")
        return Judgement(outcome="settled", reason=progress)
    crashed = [task for task in stopped if task.get("stopCode") in _OWN_END]
    if state == "COMPLETED" and len(crashed) >= CRASHES:
        return Judgement(outcome="failed", reason=f"{len(crashed)} tasks ended by themselves")
    return Judgement(outcome="waiting", reason=progress)


def judge_service_deployment(
    rollout: Rollout, told: Mapping[str, Any], service: Mapping[str, Any]
) -> Judgement:
    """Judge by our service deployment: from ListServiceDeployments, and, where we
    may ask for it, with what DescribeServiceDeployments knows besides."""
    status = text(told.get("status"))
    why = text(told.get("statusReason")) or status
    if status == "SUCCESSFUL":
        desired, running = int(service.get("desiredCount", 0)), int(service.get("runningCount", 0))
        if desired == 0:
            return Judgement(outcome="failed", reason="the service was scaled to 0 tasks")
        if running < desired:  # scaled up since
            return Judgement(outcome="waiting", reason=f"{running} of {desired} tasks run")
        return Judgement(outcome="succeeded", reason=why)
    if status in ("ROLLBACK_SUCCESSFUL", "ROLLBACK_FAILED"):
        reason = "; ".join([f"{status}: {why}", *_triggers(told)])
        return Judgement(outcome="rolled back", reason=reason)
    if status == "STOPPED":
        deployments = service.get("deployments") or []
        primary = next((d for d in deployments if d.get("status") == "PRIMARY"), None)
        if primary is not None and primary.get("id") != rollout.deployment:
            return _displaced(rollout, primary)
        return Judgement(outcome="failed", reason=f"stopped: {why}")
    stage = text(told.get("lifecycleStage"))
    return Judgement(outcome="waiting", reason=f"{status} at {stage}" if stage else status)


def _triggers(told: Mapping[str, Any]) -> list[str]:
    """What made ECS go back, as far as it tells."""
    found = []
    names = (told.get("alarms") or {}).get("triggeredAlarmNames") or []
    if names:
        found.append(f"alarms that went off: {', '.join(text(name) for name in names)}")
    breaker = told.get("deploymentCircuitBreaker") or {}
    if breaker.get("status") == "TRIGGERED":
        found.append(
            f"the circuit breaker counted {breaker.get('failureCount', 'some')} failed tasks "
            f"(threshold {breaker.get('threshold', 'unknown')})"
        )
    reason = text((told.get("rollback") or {}).get("reason"))
    return [*found, reason] if reason else found


def _displaced(rollout: Rollout, primary: Mapping[str, Any]) -> Judgement:
    """Another deployment is PRIMARY: ECS went back, or somebody else deployed."""
    other = text(primary.get("taskDefinition"))
    if rollout.before is not None and other == rollout.before:
        return Judgement(outcome="rolled back", reason=f"{short(other)} is deployed again")
    return Judgement(outcome="superseded", reason=f"{short(other)} is being deployed instead")


def reasons(tasks: Iterable[Mapping[str, Any]], *, most: int = 3) -> list[str]:
    """Why described tasks stopped, each reason once."""
    found: dict[str, None] = {}
    for task in tasks:
        parts = [text(task.get("stoppedReason")) or text(task.get("stopCode")) or "stopped"]
        for container in task.get("containers") or []:
            said = text(container.get("reason"))
            if container.get("exitCode") is not None:
                parts.append(
                    f"{text(container.get('name'))} exited with {container['exitCode']}"
                    + (f" ({said})" if said else "")
                )
            elif said:
                parts.append(f"{text(container.get('name'))}: {said}")
        found[", ".join(parts)] = None
    return list(found)[:most]


def events(
    service: Mapping[str, Any], since: datetime | None = None, *, most: int = 3
) -> list[str]:
    """A described service's last events, newest first."""
    told = [
        text(event.get("message"))
        for event in service.get("events") or []
        if since is None or event.get("createdAt", since) >= since
    ]
    return told[:most]


def text(value: object, limit: int = 300) -> str:
    """Somebody else's text on one line, without control characters."""
    if value is None:
        return ""
    line = " ".join(str(value).split())
    return "".join(c for c in line if c.isprintable())[:limit]


def short(arn: str) -> str:
    """`family:revision` of a task definition's ARN."""
    return arn.rpartition("/")[2]
