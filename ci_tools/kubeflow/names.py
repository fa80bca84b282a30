"""Names of pipelines and versions: what is taken, and what a version's name tells. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ci_tools.errors import ConfigError

if TYPE_CHECKING:
    from ci_tools.documents import Source

# Source: kubeflow/pipelines, backend/src/apiserver/validation/length.go, in bytes.
VERSION_NAME_LIMIT = 127
PIPELINE_NAME_LIMIT = 128
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HASH = 16  # digits of a pipeline's hash in a version's name


def version_name(source: Source, sha256: str) -> str:
    """A version's name: where it comes from and what it is.

    The hash makes it true even of a dirty tree or outside git: one name can
    never stand for two pipelines.
    """
    commit = source.commit[:12] if source.commit else "local"
    return f"{commit}{'-dirty' if source.dirty else ''}{ending(sha256)}"[:VERSION_NAME_LIMIT]


def ending(sha256: str) -> str:
    """What the names of all versions of this very pipeline end with."""
    return f"-{sha256[:_HASH]}"


def check_names(pipeline: str, version: str) -> None:
    """Raises ConfigError for a name that the server would refuse, or that is a path."""
    for word, limit, kind in (
        (pipeline, PIPELINE_NAME_LIMIT, "pipeline"),
        (version, VERSION_NAME_LIMIT, "version"),
    ):
        if not _SAFE.fullmatch(word) or len(word) > limit:
            raise ConfigError(
                f"'{word}' is not a {kind} name",
                f"Use at most {limit} letters, digits, '.', '_' and '-'",
            )
