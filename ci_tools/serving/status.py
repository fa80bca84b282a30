"""How a service is now, for people and programs. Pure."""

from __future__ import annotations

import msgspec

from ci_tools.documents import Model
from ci_tools.serving import live
from ci_tools.serving.live import Live
from ci_tools.serving.revisions import Known
from ci_tools.serving.rollout import events, text


class Status(msgspec.Struct, kw_only=True):
    """One service. None of it when `there` is False.

    runs:     ARN of the revision that it is set to. last_verified: ARN.
    verified: whether that is the revision that we last proved.
    state:    ECS' word for the newest deployment; reason: why, where it says.
    events:   the last of the service's own, newest first.
    """

    service: str
    cluster: str
    there: bool
    url: str = ""
    runs: str = ""
    verified: bool = False
    last_verified: str | None = None
    state: str = ""
    reason: str = ""
    desired: int = 0
    running: int = 0
    pending: int = 0
    image: str = ""
    model: Model | None = None
    commit: str = ""
    release: str = ""
    build: str = ""
    events: list[str] = []


def of(service: str, cluster: str, now: Live | None, known: Known | None, url: str) -> Status:
    """known: the revision that the service runs."""
    if now is None or known is None:
        return Status(service=service, cluster=cluster, there=False)
    described = now.service
    return Status(
        service=service,
        cluster=cluster,
        there=True,
        url=url,
        runs=now.task_definition,
        verified=now.verified == now.task_definition,
        last_verified=now.verified,
        state=text(now.primary.get("rolloutState")),
        reason=text(now.primary.get("rolloutStateReason")),
        desired=now.desired,
        running=int(described.get("runningCount", 0)),
        pending=int(described.get("pendingCount", 0)),
        image=known.image,
        model=live.model_of(now.definition, service),
        commit=known.commit,
        release=known.release,
        build=known.build,
        events=events(described, most=5),
    )


def lines(status: Status) -> list[str]:
    """The same for people."""
    where = f"{status.service} in cluster {status.cluster}"
    if not status.there:
        return [f"{where}: not there"]
    proof = "verified" if status.verified else "NOT VERIFIED"
    rows = [
        ("runs", f"{status.runs.rpartition('/')[2]}, {proof}"),
        (
            "" if status.verified else "verified last",
            (status.last_verified or "nothing yet").rpartition("/")[2],
        ),
        ("tasks", f"{status.running} of {status.desired} run, {status.pending} are pending"),
        ("deployment", " ".join([status.state, status.reason]).strip()),
        ("image", status.image),
        ("model", f"{status.model.uri} sha256 {status.model.sha256}" if status.model else ""),
        ("commit", status.commit),
        ("release", status.release),
        ("build", status.build),
        ("url", status.url),
    ]
    told = [f"  {key + ':':<15}{value}" for key, value in rows if key and value]
    return [where, *told, *(f"  event: {event}" for event in status.events)]
