"""What `promote` and `rollback` keep: a record of each, and a journal while it is under way."""

from __future__ import annotations

from typing import Literal

import msgspec

from ci_tools.documents.base import Document, Json
from ci_tools.documents.deployment import Revision

Action = Literal["promote", "rollback"]
Outcome = Literal["done", "undone", "partly undone"]
StepState = Literal["pending", "begun", "done", "undone", "stuck"]


class PromotedPipeline(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A version in the environment's Kubeflow. sha256: of the relocated IR."""

    pipeline: str
    pipeline_id: str
    version: str
    version_id: str
    sha256: str


class Promotion(Document, kw_only=True):
    """One promotion or rollback, whatever became of it. Never changed; the next one
    names it.

    id:       of the journal. outcome: "done", or how far a failed one was undone.
    bundle:   digest of the release in the environment's own registry.
    previous: digest of the record before, "" for the first.
    standing: digest of the record of what the environment runs, "" for itself where
              the outcome is "done", and for nothing otherwise.
    by, approvals: as they were told to us; nobody proves them.
    images:   component -> reference in the environment's registry.
    steps:    what was done and undone, a sentence each. reason: why it was undone.
    """

    id: str
    action: Action
    outcome: Outcome
    environment: str
    project: str
    release: str
    bundle: str
    commit: str | None
    by: str
    approvals: list[str]
    began: str
    ended: str
    build: str = ""
    previous: str = ""
    standing: str = ""
    images: dict[str, str] = {}
    pipelines: dict[str, PromotedPipeline] = {}
    services: dict[str, Revision] = {}
    steps: list[str] = []
    reason: str = ""


class JournalStep(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """before: what was there when the step was begun, which undoing it needs; it is
    looked at once, however often the step is. note: what undoing it came to."""

    kind: Literal["images", "release", "pipelines", "service", "record"]
    name: str
    state: StepState = "pending"
    before: Json = {}
    result: Json = {}
    note: str = ""


class Journal(Document, kw_only=True):
    """How far a promotion is, written before and after each step.

    serial: grows with each writing. open: it is neither finished nor undone.
    undoing: it goes backward, and never forward again. reason: why.
    """

    id: str
    action: Action
    environment: str
    project: str
    release: str
    bundle: str
    commit: str | None
    previous: str
    by: str
    approvals: list[str]
    began: str
    serial: int = 0
    open: bool = True
    undoing: bool = False
    reason: str = ""
    steps: list[JournalStep] = []
