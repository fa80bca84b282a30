"""Small documents in a registry under a tag that moves, such as a branch's last report.

Each is an OCI artifact of one layer and no subject.
Source: OCI image specification 1.1, manifest.md, "Guidelines for Artifact Usage".
"""

from __future__ import annotations

import hashlib
import re

import msgspec

from ci_tools import typed
from ci_tools.errors import RegistryError
from ci_tools.images import artifacts, bounded, upload
from ci_tools.images.direct import Answer
from ci_tools.images.registry import TAG_TAKEN as TAKEN
from ci_tools.images.registry import Registry

_LARGEST = 64 << 20  # bytes
_SMALL = 1 << 16  # bytes: to send them costs no more than to ask whether they are there
_READABLE = 100  # of 128: https://github.com/opencontainers/distribution-spec/blob/main/spec.md


def tag_of(name: str) -> str:
    """A tag for a branch or any other name: what can be read of it, and which no other has."""
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")[:_READABLE]
    if readable == name:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{readable or 'unnamed'}-{digest[:12]}"


def put(registry: Registry, repository: str, tag: str, kind: str, content: bytes) -> str:
    """Let a tag name this document, and no other any more; the manifest's digest.

    kind: its media type. Raises RegistryError, CredentialsError.
    """
    registry.ensure_repository(repository, mutable=True)
    manifest, answer = _sent(registry, repository, tag, kind, content)
    if not answer.ok:
        raise upload.refused(registry, repository, answer)
    return artifacts.digest_of(manifest)


def claim(registry: Registry, repository: str, tag: str, kind: str, content: bytes) -> bool:
    """Let a tag that names nothing yet name this document; False where the registry says
    that the tag is taken.

    Only a registry whose tags are immutable says so (ECR, in a repository that we make):
    there one of several that claim it at once gets it. Elsewhere the last one does.
    Raises RegistryError, CredentialsError.
    """
    registry.ensure_repository(repository)
    _, answer = _sent(registry, repository, tag, kind, content)
    if answer.status_code in TAKEN:
        return False
    if not answer.ok:
        raise upload.refused(registry, repository, answer)
    return True


def _sent(
    registry: Registry, repository: str, tag: str, kind: str, content: bytes
) -> tuple[bytes, Answer]:
    manifest = msgspec.json.encode(
        artifacts.Manifest(
            artifact_type=kind,
            config=artifacts.described(artifacts.EMPTY, artifacts.NOTHING),
            layers=[artifacts.described(kind, content)],
        )
    )
    upload.blob(registry, repository, artifacts.NOTHING)
    upload.blob(registry, repository, content, new=len(content) <= _SMALL)
    return manifest, upload.manifest(registry, repository, tag, manifest, artifacts.MANIFEST)


def get(registry: Registry, repository: str, tag: str, kind: str) -> bytes | None:
    """The document that a tag names; None where there is none of this kind.

    Raises RegistryError, also where it is not of its digest; CredentialsError.
    """
    found = bounded.got(registry, f"/v2/{repository}/manifests/{tag}", artifacts.MANIFEST, _LARGEST)
    if found is None:
        return None
    try:
        manifest = typed.decode(found, artifacts.Manifest)
    except msgspec.MsgspecError:
        return None
    if manifest.artifact_type != kind or len(manifest.layers) != 1:
        return None
    layer = manifest.layers[0]
    if not artifacts.is_digest(layer.digest):
        return None
    content = bounded.got(registry, f"/v2/{repository}/blobs/{layer.digest}", kind, _LARGEST)
    if content is not None and artifacts.digest_of(content) != layer.digest:
        raise RegistryError(
            f"{registry.host}/{repository}@{layer.digest} is not what its digest says",
            "Check the registry and any proxy before it",
        )
    return content
