"""What is known of a service's revisions, and which of them may go. Pure.

Everything is in tags of the task definition, where any agent finds it: a
deployment leaves no file behind that history or roll-back would need.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

COMMIT = "kfp-ci:commit"
RELEASE = "kfp-ci:release"
BUILD = "kfp-ci:build"
IMAGE = "kfp-ci:image"
CLUSTER = "kfp-ci:cluster"
VERIFIED = "kfp-ci:verified"  # of a task definition: when first; of a service: which
ROLLED_BACK = "kfp-ci:rolled-back"  # when somebody went back from it
_TAKEN = re.compile(r"[^A-Za-z0-9 _.:/=+@-]")  # Tag of the ECS API reference
_MOST = 256


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """One revision. verified: RFC 3339, when it first passed; None for never.
    rolled_back: when somebody rolled the service back from it.

    image: of the service's container. registered: RFC 3339, "" where ECS does
    not tell. commit, release, build, cluster: "" where nobody told when it was deployed.
    ours: registered by this tool.
    """

    task_definition: str
    revision: int
    image: str
    registered: str = ""
    verified: str | None = None
    rolled_back: str | None = None
    commit: str = ""
    release: str = ""
    build: str = ""
    cluster: str = ""
    ours: bool = False

    @classmethod
    def of(cls, described: Mapping[str, Any], tags: Sequence[Mapping[str, str]]) -> Known:
        """From describe_task_definition with TAGS."""
        told = {tag.get("key", ""): tag.get("value", "") for tag in tags}
        containers = described.get("containerDefinitions") or []
        own = next((c for c in containers if c.get("name") == described.get("family")), None)
        registered = described.get("registeredAt")
        return cls(
            task_definition=str(described["taskDefinitionArn"]),
            revision=int(described["revision"]),
            image=str((own or (containers or [{}])[0]).get("image", "")),
            registered=registered.isoformat(timespec="seconds") if registered else "",
            verified=told.get(VERIFIED) or None,
            rolled_back=told.get(ROLLED_BACK) or None,
            commit=told.get(COMMIT, ""),
            release=told.get(RELEASE, ""),
            build=told.get(BUILD, ""),
            cluster=told.get(CLUSTER, ""),
            ours=IMAGE in told,
        )


def tags(
    *, commit: str | None = None, release: str | None = None, build: str | None = None
) -> dict[str, str]:
    """Tags that tell where a revision comes from, for `PredictionServices.deploy`.

    build: URL of the build that deploys.
    """
    return {
        key: value for key, value in ((COMMIT, commit), (RELEASE, release), (BUILD, build)) if value
    }


def as_ecs(told: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as ECS takes them: what it does not take is '_', what is too long is cut."""
    return [
        {"key": key, "value": _TAKEN.sub("_", value)[:_MOST]} for key, value in sorted(told.items())
    ]


def superfluous(
    known: Sequence[Known], *, keep: int, cluster: str, in_use: Collection[str]
) -> list[Known]:
    """The revisions that may be deregistered, oldest first.

    Never one in use (a deployment or a task runs it, or it is the one to go back
    to), never one that a release names, never one of the `keep` newest or of the
    two verified last, and never one that somebody else registered, or that was
    for another cluster: a family is the account's, and others may run it.
    """
    own = [one for one in known if one.ours and one.cluster == cluster]
    newest = sorted(own, key=lambda one: one.revision, reverse=True)
    verified = sorted((k for k in own if k.verified), key=_when, reverse=True)
    kept = {one.task_definition for one in [*newest[:keep], *verified[:2]]} | set(in_use)
    return [one for one in reversed(newest) if not one.release and one.task_definition not in kept]


def before(known: Sequence[Known], current: str | None) -> Known | None:
    """The revision that was verified last before `current`, or None. current: ARN.

    Not one that somebody rolled the service back from.
    """
    now = next((one for one in known if one.task_definition == current), None)
    older = [
        one
        for one in known
        if one.verified
        and not one.rolled_back
        and one.task_definition != current
        and (now is None or now.verified is None or _when(one) <= _when(now))
    ]
    return max(older, key=_when, default=None)


def named(known: Sequence[Known], name: str) -> Known | None:
    """The revision that `name` means: `12`, `family:12`, an ARN, a release or a commit
    (of those the newest), None for none."""
    for one in sorted(known, key=lambda one: one.revision, reverse=True):
        if name and name in (
            str(one.revision),
            one.task_definition,
            one.task_definition.rpartition("/")[2],
            one.release,
            one.commit,
        ):
            return one
        if re.fullmatch(r"[0-9a-f]{7,39}", name) and one.commit.startswith(name):
            return one
    return None


def _when(one: Known) -> tuple[str, int]:
    return (one.verified or "", one.revision)
