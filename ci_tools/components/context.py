"""The files that a build sends to the engine, and a hash over them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from ci_tools.components.dockerignore import Ignore
from ci_tools.errors import DockerfileError

_CHUNK = 1 << 20


def entries(context: Path, dockerfile: Path, *, without: Collection[str] = ()) -> dict[str, str]:
    """What a build sends, file by file: relative path -> "type:hash", sorted by path.

    It covers every path that .dockerignore lets through: its type (file, exec,
    link, special), and the SHA-256 of its content or of a symbolic link's
    target. It does not cover times, owners, empty directories or where the
    clone lies, so that it is equal on any machine.

    without: names at the context's root that do not count either.

    Raises DockerfileError for a file that cannot be read.
    """
    found: dict[str, str] = {}
    for relative in sorted(paths(context, dockerfile, without=without)):
        path = context / relative
        try:
            kind, content = _entry(path)
        except OSError as error:
            raise _unreadable(path, error) from error
        found[relative] = f"{kind}:{content}"
    return found


def entries_hash(found: Mapping[str, str]) -> str:
    """One hash over `entries`: 64 hex. Equal exactly when the entries are."""
    whole = hashlib.sha256()
    for relative, entry in sorted(found.items()):
        name = os.fsencode(relative)
        # The name's length frames it: a name may hold spaces and newlines.
        whole.update(b"%d:%s %s\n" % (len(name), name, entry.encode()))
    return whole.hexdigest()


def tree_hash(context: Path, dockerfile: Path, *, without: Collection[str] = ()) -> str:
    """Hash of a build context, over exactly its `entries`: 64 hex.

    The Dockerfile itself counts apart, in the key. Raises DockerfileError.
    """
    return entries_hash(entries(context, dockerfile, without=without))


def paths(context: Path, dockerfile: Path, *, without: Collection[str] = ()) -> Iterator[str]:
    """Relative paths of the files and links in a context, after .dockerignore.

    As in BuildKit `<Dockerfile>.dockerignore` beside the Dockerfile comes
    before `.dockerignore` at the context's root. Raises DockerfileError for an
    ignore file that no engine accepts, and for a directory that cannot be read.
    """
    ignore = _ignore(context, dockerfile)

    def refuse(error: OSError) -> None:
        raise _unreadable(Path(error.filename), error) from error

    for folder, directories, names in os.walk(context, onerror=refuse):
        base = "" if folder == os.fspath(context) else os.path.relpath(folder, context) + "/"
        links = [name for name in directories if Path(folder, name).is_symlink()]
        directories[:] = [
            name
            for name in directories
            if not (not base and name in without)
            # An exception may bring back a file of an ignored directory.
            and (ignore.has_exceptions or not ignore.ignores(base + name))
        ]
        for name in (*names, *links):
            if not ignore.ignores(base + name) and not (not base and name in without):
                yield base + name


def ignore_file(context: Path, dockerfile: Path) -> Path | None:
    """The ignore file that BuildKit reads for this Dockerfile, if there is one."""
    own = dockerfile.with_name(dockerfile.name + ".dockerignore")
    for candidate in (own, context / ".dockerignore"):
        if candidate.is_file():
            return candidate
    return None


def _ignore(context: Path, dockerfile: Path) -> Ignore:
    path = ignore_file(context, dockerfile)
    if path is None:
        return Ignore()
    try:
        return Ignore(path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines())
    except OSError as error:
        raise _unreadable(path, error) from error
    except ValueError as error:
        raise DockerfileError(f"{path} {error}", "Mend the pattern") from error


def _unreadable(path: Path, error: OSError) -> DockerfileError:
    return DockerfileError(
        f"{path} is in a build context but cannot be read ({error.strerror})",
        "Mend its permissions or name it in .dockerignore",
    )


def _entry(path: Path) -> tuple[str, str]:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return "link", hashlib.sha256(os.fsencode(path.readlink())).hexdigest()
    if not stat.S_ISREG(mode):
        return "special", "-"  # sockets and pipes: BuildKit leaves their content out too
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return ("exec" if mode & stat.S_IXUSR else "file"), digest.hexdigest()
