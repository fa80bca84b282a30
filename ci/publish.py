"""What CI lets laptops know: the lock of each commit that it built whole."""

from __future__ import annotations

from ci.workspace import Workspace
from ci_tools import published
from ci_tools.documents import Lock
from ci_tools.errors import CIError
from ci_tools.images.registry import Registry


def publish(workspace: Workspace, lock: Lock, registry: Registry | None = None) -> str | None:
    """Publish a lock, if it stands for a commit; where, or None where that was not to be.

    A lock of a dirty tree, with failures or of a shard stands for none. What the
    registry refuses is told and fails nothing: every image is there, and so is the
    lock on this machine.

    registry: one that is open already. The embedded one is not brought up for this.
    """
    if workspace.dry_run or published.unpublishable(lock):
        return None
    if workspace.embedded and registry is None and published.embedded(workspace.home) is None:
        return None  # nothing is brought up for it: who merges locks need not have an engine
    apart = workspace.branch_apart is not None
    try:
        where = published.publish(workspace.registry, lock, apart=apart, registry=registry)
    except CIError as error:
        workspace.console.warn(
            f"the lock was not published, so that nobody launches with these images: {error}"
        )
        return None
    workspace.console.event(f"the lock is published as {where}")
    return where
