"""What git knows: which files there are, and which commit this is."""

from __future__ import annotations

import fnmatch
import os
import re
import subprocess
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ci_tools import process
from ci_tools.documents import Source
from ci_tools.errors import ToolError

_ORIGIN_TIMEOUT = 60  # seconds
_CREDENTIALS = re.compile(r"^([^:/?#]+://)[^/?#]*@")
_WHOLE = re.compile(r"[0-9a-f]{40,64}")
# Directories that are never part of a repository that is not under git.
_NEVER = {"node_modules", "venv", "build", "dist", "__pycache__", "site-packages"}


class MergeBase(NamedTuple):
    """Where HEAD left main, or why that is not known.

    commit:  None where it is not known; then problem says why, and todo what helps.
    main:    the branch that was compared with, as `origin/main`; "" where there is none.
    """

    commit: str | None
    main: str = ""
    problem: str = ""
    todo: str = ""


def files(repository: Path) -> list[str]:
    """Every file of the repository, as sorted `/`-separated relative paths.

    Under git: tracked and untracked files, without the git-ignored and the
    deleted ones. Elsewhere: a walk that leaves out hidden directories, virtual
    environments and build output.
    """
    # -t: R marks a deleted file (which is listed as a cached one too), S one of a
    # sparse checkout, which may be there or not.
    wanted = ("--cached", "--others", "--deleted", "--exclude-standard")
    listed = _git(repository, "ls-files", "-z", "-t", *wanted)
    if listed is None:
        return sorted(_walk(repository))
    entries = listed.split("\0")[:-1]
    gone = {entry[2:] for entry in entries if entry[0] == "R"}
    gone.update(
        name
        for name in (entry[2:] for entry in entries if entry[0] == "S")
        if not os.path.lexists(repository / name)
    )
    return sorted({entry[2:] for entry in entries} - gone)


def source(repository: Path) -> Source:
    """Commit, branch and whether the work tree differs from the commit.

    On a detached checkout, as Jenkins makes them, the branch comes from
    BRANCH_NAME or GIT_BRANCH.
    """
    status = _git(repository, "status", "--porcelain=v2", "--branch", "-z")
    if status is None:
        return Source()
    entries = status.split("\0")[:-1]
    # Headers come first: `# branch.oid <commit>`, `# branch.head <branch>`.
    lines = list(takewhile(lambda entry: entry.startswith("# "), entries))
    headers = dict(line[2:].split(" ", 1) for line in lines)
    commit, branch = headers["branch.oid"], headers["branch.head"]
    if commit == "(initial)":
        return Source()
    if branch == "(detached)":
        branch = os.environ.get("BRANCH_NAME") or os.environ.get("GIT_BRANCH") or ""
        branch = branch.strip().removeprefix("origin/")
    return Source(
        commit=commit,
        # Git lets it be of any bytes, and documents are UTF-8.
        branch=os.fsencode(branch).decode("utf-8", "backslashreplace") or None,
        dirty=len(entries) > len(lines),
    )


def default_name(repository: Path) -> str:
    """The last part of the origin's URL, else the name of the directory, which for all
    work trees of one clone is the first one's."""
    url = _git(repository, "config", "--get", "remote.origin.url")
    name = PurePosixPath((url or "").strip().rstrip("/").replace(":", "/")).name
    return name.removesuffix(".git") or _first_work_tree(repository).name


def _first_work_tree(repository: Path) -> Path:
    """The directory that was cloned or made, of which others may be work trees."""
    here = repository.resolve()
    if not (here / ".git").is_file():
        return here
    told = _git(repository, "rev-parse", "--path-format=absolute", "--git-common-dir")
    shared = Path((told or "").removesuffix("\n"))
    return shared.parent if shared.name == ".git" else here


def commit_time(repository: Path) -> int | None:
    """When HEAD was committed, in seconds since 1970; None where there is no commit."""
    if commit_of(repository) is None:
        return None
    told = _git(repository, "log", "-1", "--format=%ct", "HEAD")
    return int(told) if told and told.strip().isdigit() else None


def commit_of(repository: Path, name: str = "HEAD") -> str | None:
    """The whole hash of the commit that a name means (a branch, a tag, a short hash);
    None where it means none. Whatever the name is, git takes it for no option."""
    told = _git(
        repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"
    )
    return told.strip() if told else None


def first_parents(repository: Path, most: int) -> list[str]:
    """HEAD and the commits before it on its branch, the newest first; none outside git."""
    if commit_of(repository) is None:
        return []
    told = _git(repository, "log", "--first-parent", f"--max-count={most}", "--format=%H", "HEAD")
    return (told or "").split()


def merge_base(repository: Path, patterns: Sequence[str]) -> MergeBase:
    """The newest commit that HEAD has in common with main.

    patterns: of main's name, the most likely first. Remote branches count before
    local ones, for no CI has seen what is only here; of several, the one that HEAD
    left last. Nothing is fetched.
    """
    if commit_of(repository) is None:
        return MergeBase(None, problem="there is no commit here", todo="Commit something")
    remote, branches = _branches(repository)
    mains = {
        short: full
        for pattern in patterns
        for short, full in sorted(branches.items())
        if fnmatch.fnmatchcase(short.removeprefix(f"{remote}/") if remote else short, pattern)
    }
    shallow = (_git(repository, "rev-parse", "--is-shallow-repository") or "").strip() == "true"
    wanted = next((name for name in patterns if not set(name) & set("*?[")), "main")
    where = remote or "origin"
    fetch = (
        f"Run 'git fetch {'--unshallow ' if shallow else ''}{where} "
        f"{wanted}:refs/remotes/{where}/{wanted}'"
    )
    if not mains:
        named = " or ".join(patterns)
        if not (_git(repository, "remote") or "").strip():
            return MergeBase(
                None,
                problem=f"this repository has no remote and no branch {named}",
                todo="Add the remote that CI builds from: 'git remote add origin URL'",
            )
        return MergeBase(None, problem=f"no branch {named} of {where} is known here", todo=fetch)
    nearest: tuple[int, str, str] | None = None
    for short, full in mains.items():
        base = (_git(repository, "merge-base", "HEAD", full) or "").strip()
        if not base:
            continue
        distance = int(_git(repository, "rev-list", "--count", f"{base}..HEAD") or 0)
        if nearest is None or distance < nearest[0]:
            nearest = (distance, base, short)
    if nearest is not None:
        return MergeBase(nearest[1], nearest[2])
    main = next(iter(mains))
    if shallow:
        return MergeBase(
            None, main, f"this clone is shallow and holds no commit in common with {main}", fetch
        )
    return MergeBase(
        None, main, f"HEAD has no commit in common with {main}", f"Start a branch from {main}"
    )


def _branches(repository: Path) -> tuple[str, dict[str, str]]:
    """A remote and its branches as known here, or "" and the local ones; short -> full name."""
    listed = _git(repository, "for-each-ref", "--format=%(refname)", "refs/remotes", "refs/heads")
    names = (listed or "").split("\n")  # a branch's name may hold what splitlines splits at
    remotes = sorted((_git(repository, "remote") or "").splitlines())
    for remote in sorted(remotes, key=lambda name: name != "origin"):
        prefix = f"refs/remotes/{remote}/"
        found = {
            name.removeprefix("refs/remotes/"): name for name in names if name.startswith(prefix)
        }
        found.pop(f"{remote}/HEAD", None)
        if found:
            return remote, found
    prefix = "refs/heads/"
    return "", {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}


def origin(repository: Path) -> str | None:
    """Where the repository comes from, without any credentials in the address."""
    url = (_git(repository, "config", "--get", "remote.origin.url") or "").strip()
    if "://" not in url:
        return url or None  # a path, or user@host:path, where a user is no secret
    return without_credentials(url)


def without_credentials(url: str) -> str:
    """A URL without user and password, also one that is not quite a URL."""
    return _CREDENTIALS.sub(r"\1", url)


def heads(repository: Path) -> frozenset[str]:
    """The names of all branches that origin has now.

    Raises ToolError when origin cannot be asked; nobody is asked for a password.
    """
    return frozenset(tips(repository))


def tips(repository: Path) -> dict[str, str]:
    """Branch -> commit, of all that origin has now. Raises ToolError as `heads`."""
    command = ["git", "-C", os.fspath(repository), "ls-remote", "--heads", "origin"]
    ssh = os.environ.get("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
    try:
        with process.told(command) as ended:
            done = subprocess.run(
                command,
                capture_output=True,
                check=False,
                stdin=subprocess.DEVNULL,
                timeout=_ORIGIN_TIMEOUT,
                env={
                    **os.environ,
                    "GIT_TERMINAL_PROMPT": "0",
                    "GIT_SSH_COMMAND": ssh,
                    "LC_ALL": "C",
                },
            )
            ended(done.returncode)
    except FileNotFoundError:
        raise ToolError("git is not on PATH", "Install git") from None
    except subprocess.TimeoutExpired:
        raise _no_heads(f"no answer in {_ORIGIN_TIMEOUT} seconds") from None
    if done.returncode != 0:
        said = " ".join(done.stderr.decode("utf-8", "replace").split())
        raise _no_heads(re.sub(r"//[^/@\s]*@", "//", said)[:300])
    # Not splitlines, which ends a line at what a branch's name may hold.
    lines = done.stdout.decode("utf-8", "surrogateescape").split("\n")
    told = (line.partition("\t") for line in lines)
    return {
        name.removeprefix("refs/heads/"): commit
        for commit, _, name in told
        if name.startswith("refs/heads/")
    }


def branch_of(repository: Path, commit: str, patterns: Sequence[str]) -> str:
    """A branch of origin, of those that match a pattern, which holds a commit now; "" for none.

    Nothing is fetched: a branch's newest commit that this clone lacks was made after the
    clone last fetched, and then what it knew of that branch counts too.

    Raises ToolError when origin cannot be asked, has no such branch, or the clone knows
    too little to tell.
    """
    if not _WHOLE.fullmatch(commit):
        return ""
    found = {
        name: tip
        for name, tip in tips(repository).items()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    }
    if not found:
        raise ToolError(
            f"origin has none of the branches {', '.join(patterns)}",
            "Mend the names of the branches in ci.yaml, or the remote 'origin'",
        )
    unknown = []
    for name, tip in sorted(found.items()):
        if tip == commit:
            return name
        known = _is_there(repository, tip)
        at = tip if known else f"refs/remotes/origin/{name}"
        if _is_there(repository, commit) and _is_there(repository, at):
            arguments = ["merge-base", "--is-ancestor", commit, at]
            if _git(repository, *arguments) is not None:
                return name
        if not known or not _is_there(repository, commit):
            unknown.append(name)
    if unknown:
        raise ToolError(
            f"this clone does not know all of origin's {', '.join(unknown)}",
            "Run 'git fetch origin' (with --unshallow in a shallow clone)",
        )
    return ""


def branch_known(repository: Path, commit: str, patterns: Sequence[str]) -> str:
    """A branch of origin as this clone last fetched it, of those that match a pattern, which
    held a commit then; "" for none. Asks nobody."""
    if not _WHOLE.fullmatch(commit) or not _is_there(repository, commit):
        return ""
    prefix = "refs/remotes/origin/"
    listed = _git(repository, "for-each-ref", "--format=%(refname)", "--contains", commit, prefix)
    names = [line.removeprefix(prefix) for line in (listed or "").split("\n") if line]
    return next(
        (
            name
            for name in names
            if name != "HEAD" and any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        ),
        "",
    )


def _is_there(repository: Path, commit: str) -> bool:
    name = f"{commit}^{{commit}}"
    return (
        _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", name) is not None
    )


def _no_heads(why: str) -> ToolError:
    return ToolError(
        f"git cannot ask origin for its branches ({why})",
        "Mend the remote 'origin' or its credentials",
    )


def _git(repository: Path, *arguments: str) -> str | None:
    """git's answer, or None where it has none (no repository, no commit, no key).

    Raises ToolError where there is a repository that git will not read, as one
    of another owner: without git, ignored files would count as sources.
    """
    command = ["git", "-C", os.fspath(repository), *arguments]
    try:
        with process.told(command) as ended:
            done = subprocess.run(
                command,
                capture_output=True,
                check=False,
                env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
            )
            ended(done.returncode)
    except FileNotFoundError:
        if (repository / ".git").exists():
            raise ToolError("git is not on PATH", "Install git") from None
        return None
    if done.returncode == 0:
        return done.stdout.decode("utf-8", "surrogateescape")
    said = done.stderr.decode("utf-8", "replace").strip()
    if said.startswith("fatal: ") and not said.startswith("fatal: not a git repository"):
        raise ToolError(
            f"git cannot read {repository} ({said.splitlines()[0].removeprefix('fatal: ')})",
            "Mend the repository; where another user owns it: "
            f"git config --global --add safe.directory {repository}",
        )
    return None


def _walk(repository: Path) -> list[str]:
    found: list[str] = []
    for folder, directories, names in os.walk(repository):
        directories[:] = [
            name
            for name in directories
            if not name.startswith(".")
            and name not in _NEVER
            and not (Path(folder) / name / "pyvenv.cfg").exists()
        ]
        relative = Path(folder).relative_to(repository)
        found.extend((relative / name).as_posix() for name in names)
    return found
