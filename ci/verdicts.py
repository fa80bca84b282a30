"""The verdict on an image: one that still stands, or a new one; and what is refused.

A verdict is made of what was found, a policy and a day, so another policy needs no
scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import wait
from pathlib import Path

from ci import findings
from ci.findings import FOLDER, RECORD, SBOM, Scanned, place_of
from ci.session import Found, Session
from ci.workspace import Workspace
from ci_tools.documents import (
    Judged,
    LockedImage,
    PlannedComponent,
    ScannedImage,
    ScanRecord,
    Verdict,
)
from ci_tools.errors import CIError, ScanFailedError, ScanIncompleteError
from ci_tools.images.builders import Subject
from ci_tools.images.registry import Registry
from ci_tools.scanner import gate

__all__ = ["FOLDER", "Scanned", "judged", "kept", "of_kept", "refuse", "scan"]


def kept(session: Session, planned: PlannedComponent) -> LockedImage | None:
    """What the last lock says of this very image, while its verdict stands."""
    previous = session.previous
    found = previous.components.get(planned.name) if previous else None
    if found is None or (found.key, found.digest) != (planned.key, planned.digest):
        return None
    trivy, workspace = session.trivy, session.workspace
    if found.verdict.status == "incomplete" and (
        trivy.databases.wanted or not workspace.environment.allow_incomplete_scan
    ):
        return None  # what could not be known then may be known now
    database, policy = trivy.databases.at_hand(), workspace.scan_policy
    if not gate.still_valid(
        found.verdict, policy.hash, trivy.version, database.updated, session.day
    ):
        return None
    files = (workspace.build / found.verdict.report, workspace.build / found.verdict.sbom)
    return found if all(path.is_file() for path in files) else None


def scan(
    session: Session, name: str, repository: str, subjects: Sequence[Subject], log: Path
) -> Scanned:
    """Judge an image by what is known of it or by a scan, and refuse what may not go on.

    Raises what `refuse` raises, and what `judged` does.
    """
    scanned = judged(session, name, repository, subjects, log)
    session.scans[name] = scanned.images
    try:
        refuse(session.workspace, name, scanned.verdict)
    except CIError:
        wait(scanned.sboms)  # whoever looks into why it is refused wants them too
        raise
    return scanned


def judged(
    session: Session,
    name: str,
    repository: str,
    subjects: Sequence[Subject],
    log: Path,
    *,
    root: Path = FOLDER,
    registry: Registry | None = None,
) -> Scanned:
    """The verdict on each platform of an image, and the worst of them as the image's.

    repository: its path in the registry, or in another `registry` than the session's.
    root: below the build directory; there, for each platform, what was found and
    the SBOM are written.

    Raises ToolError where Trivy comes to no end.
    """
    policy = session.workspace.scan_policy
    home = (registry or session.registry, repository)
    scanned = Scanned()
    verdicts: dict[str, Verdict] = {}
    for subject in subjects:
        platform = subject.platform if len(subjects) > 1 else ""
        place = place_of(name, platform, root)
        scanned.places[subject.platform] = place
        record = findings.record(session, subject, home, place, scanned, log)
        problem = session.trivy.databases.vulnerabilities.problem
        verdict, judgements = gate.judge(record, policy, name, session.day, problem)
        verdicts[subject.platform] = _at(verdict, place)
        scanned.images.append(_found(name, platform, record, verdict, judgements))
    scanned.verdict = gate.combined(verdicts)
    return scanned


def of_kept(session: Session, name: str, image: LockedImage) -> list[Found]:
    """What a report says of an image whose verdict was kept."""
    build = session.workspace.build
    found = []
    for platform in image.platforms if len(image.platforms) > 1 else ("",):
        place = place_of(name, platform)
        record = findings.read(build / place / RECORD)
        if record is None:
            continue
        policy = session.workspace.scan_policy
        verdict, judgements = gate.judge(record, policy, name, session.day)
        found.append(_found(name, platform, record, _at(verdict, place), judgements))
    return found


def _at(verdict: Verdict, place: Path) -> Verdict:
    verdict.report, verdict.sbom = (place / RECORD).as_posix(), (place / SBOM).as_posix()
    return verdict


def _found(
    name: str, platform: str, record: ScanRecord, verdict: Verdict, judgements: list[Judged]
) -> Found:
    image = ScannedImage(component=name, platform=platform, verdict=verdict, findings=judgements)
    return Found(image, record)


def refuse(workspace: Workspace, name: str, verdict: Verdict) -> None:
    """Raise ScanFailedError or ScanIncompleteError where an image may not go on."""
    if verdict.status == "fail":
        raise ScanFailedError(
            f"component '{name}' does not pass the scan: {verdict.reason}",
            _todo(verdict),
            log=workspace.build / FOLDER / "scan.html",
        )
    if verdict.status == "incomplete" and not workspace.environment.allow_incomplete_scan:
        raise ScanIncompleteError(
            f"component '{name}' was not scanned completely: {verdict.reason}",
            "Give scan.database in ci.yaml a mirror that answers",
        )


def _todo(verdict: Verdict) -> str:
    """What to do about an image that fails, by what counts against it."""
    todo = []
    if "SECRET" in verdict.counts:
        todo.append("Take the secret out of the image and revoke it; no waiver holds for one")
    if set(verdict.counts) != {"SECRET"}:
        todo.append("Update the package, or waive what does not matter here")
    return ". ".join(todo)
