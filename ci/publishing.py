"""A release where others find it: signed, in the registry and in S3."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import msgspec

from ci.evidence import Sboms
from ci.workspace import Workspace
from ci_tools.components.references import split
from ci_tools.documents import Release
from ci_tools.errors import ReleaseNotFoundError, ReleaseSignatureError
from ci_tools.images.registry import Registry
from ci_tools.release import attest, images, signing, store
from ci_tools.release.bucket import Bucket
from ci_tools.release.bundle import Bundle
from ci_tools.release.signing import Signer

REPOSITORY = "releases"
_AT_ONCE = 8


def repository_of(workspace: Workspace) -> str:
    """Where in the registry a project's releases are."""
    return workspace.repository_of(REPOSITORY)


def publish(workspace: Workspace, bundle: Bundle, sboms: Sboms, *, send: bool = True) -> Bundle:
    """Sign a release and put it where others find it; the release with its signatures.

    One with problems is not signed: nobody can promote it, whatever he overlooks.
    What is attested of its images comes first, the release last.
    send: False to publish nothing.

    Raises RegistryError, CredentialsError, ReleaseError, and what signing raises.
    """
    environment, console = workspace.environment, workspace.console
    registry, repository = Registry.of(workspace.registry), repository_of(workspace)
    problems = bundle.release.problems
    if problems:
        console.warn(f"the release cannot be promoted: {'; '.join(problems)}")
    elif environment.signing is None:
        console.event(f"not signed: environment '{workspace.environment_name}' has no 'signing'")
    else:
        signer = signing.signer(environment.signing, workspace.repository)
        bundle = (_signed_before(registry, repository, bundle, signer) if send else None) or (
            signing.sign(bundle, signer)
        )
        if send:
            attest_images(registry, bundle.release, sboms, signer)
    if not send:
        return bundle
    digest = store.publish(registry, repository, bundle)
    console.event(f"published as {registry.host}/{repository}@{digest}")
    if environment.releases is not None:
        console.event(f"published as {Bucket(environment.releases).publish(bundle)}")
    return bundle


def dry_run(workspace: Workspace) -> list[str]:
    """Where a release would be published, and who would sign it. Asks nobody."""
    environment = workspace.environment
    places = [f"{workspace.registry.host}/{repository_of(workspace)}", environment.releases]
    keys = environment.signing
    by = (keys.key or f"the key that {keys.key_env} names") if keys else "nobody"
    return [
        f"  published in: {', '.join(place for place in places if place)}",
        f"  signed by: {by}",
    ]


def attest_images(registry: Registry, release: Release, sboms: Sboms, signer: Signer) -> None:
    """Say beside each image what it was built from, and what is in it, unless our key did so
    before. Raises RegistryError, CredentialsError and what signing raises."""

    def attested(name: str) -> None:
        image = release.images[name]
        repository = split(image.reference).path
        kind, predicate = attest.PROVENANCE, images.provenance(release, image)
        images.attach(registry, repository, image.digest, signer, kind, predicate)
        for sbom in sboms[name].values():
            raw = msgspec.Raw(sbom.content)
            images.attach(registry, repository, sbom.image, signer, images.CYCLONEDX, raw)

    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        for _ in pool.map(attested, release.images):
            pass


def _signed_before(
    registry: Registry, repository: str, bundle: Bundle, signer: Signer
) -> Bundle | None:
    """The very same release, if it is there and our key signed it: some keys sign
    otherwise each time, and nothing would be gained by one more."""
    try:
        held = store.find(registry, repository, bundle.release.name)
        signing.verify(held, [signer.key])
    except (ReleaseNotFoundError, ReleaseSignatureError):
        return None
    return bundle.signed(*held.envelopes) if held.content == bundle.content else None
