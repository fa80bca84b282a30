"""`lint` of `ci.yaml`: what hadolint's remarks on Dockerfiles are to do."""

from __future__ import annotations

from typing import Literal

import msgspec


class Lint(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Remarks of hadolint on the components' Dockerfiles.

    dockerfiles: `report` tells them, `gate` lets them fail `plan` too, `off` starts
    no linter.
    level: what fails the plan: remarks of this level and worse.
    """

    dockerfiles: Literal["report", "gate", "off"] | bool = "report"
    level: Literal["error", "warning", "info", "style"] = "error"

    def __post_init__(self) -> None:
        if self.dockerfiles is False:  # what `off` is in YAML 1.1
            self.dockerfiles = "off"
        if self.dockerfiles is True:
            raise ValueError("it is report, gate or off")
