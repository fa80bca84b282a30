"""What a test puts into a registry, byte by byte, and how skopeo finds it again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ci_tools.images.registry import Registry
from tests.integration import trivy_database
from tests.integration.repositories import skopeo

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"


def manifest(host: str, repository: str, reference: str, content: dict[str, Any]) -> dict[str, Any]:
    """Put a manifest; its descriptor."""
    raw = json.dumps(content, indent=1).encode()
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    url = f"http://{host}/v2/{repository}/manifests/{reference or digest}"
    trivy_database._send(url, "PUT", raw, content["mediaType"])
    return {"mediaType": content["mediaType"], "digest": digest, "size": len(raw)}


def image(
    host: str, repository: str, *layers: bytes, tag: str = "", architecture: str = "amd64"
) -> dict[str, Any]:
    config = json.dumps({"architecture": architecture, "os": "linux", "rootfs": {}}).encode()
    return manifest(host, repository, tag, {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": trivy_database._blob(host, repository, CONFIG, config),
        "layers": [trivy_database._blob(host, repository, LAYER, layer) for layer in layers],
    })  # fmt: skip


def attachment(
    host: str, repository: str, subject: dict[str, Any], kind: str, content: bytes
) -> dict[str, Any]:
    """Put an artifact that refers to `subject`; its descriptor, as it stands in a list."""
    put = manifest(host, repository, "", {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": kind,
        "config": trivy_database._blob(
            host, repository, "application/vnd.oci.empty.v1+json", b"{}"
        ),
        "layers": [trivy_database._blob(host, repository, kind, content)],
        "subject": {key: subject[key] for key in ("mediaType", "digest", "size")},
        "annotations": {"org.opencontainers.image.created": "2026-11-01T00:00:00Z"},
    })  # fmt: skip
    return {**put, "artifactType": kind}


def cosign(host: str, repository: str, subject: str, kind: str, content: bytes) -> str:
    """Put a manifest as cosign 2 does, under a tag made of the digest; the tag."""
    tag = f"{subject.replace(':', '-')}.{kind}"
    manifest(host, repository, tag, {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": trivy_database._blob(host, repository, CONFIG, b"{}"),
        "layers": [trivy_database._blob(
            host, repository, "application/vnd.dsse.envelope.v1+json", content
        )],
    })  # fmt: skip
    return tag


def index(host: str, repository: str, tag: str, *entries: dict[str, Any]) -> dict[str, Any]:
    content = {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries)}
    return manifest(host, repository, tag, content)


def listing(host: str, repository: str, subject: str, *entries: dict[str, Any]) -> None:
    """Put the list of what is attached, as clients of a registry without the API do."""
    index(host, repository, subject.replace(":", "-"), *entries)


def raw(host: str, repository: str, reference: str) -> str:
    mark = "@" if ":" in reference else ":"
    name = f"docker://{host}/{repository}{mark}{reference}"
    return skopeo("inspect", "--raw", "--tls-verify=false", name)


def whole(host: str, repository: str, reference: str, folder: Path) -> int:
    """Let skopeo fetch all of it, digests compared; how many files that makes."""
    mark = "@" if ":" in reference else ":"
    name = f"docker://{host}/{repository}{mark}{reference}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    skopeo("copy", "--all", "--src-tls-verify=false", name, f"dir:{folder}")
    return len(list(folder.iterdir()))


def absent(host: str, repository: str, reference: str) -> bool:
    return Registry(host).digest(repository, reference) is None


def holds(host: str, repository: str, digest: str) -> bool:
    return Registry(host).http.get(f"/v2/{repository}/blobs/{digest}", method="HEAD") is not None
