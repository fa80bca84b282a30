"""The verdict on an image: kept from the last lock, or scanned anew; and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import NamedTuple

from ci.session import Session
from ci.workspace import Workspace
from ci_tools.documents import LockedImage, PlannedComponent, Verdict
from ci_tools.errors import CIError, ScanFailedError, ScanIncompleteError
from ci_tools.images.builders import Subject
from ci_tools.scanner import gate


def kept(session: Session, planned: PlannedComponent) -> LockedImage | None:
    """What the last lock says of this very image, while its verdict stands."""
    previous = session.previous
    found = previous.components.get(planned.name) if previous else None
    if found is None or (found.key, found.digest) != (planned.key, planned.digest):
        return None
    trivy, workspace = session.trivy, session.workspace
    database = trivy.database_at_hand()
    if not gate.still_valid(found.verdict, workspace.config.scan, trivy.version, database):
        return None
    files = (workspace.build / found.verdict.report, workspace.build / found.verdict.sbom)
    return found if all(path.is_file() for path in files) else None


class Scanned(NamedTuple):
    """A verdict that lets an image go on. sboms: being written meanwhile, for nothing
    but the lock waits for them."""

    verdict: Verdict
    sboms: list[Future[None]]


def scan(session: Session, name: str, subjects: Sequence[Subject], log: Path) -> Scanned:
    """Scan each platform of an image, write the reports and SBOMs, and judge.

    Raises what `refuse` raises, and ToolError where Trivy comes to no end.
    """
    workspace, trivy = session.workspace, session.trivy
    policy, build = workspace.config.scan, workspace.build
    folder = Path("reports") / name
    verdicts: dict[str, Verdict] = {}
    sboms: list[Future[None]] = []
    for subject in subjects:
        place = folder / subject.platform.replace("/", "-") if len(subjects) > 1 else folder
        report, sbom = place / "trivy.json", place / "sbom.cdx.json"
        trivy.scan(
            subject.reference,
            build / report,
            source=subject.source,
            platform=subject.platform,
            timeout=policy.timeout,
            log=log,
            env=_login(session) if subject.source == "remote" else None,
        )
        found = gate.read((build / report).read_bytes())
        verdict = gate.judge(found, subject.image_id, policy, trivy.version, trivy.database)
        verdict.report, verdict.sbom = report.as_posix(), sbom.as_posix()
        verdicts[subject.platform] = verdict
        sboms.append(session.aside.submit(trivy.sbom, build / report, build / sbom, log=log))
    result = gate.combined(verdicts)
    try:
        refuse(workspace, name, result)
    except CIError:
        wait(sboms)  # whoever looks into why it is refused wants them too
        raise
    return Scanned(result, sboms)


def _login(session: Session) -> dict[str, str]:
    """The registry's credentials, where docker's own configuration has none."""
    known = session.registry.credentials()
    return dict(zip(("TRIVY_USERNAME", "TRIVY_PASSWORD"), known, strict=True)) if known else {}


def refuse(workspace: Workspace, name: str, verdict: Verdict) -> None:
    """Raise ScanFailedError or ScanIncompleteError where an image may not go on."""
    if verdict.status == "fail":
        raise ScanFailedError(
            f"component '{name}' does not pass the scan: {verdict.reason}",
            "Take the secret out, or update the package; the report tells all",
            log=workspace.build / verdict.report,
        )
    if verdict.status == "incomplete" and not workspace.environment.allow_incomplete_scan:
        raise ScanIncompleteError(
            f"component '{name}' was not scanned completely: {verdict.reason}",
            "Give scan.database in ci.yaml a mirror that answers",
        )
