"""What of this project is in Kubeflow, and deleting what branches and launches left there."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Collection
from datetime import datetime

import msgspec

from ci import compile as compiling
from ci import launched
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
    """What became of a branch's or a person's pipeline. deleted: also where it only would be."""

    pipeline: str
    pipeline_id: str
    branch: str
    deleted: bool
    why: str


class Pruned(msgspec.Struct, kw_only=True):
    """dry_run: nothing was deleted. folders: of launches on this machine, that were."""

    dry_run: bool
    pipelines: list[Judged]
    folders: list[str] = []


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
        found.append(
            Listed(
                pipeline=known.name,
                pipeline_id=known.pipeline_id,
                branch=known.mark.shown
                if known.mark and known.mark.aside
                else tags.get("branch", "main"),
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

    def judge(_: Known, mark: Mark) -> tuple[bool, str]:
        gone = branches.gone(mark, heads, frozenset(closed))
        return gone is not None, gone or branches.kept(mark)

    judged = _deleted(workspace, inventory, ours, judge)
    return Pruned(dry_run=workspace.dry_run, pipelines=judged)


def prune_launched(workspace: Workspace, days: int) -> Pruned:
    """Delete what this person launched by hand: pipelines whose last version is so many
    days old, with all their versions, and the files of such launches on this machine.

    Of pipelines those that bear this project's and repository's mark and the person's
    name; one that a schedule runs stays. Runs stay where they are. A dry run asks the
    same questions and deletes nothing.

    Raises KubeflowError, CredentialsError, WriteError.
    """
    inventory = _inventory(workspace)
    mine = [
        known
        for known in inventory.pipelines()
        if known.mark and known.mark.by == launched.user() and _ours(workspace, known.mark)
    ]

    def judge(known: Known, _: Mark) -> tuple[bool, str]:
        latest = inventory.latest(known.pipeline_id)
        if latest is None or not latest.created:
            return False, "nobody knows when it was uploaded"
        old = launched.long_ago(datetime.fromisoformat(latest.created.replace("Z", "+00:00")), days)
        return old, f"its last version is of {latest.created}"

    judged = _deleted(workspace, inventory, mine, judge)
    folders = [str(folder) for folder in launched.forget(workspace, days)]
    return Pruned(dry_run=workspace.dry_run, pipelines=judged, folders=folders)


def prune_lines(pruned: Pruned) -> list[str]:
    lines = [_line(one, pruned.dry_run) for one in pruned.pipelines]
    done = "would be deleted" if pruned.dry_run else "deleted"
    lines += [f"{folder}: {done}" for folder in pruned.folders]
    return lines or ["no such pipeline of this project is in Kubeflow"]


def _deleted(
    workspace: Workspace,
    inventory: Inventory,
    candidates: Collection[Known],
    judge: Callable[[Known, Mark], tuple[bool, str]],
) -> list[Judged]:
    """Judge pipelines and delete those that are to go. judge: whether it goes, and why."""
    scheduled = {it.pipeline_id: it.name for it in inventory.schedules()} if candidates else {}
    judged = []
    for known in sorted(candidates, key=lambda it: it.name):
        one = _judged(known, judge, scheduled)
        if one.deleted and not workspace.dry_run:
            inventory.delete(known)
            workspace.console.event(f"deleted {known.name}")
        judged.append(one)
    return judged


def _judged(
    known: Known, judge: Callable[[Known, Mark], tuple[bool, str]], scheduled: dict[str, str]
) -> Judged:
    if known.mark is None or branches.name_of(known.mark) != known.name:
        shown, gone, why = "", False, "its name is not that of its mark"
    else:
        shown = known.mark.shown
        gone, why = judge(known, known.mark)
    if gone and known.pipeline_id in scheduled:
        gone, why = False, f"{why}, but the schedule '{scheduled[known.pipeline_id]}' runs it"
    return Judged(
        pipeline=known.name,
        pipeline_id=known.pipeline_id,
        branch=shown,
        deleted=gone,
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
