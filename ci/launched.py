"""What launches by hand leave: under which names, whose, and deleting what is old of it."""

from __future__ import annotations

import getpass
import re
import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path

from ci import build as building
from ci import train as training
from ci.workspace import Workspace
from ci_tools import storage
from ci_tools.documents import Lock, Training
from ci_tools.errors import MissingInputError, WriteError
from ci_tools.kubeflow import branches
from ci_tools.kubeflow.branches import Mark

FOLDER = "launches"  # below the machine's state
ARTIFACTS = "artifacts"
_TIME = "%Y%m%dT%H%M%S"


def user() -> str:
    """Who launches, as part of a name; "somebody" where the machine does not say."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError, ImportError):
        name = ""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:32].strip("-") or "somebody"


def mark_of(workspace: Workspace, pipeline: str) -> Mark:
    """Whose a pipeline is that is launched here. Its `branches.name_of` is no stage's."""
    return Mark(
        project=workspace.project,
        origin=branches.place(workspace.origin),
        pipeline=pipeline,
        by=user(),
    )


def folder_name(pipeline: str, suffix: str) -> str:
    """Of the files of one launch, which begins now."""
    return f"{datetime.now(timezone.utc).strftime(_TIME)}-{pipeline}-{suffix}"


def long_ago(then: datetime, days: int) -> bool:
    return then < datetime.now(timezone.utc) - timedelta(days=days)


def forget(workspace: Workspace, days: int) -> list[Path]:
    """Delete the files of this project's launches on this machine that are so old, with
    what their runs made here; which they are. A dry run only tells.

    Raises WriteError.
    """
    gone = []
    for folder in sorted((workspace.home / FOLDER).glob("[0-9]*T[0-9]*-*")):
        stamp = folder.name.partition("-")[0]
        try:
            began = datetime.strptime(stamp, _TIME).replace(tzinfo=timezone.utc)
        except ValueError:
            continue
        if not long_ago(began, days) or not _of(workspace, folder):
            continue
        gone.append(folder)
        if not workspace.dry_run:
            # The folder last: it tells what else there is.
            for path in (*_artifacts(workspace, folder), folder):
                _delete(path)
    return gone


def _of(workspace: Workspace, folder: Path) -> bool:
    """Whether a launch is this project's. One that came to nothing has no lock, and goes too."""
    try:
        lock = storage.read_if_there(folder / building.FILE, Lock, made_by="launch")
    except MissingInputError:  # of another version of this tool
        return False
    return lock is None or lock.project == workspace.project


def _artifacts(workspace: Workspace, folder: Path) -> list[Path]:
    try:
        found = storage.read_if_there(folder / training.FILE, Training, made_by="launch")
    except MissingInputError:
        return []
    runs = [run.run_id for run in found.runs] if found else []
    # A run's id is a name; of a server's there is nothing here.
    return [workspace.home / ARTIFACTS / it for it in runs if re.fullmatch(r"[0-9a-f-]{36}", it)]


def _delete(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise WriteError(
            f"{path} could not be deleted ({error.strerror})", "Mend the permissions"
        ) from error
