"""`jenkins describe`: what the build's page in Jenkins is to say, from the files that are there.

It runs after every stage, also one that failed, so that a missing file is a stage that
has not been, and a damaged one is told.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import msgspec

from ci import built, deploy, plan, release, train, upload
from ci.promotion import target
from ci.workspace import Workspace
from ci_tools import storage
from ci_tools.documents import (
    Deployed,
    Document,
    Lock,
    Plan,
    Promotion,
    Release,
    Training,
    Uploads,
)
from ci_tools.errors import MissingInputError
from ci_tools.jenkins import describe

D = TypeVar("D", bound=Document)
FOLDER = Path("jenkins")
NAME, DESCRIPTION = FOLDER / "name.txt", FOLDER / "description.txt"


class Described(msgspec.Struct, kw_only=True):
    name: str
    lines: list[str]


def described(workspace: Workspace, before: str = "") -> Described:
    """Name and description of this build; written too, unless this is a dry run.

    before: the description until now, whose lines of other stages stay.
    Raises WriteError; ToolError for a repository that git will not read.
    """
    known = _known(workspace.build)
    commit = (known.plan.source if known.plan else workspace.source).commit
    result = Described(
        name=describe.name(os.environ.get("BUILD_NUMBER", ""), commit),
        lines=describe.lines(known, before),
    )
    if not workspace.dry_run:
        told = "".join(f"{line}\n" for line in result.lines)
        storage.write_bytes(workspace.build / NAME, f"{result.name}\n".encode())
        storage.write_bytes(workspace.build / DESCRIPTION, told.encode())
    return result


def _known(folder: Path) -> describe.Known:
    known = describe.Known()

    def read(path: Path, kind: type[D]) -> D | None:
        try:
            return storage.read_if_there(path, kind, made_by="run")
        except MissingInputError:
            known.damaged.append(path.name)
            return None

    known.plan = read(folder / plan.FILE, Plan)
    known.lock = read(folder / built.FILE, Lock)
    stem, _, ending = built.FILE.rpartition(".")
    for path in sorted(folder.glob(f"{stem}.*-of-*.{ending}")):
        part = read(path, Lock)
        known.shards += [part] if part is not None else []
    known.uploads = read(folder / upload.FILE, Uploads)
    known.training = read(folder / train.FILE, Training)
    known.deployed = read(folder / deploy.FILE, Deployed)
    known.release = read(folder / release.FILE, Release)
    known.promotion = read(folder / target.FILE, Promotion)
    return known
