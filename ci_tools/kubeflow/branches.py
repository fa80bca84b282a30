"""Whose pipeline it is: main's, or a branch's, a pull request's or a person's, which has a
name of its own.

A mark in the pipeline's description tells; a name alone is never trusted. Pure.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Set

import msgspec

from ci_tools import typed
from ci_tools.errors import UploadConflictError
from ci_tools.kubeflow.names import PIPELINE_NAME_LIMIT
from ci_tools.printable import printable

APART = "--"  # between a pipeline's name and its branch's
_URL = re.compile(r"[^:/?#]+://(?:[^/?#]*@)?([^?#]*)")  # its host and path
_BEGIN = "kfp-ci: "
_READABLE = 40  # characters of a branch's name


class Mark(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Which repository made a pipeline, and of which branch. Main's names none.

    origin:   `place` of the repository, "" where it has none.
    pipeline: its name on main.
    branch:   "" where nobody knew it; of a pull request, the one it comes from.
    change:   the pull request's id.
    fork:     the branch is another repository's.
    by:       the person who launched it by hand, as lower-case letters, digits and `-`.
    """

    project: str
    origin: str
    pipeline: str
    branch: str | None = None
    change: str | None = None
    fork: bool = False
    by: str | None = None

    @property
    def apart(self) -> bool:
        return self.branch is not None or self.change is not None

    @property
    def aside(self) -> bool:
        """Whether it is nobody's production: a branch's or a person's."""
        return self.apart or self.by is not None

    @property
    def shown(self) -> str:
        """How a person calls it."""
        if self.change is not None:
            return f"pull request {printable(self.change)}"
        if self.by is not None:
            return f"by hand, {printable(self.by)}"
        return "main" if self.branch is None else printable(self.branch) or "(unknown)"


def place(origin: str | None) -> str:
    """`host/path` of a repository: the same through https and ssh, and for any user."""
    text = (origin or "").strip()
    if url := _URL.match(text):
        text = url[1]
    elif re.match(r"[^/]+:(?!/)", text):  # user@host:path
        text = text.rpartition("@")[2].replace(":", "/", 1)
    return text.rstrip("/").removesuffix(".git")


def name_of(mark: Mark) -> str:
    """The pipeline's name in Kubeflow: main's own, or one that no other branch has.

    A person's has a dot, which no compiled pipeline's name has.

    What is added are lower-case letters, digits and `-`, which every store of
    the API server takes; the whole has at most PIPELINE_NAME_LIMIT characters.
    A branch always has a hash behind its name and a pull request has none, so
    that a branch `pr-7` is not pull request 7.
    """
    if mark.by is not None:
        return f"{mark.pipeline[: PIPELINE_NAME_LIMIT - len(mark.by) - 1]}.{mark.by}"
    if not mark.apart:
        return mark.pipeline
    if mark.change is not None and re.fullmatch(r"[0-9]{1,18}", mark.change):
        suffix = f"{APART}pr-{mark.change}"
    else:
        name = mark.branch or "" if mark.change is None else mark.change
        readable = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_READABLE].strip("-")
        # No branch has a NUL in its name.
        digest = _hash(name if mark.change is None else f"\0{name}")
        suffix = f"{APART}{readable or 'unnamed'}-{digest[:8]}"
    if len(mark.pipeline) + len(suffix) > PIPELINE_NAME_LIMIT:
        suffix = f"-{_hash(mark.pipeline)[:12]}{suffix}"
    return mark.pipeline[: PIPELINE_NAME_LIMIT - len(suffix)] + suffix


def written(description: str, mark: Mark | None) -> str:
    """A pipeline's description with the mark as its last line."""
    if mark is None:
        return description
    # In ASCII: not every database behind the API server takes all of Unicode.
    text = json.dumps(msgspec.to_builtins(mark), sort_keys=True)
    return f"{description.rstrip()}\n\n{_BEGIN}{text}".lstrip()


def read(description: str | None) -> Mark | None:
    """The mark that `written` left; None without one."""
    last = (description or "").rstrip().rpartition("\n")[2]
    if not last.startswith(_BEGIN):
        return None
    try:
        return typed.convert(json.loads(last.removeprefix(_BEGIN)), Mark)
    except (ValueError, RecursionError):
        return None  # a person's own words, and so no pipeline of ours


def check(name: str, found: Mark | None, wanted: Mark | None) -> None:
    """Raises UploadConflictError where the pipeline of that name is another branch's."""
    theirs = found if found is not None and found.apart else None
    ours = wanted if wanted is not None and wanted.apart else None
    if theirs == ours or (theirs and ours and identity(theirs) == identity(ours)):
        return
    holder = f"{theirs.shown} of '{theirs.project}'" if theirs else "no branch's"
    raise UploadConflictError(
        f"the pipeline '{name}' in Kubeflow is {holder}",
        "Rename the pipeline, or delete the one in Kubeflow if nobody needs it",
    )


def identity(mark: Mark) -> Mark:
    """Without what may change while a pull request is open."""
    if mark.change is None:
        return mark
    return msgspec.structs.replace(mark, branch=None, fork=False)


def gone(mark: Mark, heads: Set[str], closed: Set[str]) -> str | None:
    """Why there is no branch of this pipeline any more; None while there may be.

    A pull request is over when the branch that it comes from is gone: servers
    keep its own ref after it was closed. Of a fork's nobody here knows.

    heads:  the branches of the repository.
    closed: ids of pull requests that the caller knows to be closed.
    """
    if mark.change is not None and mark.change in closed:
        return f"{mark.shown} is closed"
    if not mark.branch or mark.fork or mark.branch in heads:
        return None
    return f"branch '{printable(mark.branch)}' is gone"


def kept(mark: Mark) -> str:
    """Why a branch's pipeline stays that is not `gone`."""
    if mark.branch and not mark.fork:
        return f"branch '{printable(mark.branch)}' is there"
    if mark.change is not None:
        return f"nobody here knows whether {mark.shown} is over; name it with --closed"
    return "nobody knew its branch"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
