"""Scan reports in a few words, and any scan report at all."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ci_tools.documents import (
    Finding,
    Judged,
    Remark,
    ScannedImage,
    ScanReport,
    Source,
    Verdict,
    WaiverNote,
)
from ci_tools.documents.scan import KINDS, SEVERITIES

STANDINGS = ("counts", "below", "unfixed", "waived", "not affected")


def vulnerability(id: str, **more: Any) -> Finding:
    settings = {
        "severity": "HIGH", "package": "pkg", "installed": "1.0", "fixed": "1.1",
        "target": "debian 12", "purl": "pkg:deb/debian/pkg@1.0", **more,
    }  # fmt: skip
    return Finding(kind="vulnerability", id=id, **settings)


def image(
    component: str,
    *findings: Finding | Judged,
    status: Any = "pass",
    reason: str = "",
    database: str | None = "2026-11-24T00:00:00Z",
    **more: Any,
) -> ScannedImage:
    """An image of these findings; one without a standing counts."""
    judged = [
        one if isinstance(one, Judged) else Judged(finding=one, standing="counts")
        for one in findings
    ]
    verdict = Verdict(status=status, trivy="0.76.0", database=database, policy="p", reason=reason)
    settings = {"dockerfile": f"{component}/Dockerfile", **more}
    return ScannedImage(component=component, verdict=verdict, findings=judged, **settings)


def of(*images: ScannedImage, **more: Any) -> ScanReport:
    settings: dict[str, Any] = {
        "project": "clinical", "environment": "dev", "source": Source(branch="main"),
        "created": "2026-11-24T01:00:00Z", "trivy": "0.76.0", "policy": "p",
        "database": "2026-11-24T00:00:00Z", **more,
    }  # fmt: skip
    return ScanReport(images=list(images), **settings)


_text = st.text(max_size=6) | st.sampled_from(
    ["", "<b>'\"&", "](x)", "{0}", "javascript:x", "https://x/y", "a b", "ä/ö#?"]
)
_names = st.sampled_from(["a", "b", "c"])
_layers = st.sampled_from(["", "1", "2", "3"])
_versions = st.sampled_from(["", "1.0", "1.1, 2.0", "2.1", "1:0-1", "odd!", "1.9,3"])

findings = st.builds(
    Finding,
    kind=st.sampled_from(KINDS),
    id=st.sampled_from(["CVE-1", "CVE-2", "CVE-3"]) | _text,
    severity=st.sampled_from(SEVERITIES),
    title=_text,
    package=st.sampled_from(["", "openssl", "zlib"]),
    installed=_versions,
    fixed=_versions,
    target=_text,
    line=st.integers(0, 3),
    purl=st.sampled_from(["", "pkg:deb/debian/x@1", "pkg:pypi/x@1", "pkg:npm/x"]),
    layer=_layers,
    url=_text,
)
judged = st.builds(
    Judged, finding=findings, standing=st.sampled_from(STANDINGS), why=_text, until=_text
)
verdicts = st.builds(
    Verdict,
    status=st.sampled_from(["pass", "fail", "incomplete"]),
    trivy=_text,
    database=st.none() | st.just("2026-01-01T00:00:00Z"),
    policy=_text,
    reason=_text,
)
images = st.builds(
    ScannedImage,
    component=_names,
    platform=st.sampled_from(["", "linux/amd64", "linux/arm64"]),
    reference=_text,
    dockerfile=_text,
    verdict=verdicts,
    findings=st.lists(judged, max_size=6),
    lines=st.dictionaries(_layers, st.integers(1, 9), max_size=3),
    bases=st.dictionaries(_layers, st.sampled_from(["python:3", "clinical/a", "b"]), max_size=3),
    parents=st.lists(st.sampled_from(["clinical/a", "b"]), max_size=2),
)
remarks = st.builds(
    Remark,
    dockerfile=_text,
    line=st.integers(0, 3),
    column=st.integers(0, 2),
    code=st.sampled_from(["DL3008", "SC2086", "odd"]),
    level=st.sampled_from(["error", "warning", "info", "style"]),
    message=_text,
    gates=st.booleans(),
)
notes = st.builds(
    WaiverNote,
    problem=st.sampled_from(["expired", "unused", "expires soon"]),
    id=_text,
    package=_text,
    component=_text,
    owner=_text,
    expires=_text,
)


def reports() -> st.SearchStrategy[ScanReport]:
    """Any report; an image is in it once."""
    return st.builds(
        ScanReport,
        project=st.just("clinical"),
        environment=_text,
        source=st.builds(Source, commit=st.none() | _text, branch=st.none() | _text),
        created=_text,
        trivy=_text,
        database=st.none() | _text,
        policy=_text,
        images=st.lists(images, max_size=4, unique_by=lambda one: (one.component, one.platform)),
        waivers=st.lists(notes, max_size=3),
        dockerfiles=st.lists(remarks, max_size=4),
    )
