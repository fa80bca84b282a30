"""The files that a build sends to the engine, and a hash over them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from ci_tools.components.dockerignore import Above, Ignore
from ci_tools.errors import ConfigError, DockerfileError

StrPath = str | os.PathLike[str]

_CHUNK = 1 << 20
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_SPECIAL = "special:-"  # sockets and pipes: BuildKit leaves their content out too


def entries(context: StrPath, dockerfile: StrPath) -> dict[str, str]:
    """What a build sends, file by file: relative path -> "type:hash", sorted by path.

    It covers every path that .dockerignore lets through: its type (file, exec,
    link, special), and the SHA-256 of its content or of a symbolic link's
    target. That is what git keeps of a file, so that it is equal in any clone.
    Times, owners, empty directories and other permission bits do not count,
    though BuildKit's COPY carries the last two into the image: they follow the
    umask of whoever cloned, and a key by them would fit one machine only.

    Raises DockerfileError for a file that cannot be read, ConfigError for a
    `.git` that would be sent.
    """
    found: dict[str, str] = {}
    for relative, entry in _walk(os.fspath(context), _ignore(context, dockerfile)):
        try:
            found[relative] = _entry(entry)
        except OSError as error:
            raise _unreadable(entry.path, error) from error
    return dict(sorted(found.items()))


def entries_hash(found: Mapping[str, str]) -> str:
    """One hash over `entries`: 64 hex. Equal exactly when the entries are."""
    whole = hashlib.sha256()
    for relative, entry in sorted(found.items()):
        name = os.fsencode(relative)
        # The name's length frames it: a name may hold spaces and newlines.
        whole.update(b"%d:%s %s\n" % (len(name), name, entry.encode()))
    return whole.hexdigest()


def file_hash(dockerfile: StrPath, context: StrPath, found: Mapping[str, str]) -> str:
    """Hash of a Dockerfile's bytes: 64 hex. found: `entries` of its context, which
    mostly have read it already. Raises DockerfileError."""
    path, folder = os.fspath(dockerfile), f"{os.fspath(context)}/"
    entry = found.get(path[len(folder) :], "") if path.startswith(folder) else ""
    kind, _, digest = entry.partition(":")
    if kind in ("file", "exec"):
        return digest
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise DockerfileError(f"{path} cannot be read ({error})", "Mend the file") from error


def paths(context: StrPath, dockerfile: StrPath) -> Iterator[str]:
    """Relative paths of the files and links in a context, after .dockerignore.

    Nothing else is left out. Raises DockerfileError for an ignore file that no
    engine accepts and for a directory that cannot be read; ConfigError for a
    `.git` that would be sent, whose bytes differ from clone to clone.
    """
    return (path for path, _ in _walk(os.fspath(context), _ignore(context, dockerfile)))


def check_outputs(context: Path, dockerfile: Path, outputs: Path) -> None:
    """Refuse a context that would be sent what this tool itself writes.

    outputs: the real path of the directory where the stages' files go, there or
    not: a key must not change because a stage has run.

    Raises ConfigError with the line to add, and as `paths` for the ignore file.
    """
    real = context.resolve()
    if not outputs.is_relative_to(real):
        return
    folder = outputs.relative_to(real)
    ignore = _ignore(context, dockerfile)
    if any(not ignore.ignores((folder / name).as_posix()) for name in ("plan.json", "logs/x.log")):
        # A context that is the directory itself has no line that names it.
        line = folder.as_posix() if folder.parts else "**"
        raise _unstable(f"{outputs}, where this tool writes,", line)


def ignore_file(context: StrPath, dockerfile: StrPath) -> Path | None:
    """The ignore file that BuildKit reads for this Dockerfile, if there is one.

    `<Dockerfile>.dockerignore` beside the Dockerfile comes before
    `.dockerignore` at the context's root. Raises DockerfileError for a link
    out of its directory, which BuildKit takes for no ignore file at all.
    """
    for path in (f"{os.fspath(dockerfile)}.dockerignore", f"{os.fspath(context)}/.dockerignore"):
        try:
            mode = os.lstat(path).st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        candidate = Path(path)
        if stat.S_ISLNK(mode):
            target = candidate.readlink()
            plain = not target.is_absolute() and ".." not in target.parts
            if not plain or (candidate.parent / target).is_symlink() or not candidate.is_file():
                raise DockerfileError(
                    f"{candidate} is a symbolic link that BuildKit does not follow",
                    "Put the file itself there",
                )
            return candidate
        if stat.S_ISREG(mode):
            return candidate
    return None


def _walk(context: str, ignore: Ignore) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """What is sent, in no order: path in the context, and what the system says of it."""
    # Directories to look into: path, path in the context, what is known of it by
    # the ignore file, and whether it is sent itself. An ignored one may hold exceptions.
    waiting: list[tuple[str, str, Above, bool]] = [(context, "", (), True)]
    while waiting:
        folder, base, above, sent = waiting.pop()
        try:
            with os.scandir(folder) as scanned:
                found = list(scanned)
        except PermissionError as error:
            if not sent:  # BuildKit too passes over what it may not look into
                continue
            raise _unreadable(folder, error) from error
        except OSError as error:
            raise _unreadable(folder, error) from error
        for entry in found:
            path = base + entry.name
            ignored, results = ignore.match(path, above)
            if entry.name == ".git" and not ignored:
                raise _unstable(entry.path, "**/.git" if base else ".git")
            if entry.is_dir(follow_symlinks=False):
                if not ignored or not ignore.nothing_below(path):
                    waiting.append((entry.path, path + "/", results, not ignored))
            elif not ignored:
                yield path, entry


def _ignore(context: StrPath, dockerfile: StrPath) -> Ignore:
    path = ignore_file(context, dockerfile)
    if path is None:
        return _patterns("")
    try:
        return _patterns(path.read_bytes().decode("utf-8", "surrogateescape"))
    except OSError as error:
        raise _unreadable(path, error) from error
    except ValueError as error:
        raise DockerfileError(f"{path} {error}", "Mend the pattern") from error


_patterns = lru_cache(maxsize=64)(Ignore)  # equal in most components of a repository


def _unstable(what: str, line: str) -> ConfigError:
    return ConfigError(
        f"{what} would be sent with a build context, so that its key would never be the same",
        f"Add the line '{line}' to the context's .dockerignore",
    )


def _unreadable(path: Path | str, error: OSError) -> DockerfileError:
    return DockerfileError(
        f"{path} is in a build context but cannot be read ({error.strerror})",
        "Mend its permissions or name it in .dockerignore",
    )


def _entry(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return f"link:{hashlib.sha256(os.fsencode(os.readlink(entry.path))).hexdigest()}"  # noqa: PTH115
    if not entry.is_file(follow_symlinks=False):
        return _SPECIAL
    # Not through pathlib and io: this is done for every file of a repository.
    file = os.open(entry.path, _FLAGS)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            return _SPECIAL  # since the directory was read
        content = os.read(file, min(found.st_size, _CHUNK) + 1)
        digest = hashlib.sha256(content)
        if len(content) != found.st_size:  # else there is no more
            while content := os.read(file, _CHUNK):
                digest.update(content)
    finally:
        os.close(file)
    return f"{'exec' if found.st_mode & stat.S_IXUSR else 'file'}:{digest.hexdigest()}"
