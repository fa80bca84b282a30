"""What `release` makes."""

from __future__ import annotations

import msgspec

from ci_tools.documents.base import Document, Source
from ci_tools.documents.deployment import Revision
from ci_tools.documents.images import Verdict
from ci_tools.documents.training import Run


class ReleasedImage(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    reference: str
    digest: str
    key: str
    verdict: Verdict
    tests: str


class ReleasedPipeline(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    sha256: str
    components: list[str]
    version: str | None = None
    version_id: str | None = None


class Release(Document, kw_only=True):
    """release.json: everything one commit became. `name` is its content's hash.

    problems: why it must not be promoted; empty for a sound release.
    """

    name: str
    project: str
    environment: str
    source: Source
    images: dict[str, ReleasedImage]
    pipelines: dict[str, ReleasedPipeline]
    runs: list[Run] = []
    services: dict[str, Revision] = {}
    problems: list[str] = []
