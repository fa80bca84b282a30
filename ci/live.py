"""`scan live`: what production runs, against today's vulnerability database.

The images are those of releases, by digest. None is pulled where its SBOM lies
beside it: then the packages in it are compared with the database.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ci import findings, reports, verdicts
from ci import session as sessions
from ci.console import counted
from ci.promotion import promoted
from ci.session import Found, Session
from ci.workspace import Workspace
from ci_tools import storage
from ci_tools.components.references import split
from ci_tools.documents import Finding, Judged, Release, ScannedImage, ScanReport, timestamp
from ci_tools.errors import (
    CIError,
    RegistryError,
    ScanFailedError,
    ScanIncompleteError,
    error_for,
)
from ci_tools.images import builders
from ci_tools.images.registry import Registry
from ci_tools.report import scan as written
from ci_tools.scanner import gate

FOLDER = Path("reports") / "live"
_ASKED = FOLDER / "asked"  # about one vulnerability: apart, else all others would be new next time
_PAGE = "scan.html"


@dataclass
class Running:
    """An image that releases name, and what runs it."""

    component: str
    reference: str
    pipelines: set[str] = field(default_factory=set)
    services: set[str] = field(default_factory=set)


def scan(
    workspace: Workspace, paths: Sequence[Path] = (), *, id: str = ""
) -> tuple[ScanReport, dict[str, CIError]]:
    """Judge every image of some releases by the policy of this environment and by the
    newest database.

    paths: the releases; by default what the environment runs, as the record of its last
    promotion says, else the release of the build directory.
    id:    ask for this one vulnerability only, whatever the policy counts.

    Writes reports/live/, or reports/live/asked/ for one vulnerability. Returns the
    report, and for each image that could not be looked at why not. Raises
    MissingInputError, ToolError, RegistryError.
    """
    return judged(workspace, _releases(workspace, paths), id=id, folder=_folder(id))


def _folder(id: str) -> Path:
    return _ASKED if id else FOLDER


def judged(
    workspace: Workspace,
    releases: Sequence[Release],
    *,
    id: str = "",
    folder: Path = FOLDER,
    publish: bool = True,
    brief: bool = False,
) -> tuple[ScanReport, dict[str, CIError]]:
    """As `scan`, of these releases. folder: below the build directory. publish: keep
    what was found beside the images, where the next scan finds it. brief: no page for
    people where every image passes."""
    session = sessions.begun(workspace, None)
    session.old_scans = True
    _ = session.trivy.databases.vulnerabilities
    running = images(releases)
    problems: dict[str, CIError] = {}

    def one(image: Running) -> list[ScannedImage]:
        try:
            return _judged(session, image, id, folder, publish)
        except CIError as error:
            problems[image.reference] = error
            return []

    with ThreadPoolExecutor(max_workers=(os.cpu_count() or 2) + 2) as pool:
        found = [image for several in pool.map(one, running) for image in several]
    session.settle()
    before = None if id else reports.read(workspace.build / folder / reports.FILE.name)
    policy = workspace.scan_policy
    report = ScanReport(
        project=releases[0].project,
        environment=workspace.environment_name,
        source=releases[0].source,
        created=timestamp(),
        trivy=session.trivy.version,
        database=session.trivy.databases.at_hand().updated,
        policy=policy.hash,
        images=found,
        waivers=gate.notes(policy, reports.by_component(found), session.day, whole=False),
    )
    passes = all(one.verdict.status == "pass" for one in found) and not problems
    written.write(workspace.build / folder, report, before, with_page=not (brief and passes))
    return report, problems


def would(workspace: Workspace, paths: Sequence[Path] = ()) -> list[str]:
    """What would be looked at, a line an image. Asks nobody. Raises MissingInputError."""
    return [
        f"{one.component}: would hold {one.reference} against the newest database"
        for one in images(_releases(workspace, paths))
    ]


def _releases(workspace: Workspace, paths: Sequence[Path]) -> list[Release]:
    """Those of the files, or what the environment runs, or what was built here."""
    if paths:
        return [storage.read(path, Release, made_by="release") for path in paths]
    from ci import release as releasing  # and with it every stage: a promotion names its own

    built = workspace.build / releasing.FILE
    if not workspace.dry_run and not (workspace.embedded and built.exists()):
        running = promoted.release(workspace)
        if running is not None:
            return [running]
    return [storage.read(built, Release, made_by="release")]


def images(releases: Sequence[Release]) -> list[Running]:
    """Every image that the releases name, once, with the pipelines and services that run it."""
    known: dict[str, Running] = {}
    for release in releases:
        for component, image in sorted(release.images.items()):
            one = known.setdefault(image.reference, Running(component, image.reference))
            one.pipelines |= {
                name for name, two in release.pipelines.items() if component in two.components
            }
            one.services |= {
                name for name, two in release.servables.items() if two.image == image.reference
            }
    return list(known.values())


def _judged(
    session: Session, image: Running, id: str, folder: Path, publish: bool
) -> list[ScannedImage]:
    """Each platform of one image, judged. Raises CIError where it cannot be looked at."""
    workspace = session.workspace
    parts = split(image.reference)
    registry = session.registry
    if parts.registry != registry.host:
        registry = Registry(parts.registry)
    digest = parts.digest or ""
    made = builders.present(registry, parts.path, digest)
    if not made.subjects:
        raise RegistryError("it is not in its registry", "Release again what runs")
    root = folder / digest.rpartition(":")[2][:12]
    log = workspace.build / "logs" / f"live-{image.component}.log"
    scanned = verdicts.judged(
        session, image.component, parts.path, made.subjects, log, root=root, registry=registry
    )
    for sbom in scanned.sboms:
        sbom.result()
    digests = {subject.platform: subject.digest for subject in made.subjects}
    if publish:
        session.behind(findings.publish, registry, parts.path, scanned, digests)
    found = []
    for one in scanned.images:
        one.image.reference = image.reference
        one.image.pipelines, one.image.services = sorted(image.pipelines), sorted(image.services)
        found.append(_only(session, one, id) if id else one.image)
    return found


def _only(session: Session, found: Found, id: str) -> ScannedImage:
    """The same image as if nothing else but one finding were asked for."""
    image, asked = found.image, list[Judged]()
    for one in image.findings:
        if one.finding.id.casefold() != id.casefold():
            continue
        standing = one.standing
        asked.append(
            one
            if standing in ("waived", "not affected")
            else Judged(finding=one.finding, standing="counts")
        )
    image.findings = asked
    counting = [one.finding for one in asked if one.standing == "counts"]
    # It may have failed by something else, and not be known well enough to pass.
    problem = session.trivy.databases.vulnerabilities.problem
    unknown = gate.lacking(found.record, session.workspace.scan_policy, session.day, problem)
    verdict = image.verdict
    if counting:
        verdict.status, verdict.reason = "fail", "; ".join(map(gate.told, counting))
    else:
        verdict.status, verdict.reason = "incomplete" if unknown else "pass", unknown
    verdict.counts = dict(Counter(one.severity for one in counting))
    return image


def lines(report: ScanReport, problems: Mapping[str, CIError], id: str = "") -> list[str]:
    """For people: each image that does not pass, what runs it, and what is to be done.
    id: as `scan` was given it."""
    told: list[str] = []
    for image in report.images:
        if image.verdict.status == "pass":
            continue
        told.append(f"{image.component}  {image.verdict.status}  {image.reference}")
        users = [f"pipeline {name}" for name in image.pipelines]
        users += [f"service {name}" for name in image.services]
        told.append(f"  runs in: {', '.join(users) or 'nothing that the release names'}")
        counting: list[Finding] = [o.finding for o in image.findings if o.standing == "counts"]
        told += [f"  {gate.told(finding)}" for finding in counting[:10]]
        if len(counting) > 10:
            told.append(f"  and {len(counting) - 10} more")
        if not counting:
            told.append(f"  {image.verdict.reason}")
    told += [f"{reference}  not looked at: {error.what}" for reference, error in problems.items()]
    failing = sum(image.verdict.status != "pass" for image in report.images)
    told.append(
        f"{counted(len(report.images), 'image')}, {failing} do not pass, "
        f"{len(problems)} not looked at; "
        f"database of {report.database or 'no day'}; {_folder(id) / _PAGE}"
    )
    return told


def raise_failures(
    workspace: Workspace, report: ScanReport, problems: Mapping[str, CIError], id: str = ""
) -> None:
    """Raise what the report means: a finding first, then what could not be known.
    id: as `scan` was given it."""
    page = workspace.build / _folder(id) / _PAGE
    failing = sorted({one.component for one in report.images if one.verdict.status == "fail"})
    if failing:
        raise ScanFailedError(
            f"what runs does not pass the scan: {', '.join(failing)}",
            "Update and release them, or waive what does not matter with a reason",
            log=page,
        )
    if problems:
        reference, error = next(iter(problems.items()))
        raise error_for(error.exit_code)(f"{reference}: {error.what}", error.todo)
    unknown = sorted({one.component for one in report.images if one.verdict.status != "pass"})
    if unknown and not workspace.environment.allow_incomplete_scan:
        raise ScanIncompleteError(
            f"what runs was not scanned completely: {', '.join(unknown)}",
            "Give scan.database in ci.yaml a mirror that answers",
            log=page,
        )
