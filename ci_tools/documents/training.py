"""What `train` makes: finished runs, and what they were judged by."""

from __future__ import annotations

from typing import Literal

import msgspec

from ci_tools.documents.base import Document, Json

State = Literal["SUCCEEDED", "FAILED", "CANCELED", "SKIPPED", "TIMEOUT", "ERROR"]


class Artifact(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A run's output file. sha256 and size (bytes) are of its content, None where unreachable."""

    uri: str
    type: str = ""
    sha256: str | None = None
    size: int | None = None


class TaskEnd(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How a task of a run ended.

    message: what the cluster says of a failed one. lines: its last words.
    """

    name: str
    state: str
    seconds: float | None = None
    message: str = ""
    lines: list[str] = []


class Attempt(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A run that failed for a reason of the infrastructure, and was tried again."""

    run_id: str
    state: str
    reason: str
    message: str = ""
    seconds: float = 0.0
    url: str = ""
    log: str = ""


class Baseline(Document, kw_only=True):
    """main's last passed run of a test. commit, created: of that build, and of its end."""

    environment: str
    pipeline: str
    test: str
    run_id: str
    sha256: str
    created: str
    commit: str | None = None
    url: str = ""
    parameters: Json = {}
    metrics: dict[str, float] = {}
    seconds: float = 0.0


class Run(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One finished run. outputs are the pipeline's output parameters.

    state:    ERROR where nobody knows how it ends, since who runs it was lost.
    unknown:  why outputs, metrics and artifacts are not known; "" where they are.
    infrastructure: the reason of the infrastructure that it failed for, or "".
    test, sha256: the test that it is of, and of the IR that ran.
    unmet:    what it did not do of what was expected. notes: what was not looked at, and why.
    attempts: earlier runs that failed for reasons of the infrastructure.
    baseline: main's last one, which it was compared with.
    unchanged: it is not of this build: the same IR passed the same test before.
    exit_code, todo: of an ERROR.
    """

    pipeline: str
    run_id: str
    version_id: str
    state: State
    test: str = "default"
    sha256: str = ""
    parameters: Json = {}
    outputs: Json = {}
    metrics: dict[str, float] = {}
    artifacts: dict[str, Artifact] = {}
    unknown: str = ""
    tasks: list[TaskEnd] = []
    infrastructure: str = ""
    unmet: list[str] = []
    notes: list[str] = []
    attempts: list[Attempt] = []
    baseline: Baseline | None = None
    unchanged: bool = False
    seconds: float = 0.0
    message: str = ""
    url: str = ""
    log: str = ""
    exit_code: int = 0
    todo: str = ""

    @property
    def label(self) -> str:
        """`training` of its default test, `training/smoke` of another."""
        return self.pipeline if self.test == "default" else f"{self.pipeline}/{self.test}"

    @property
    def passed(self) -> bool:
        return self.state == "SUCCEEDED" and not self.unmet


class Passed(Document, kw_only=True):
    """A run that passed, kept by what it ran and what was expected of it. commit: its build's."""

    run: Run
    created: str
    commit: str | None = None


class Training(Document, kw_only=True):
    """train.json"""

    environment: str
    runs: list[Run]
