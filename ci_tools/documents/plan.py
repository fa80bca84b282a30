"""What `plan` finds: which images there are, and which are missing."""

from __future__ import annotations

from typing import Literal

import msgspec

from ci_tools.documents.base import Document, Source


class PlannedComponent(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One image to be had. Paths are relative to the repository, with `/`.

    parents: sibling components named by FROM, COPY --from, RUN --mount=from or
             `# syntax=`, in a stage that the build reaches.
    bases:   external references -> image by digest, or None where it is not known.
    platforms: what the image is built for, sorted.
    forced:  why it has a key of this plan alone and is built again (`--force-id`);
             "" where it has the key of its sources.
    provisional: True when the key may change once an unknown base is resolved.
    state:   "built" (the registry holds the key), "missing", or "unknown"
             (a dry run asks nobody).
    expected: seconds that its build is expected to take; 0 where it is built.
    shard:   1..Plan.shards, None in a plan that is not divided; 0 for what is built
             before the shards, because they build on it.
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
    platforms: list[str] = []
    repository: str = ""
    provisional: bool = False
    forced: str = ""
    state: Literal["built", "missing", "unknown"] = "unknown"
    digest: str | None = None
    reason: str = ""
    expected: float = 0.0
    shard: int | None = None


class Plan(Document, kw_only=True):
    """plan.json. shards: how many agents build it, each its own components."""

    project: str
    environment: str
    source: Source
    components: list[PlannedComponent]
    shards: int = 1
