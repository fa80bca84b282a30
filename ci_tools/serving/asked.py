"""What the checks before a deployment ask about, and what they find."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ci_tools.aws_codes import REFUSED, code_of
from ci_tools.config import PredictionService
from ci_tools.serving.declaration import Servable
from ci_tools.serving.task_definition import Definition

Client = Callable[[str], Any]
ImageDigest = Callable[[str], "str | None"]


class Findings(msgspec.Struct):
    """problems: what would make the deployment fail. remarks: what could not be
    found out, or is odd. A sentence each.
    """

    problems: list[str] = []
    remarks: list[str] = []


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be deployed, and whom to ask.

    client: boto3's name of a service -> its client.
    digest: an image by digest -> that digest, or None where there is none; raises
            CIError where the registry does not tell.
    """

    servable: Servable
    definition: Definition
    arguments: Definition
    settings: PredictionService
    client: Client
    digest: ImageDigest

    @property
    def stand_in(self) -> bool:
        return self.settings.endpoint_url is not None


def refused(error: Exception) -> bool:
    """Whether it is only that we may not ask."""
    code = code_of(error)
    return code in REFUSED or code in ("UnauthorizedOperation", "Client.UnauthorizedOperation")
