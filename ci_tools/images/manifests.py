"""What a registry holds, by the OCI image specification: manifests, indexes, configs."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import msgspec

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
LARGEST = 4 << 20  # bytes of a manifest, which the specification promises to take
ACCEPTED = ", ".join((MANIFEST, DOCKER_MANIFEST, INDEX, _DOCKER_LIST))


class Image(NamedTuple):
    """An image in a registry.

    config: digest of its config ("" for an index). size: compressed bytes.
    layers: their digests, compressed as they are, the lowest first.
    """

    digest: str
    config: str
    size: int
    layers: tuple[str, ...] = ()


class Descriptor(msgspec.Struct):
    digest: str
    size: int = 0


class Platform(msgspec.Struct):
    os: str = ""
    architecture: str = ""
    variant: str = ""


class Entry(msgspec.Struct):
    """One image of an index."""

    digest: str
    platform: Platform = msgspec.field(default_factory=Platform)
    annotations: dict[str, str] | None = None

    @property
    def runs(self) -> bool:
        """Whether it is an image, and not BuildKit's attestation of one."""
        kind = (self.annotations or {}).get("vnd.docker.reference.type")
        return kind is None and self.platform.os not in ("", "unknown")


class Manifest(msgspec.Struct):
    """An image manifest, or an index: then there are manifests and no config."""

    config: Descriptor | None = None
    layers: list[Descriptor] = []
    manifests: list[Entry] = []

    def image(self, digest: str) -> Image:
        """What is told of it. digest: its own."""
        size = sum(layer.size for layer in self.layers)
        if self.config is None:
            return Image(digest, "", size)
        layers = tuple(layer.digest for layer in self.layers)
        return Image(digest, self.config.digest, size + self.config.size, layers)


class Config(msgspec.Struct):
    created: datetime | None = None


# Source: containerd's platforms.Normalize, whose words BuildKit prints.
_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "i386": ("386", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
_PLAIN = {("arm64", "v8"), ("arm64", "8"), ("amd64", "v1")}


def normalised(platform: Platform) -> str:
    """`linux/amd64`, `linux/arm/v7`: one spelling for each platform."""
    system = {"macos": "darwin"}.get(platform.os.lower(), platform.os.lower())
    architecture = platform.architecture.lower()
    variant = platform.variant.lower()
    if architecture in _ARCHITECTURES:
        architecture, known = _ARCHITECTURES[architecture]
        variant = known or variant
    if (architecture, variant) in _PLAIN or architecture == "386":
        variant = ""
    if architecture == "arm":
        variant = f"v{variant.removeprefix('v') or '7'}"
    return "/".join(part for part in (system, architecture, variant) if part)
