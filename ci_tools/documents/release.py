"""What `release` makes."""

from __future__ import annotations

import msgspec

from ci_tools.documents.base import Document, Source
from ci_tools.documents.deployment import Model, Revision
from ci_tools.documents.images import Verdict
from ci_tools.documents.training import Run


class ReleasedImage(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """parents, bases: what it is built on, as `LockedImage` has them.

    platforms: platform -> digest of the image's config.
    sboms:     platform, or "" of an image of one, -> sha256 of its CycloneDX SBOM.
    """

    reference: str
    digest: str
    key: str
    verdict: Verdict
    tests: str
    parents: list[str] = []
    bases: dict[str, str | None] = {}
    platforms: dict[str, str] = {}
    sboms: dict[str, str] = {}


class ReleasedPipeline(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """sha256: over the IR's canonical content. file: the IR's bytes, in `Release.files`.

    images: every executor image, sorted. version and version_id: of the upload.
    """

    sha256: str
    file: str
    components: list[str]
    images: list[str] = []
    version: str | None = None
    version_id: str | None = None


class ReleasedServable(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """file: the declaration as it was deployed, in `Release.files`.

    model:    what it serves, so far as that is known.
    revision: what was deployed and verified; None where nothing was.
    """

    service: str
    file: str
    image: str
    model: Model | None = None
    task_definition_sha256: str = ""
    revision: Revision | None = None


class Release(Document, kw_only=True):
    """release.json: everything one commit became. `name` is its content's hash.

    committed:  when the commit was made; "" outside git.
    repository: where the source comes from, without credentials; "" for nowhere.
    builder:    the CI server, "" for a machine that is none. build: URL of its build.
    plan, lock: hash of the plan that the images were built from ("" for none is
                known), and of the lock's images, 64 hex each.
    files:      what travels with the release: name -> sha256 of its bytes.
    tools:      program or package -> version.
    problems:   why it must not be promoted; empty for a sound release.
    """

    name: str
    project: str
    environment: str
    source: Source
    committed: str = ""
    repository: str = ""
    images: dict[str, ReleasedImage]
    pipelines: dict[str, ReleasedPipeline]
    servables: dict[str, ReleasedServable] = {}
    runs: list[Run] = []
    files: dict[str, str] = {}
    tools: dict[str, str] = {}
    builder: str = ""
    build: str = ""
    plan: str = ""
    lock: str = ""
    problems: list[str] = []
