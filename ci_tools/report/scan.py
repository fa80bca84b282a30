"""The reports of a scan: for machines, code hosts, Jenkins, and people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ci_tools import storage
from ci_tools.documents import ScannedImage, ScanReport, WaiverNote
from ci_tools.errors import MissingInputError
from ci_tools.report import junit, page, places, sarif, scan_junit

JSON, SARIF, JUNIT, PAGE = "scan.json", "scan.sarif", "scan.xml", "scan.html"


def write(
    folder: Path, report: ScanReport, before: ScanReport | None, *, with_page: bool = True
) -> None:
    """Write all reports into a folder, each whole or not at all; scan.json first.

    before: the report of the branch's last build, None where there is none.
    with_page: else there is none afterwards, which spares a tenth of a second.

    Raises WriteError.
    """
    storage.write(folder / JSON, report)
    every = places.found(report)
    storage.write_bytes(folder / SARIF, storage.encode(sarif.render(report, every)))
    junit.write(folder / JUNIT, scan_junit.suites(report))
    if with_page:
        html = page.render(report, every, before)
        storage.write_bytes(folder / PAGE, html.encode(errors="replace"))
    else:
        (folder / PAGE).unlink(missing_ok=True)


def join(reports: Sequence[ScanReport]) -> ScanReport:
    """One report of several shards' reports.

    An image is taken from the first report that has it. A waiver is unused when no
    shard used it. The database is the oldest one, None where a shard had none.

    Raises MissingInputError for no reports, and for reports that are not of one
    project, environment, commit and policy.
    """
    if not reports:
        raise MissingInputError(
            "there is no scan report to join", "Run 'python -m ci build' for each shard"
        )
    first = reports[0]
    for other in reports[1:]:
        for name in ("project", "environment", "source", "policy"):
            if getattr(other, name) != getattr(first, name):
                raise MissingInputError(
                    f"the shards' scan reports are not of one {name}",
                    "Run 'python -m ci build' for each shard again, from one plan",
                )
    images: dict[tuple[str, str], ScannedImage] = {}
    for report in reports:
        for image in report.images:
            images.setdefault((image.component, image.platform), image)
    databases = [report.database for report in reports]
    known = [database for database in databases if database is not None]
    return ScanReport(
        project=first.project,
        environment=first.environment,
        source=first.source,
        created=max(report.created for report in reports),
        trivy=", ".join(sorted({report.trivy for report in reports})),
        database=min(known) if len(known) == len(databases) else None,
        policy=first.policy,
        images=[images[key] for key in sorted(images)],
        waivers=_waivers(reports),
        dockerfiles=sorted(
            {remark for report in reports for remark in report.dockerfiles},
            key=lambda one: (one.dockerfile, one.line, one.column, one.code, one.message),
        ),
    )


def _waivers(reports: Sequence[ScanReport]) -> list[WaiverNote]:
    every = {note for report in reports for note in report.waivers}
    kept = [
        note
        for note in every
        if note.problem != "unused" or all(note in report.waivers for report in reports)
    ]
    return sorted(
        kept, key=lambda one: (one.problem, one.id, one.package, one.component, repr(one))
    )
