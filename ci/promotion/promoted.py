"""What an environment runs, as the records of its promotions say."""

from __future__ import annotations

from collections.abc import Mapping

from ci.promotion.target import Target
from ci.workspace import Workspace
from ci_tools.documents import Release
from ci_tools.errors import CIError
from ci_tools.promotion.records import Kept
from ci_tools.release.bundle import Bundle


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


def declared(target: Target, stands: Kept | None, comes: Bundle) -> Mapping[str, str]:
    """Service -> the declaration of what the environment runs, as far as it is known.

    comes: the release that is to run, which may well run already.
    """
    if stands is None:
        return {}
    try:
        same = stands.record.release == comes.release.name
        bundle = comes if same else target.published(stands.record.release)
        return {
            one.service: bundle.files[one.file].decode("utf-8", "replace")
            for one in bundle.release.servables.values()
        }
    except CIError as error:  # going back is then proven with the new declaration
        target.workspace.console.warn(f"what runs now is not known in full: {error.what}")
        return {}


def left(runs: Mapping[str, str], comes: Release) -> list[str]:
    """The services that run and are none of a release, a sentence each: no promotion stops
    what it does not know to be unused. runs: service -> anything, as `declared`."""
    gone = sorted({*runs} - {one.service for one in comes.servables.values()})
    return [
        f"the service '{name}' is not in {comes.name[:20]}: it goes on as it is, until somebody "
        "scales it to 0 tasks"
        for name in gone
    ]
