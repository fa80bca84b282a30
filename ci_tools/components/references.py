"""Image references, and which of them mean a component of this repository."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")
PINNED = re.compile(r"^[^@\s]+@sha256:[0-9a-f]{64}$")


class Reference(NamedTuple):
    """`registry/path:tag@digest`, taken apart. registry is "" when not given."""

    registry: str
    path: str
    tag: str
    digest: str

    @property
    def canonical(self) -> str:
        """With Docker's defaults: docker.io, library/, and :latest without a digest."""
        registry = self.registry or "docker.io"
        path = self.path
        if registry == "docker.io" and "/" not in path:
            path = f"library/{path}"
        tag = self.tag or ("" if self.digest else "latest")
        return (
            f"{registry}/{path}{':' + tag if tag else ''}{'@' + self.digest if self.digest else ''}"
        )

    @property
    def repository(self) -> str:
        return f"{self.registry}/{self.path}" if self.registry else self.path


def split(reference: str) -> Reference:
    """Take a reference apart by Docker's rule: the first part is a registry when
    it holds a dot or a colon, or is `localhost`.
    (https://pkg.go.dev/github.com/distribution/reference)
    """
    rest, _, digest = reference.partition("@")
    first, slash, remainder = rest.partition("/")
    registry = ""
    if slash and ("." in first or ":" in first or first == "localhost"):
        registry, rest = first, remainder
    head, colon, tag = rest.rpartition(":")
    if colon and "/" not in tag:
        return Reference(registry, head, tag, digest)
    return Reference(registry, rest, "", digest)


def valid_name(text: str) -> str:
    """`text` as a repository's name in a registry may be, or "" where nothing is left.

    Lower-case letters, digits, and single `.`, `_` or `-` between them.
    (https://github.com/opencontainers/distribution-spec/blob/main/spec.md)
    """
    kept = re.sub(r"[^a-z0-9._-]+", "-", text.lower())
    return re.sub(r"[._-]{2,}", "-", kept).strip("._-")


def component_named(reference: str, components: Collection[str], project: str) -> str | None:
    """The component that a reference in FROM or `image:` means, or None.

    It is one when it is exactly a component's name, or `<project>/<name>` with
    any registry, tag or digest. So `python` is the sibling called python,
    while `python:3.11` is not: a bare name with a tag belongs to Docker Hub.
    """
    if reference in components:
        return reference
    parent, _, name = split(reference).path.rpartition("/")
    if name in components and parent.rpartition("/")[2] == project:
        return name
    return None
