"""What is attached to a manifest in its registry, of whatever kind, and how it is listed there.

There are two ways: artifacts whose `subject` it is, which the registry or an index
under the tag `sha256-<hex>` lists (`referrers`), and cosign's own, manifests under the
tags `sha256-<hex>.sig`, `.att` and `.sbom` that name no subject.

Source: OCI distribution specification 1.1, "Listing Referrers"; cosign's
SIGNATURE_SPEC.md, "Discovery".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ci_tools.errors import PushError
from ci_tools.images import artifacts, referrers, referrers_tag
from ci_tools.images.artifacts import Descriptor
from ci_tools.images.attempts import persistently
from ci_tools.images.copying import Held
from ci_tools.images.registry import Registry

COSIGN = (".sig", ".att", ".sbom")
_ATTEMPTS = 5


class Attachments(NamedTuple):
    """referrers: digests, sorted. tags: cosign's tag -> digest."""

    referrers: tuple[str, ...]
    tags: dict[str, str]


def of(registry: Registry, repository: str, subject: str) -> Attachments:
    """All that is attached to the manifest `subject`, as the registry's lists claim.

    Raises RegistryError, CredentialsError.
    """
    names = [artifacts.tag(subject) + kind for kind in COSIGN]
    if registry.ecr is not None:  # one call for all
        digests = registry.digests([(repository, name) for name in names])
        found = {name: digests[repository, name] for name in names}
    else:
        found = {name: registry.digest(repository, name) for name in names}
    return Attachments(
        tuple(sorted(listed(registry, repository, subject))),
        {name: digest for name, digest in found.items() if digest is not None},
    )


def listed(registry: Registry, repository: str, subject: str) -> set[str]:
    """The digests that are listed as artifacts of `subject`: one request.

    Raises RegistryError, CredentialsError.
    """
    return {one.digest for one in referrers.attached(registry, repository, subject, None)}


def entry(held: Held, subject: str) -> Descriptor | None:
    """How an artifact stands in the list of `subject`; None where it does not refer to it.

    Source: OCI distribution specification 1.1, "Listing Referrers": the type is the
    manifest's artifactType or else that of its config.
    """
    read = held.read
    if read.subject is None or read.subject.digest != subject:
        return None
    config = read.config.media_type if read.config is not None else ""
    return Descriptor(
        media_type=held.media_type,
        digest=held.digest,
        size=len(held.content),
        artifact_type=read.artifact_type or config,
        annotations=read.annotations or {},
    )


def list_all(
    registry: Registry, repository: str, subject: str, entries: Sequence[Descriptor]
) -> None:
    """See that the list of `subject` has all of these, which are there.

    A registry that keeps the lists itself may take a moment; else we write it.
    Raises PushError where it is not listed in the end; RegistryError, CredentialsError.
    """

    def missing() -> list[Descriptor]:
        known = listed(registry, repository, subject)
        return [one for one in entries if one.digest not in known]

    if not (new := missing()):
        return
    if not registry.lists_referrers:
        referrers_tag.add(registry, repository, subject, new)

    def look() -> None:
        if left := missing():
            raise PushError(
                f"{registry.host}/{repository} does not list {left[0].digest} as attached to "
                f"{subject}, though it took it",
                "Run it again; if that does not help, look into the registry's log",
                again=True,
            )

    persistently(look, attempts=_ATTEMPTS, told=lambda _: None)
