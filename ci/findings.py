"""What is in an image, at no more cost than it takes to know it.

What was found lies beside the image in the registry and in the build directory.
While Trivy and what is looked for are the same, the image itself is not looked at
again: a newer database is matched with its SBOM.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from ci.session import Found, Session
from ci_tools import storage
from ci_tools.documents import ScanRecord, Verdict
from ci_tools.errors import CIError, MissingInputError
from ci_tools.images.builders import Subject
from ci_tools.images.registry import Registry
from ci_tools.scanner import gate, records, report

FOLDER = Path("reports")
RECORD, SBOM = "findings.json", "sbom.cdx.json"
Home = tuple[Registry, str]  # where an image is: registry and repository


@dataclass
class Scanned:
    """What came of looking at an image.

    images: one a platform. sboms: being written meanwhile, for nothing but the
    lock waits for them. fresh: platform -> what the registry does not have yet.
    places: platform -> where its files are, below the build directory.
    """

    verdict: Verdict = field(
        default_factory=lambda: Verdict(status="incomplete", trivy="", database=None, policy="")
    )
    images: list[Found] = field(default_factory=list)
    sboms: list[Future[None]] = field(default_factory=list)
    fresh: dict[str, ScanRecord] = field(default_factory=dict)
    places: dict[str, Path] = field(default_factory=dict)


def place_of(name: str, platform: str, root: Path = FOLDER) -> Path:
    """Where an image's findings and SBOM are, below the build directory."""
    folder = root / name
    return folder / platform.replace("/", "-") if platform else folder


def record(
    session: Session, subject: Subject, home: Home, place: Path, scanned: Scanned, log: Path
) -> ScanRecord:
    """What is in an image of one platform.

    place: where that and the SBOM are written, below the build directory.
    Raises ToolError where Trivy comes to no end.
    """
    trivy, policy = session.trivy, session.workspace.scan_policy
    folder = session.workspace.build / place
    database = trivy.databases.vulnerabilities
    known = _known(session, subject, home, folder)
    if known is None:
        return _looked(session, subject, home[0], folder, scanned, log)
    if database.updated is None or (
        not gate.older(known.database, database.updated) and known.vex == policy.vex_hash
    ):
        return known
    again = folder / "trivy-sbom.json"
    matched = trivy.match(
        folder / SBOM,
        again,
        vex=policy.vex,
        timeout=session.workspace.config.scan.timeout,
        log=log,
    )
    if not matched:
        return known  # as where no newer database can be had
    record = report.rematched(
        known,
        report.read(again.read_bytes()),
        trivy=trivy.version,
        database=database.updated,
        vex=policy.vex_hash,
    )
    scanned.fresh[subject.platform] = record
    storage.write(folder / RECORD, record)
    return record


def _looked(
    session: Session,
    subject: Subject,
    registry: Registry,
    folder: Path,
    scanned: Scanned,
    log: Path,
) -> ScanRecord:
    """Have Trivy look into the image itself."""
    trivy, workspace = session.trivy, session.workspace
    policy, raw = workspace.scan_policy, folder / "trivy.json"
    kinds = policy.kinds
    if "misconfiguration" in kinds and (problem := trivy.databases.checks()):
        # Not by other checks than are asked for: then it was not looked for.
        workspace.console.event(problem)
        kinds = tuple(kind for kind in kinds if kind != "misconfiguration")
    lacking = trivy.scan(
        subject.reference,
        raw,
        source=subject.source,
        kinds=kinds,
        platform=subject.platform,
        layers=subject.layers,
        vex=policy.vex,
        timeout=workspace.config.scan.timeout,
        log=log,
        env=_login(registry) if subject.source == "remote" else None,
    )
    record = report.record(
        report.read(raw.read_bytes()),
        subject.image_id,
        platform=subject.platform,
        trivy=trivy.version,
        kinds=kinds,
        database=trivy.databases.vulnerabilities.updated,
        checks=trivy.databases.checks_digest(),
        vex=policy.vex_hash,
        lacking=lacking,
    )
    # Should we be killed now, a record with another image's SBOM would be left.
    (folder / SBOM).unlink(missing_ok=True)
    storage.write(folder / RECORD, record)
    scanned.fresh[subject.platform] = record
    scanned.sboms.append(session.aside.submit(trivy.sbom, raw, folder / SBOM, log=log))
    return record


def _known(session: Session, subject: Subject, home: Home, folder: Path) -> ScanRecord | None:
    """What was found in this very image before, here or by another agent; with its SBOM
    in the folder."""
    here = _usable(session, subject, read(folder / RECORD))
    if here is not None and (folder / SBOM).is_file():
        return here
    if not subject.digest:
        return None
    found = records.newest(*home, subject.digest)
    there = _usable(session, subject, found.record if found else None)
    if found is None or there is None:
        return None
    sbom = found.sbom()
    if sbom is None:
        return None
    storage.write_bytes(folder / SBOM, sbom)
    storage.write(folder / RECORD, there)
    return there


def _usable(session: Session, subject: Subject, record: ScanRecord | None) -> ScanRecord | None:
    """A record that spares us a look into the image: of it, whole, and by this Trivy
    (or any, where its SBOM is all that is wanted)."""
    if record is None or record.image != subject.image_id or record.lacking:
        return None
    policy, trivy = session.workspace.scan_policy, session.trivy
    needed = set(policy.kinds) - {"vulnerability"}
    if not needed <= set(record.kinds):
        return None
    if record.trivy != trivy.version and not session.old_scans:
        return None
    if "misconfiguration" in needed:
        trivy.databases.checks()
        if record.checks != trivy.databases.checks_digest():
            return None
    return record


def read(path: Path) -> ScanRecord | None:
    """A record of this machine, if there is one that can be read."""
    try:
        return storage.read_if_there(path, ScanRecord, made_by="build")
    except MissingInputError:
        return None  # damaged, or of another version: as if it were not there


def publish(
    session: Session,
    registry: Registry,
    repository: str,
    scanned: Scanned,
    digests: Mapping[str, str],
) -> None:
    """Leave what was found beside the image, for any agent. A registry that does not take
    it is told: the verdict in the lock stands, the next agent scans anew.

    digests: platform -> digest of the image's manifest in the registry.
    """
    for platform, record in scanned.fresh.items():
        digest = digests.get(platform) if platform else next(iter(digests.values()), None)
        if digest is None:
            continue
        sbom = session.workspace.build / scanned.places[platform] / SBOM
        try:
            records.publish(registry, repository, digest, record, sbom.read_bytes())
        except CIError as error:
            session.workspace.console.event(
                f"what was found in {repository}@{digest[:19]} stays on this machine: {error.what}"
            )


def _login(registry: Registry) -> dict[str, str]:
    """The registry's credentials, where docker's own configuration has none."""
    known = registry.credentials()
    return dict(zip(("TRIVY_USERNAME", "TRIVY_PASSWORD"), known, strict=True)) if known else {}
