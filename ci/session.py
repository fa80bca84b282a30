"""What all images of one run share."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from ci.workspace import Workspace
from ci_tools.documents import Ingredients, Lock
from ci_tools.images.builders import Builder
from ci_tools.images.registry import Registry
from ci_tools.scanner.trivy import Trivy


@dataclass
class Session:
    """builder: None while nobody needs one.

    ingredients: component -> what its key is made of, for the lock.
    parents:     component -> image by digest, of those that other shards hold.
    env:         variables by which docker finds the registry's credentials.
    halted:      set when nothing more is to be begun (`--fail-fast`).
    """

    workspace: Workspace
    registry: Registry
    trivy: Trivy
    previous: Lock | None
    ingredients: Mapping[str, Ingredients]
    parents: Mapping[str, str] = field(default_factory=dict)
    builder: Builder | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    halted: threading.Event = field(default_factory=threading.Event)
