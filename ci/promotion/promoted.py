"""What an environment runs, as the records of its promotions say."""

from __future__ import annotations

from ci.promotion.target import Target
from ci.workspace import Workspace
from ci_tools.documents import Release
from ci_tools.promotion.records import Kept


def standing(target: Target) -> Kept | None:
    """The record of what it runs; None where nothing was promoted. Raises as `Records`."""
    return target.records.standing(target.records.head())


def release(workspace: Workspace) -> Release | None:
    """The release that the environment runs, its images named as they are there.

    Raises RegistryError, CredentialsError, ReleaseNotFoundError, ReleaseSignatureError.
    """
    target = Target(workspace)
    kept = standing(target)
    if kept is None:
        return None
    return target.relocated(target.published(kept.record.bundle or kept.record.release).release)
