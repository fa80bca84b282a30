"""Components: what a repository builds. `load` is for pipelines and notebooks:

from ci_tools.components import load

train = load("train")
"""

from __future__ import annotations

import os
import sys
from typing import Any


def load(
    name: str,
    *,
    image: str | None = None,
    environment: str | None = None,
    repository: str | os.PathLike[str] | None = None,
) -> Any:
    """kfp's component of a template, with the image that CI built of it, by digest.

    name: a template's file, with or without its ending, or else the component that
          just one template names.
    image: an image to use instead, for a trial; CI refuses a pipeline that says so.
    environment: whose images; by default $KFP_CI_ENVIRONMENT, else `local`.
    repository: its root; by default the one that the calling file is in, or for a
          notebook the working directory.

    While CI compiles, the template that CI pinned is loaded, and nobody is asked.
    Elsewhere the image is that of the lock that CI published of this commit, else
    of its merge base with main; it is asked for once a process.

    Raises ConfigError for an unknown name, NoPublishedLockError where CI has built
    nothing that could be used, and what the registry raises.
    """
    from ci_tools.components import loading

    caller = sys._getframe(1).f_globals.get("__file__")
    return loading.load(name, image, environment, repository, caller)
