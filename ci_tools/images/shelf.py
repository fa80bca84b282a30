"""Where an environment's CI puts its locks: beside the images, or in a bucket.

Branches have a shelf of their own where they keep images of their own, so that
nothing a branch writes is ever taken for main's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from ci_tools import aws, config
from ci_tools.errors import RegistryError
from ci_tools.images import moving
from ci_tools.images.registry import Registry

KIND = "application/vnd.kfp-ci.images-lock.v1+json"
NAME = "locks"  # below the project's path
_LARGEST = 64 << 20  # bytes, as of what a tag names


class Shelf(Protocol):
    """Documents by tag. Raises RegistryError, CredentialsError."""

    def __str__(self) -> str:
        """Where it is, for people."""

    def put(self, tag: str, content: bytes) -> None:
        """Let the tag name this document, whatever it named before."""

    def get(self, tag: str) -> bytes | None:
        """The document of a tag, None where there is none."""


def of(
    settings: config.Registry, project: str, *, apart: bool, registry: Registry | None = None
) -> Shelf:
    """The shelf of a project. apart: that of branches. registry: one that is open already."""
    path = settings.repository(project, NAME, apart=apart)
    if settings.locks is not None:
        return BucketShelf(settings.locks, path)
    return RegistryShelf(registry or Registry.of(settings), path)


@dataclass(frozen=True)
class RegistryShelf:
    """A repository whose tags move, of artifacts that are no images."""

    registry: Registry
    repository: str

    def __str__(self) -> str:
        return f"{self.registry.host}/{self.repository}"

    def put(self, tag: str, content: bytes) -> None:
        moving.put(self.registry, self.repository, tag, KIND, content)

    def get(self, tag: str) -> bytes | None:
        return moving.get(self.registry, self.repository, tag, KIND)


@dataclass(frozen=True)
class BucketShelf:
    """Objects in S3. address: `s3://bucket`, or with a prefix; path: below it."""

    address: str
    path: str

    def __str__(self) -> str:
        return f"{self.address.rstrip('/')}/{self.path}"

    def put(self, tag: str, content: bytes) -> None:
        with aws.translated(str(self), "s3:PutObject on it"):
            aws.client("s3").put_object(
                **self._object(tag), Body=content, ContentType="application/json"
            )

    def get(self, tag: str) -> bytes | None:
        with aws.translated(str(self), "s3:GetObject and s3:ListBucket on it"):
            client = aws.client("s3")
            try:
                answer = client.get_object(**self._object(tag))
            except client.exceptions.NoSuchKey:
                return None
            content: bytes = answer["Body"].read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise RegistryError(
                f"{self}/{tag}.json is no lock: it is too large", "Look who wrote it"
            )
        return content

    def _object(self, tag: str) -> dict[str, str]:
        parts = urlsplit(self.address)
        key = "/".join(part for part in (parts.path.strip("/"), self.path, f"{tag}.json") if part)
        return {"Bucket": parts.netloc, "Key": key}
