"""What `build` makes: images by digest, each with its verdict."""

from __future__ import annotations

from typing import Literal

import msgspec

from ci_tools.documents.base import Document, Source


class Verdict(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What Trivy said of one image digest.

    database: date of the vulnerability database, None where there was none;
              such a verdict is at best "incomplete".
    counts:   findings that the policy counts, by severity, or SECRET.
    until:    day from which it does not stand any more, because a waiver ends or the
              database gets too old (YYYY-MM-DD); "" for none.
    report:   all that was found (a `ScanRecord`), below the build directory.
    """

    status: Literal["pass", "fail", "incomplete"]
    trivy: str
    database: str | None
    policy: str
    counts: dict[str, int] = {}
    reason: str = ""
    until: str = ""
    report: str = ""
    sbom: str = ""


class Ingredients(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Everything that a key is a hash over. `changes.recorded` makes it small enough to keep.

    recipe:     version of the list of ingredients itself.
    dockerfile: hash of the Dockerfile's bytes.
    files:      path in the context -> "type:hash"; where depth is set, what lies
                deeper than that is one entry a directory, whose path ends in `/`.
    args:       build arguments, target and platforms: as the build gets them.
                platform: as `linux/amd64`; several with commas, sorted.
    syntax:     reference of the Dockerfile's frontend, None for the engine's own;
                it is among parents or bases too.
    parents:    sibling reference as written -> the sibling's key.
    bases:      external reference as written -> digest, None where not known.
    forced:     the name of the plan that built it again though nothing had changed,
                "" for a key that is of its sources alone.
    """

    recipe: int
    dockerfile: str
    files: dict[str, str]
    platform: str
    target: str | None = None
    syntax: str | None = None
    args: dict[str, str] = {}
    parents: dict[str, str] = {}
    bases: dict[str, str | None] = {}
    depth: int | None = None
    forced: str = ""


class LockedImage(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One image in the registry, bound to the key it was built from.

    repository: registry host and path, without tag or digest.
    config:     digest of the image's config, which is what was scanned; "" for
                an index.
    platforms:  platform -> config digest.
    built:      False when the registry already had the key.
    tests:      "passed" or "none"; an image with failing tests is never here.
    seconds: of this run's work on it, whatever that was.
    timings: step -> seconds of the build that made the image; an image that was
             found in the registry keeps those of the lock before.
    ingredients: what the key was made of, so that `explain` can tell a later one.
    """

    repository: str
    digest: str
    config: str
    key: str
    size: int
    verdict: Verdict
    parents: list[str] = []
    bases: dict[str, str | None] = {}
    tests: Literal["passed", "none"] = "none"
    built: bool = True
    seconds: float = 0.0
    timings: dict[str, float] = {}
    created: str = ""
    ingredients: Ingredients | None = None
    platforms: dict[str, str] = {}

    @property
    def reference(self) -> str:
        return f"{self.repository}@{self.digest}"


class FailedImage(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Why one image is not in the lock. step is the step that failed."""

    step: Literal["parent", "cancelled", "build", "test", "scan", "push"]
    message: str
    todo: str
    exit_code: int
    log: str = ""
    seconds: float = 0.0


class Lock(Document, kw_only=True):
    """images.lock.json: component -> digest. `failed` makes it unusable for pin.

    shard: "1/4" for the first of four shards, "" for a whole lock.
    plan:  `plan_id` of the plan that it was built from; "" in older locks.
    """

    project: str
    environment: str
    source: Source
    components: dict[str, LockedImage]
    failed: dict[str, FailedImage] = {}
    seconds: float = 0.0
    shard: str = ""
    plan: str = ""
