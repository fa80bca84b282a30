"""The steps of a promotion, in an order in which nothing is seen before it is whole.

Images lie in the registry by digest and a release by its name, where nothing that runs
looks for them. A pipeline's version is run by nobody until somebody asks for it. The
services are the first that anybody sees, and the record is what makes it happened.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import msgspec

from ci.promotion.services import Services
from ci.promotion.target import Target
from ci.promotion.wanted import Wanted, asked_for, by_host, servables
from ci_tools import git, typed
from ci_tools.documents import (
    Journal,
    JournalStep,
    Json,
    PromotedPipeline,
    Promotion,
    Release,
    Revision,
)
from ci_tools.errors import PromotionUnderWayError
from ci_tools.images import copy_set
from ci_tools.images.copy_set import Event
from ci_tools.kubeflow import names, wanted
from ci_tools.promotion import signed
from ci_tools.promotion.engine import Step
from ci_tools.release import store
from ci_tools.release.bucket import Bucket
from ci_tools.release.bundle import Bundle
from ci_tools.serving import revisions

Told = Callable[[str], None]


@dataclass
class Images:
    """Every image by digest, with all that is attached to it.

    fresh: also what was attached since to images that are there; a roll-back asks the
    registry that they came from nothing.
    """

    target: Target
    release: Release
    told: Told
    fresh: bool = True
    kind: str = "images"
    name: str = "images"

    def look(self) -> Json:
        return {}

    def do(self) -> Json:
        total = {"moved": 0, "bytes": 0, "mounted": 0, "manifests": 0, "skipped": 0}
        for host, several in by_host(self.target, self.release, only_missing=not self.fresh):
            done = copy_set.copy_all(
                several,
                self.target.registry_of(host),
                self.target.registry,
                tags={one.digest: [self.release.name] for one in several},
                on_event=self._event,
            )
            for key in total:
                total[key] += getattr(done, key)
        self.told(
            f"images: {len(self.release.images)} there, {total['moved']} blobs moved "
            f"({total['bytes'] / 1e6:.1f} MB), {total['mounted']} mounted"
        )
        return dict(total)

    def _event(self, event: Event) -> None:
        if event.what in ("manifest", "attached", "left"):
            self.told(f"{event.repository}: {event.what} {event.digest[:19]} {event.name}".rstrip())


@dataclass
class Kept:
    """The release itself, with its signatures, in the environment's own registry."""

    target: Target
    bundle: Bundle
    told: Told
    kind: str = "release"
    name: str = "release"

    def look(self) -> Json:
        return {}

    def do(self) -> Json:
        digest = store.publish(self.target.registry, self.target.releases, self.bundle)
        bucket = self.target.workspace.environment.releases
        if bucket is not None:
            Bucket(bucket).publish(self.bundle)
        self.told(f"release: {self.target.registry.host}/{self.target.releases}@{digest}")
        return {"digest": digest}


@dataclass
class Pipelines:
    """A version of each pipeline, with the images' names of this environment."""

    target: Target
    bundle: Bundle
    told: Told
    kind: str = "pipelines"
    name: str = "pipelines"

    @cached_property
    def _asked(self) -> list[wanted.Wanted]:
        """Made once: to relocate an IR is to parse it."""
        return asked_for(self.target, self.bundle)

    def look(self) -> Json:
        """Pipeline -> its id and the versions that are this very one, before."""
        asked = self._asked
        inventory = self.target.kubeflow.inventory() if asked else None
        known = {one.name: one for one in inventory.pipelines()} if inventory else {}
        before: Json = {}
        for one in asked:
            held = known.get(one.name)
            ending = names.ending(one.sha256)
            versions = inventory.versions(held.pipeline_id, ending) if inventory and held else []
            before[one.name] = {
                "pipeline_id": held.pipeline_id if held else "",
                "versions": [it.version_id for it in versions],
                "ending": ending,
            }
        return before

    def do(self) -> Json:
        asked = self._asked
        done = self.target.kubeflow.upload_all(asked) if asked else []
        found = {}
        for name, one in zip(self.bundle.release.pipelines, done, strict=True):
            self.told(f"{name}: {'uploaded' if one.created else 'there'} as {one.version}")
            found[name] = PromotedPipeline(
                pipeline=one.pipeline,
                pipeline_id=one.pipeline_id,
                version=one.version,
                version_id=one.version_id,
                sha256=one.sha256,
            )
        return {name: msgspec.to_builtins(one) for name, one in found.items()}


@dataclass
class Service:
    """One service, verified.

    declared: the declaration of what it ran before, as far as it is known: what going
    back is proven with.
    """

    wanted: Wanted
    services: Services
    tags: Mapping[str, str]
    told: Told
    declared: str = ""
    kind: str = "service"

    @property
    def name(self) -> str:
        return f"service {self.wanted.component}"

    def look(self) -> Json:
        now = self.services.now(self.wanted.servable.service)
        return {
            "service": self.wanted.servable.service,
            "declaration": self.declared or self.wanted.text,
            "task_definition": now.task_definition if now else "",
            "good": now.good if now else "",
            "desired": now.desired if now else 0,
            "ours": self.services.sha256(self.wanted),
        }

    def do(self) -> Json:
        found = self.services.deploy(self.wanted, self.tags, self.told)
        made: Json = msgspec.to_builtins(found)
        return made


@dataclass
class Record:
    """What makes the promotion happened."""

    target: Target
    journal: Journal
    images: Mapping[str, str]
    now: Callable[[], str]
    told: Told
    kind: str = "record"
    name: str = "record"

    def look(self) -> Json:
        return {}

    def do(self) -> Json:
        """Raises PromotionUnderWayError where somebody else's record came between."""
        head = self.target.records.head()
        if head is not None and head.record.id == self.journal.id:
            return {"digest": head.digest}
        if (head.digest if head else "") != self.journal.previous:
            raise PromotionUnderWayError(
                f"another promotion to '{self.target.name}' was recorded meanwhile",
                f"See 'python -m ci releases history --env {self.target.name}'",
            )
        record = recorded(self.journal, "done", self.now(), images=self.images)
        signer = self.target.signer
        kept = self.target.records.put(
            record,
            None if signer is None else lambda content: signed.envelope(signer, content, record),
        )
        self.told(f"record: {self.target.registry.host}/{self.target.repository}@{kept.digest}")
        return {"digest": kept.digest}


def steps_of(
    target: Target,
    bundle: Bundle,
    journal: Journal,
    *,
    declared: Mapping[str, str],
    now: Callable[[], str],
    told: Told,
) -> list[Step]:
    """All steps, in order. declared: service -> declaration of what runs now."""
    release = bundle.release
    tags = revisions.tags(
        commit=release.source.commit, release=release.name, build=os.environ.get("BUILD_URL")
    )
    steps: list[Step] = [
        Images(target, release, told, fresh=journal.action == "promote"),
        Kept(target, bundle, told),
        Pipelines(target, bundle, told),
    ]
    steps += [
        Service(one, target.services, tags, told, declared.get(one.servable.service, ""))
        for one in servables(target, bundle)
    ]
    steps.append(Record(target, journal, target.images(release), now, told))
    return steps


def pending(release: Release) -> list[JournalStep]:
    """The entries of these steps in a new journal."""
    entries = [
        JournalStep(kind="images", name="images"),
        JournalStep(kind="release", name="release"),
        JournalStep(kind="pipelines", name="pipelines"),
    ]
    entries += [
        JournalStep(kind="service", name=f"service {name}") for name in sorted(release.servables)
    ]
    return [*entries, JournalStep(kind="record", name="record")]


def recorded(
    journal: Journal,
    outcome: str,
    ended: str,
    *,
    images: Mapping[str, str] | None = None,
    standing: str = "",
) -> Promotion:
    """The record of a promotion, as its journal tells it."""
    done = outcome == "done"  # else nobody knows what is so of what the journal says
    results = {step.kind: step.result for step in journal.steps} if done else {}
    services = {
        step.name.removeprefix("service "): typed.convert(step.result, Revision)
        for step in journal.steps
        if done and step.kind == "service"
    }
    return typed.convert(
        {
            "id": journal.id,
            "action": journal.action,
            "outcome": outcome,
            "environment": journal.environment,
            "project": journal.project,
            "release": journal.release,
            "bundle": results.get("release", {}).get("digest", ""),
            "commit": journal.commit,
            "by": journal.by,
            "approvals": journal.approvals,
            "began": journal.began,
            "ended": ended,
            "build": git.without_credentials(os.environ.get("BUILD_URL", "")),
            "previous": journal.previous,
            "standing": standing,
            "images": dict(images or {}),
            "pipelines": results.get("pipelines", {}),
            "services": msgspec.to_builtins(services),
            "steps": [f"{s.name}: {s.note or s.state}" for s in journal.steps],
            "reason": journal.reason,
        },
        Promotion,
    )
