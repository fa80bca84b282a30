"""A build's artifacts, fetched into a directory: all of them, each whole, or none.

What a controller calls its files is not to be trusted: no name leads out of the
directory, and none goes through a link that is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin, urlsplit

import msgspec
import tenacity

from ci_tools.errors import JenkinsError, WriteError
from ci_tools.jenkins.refusals import Away

if TYPE_CHECKING:
    import requests

    from ci_tools.jenkins.builds import Job
    from ci_tools.jenkins.connection import Connection

_PIECE = 1024 * 1024  # bytes
_TRIES = 4
_TREE = "artifacts[relativePath],fingerprint[fileName,hash]"


class Artifact(msgspec.Struct, kw_only=True):
    """path: below the directory. checked: its md5 is one that Jenkins recorded."""

    path: str
    size: int
    md5: str
    checked: bool = False


class _Listed(msgspec.Struct):
    relativePath: str


class Fingerprint(msgspec.Struct):
    """Of a file of the build, archived or not. fileName: without its folders."""

    fileName: str = ""
    hash: str = ""


class _Build(msgspec.Struct):
    artifacts: list[_Listed] = []
    fingerprint: list[Fingerprint | None] = []


def fetch(
    connection: Connection,
    job: Job,
    number: int,
    directory: Path,
    told: Callable[[str], None] = lambda _: None,
) -> list[Artifact]:
    """Fetch all artifacts of a build. told: is given the path of each one that is here.

    Files that are there already are replaced; nothing is, unless all could be fetched
    and are what Jenkins recorded.

    Raises JenkinsError for paths that lead elsewhere and for files that are not what was
    recorded, WriteError, and others as `Connection.jenkins_request`.
    """
    listed = connection.document(f"{job.path}/{number}/api/json", _Build, tree=_TREE)
    paths = [one.relativePath for one in listed.artifacts]
    check(paths)
    if not paths:
        return []
    with _staging(directory) as staging:
        found = []
        for path in paths:
            found.append(_one(connection, f"{job.path}/{number}", path, staging / path))
            told(path)
        checked = compared(found, [it for it in listed.fingerprint if it])
        for path in paths:
            _make_room(directory, path)
        for path in paths:
            _replace(staging / path, directory / path)
    return checked


def check(paths: Sequence[str]) -> None:
    """Raises JenkinsError for a path that is none below a directory, or not alone there."""
    seen: set[str] = set()
    for path in paths:
        parts = path.split("/")
        bad = any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts)
        if bad or not path.isprintable() or "\\" in path or path in seen:
            raise JenkinsError(
                f"Jenkins names an artifact {path!a}, which is no path below a directory",
                "Nothing was written; ask who made the build",
            )
        seen.add(path)
    folders = {path[:at] for path in paths for at, it in enumerate(path) if it == "/"}
    if both := folders & seen:
        raise JenkinsError(
            f"Jenkins names {min(both)!a} as an artifact and as a folder of others",
            "Nothing was written; ask who made the build",
        )


def compared(found: Sequence[Artifact], recorded: Sequence[Fingerprint]) -> list[Artifact]:
    """The artifacts, `checked` where their md5 is recorded.

    Jenkins records the md5 of a file under its name without folders, and under another
    name where another file had the same content before. So one is damaged when its md5
    is unknown while one that is recorded under its name belongs to no file.

    Raises JenkinsError for such a one.
    """
    hashes = {one.hash.lower() for one in recorded}
    ours = {one.md5 for one in found}
    missed: dict[str, set[str]] = defaultdict(set)
    for one in recorded:
        if one.hash.lower() not in ours:
            missed[one.fileName].add(one.hash.lower())
    for artifact in found:
        if artifact.md5 not in hashes and missed[artifact.path.rpartition("/")[2]]:
            raise JenkinsError(
                f"artifact {artifact.path} is not what Jenkins recorded (md5 {artifact.md5})",
                "Nothing was written; fetch it again, and if it stays so, ask who runs Jenkins",
            )
    return [msgspec.structs.replace(one, checked=one.md5 in hashes) for one in found]


@contextlib.contextmanager
def _staging(directory: Path) -> Iterator[Path]:
    """A directory for what is not whole yet, on the same file system."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        made = tempfile.mkdtemp(prefix=".jenkins-", dir=directory)
    except OSError as error:
        raise _unwritten(directory, error) from error
    try:
        yield Path(made)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _one(connection: Connection, build: str, path: str, target: Path) -> Artifact:
    address = f"{build}/artifact/" + "/".join(quote(part, safe="") for part in path.split("/"))

    def once() -> Artifact:
        with contextlib.closing(_opened(connection, address)) as answer:
            return _kept(answer, path, target)

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Away),
        stop=tenacity.stop_after_attempt(_TRIES),
        reraise=True,
    )
    return retrying(once)


def _opened(connection: Connection, address: str) -> requests.Response:
    """The file, also where the controller keeps it elsewhere and only says where."""
    answer = connection.stream(address)
    if answer.status_code < 300:
        return answer
    target = urljoin(connection.at(address), answer.headers.get("Location", ""))
    answer.close()
    place, ours = urlsplit(target), urlsplit(connection.url)
    if place.scheme not in ("http", "https") or (ours.scheme, place.scheme) == ("https", "http"):
        raise JenkinsError("Jenkins sends us elsewhere for an artifact, without TLS", "Ask why")
    return connection.foreign(target)


def _kept(answer: requests.Response, path: str, target: Path) -> Artifact:
    import requests

    digest, size = hashlib.md5(usedforsecurity=False), 0  # as Jenkins' fingerprints are
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            for piece in answer.iter_content(_PIECE):
                file.write(piece)
                digest.update(piece)
                size += len(piece)
    except requests.RequestException as error:
        raise Away(f"Jenkins hung up in the middle of {path}", "Fetch it again") from error
    except OSError as error:
        raise _unwritten(target, error) from error
    return Artifact(path=path, size=size, md5=digest.hexdigest())


def _make_room(directory: Path, path: str) -> None:
    """The folders of a file, through no link: one might lead anywhere."""
    folder = directory
    try:
        for part in path.split("/")[:-1]:
            folder = folder / part
            if folder.is_symlink():
                raise WriteError(
                    f"{folder} is a link, and {path} would be written wherever it leads",
                    "Remove the link, or fetch into another directory",
                )
            folder.mkdir(exist_ok=True)
    except OSError as error:
        raise _unwritten(directory / path, error) from error
    if (directory / path).is_dir() and not (directory / path).is_symlink():
        raise WriteError(
            f"{directory / path} is a directory, and an artifact has this name",
            "Remove it, or fetch into another directory",
        )


def _replace(source: Path, target: Path) -> None:
    try:
        source.replace(target)  # of a link, the link itself
    except OSError as error:
        raise _unwritten(target, error) from error


def _unwritten(path: Path, error: OSError) -> WriteError:
    return WriteError(
        f"{path} could not be written ({error.strerror or error})",
        "Free some disk space, mend the permissions, or name another directory with --to",
    )
