"""What `plan` finds: which images there are, and which are missing."""

from __future__ import annotations

from typing import Literal

import msgspec

from ci_tools.documents.base import Document, Source


class PlannedComponent(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One image to be had. Paths are relative to the repository, with `/`.

    parents: sibling components named by FROM, COPY --from or RUN --mount=from.
    bases:   external references -> image by digest, or None where it is not known.
    provisional: True when the key may change once an unknown base is resolved.
    state:   "built" (the registry holds the key), "missing", or "unknown"
             (a dry run asks nobody).
    """

    name: str
    dockerfile: str
    context: str
    key: str
    parents: list[str]
    templates: list[str]
    target: str | None = None
    test_target: str | None = None
    bases: dict[str, str | None] = {}
    repository: str = ""
    provisional: bool = False
    state: Literal["built", "missing", "unknown"] = "unknown"
    digest: str | None = None
    reason: str = ""


class Plan(Document, kw_only=True):
    """plan.json"""

    project: str
    environment: str
    source: Source
    components: list[PlannedComponent]
