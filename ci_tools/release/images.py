"""What is attested of an image, beside it in the registry, for whoever gets the image.

Each attestation is a Sigstore bundle that refers to the image, as `cosign attest
--new-bundle-format` makes them, and is verified by

    cosign verify-attestation --key release.pub --new-bundle-format \\
      --insecure-ignore-tlog --trusted-root root.json --type slsaprovenance1 IMAGE

Sources: sigstore/protobuf-specs, sigstore_bundle.proto (v0.3); cosign, its
specs/BUNDLE_SPEC.md.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from ci_tools.documents import Release, ReleasedImage, timestamp
from ci_tools.images import artifacts, referrers
from ci_tools.images.registry import Registry
from ci_tools.release import attest, signing
from ci_tools.release.signing import Signer

TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
CYCLONEDX = "https://cyclonedx.org/bom"
_CONTENT = "dev.sigstore.bundle.content"
_KIND = "dev.sigstore.bundle.predicateType"
_BUILD_TYPE = "urn:kfp-ci:image:v1"
_READ = 8  # attestations of one kind that are looked at for one of ours


def provenance(release: Release, image: ReleasedImage) -> dict[str, Any]:
    """SLSA's predicate about one image: what it is built from, and who says so.

    The key is what an image is made of: it is the same in every commit that leaves the
    image as it is.
    """
    whole = attest.provenance(release)
    build = whole["buildDefinition"]
    build["buildType"] = _BUILD_TYPE
    build["internalParameters"] = {"key": image.key}
    sources = [one for one in build["resolvedDependencies"] if "gitCommit" in one["digest"]]
    build["resolvedDependencies"] = sources + attest.materials(
        {
            **image.bases,
            **{release.images[one].reference: release.images[one].digest for one in image.parents},
        }
    )
    return whole


def attach(
    registry: Registry,
    repository: str,
    digest: str,
    signer: Signer,
    kind: str,
    predicate: Mapping[str, Any] | msgspec.Raw,
    *,
    now: datetime | None = None,
) -> bool:
    """Attest something of an image; False where the same key did so before.

    kind: the predicate's type. now: replaced in tests. Raises RegistryError,
    CredentialsError and what signing raises.
    """
    if _attested(registry, repository, digest, signer, kind):
        return False
    name = f"{registry.host}/{repository}"
    subject = {"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}}
    made = json.loads(signing.envelope(signer, attest.encoded([subject], kind, predicate)))
    for one in made["signatures"]:
        del one["keyid"]  # cosign counts them otherwise, and takes no other one
    hint = base64.b64encode(bytes.fromhex(signer.key.id)).decode()
    content = {
        "mediaType": TYPE,
        "verificationMaterial": {"publicKey": {"hint": hint}},
        "dsseEnvelope": made,
    }
    created = timestamp(now)
    referrers.attach(
        registry,
        repository,
        digest,
        artifact_type=TYPE,
        files={TYPE: json.dumps(content, separators=(",", ":")).encode()},
        annotations={artifacts.CREATED: created, _CONTENT: "dsse-envelope", _KIND: kind},
    )
    return True


def _attested(registry: Registry, repository: str, digest: str, signer: Signer, kind: str) -> bool:
    """Whether our key attested this before: whoever released the image first."""
    listed = referrers.attached(registry, repository, digest, TYPE)
    for one in [each for each in listed if each.annotations.get(_KIND) == kind][:_READ]:
        files = referrers.fetch(registry, repository, digest, one, only=(TYPE,))
        payload = _payload((files or {}).get(TYPE, b""), signer)
        if payload is not None and attest.is_about(payload, digest, kind):
            return True
    return False


def _payload(content: bytes, signer: Signer) -> bytes | None:
    """The statement in a bundle that our key signed; None for any other."""
    try:
        envelope = json.dumps(json.loads(content)["dsseEnvelope"]).encode()
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    payload, ids, _ = signing.opened(envelope, [signer.key])
    return payload if ids else None
