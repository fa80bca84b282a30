"""What `train` makes: finished runs."""

from __future__ import annotations

from typing import Literal

import msgspec

from ci_tools.documents.base import Document, Json


class Artifact(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A run's output file. sha256 is of its bytes, None where unreachable."""

    uri: str
    type: str = ""
    sha256: str | None = None


class Run(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One finished run. outputs are the pipeline's output parameters."""

    pipeline: str
    run_id: str
    version_id: str
    state: Literal["SUCCEEDED", "FAILED", "CANCELED", "SKIPPED", "TIMEOUT"]
    parameters: Json = {}
    outputs: Json = {}
    metrics: dict[str, float] = {}
    artifacts: dict[str, Artifact] = {}
    unmet: list[str] = []
    seconds: float = 0.0
    message: str = ""
    url: str = ""
    log: str = ""


class Training(Document, kw_only=True):
    """train.json"""

    environment: str
    runs: list[Run]
