"""Addresses of artefacts, which a program in a pipeline wrote, that are files of this machine."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit


def path_of(uri: str) -> Path | None:
    """The file of a `file://` address; None for any other, and for what is no address."""
    try:
        parts = urlsplit(uri)
    except ValueError:  # such as "http://["
        return None
    return Path(unquote(parts.path)) if parts.scheme == "file" else None
