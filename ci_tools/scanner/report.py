"""Trivy's JSON, read into a record of facts. Pure.

Of a secret only where it is and by which rule it was found is taken, never the
match.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import msgspec

from ci_tools import typed
from ci_tools.documents import Finding, ScanRecord
from ci_tools.documents.scan import Kind, Severity
from ci_tools.errors import ToolError
from ci_tools.scanner import layers

_KNOWN = frozenset(get_args(Severity))


class _Pascal(msgspec.Struct, rename="pascal"):
    pass


class _Layer(_Pascal):
    diff_id: str = msgspec.field(name="DiffID", default="")


class _Identifier(_Pascal):
    purl: str = msgspec.field(name="PURL", default="")


class Vulnerability(_Pascal):
    id: str = msgspec.field(name="VulnerabilityID", default="")
    pkg_name: str = ""
    installed_version: str = ""
    fixed_version: str = ""
    severity: str = "UNKNOWN"
    title: str = ""
    url: str = msgspec.field(name="PrimaryURL", default="")
    layer: _Layer = msgspec.field(default_factory=_Layer)
    pkg_identifier: _Identifier = msgspec.field(default_factory=_Identifier)


class Secret(_Pascal):
    """What was found, never the secret itself."""

    id: str = msgspec.field(name="RuleID", default="")
    title: str = ""
    severity: str = "UNKNOWN"
    start_line: int = 0
    layer: _Layer = msgspec.field(default_factory=_Layer)


class Misconfiguration(_Pascal):
    id: str = msgspec.field(name="ID", default="")
    title: str = ""
    severity: str = "UNKNOWN"
    status: str = "FAIL"
    url: str = msgspec.field(name="PrimaryURL", default="")


class License(_Pascal):
    name: str = ""
    severity: str = "UNKNOWN"
    pkg_name: str = ""
    file_path: str = ""
    category: str = ""
    link: str = ""


class Modified(_Pascal):
    """What a VEX document took out of the findings."""

    type: str = ""
    status: str = ""
    statement: str = ""
    source: str = ""
    finding: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"{}"))


class Result(_Pascal):
    target: str = ""
    vulnerabilities: list[Vulnerability] | None = None
    secrets: list[Secret] | None = None
    misconfigurations: list[Misconfiguration] | None = None
    licenses: list[License] | None = None
    modified: list[Modified] | None = msgspec.field(
        name="ExperimentalModifiedFindings", default=None
    )


class _Config(msgspec.Struct):
    history: list[dict[str, Any]] | None = None


class Metadata(_Pascal):
    image: str = msgspec.field(name="ImageID", default="")
    diff_ids: list[str] | None = msgspec.field(name="DiffIDs", default=None)
    image_config: _Config = msgspec.field(default_factory=_Config)


class Report(_Pascal):
    schema_version: int
    metadata: Metadata = msgspec.field(default_factory=Metadata)
    results: list[Result] | None = None


def read(raw: bytes) -> Report:
    """Trivy's JSON as a report. Raises ToolError for anything else."""
    try:
        return typed.decode(raw, Report)
    except msgspec.MsgspecError as error:
        raise ToolError(
            f"trivy's report cannot be read ({error})", "Scan again: run the stage again"
        ) from error


def record(
    report: Report,
    image: str,
    *,
    platform: str,
    trivy: str,
    kinds: Sequence[Kind],
    database: str | None,
    checks: str = "",
    vex: str = "",
    lacking: Sequence[str] = (),
) -> ScanRecord:
    """The record of an image that was looked into.

    image: the id that it must be of. kinds: what was looked for, of which
    "vulnerability" is left out where there was no database.
    lacking: what `Trivy.scan` could not look into.
    Raises ToolError when the report is of another image.
    """
    _check(report, image)
    if lacking:
        database = None
    return ScanRecord(
        image=image,
        platform=platform,
        trivy=trivy,
        matched=trivy,
        kinds=[kind for kind in kinds if kind != "vulnerability" or database is not None],
        database=database,
        checks=checks,
        vex=vex,
        lacking=list(lacking),
        layers=layers.layers(
            report.metadata.image_config.history or (), report.metadata.diff_ids or ()
        ),
        findings=_sorted([*_vulnerabilities(report), *_others(report)]),
    )


def rematched(
    known: ScanRecord, report: Report, *, trivy: str, database: str, vex: str
) -> ScanRecord:
    """A record whose packages were compared with another database, from its SBOM.

    Raises ToolError when the report is of another image.
    """
    _check(report, known.image)
    others = [finding for finding in known.findings if finding.kind != "vulnerability"]
    kinds: list[Kind] = ["vulnerability"]
    return msgspec.structs.replace(
        known,
        matched=trivy,
        kinds=kinds + [kind for kind in known.kinds if kind != "vulnerability"],
        database=database,
        vex=vex,
        findings=_sorted([*_vulnerabilities(report), *others]),
    )


def _check(report: Report, image: str) -> None:
    if report.metadata.image != image:
        raise ToolError(
            f"trivy scanned {report.metadata.image or 'nothing'} instead of {image}",
            "Run the stage again",
        )


def _vulnerabilities(report: Report) -> list[Finding]:
    found = []
    for result in report.results or ():
        found += [_vulnerability(one, result.target) for one in result.vulnerabilities or ()]
        for one in result.modified or ():
            if one.type != "vulnerability":
                continue
            why = ": ".join(part for part in (one.status, one.statement) if part)
            try:
                held = typed.decode(one.finding, Vulnerability)
            except msgspec.MsgspecError as error:
                raise ToolError(
                    f"trivy's report cannot be read ({error})", "Scan again: run the stage again"
                ) from error
            found.append(_vulnerability(held, result.target, vex=why or "said by a VEX document"))
    return found


def _vulnerability(one: Vulnerability, target: str, vex: str = "") -> Finding:
    return Finding(
        kind="vulnerability",
        id=one.id,
        severity=_severity(one.severity),
        title=one.title,
        package=one.pkg_name,
        installed=one.installed_version,
        fixed=one.fixed_version,
        target=_packages(target),
        purl=one.pkg_identifier.purl,
        layer=one.layer.diff_id,
        url=one.url,
        vex=vex,
    )


def _packages(target: str) -> str:
    """`debian 12.5` of `registry/image:tag (debian 12.5)`: what names the image is
    another from scan to scan."""
    head, bracket, inner = target.rpartition(" (")
    return inner[:-1] if bracket and head and inner.endswith(")") else target


def _others(report: Report) -> list[Finding]:
    found: list[Finding] = []
    for result in report.results or ():
        found += [
            Finding(
                kind="secret",
                id=one.id,
                severity=_severity(one.severity),
                title=one.title,
                target=result.target,
                line=one.start_line,
                layer=one.layer.diff_id,
            )
            for one in result.secrets or ()
        ]
        found += [
            Finding(
                kind="misconfiguration",
                id=one.id,
                severity=_severity(one.severity),
                title=one.title,
                target="the image's configuration",
                url=one.url,
            )
            for one in result.misconfigurations or ()
            if one.status == "FAIL"
        ]
        found += [
            Finding(
                kind="license",
                id=one.name,
                severity=_severity(one.severity),
                title=one.category,
                package=one.pkg_name,
                target=one.file_path or result.target,
                url=one.link,
            )
            for one in result.licenses or ()
        ]
    return found


def _severity(text: str) -> Severity:
    return text if text in _KNOWN else "UNKNOWN"  # type: ignore[return-value]


def _sorted(findings: Sequence[Finding]) -> list[Finding]:
    """In one order, whatever order Trivy took, and each once."""
    return sorted(set(findings), key=msgspec.structs.astuple)
