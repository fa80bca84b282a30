"""What `pin`, `compile` and `upload` make."""

from __future__ import annotations

import msgspec

from ci_tools.documents.base import Document, JsonValue


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
    """One pipeline version in Kubeflow.

    created:   False when it was there.
    unchanged: a version was this very pipeline, so that nothing was sent; it is
               named here, and may be of an earlier commit.
    pipeline:  the pipeline's name there; a branch's is not main's.
    display_name, description, tags: the version's own.
    followed_by: schedules that run this version from now on.
    """

    pipeline_id: str
    version_id: str
    version: str
    sha256: str
    created: bool
    url: str = ""
    unchanged: bool = False
    pipeline: str = ""
    display_name: str = ""
    description: str = ""
    tags: dict[str, str] = {}
    followed_by: list[str] = []


class Uploads(Document, kw_only=True):
    """uploads.json: pipeline name -> version."""

    environment: str
    pipelines: dict[str, Upload]
