"""`promotion` of an environment in `ci.yaml`: what lets a release into it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ci_tools.config_base import Name, Section


class Promotion(Section):
    """after: environment that a release must have been verified in, and whose registry
    holds it; without one a release comes as a file, or from the environment's own
    registry, and nothing need have been verified.
    branches: patterns of origin's branches, on one of which its commit must be.
    keys: files of public keys in the repository, or ids of keys, that may sign it.
    approvals: how many people other than who promotes must have approved it.
    """

    after: Name | None = None
    branches: Annotated[tuple[str, ...], Meta(min_length=1)] = ("main", "master")
    keys: Annotated[tuple[str, ...], Meta(min_length=1)]
    approvals: Annotated[int, Meta(ge=0, le=20)] = 0
