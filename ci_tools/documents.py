"""The files that stages hand to each other, as types.

Every document carries `schema`; a reader refuses any other version with
`MissingInputError`, so that an old file on a Jenkins agent is never misread.
Digests are `sha256:<64 hex>`, hashes and keys are bare 64 hex, durations are
seconds, sizes are bytes, times are RFC 3339 in UTC.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

SCHEMA = 1

JsonValue = Any  # msgspec reads no recursive type; what is read is plain JSON
Json = dict[str, JsonValue]


class Document(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A file under `build/`. Subclasses name their file in `FILE`."""

    schema: int = SCHEMA


class Source(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Where a build comes from. commit is None outside git."""

    commit: str | None = None
    branch: str | None = None
    dirty: bool = False


# plan --------------------------------------------------------------------------


class PlannedComponent(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One image to be had. Paths are relative to the repository, with `/`.

    parents: sibling components named by FROM, COPY --from, RUN --mount=from or
             `# syntax=`, in a stage that the build reaches.
    bases:   external references -> image by digest, or None where it is not known.
    platforms: what the image is built for, sorted.
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
    platforms: list[str] = []
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


# build -------------------------------------------------------------------------


class Verdict(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What Trivy said of one image digest.

    database: date of the vulnerability database, None where there was none;
              such a verdict is at best "incomplete".
    counts:   findings that the policy counts, by severity or class.
    """

    status: Literal["pass", "fail", "incomplete"]
    trivy: str
    database: str | None
    policy: str
    counts: dict[str, int] = {}
    reason: str = ""
    report: str = ""
    sbom: str = ""


class Ingredients(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Everything that a key is a hash over. `keys.recorded` makes it small enough to keep.

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


class LockedImage(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One image in the registry, bound to the key it was built from.

    repository: registry host and path, without tag or digest.
    config:     digest of the image's config, the id that was scanned.
    built:      False when the registry already had the key.
    tests:      "passed" or "none"; an image with failing tests is never here.
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
    created: str = ""
    ingredients: Ingredients | None = None

    @property
    def reference(self) -> str:
        return f"{self.repository}@{self.digest}"


class FailedImage(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Why one image is not in the lock. step is the step that failed."""

    step: Literal["parent", "build", "test", "scan", "push"]
    message: str
    todo: str
    exit_code: int
    log: str = ""
    seconds: float = 0.0


class Lock(Document, kw_only=True):
    """images.lock.json: component -> digest. `failed` makes it unusable for pin."""

    project: str
    environment: str
    source: Source
    components: dict[str, LockedImage]
    failed: dict[str, FailedImage] = {}
    seconds: float = 0.0


# pin, compile, upload ------------------------------------------------------------


class Pins(Document, kw_only=True):
    """pins.json: template path -> image reference written into its copy."""

    templates: dict[str, str]


class CompiledPipeline(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One IR file.

    path:       relative to the build directory.
    sha256:     over the canonical content, equal for equal pipelines.
    images:     every executor image, sorted.
    components: the components among them.
    parameters: name -> default or None.
    """

    path: str
    source: str
    function: str
    sha256: str
    images: list[str]
    components: list[str]
    parameters: dict[str, JsonValue] = {}
    description: str = ""


class Compiled(Document, kw_only=True):
    """pipelines.json"""

    pipelines: dict[str, CompiledPipeline]


class Upload(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One pipeline version in Kubeflow. created: False when it was there."""

    pipeline_id: str
    version_id: str
    version: str
    sha256: str
    created: bool
    url: str = ""


class Uploads(Document, kw_only=True):
    """uploads.json: pipeline name -> version."""

    environment: str
    pipelines: dict[str, Upload]


# train -------------------------------------------------------------------------


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


# deploy ------------------------------------------------------------------------


class Model(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The model a servable serves: where it is and what it must be."""

    uri: str
    sha256: str


class Revision(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A verified revision of one prediction service.

    task_definition: ARN with its revision; None in a dry run.
    task_definition_sha256: over the normalised definition, so that equal
             definitions are equal in any account.
    changed: False when the service already ran exactly this.
    smoke:   the request sent and the answer got.
    """

    service: str
    cluster: str
    image: str
    model: Model | None
    task_definition: str | None
    task_definition_sha256: str
    changed: bool
    url: str = ""
    deployment: str = ""
    smoke: Json = {}
    seconds: float = 0.0


class Deployed(Document, kw_only=True):
    """deploy.json: servable component -> revision."""

    environment: str
    services: dict[str, Revision]


# release -----------------------------------------------------------------------


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
