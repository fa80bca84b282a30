"""Files that `ci.yaml` names for a Kubeflow server, and what they hold."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ci_tools.errors import ConfigError, CredentialsError

_VARIABLE = re.compile(r"\$\{?[A-Za-z_][A-Za-z0-9_]*\}?")


def place(key: str, text: str) -> Path:
    """Where a file is. `$NAME` and `~` are resolved: CI servers put files where they like.

    key: of ci.yaml, for the sentence. Raises ConfigError for an unset variable.
    """
    path = os.path.expandvars(text)
    if unset := _VARIABLE.search(path):
        raise ConfigError(
            f"kubeflow.{key} names the environment variable {unset[0]}, which is not set",
            "Set it to the path of the file",
        )
    return Path(path).expanduser()


def existing(key: str, text: str) -> Path:
    """The same for a file that has to be there. Raises ConfigError."""
    path = place(key, text)
    if not path.is_file():
        raise ConfigError(
            f"kubeflow.{key} '{text}' is not a file", "Give the path of a PEM file in ci.yaml"
        )
    return path


def secret(key: str, path: Path) -> str:
    """What a file holds now. Raises CredentialsError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise CredentialsError(
            f"the file of kubeflow.{key} ({path}) cannot be read ({reason})",
            "Let it be written before this stage runs, readable for this user",
        ) from None  # a decoding error quotes what it read
