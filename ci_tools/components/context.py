"""The files that a build sends to the engine, and a hash over them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ci_tools.errors import DockerfileError

_CHUNK = 1 << 20


def tree_hash(context: Path, dockerfile: Path) -> str:
    """Hash of a build context: 64 hex.

    It covers, for every path that .dockerignore lets through: the path, its
    type, the executable bit, the content, and a symbolic link's target. It
    does not cover times, owners or where the clone lies, so that it is equal on
    any machine. The Dockerfile itself counts apart, in the key.

    Raises DockerfileError for a file that cannot be read.
    """
    whole = hashlib.sha256()
    for relative in sorted(paths(context, dockerfile)):
        path = context / relative
        try:
            kind, content = _entry(path)
        except OSError as error:
            raise DockerfileError(
                f"{path} is in a build context but cannot be read ({error.strerror})",
                "Mend its permissions or name it in .dockerignore",
            ) from error
        name = os.fsencode(relative)
        whole.update(b"%d:%s %s %s\n" % (len(name), name, kind.encode(), content.encode()))
    return whole.hexdigest()


def paths(context: Path, dockerfile: Path) -> Iterator[str]:
    """Relative paths of the files and links in a context, after .dockerignore.

    As in BuildKit `<Dockerfile>.dockerignore` beside the Dockerfile comes
    before `.dockerignore` at the context's root.
    """
    patterns = _patterns(context, dockerfile)
    if not patterns:
        yield from _walk(context)
        return
    from docker.utils.build import exclude_paths  # docker-py's matcher: `!`, `**` and all

    for relative in exclude_paths(os.fspath(context), patterns):
        path = context / relative
        if relative and (path.is_symlink() or not path.is_dir()):
            yield relative.replace(os.sep, "/")


def ignore_file(context: Path, dockerfile: Path) -> Path | None:
    """The ignore file that BuildKit reads for this Dockerfile, if there is one."""
    own = dockerfile.with_name(dockerfile.name + ".dockerignore")
    for candidate in (own, context / ".dockerignore"):
        if candidate.is_file():
            return candidate
    return None


def _patterns(context: Path, dockerfile: Path) -> list[str]:
    path = ignore_file(context, dockerfile)
    if path is None:
        return []
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _walk(context: Path) -> Iterator[str]:
    for folder, directories, names in os.walk(context):
        base = Path(folder).relative_to(context)
        links = [name for name in directories if (Path(folder) / name).is_symlink()]
        for name in (*names, *links):
            yield (base / name).as_posix()


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
