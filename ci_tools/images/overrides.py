"""Images that a person names in place of those that CI built: `COMPONENT=IMAGE`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ci_tools.components.references import split
from ci_tools.errors import ConfigError
from ci_tools.images.transport import loopback

# https://github.com/distribution/reference/blob/main/regexp.go, less what nobody types
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = rf"{_LABEL}(?:\.{_LABEL})*(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?"
    r"(?:@sha256:[0-9a-f]{64})?"
)
_IDENTITY = re.compile(r"sha256:[0-9a-f]{64}")


def parsed(given: Iterable[str]) -> dict[str, str]:
    """Component -> image, of pairs as the command line gives them.

    Raises ConfigError for what is no such pair, no image reference (or id), or
    names two images for one component.
    """
    found: dict[str, str] = {}
    for pair in given:
        component, equals, image = pair.partition("=")
        if not equals or not component or not image:
            raise ConfigError(f"'{pair}' names no image", "Write it as --image COMPONENT=IMAGE")
        if found.setdefault(component, checked(image)) != image:
            raise ConfigError(
                f"component '{component}' is given two images: {found[component]} and {image}",
                "Give it one",
            )
    return found


def checked(image: str) -> str:
    """The image, if it is written as one. Raises ConfigError."""
    if not (_IDENTITY.fullmatch(image) or _REFERENCE.fullmatch(image)):
        raise ConfigError(
            f"'{image}' is no image",
            "Name one as 'train:dev', 'registry.example.com/ml/train:dev' or 'sha256:ID'",
        )
    return image


def only_here(image: str, host: str | None = None) -> bool:
    """Whether no other machine can pull it: an id, a name without a registry, or one of
    this machine's registry, unless that is the one that is used (host)."""
    if _IDENTITY.fullmatch(image):
        return True
    registry = split(image).registry
    return not registry or (registry != host and loopback(registry))
