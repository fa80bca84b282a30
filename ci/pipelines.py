"""What of this project is in Kubeflow, and deleting what branches left there."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection

import msgspec

from ci import compile as compiling
from ci.console import table
from ci.workspace import Workspace
from ci_tools import git, kubeflow, storage
from ci_tools.config import PipelineBranches
from ci_tools.documents import Compiled
from ci_tools.errors import ToolError
from ci_tools.kubeflow import branches
from ci_tools.kubeflow.branches import Mark
from ci_tools.kubeflow.known import Inventory, Known


class Listed(msgspec.Struct, kw_only=True):
    """A pipeline and its latest version. created: RFC 3339, UTC; "" where nobody knows."""

    pipeline: str
    pipeline_id: str
    branch: str
    version: str = ""
    version_id: str = ""
    commit: str = ""
    created: str = ""


class Listing(msgspec.Struct, kw_only=True):
    pipelines: list[Listed]


class Judged(msgspec.Struct, kw_only=True):
    """What became of a branch's pipeline. deleted: also where it only would be."""

    pipeline: str
    pipeline_id: str
    branch: str
    deleted: bool
    why: str


class Pruned(msgspec.Struct, kw_only=True):
    """dry_run: nothing was deleted."""

    dry_run: bool
    pipelines: list[Judged]


def list_(workspace: Workspace) -> Listing:
    """The pipelines of this project: by their mark, or by the name of a compiled one.

    Raises KubeflowError, CredentialsError.
    """
    inventory = _inventory(workspace)
    compiled = storage.read_if_there(workspace.build / compiling.FILE, Compiled, made_by="compile")
    names = set(compiled.pipelines) if compiled else set()
    found = []
    for known in sorted(inventory.pipelines(), key=lambda it: it.name):
        if not (_ours(workspace, known.mark) if known.mark else known.name in names):
            continue
        latest = inventory.latest(known.pipeline_id)
        tags = latest.tags if latest else {}
        apart = known.mark is not None and known.mark.apart
        found.append(
            Listed(
                pipeline=known.name,
                pipeline_id=known.pipeline_id,
                branch=known.mark.shown if known.mark and apart else tags.get("branch", "main"),
                version=latest.name if latest else "",
                version_id=latest.version_id if latest else "",
                commit=tags.get("commit", ""),
                created=latest.created if latest else "",
            )
        )
    return Listing(pipelines=found)


def list_lines(listing: Listing) -> list[str]:
    """A table for people."""
    rows = [("PIPELINE", "VERSION", "COMMIT", "BRANCH", "CREATED")]
    rows += [(it.pipeline, it.version, it.commit[:12], it.branch, it.created)
             for it in listing.pipelines]  # fmt: skip
    if len(rows) == 1:
        return ["no pipeline of this project is in Kubeflow"]
    return table(rows)


def prune(workspace: Workspace, closed: Collection[str] = ()) -> Pruned:
    """Delete the pipelines, with their versions, of branches that are no more.

    Only those that bear this project's and this repository's mark. One that a
    schedule runs stays. A dry run asks the same questions and deletes nothing.

    closed: ids of pull requests that are over, whatever became of their branch.

    Raises ToolError when origin does not tell its branches, or tells none of
    main's; nothing is deleted then. KubeflowError, CredentialsError.
    """
    heads = _heads(workspace)
    inventory = _inventory(workspace)
    ours = [
        known
        for known in inventory.pipelines()
        if known.mark and known.mark.apart and _ours(workspace, known.mark)
    ]
    scheduled = {it.pipeline_id: it.name for it in inventory.schedules()} if ours else {}
    judged = []
    for known in sorted(ours, key=lambda it: it.name):
        one = _judged(known, known.mark, heads, frozenset(closed), scheduled)
        if one.deleted and not workspace.dry_run:
            inventory.delete(known)
            workspace.console.event(f"deleted {known.name}")
        judged.append(one)
    return Pruned(dry_run=workspace.dry_run, pipelines=judged)


def prune_lines(pruned: Pruned) -> list[str]:
    lines = [_line(one, pruned.dry_run) for one in pruned.pipelines]
    return lines or ["no pipeline of a branch of this project is in Kubeflow"]


def _judged(
    known: Known,
    mark: Mark | None,
    heads: frozenset[str],
    closed: frozenset[str],
    scheduled: dict[str, str],
) -> Judged:
    if mark is None or branches.name_of(mark) != known.name:
        shown, why, gone = "", "its name is not that of its mark", None
    else:
        shown, gone = mark.shown, branches.gone(mark, heads, closed)
        why = gone or branches.kept(mark)
    if gone and known.pipeline_id in scheduled:
        gone, why = None, f"{gone}, but the schedule '{scheduled[known.pipeline_id]}' runs it"
    return Judged(
        pipeline=known.name,
        pipeline_id=known.pipeline_id,
        branch=shown,
        deleted=gone is not None,
        why=why,
    )


def _line(one: Judged, dry_run: bool) -> str:
    done = ("would be deleted" if dry_run else "deleted") if one.deleted else "kept"
    return f"{one.pipeline}: {done} ({one.why})"


def _heads(workspace: Workspace) -> frozenset[str]:
    """The branches of origin, which must hold one of main's: an empty or a wrong
    repository would make every branch look gone."""
    heads = git.heads(workspace.repository)
    settings = workspace.config.pipelines.branches or PipelineBranches()
    if not any(fnmatch.fnmatchcase(head, main) for head in heads for main in settings.main):
        raise ToolError(
            f"origin has {len(heads)} branches, and none of main's ({', '.join(settings.main)}); "
            "nothing was deleted",
            "Check the remote 'origin', and 'pipelines.branches.main' in ci.yaml",
        )
    return heads


def _ours(workspace: Workspace, mark: Mark) -> bool:
    return (mark.project, mark.origin) == (workspace.project, branches.place(workspace.origin))


def _inventory(workspace: Workspace) -> Inventory:
    # As declared: an embedded environment need not be started for its catalogue.
    environment = workspace.config.environment(workspace.environment_name)
    return kubeflow.connect(environment, workspace.home).inventory()
