"""What images took in builds of CI before this one, for an agent that remembers none.

An agent that comes fresh has no `durations.json` and no lock, and a division by equal
guesses is a poor one. The locks that CI published tell (`ci_tools.published`).
"""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

import msgspec

from ci.workspace import Workspace
from ci_tools import durations, git, published, typed
from ci_tools.documents import Lock
from ci_tools.errors import CIError
from ci_tools.images import shelf

COMMITS = 16  # so many are looked at; each lock tells of what its own build made
_AT_ONCE = 8
_LONGEST = 86_400.0  # seconds; more is no build


def took(workspace: Workspace) -> dict[str, float]:
    """Component -> seconds, of the newest lock that tells, of HEAD and the commits that
    it came from on its first parents.

    Only estimates hang on it: what cannot be asked or read tells nothing.
    """
    commits = git.first_parents(workspace.repository, COMMITS)
    if not commits:
        return {}
    told: dict[str, float] = {}
    with contextlib.suppress(CIError):
        where = shelf.of(workspace.registry, workspace.project, apart=False)
        tags = [published.tag_of(commit, workspace.environment_name) for commit in commits]
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
            for lock in pool.map(lambda tag: _lock(where, tag), tags):
                if lock is not None and lock.project == workspace.project:
                    told = {**durations.of_lock(lock), **told}
    return {name: seconds for name, seconds in told.items() if 0 < seconds < _LONGEST}


def _lock(where: shelf.Shelf, tag: str) -> Lock | None:
    try:
        content = where.get(tag)
        return typed.decode(content, Lock) if content is not None else None
    except (CIError, msgspec.MsgspecError):
        return None
