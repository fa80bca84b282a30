"""The files that stages hand to each other, as types.

Every document carries `schema`; a reader refuses any other version with
`MissingInputError`, so that an old file on a Jenkins agent is never misread.
Digests are `sha256:<64 hex>`, hashes and keys are bare 64 hex, durations are
seconds, sizes are bytes, times are RFC 3339 in UTC. A module a stage; readers
import all of them from here.
"""

from __future__ import annotations

from ci_tools.documents.base import SCHEMA, ByHand, Document, Json, JsonValue, Source, timestamp
from ci_tools.documents.deployment import Deployed, FailedService, Model, Revision
from ci_tools.documents.images import FailedImage, Ingredients, Lock, LockedImage, Verdict
from ci_tools.documents.pipelines import Compiled, CompiledPipeline, Pins, Upload, Uploads
from ci_tools.documents.plan import Plan, PlannedComponent
from ci_tools.documents.promotion import (
    Action,
    Journal,
    JournalStep,
    PromotedPipeline,
    Promotion,
)
from ci_tools.documents.release import (
    Release,
    ReleasedImage,
    ReleasedPipeline,
    ReleasedServable,
)
from ci_tools.documents.scan import (
    Finding,
    Judged,
    Layer,
    LintReport,
    Remark,
    ScannedImage,
    ScanRecord,
    ScanReport,
    WaiverNote,
)
from ci_tools.documents.training import (
    Artifact,
    Attempt,
    Baseline,
    Passed,
    Run,
    TaskEnd,
    Training,
)

__all__ = [
    "SCHEMA",
    "Action",
    "Artifact",
    "Attempt",
    "Baseline",
    "ByHand",
    "Compiled",
    "CompiledPipeline",
    "Deployed",
    "Document",
    "FailedImage",
    "FailedService",
    "Finding",
    "Ingredients",
    "Journal",
    "JournalStep",
    "Json",
    "JsonValue",
    "Judged",
    "Layer",
    "LintReport",
    "Lock",
    "LockedImage",
    "Model",
    "Passed",
    "Pins",
    "Plan",
    "PlannedComponent",
    "PromotedPipeline",
    "Promotion",
    "Release",
    "ReleasedImage",
    "ReleasedPipeline",
    "ReleasedServable",
    "Remark",
    "Revision",
    "Run",
    "ScanRecord",
    "ScanReport",
    "ScannedImage",
    "Source",
    "TaskEnd",
    "Training",
    "Upload",
    "Uploads",
    "Verdict",
    "WaiverNote",
    "timestamp",
]
