"""What `deploy` makes: verified revisions of the prediction service."""

from __future__ import annotations

import msgspec

from ci_tools.documents.base import Document, Json


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


class FailedService(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Why one servable is not deployed. exit_code: of the error."""

    service: str
    message: str
    todo: str
    exit_code: int


class Deployed(Document, kw_only=True):
    """deploy.json: servable component -> revision, or why there is none.

    declared: component -> hash of the declaration that its revision was deployed by, with
              the images of the sidecars.
    """

    environment: str
    services: dict[str, Revision]
    failed: dict[str, FailedService] = {}
    declared: dict[str, str] = {}
