"""Files that `ci.yaml` names for a Kubeflow server, and what they hold."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ci_tools.errors import ConfigError, CredentialsError

_VARIABLE = re.compile(r"\$\{?[A-Za-z_][A-Za-z0-9_]*\}?")


def place(key: str, text: str) -> Path:
    """Where a file is. `$NAME` and `~` are resolved: CI servers put files where they like.

    key: of ci.yaml, for the sentence. Raises ConfigError for an unset variable, or
    a user without a home.
    """
    path = os.path.expandvars(text)
    if unset := _VARIABLE.search(path):
        raise ConfigError(
            f"kubeflow.{key} names the environment variable {unset[0]}, which is not set",
            "Set it to the path of the file",
        )
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(
            f"kubeflow.{key} '{text}' names a home directory that cannot be found",
            "Write the whole path in ci.yaml",
        ) from error


def existing(key: str, text: str) -> Path:
    """The same for a file that has to be there. Raises ConfigError."""
    path = place(key, text)
    if not readable(path):
        raise ConfigError(
            f"kubeflow.{key} '{text}' is not a file that can be read",
            "Give the path of a PEM file in ci.yaml",
        )
    return path


def readable(path: Path) -> bool:
    """Whether this is a file, and one for us."""
    try:
        return path.is_file() and os.access(path, os.R_OK)
    except OSError:  # a directory on the way is not for us
        return False


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
