"""Trivy's databases on this machine: fetched once, replaced whole, never changed in place.

A scan that is under way keeps the files that it opened, whatever another process
of this machine fetches meanwhile. Below `home`, for each source:

    vulnerabilities-<source>/<fetch>/db/     trivy.db and metadata.json
    java-<source>/<fetch>/java-db/           which library a JAR file is
    checks-<source>/<fetch>/policy/          misconfiguration checks
    vulnerabilities-<source>/current         the fetch that counts
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
import threading
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

import msgspec

from ci_tools import locks, process, typed
from ci_tools.errors import WriteError
from ci_tools.scanner import alone

_FETCH_SECONDS = 900.0  # Java's is a gigabyte
# As Trivy: a database that was fetched within the hour is not asked for.
_AGAIN = timedelta(hours=1)
_DAY = timedelta(days=1)  # as Trivy, for its checks
_KEPT = 2  # a scan may still be opening the one before


class Database(msgspec.Struct, kw_only=True):
    """The vulnerability database at hand. updated is None where there is none.

    next_update: when a newer one is to be expected. problem: why none, or no
    newer one, could be had.
    """

    updated: str | None = None
    next_update: datetime | None = None
    downloaded: datetime | None = None
    problem: str = ""

    @property
    def due(self) -> bool:
        """Whether there is one, and a newer one should be out."""
        now = datetime.now(timezone.utc)
        recent = self.downloaded is not None and now - self.downloaded < _AGAIN
        return self.next_update is not None and self.next_update <= now and not recent


class Sources(NamedTuple):
    """OCI repositories, with a tag or a digest; None for Trivy's own choice."""

    vulnerabilities: str | None = None
    java: str | None = None
    checks: str | None = None


class _Kind(NamedTuple):
    name: str
    folder: str  # in a cache directory of Trivy's
    words: str
    command: Sequence[str]
    option: str


_VULNERABILITIES = _Kind(
    "vulnerabilities", "db", "the vulnerability database",
    ("image", "--download-db-only", "--no-progress"), "--db-repository",
)  # fmt: skip
_JAVA = _Kind(
    "java", "java-db", "the index of Java libraries",
    ("image", "--download-java-db-only", "--no-progress"), "--java-db-repository",
)  # fmt: skip
# No command only fetches it; one that looks at an empty directory does.
_CHECKS = _Kind(
    "checks", "policy", "the bundle of checks", ("config",), "--checks-bundle-repository"
)


class Databases:
    """What scans need besides the image. Safe to use from several threads and processes.

    A database that cannot be had is told, not raised: it is the policy that says
    what becomes of a scan without.
    """

    def __init__(self, program: str, home: Path, sources: Sources) -> None:
        self._program = program
        self._home = home
        self._sources = sources
        self._locks = {kind: threading.Lock() for kind in (_VULNERABILITIES, _JAVA, _CHECKS)}
        self._asked: dict[_Kind, str] = {}  # kind -> what went wrong, if anything
        self._known: Database | None = None

    @property
    def vulnerabilities(self) -> Database:
        """Bring the database up to date, once a process; what is then at hand."""
        with self._locks[_VULNERABILITIES]:
            if self._known is None:
                known = self.at_hand()
                if known.updated is None or (known.due and not self._is_pinned(_VULNERABILITIES)):
                    problem = self._fetch(_VULNERABILITIES)
                    known = self.at_hand()
                    known.problem = problem or known.problem
                self._known = known
            return self._known

    def at_hand(self) -> Database:
        """The database that is here, without asking anybody."""
        current = self._current(_VULNERABILITIES)
        if current is None:
            return Database(problem="no vulnerability database has been fetched")
        try:
            raw = (current / "db" / "metadata.json").read_bytes()
            read = typed.decode(raw, _Metadata)
        except (OSError, msgspec.MsgspecError) as error:
            return Database(problem=f"the vulnerability database is damaged ({error})")
        return Database(
            updated=read.updated, next_update=read.next_update, downloaded=read.downloaded
        )

    def discard(self, reason: str) -> None:
        """Let the vulnerability database be none in this process, for Trivy cannot open
        it, and have the next one fetch it anew; it would else stay until it is due."""
        with self._locks[_VULNERABILITIES]:
            if self._known is None or self._known.updated is None:
                return
            self._known = Database(problem=f"the vulnerability database is damaged ({reason})")
            with contextlib.suppress(OSError):
                (self._folder(_VULNERABILITIES) / "current").unlink()

    @property
    def due(self) -> bool:
        """Whether a newer vulnerability database should be out."""
        return self.at_hand().due and not self._is_pinned(_VULNERABILITIES)

    def java(self) -> str:
        """Bring the index of Java libraries; what went wrong, or ""."""
        return self._have(_JAVA)

    def checks(self) -> str:
        """Bring the bundle of misconfiguration checks, where a source is named, and what
        went wrong, or "". Without a source Trivy's built-in ones are used."""
        return self._have(_CHECKS) if self._sources.checks else ""

    def checks_digest(self) -> str:
        """Of the bundle at hand, "" for the built-in one; no digest where the one that is
        asked for is not at hand."""
        if not self._sources.checks:
            return ""
        current = self._current(_CHECKS)
        if current is None:
            return "none"
        try:
            raw = (current / "policy" / "metadata.json").read_bytes()
            return typed.decode(raw, _Bundle).digest
        except (OSError, msgspec.MsgspecError):
            return "unknown"

    def link(self, cache: Path) -> None:
        """Make a cache directory see what is at hand."""
        for kind in (_VULNERABILITIES, _JAVA, _CHECKS):
            if kind is _CHECKS and not self._sources.checks:
                continue
            current, link = self._current(kind), cache / kind.folder
            if current is None:
                if link.is_symlink():
                    link.unlink(missing_ok=True)
            elif not link.is_symlink() or link.resolve() != current / kind.folder:
                # At once, for others may look through it meanwhile.
                fresh = link.with_name(f".{kind.folder}-{uuid.uuid4().hex}")
                fresh.symlink_to(current / kind.folder, target_is_directory=True)
                fresh.replace(link)

    def _is_pinned(self, kind: _Kind) -> bool:
        """What is named by digest never changes."""
        return "@sha256:" in (getattr(self._sources, kind.name) or "")

    def _have(self, kind: _Kind) -> str:
        """Have one at hand, not older than Trivy would let it get; asked once a process."""
        with self._locks[kind]:
            if kind not in self._asked:
                problem = self._fetch(kind) if self._is_stale(kind) else ""
                self._asked[kind] = problem if self._current(kind) is None else ""
            return self._asked[kind]

    def _is_stale(self, kind: _Kind) -> bool:
        current = self._current(kind)
        if current is None:
            return True
        if self._is_pinned(kind):
            return False
        try:
            raw = (current / kind.folder / "metadata.json").read_bytes()
            known = typed.decode(raw, _Times)
        except (OSError, msgspec.MsgspecError):
            return True
        now = datetime.now(timezone.utc)
        if known.next_update is not None and known.next_update > now:
            return False
        return known.downloaded is None or now - known.downloaded > _DAY

    def _folder(self, kind: _Kind) -> Path:
        source = getattr(self._sources, kind.name) or "default"
        return self._home / f"{kind.name}-{hashlib.sha256(source.encode()).hexdigest()[:12]}"

    def _current(self, kind: _Kind) -> Path | None:
        link = self._folder(kind) / "current"
        found = link.resolve()
        return found if link.is_symlink() and (found / kind.folder).is_dir() else None

    def _fetch(self, kind: _Kind) -> str:
        """Fetch into a new directory, and let it count; what went wrong, or "".

        Raises WriteError where there is no room for it.
        """
        folder = self._folder(kind)
        before = self._current(kind)
        try:
            with ExitStack() as stack:
                stack.enter_context(locks.held(folder / ".lock", seconds=_FETCH_SECONDS))
                if self._current(kind) != before:
                    return ""  # another process was faster
                return self._fetched(kind, folder)
        except locks.HeldElsewhereError:
            return f"{kind.words} is being fetched by another process that does not end"
        except OSError as error:
            raise WriteError(
                f"{kind.words} cannot be written to {folder} ({error.strerror or error})",
                "Free some disk space or mend the permissions",
            ) from error

    def _fetched(self, kind: _Kind, folder: Path) -> str:
        incoming = Path(tempfile.mkdtemp(prefix="incoming-", dir=folder))
        try:
            place = f"--cache-dir={incoming}"
            command = [self._program, *kind.command, alone.NO_CONFIG, place]
            source = getattr(self._sources, kind.name)
            if source:
                command.append(f"{kind.option}={source}")
            if kind is _CHECKS:
                empty = incoming / "empty"
                empty.mkdir()
                command.append(str(empty))
            log = self._home / f"{kind.name}.log"
            done = process.run(command, timeout=_FETCH_SECONDS, log=log, env=alone.variables())
            if not done.ok or not (incoming / kind.folder).is_dir():
                return f"{kind.words} cannot be had ({_reason(done)})"
            complete = folder / datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
            incoming.rename(complete)
            link = folder / f".current-{complete.name}"
            link.symlink_to(complete.name)
            link.replace(folder / "current")
            for old in sorted(folder.glob("20*"))[:-_KEPT]:
                shutil.rmtree(old, ignore_errors=True)
            return ""
        finally:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(incoming)


def _reason(done: process.Finished) -> str:
    """The last line that says something; Trivy's lists begin with a star."""
    if done.returncode is None:
        return "no answer in time"
    said = [line.strip(" \t*") for line in done.output.splitlines() if line.strip(" \t*")]
    return said[-1] if said else "no answer"


class _Times(msgspec.Struct):
    next_update: datetime | None = msgspec.field(name="NextUpdate", default=None)
    downloaded: datetime | None = msgspec.field(name="DownloadedAt", default=None)


class _Metadata(_Times, kw_only=True):
    updated: str = msgspec.field(name="UpdatedAt")


class _Bundle(msgspec.Struct):
    digest: str = msgspec.field(name="Digest", default="")
