"""SARIF 2.1.0, as code hosts and Jenkins' warnings plug-in take it. Pure.

The format: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html.
What a code host makes of it, and its limits:
https://docs.github.com/en/code-security/reference/code-scanning/sarif-files/sarif-support-for-code-scanning
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import TypeVar
from urllib.parse import quote

from ci_tools.documents import Finding, Json, Judged, Remark, ScanReport
from ci_tools.report.links import web
from ci_tools.report.places import Found, severity_rank

T = TypeVar("T")

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
RESULTS = 5000  # of a run: GitHub keeps no more
_TEXT = 1000  # characters of a description: GitHub shows 1024
_NAMED = 20  # packages in a rule's help
# GitHub: above 9.0 is critical, from 7.0 high, from 4.0 medium, above 0 low.
_SCORES = {"CRITICAL": "9.5", "HIGH": "8.0", "MEDIUM": "5.5", "LOW": "2.0", "UNKNOWN": "0.0"}
_NAMES = {
    "vulnerability": "VulnerablePackage",
    "secret": "SecretInImage",
    "misconfiguration": "Misconfiguration",
    "license": "License",
}
_REMARKS = {"error": "error", "warning": "warning", "info": "note", "style": "note"}


def render(report: ScanReport, every: Sequence[Found]) -> Json:
    """The report as a SARIF log; equal reports give equal logs. every: `places.found` of it.

    A result is one finding of one component, whatever the number of its platforms,
    at the line of the component's Dockerfile that brought it; its fingerprint does
    not change with lines, versions or digests. Waived and VEX findings are results
    with a suppression. Beyond RESULTS the least important are left out, and that
    is told in a notification.
    """
    runs = [_trivy(report, every)]
    if report.dockerfiles:
        runs.append(_hadolint(report))
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": runs}


def _trivy(report: ScanReport, every: Sequence[Found]) -> Json:
    kept, left = _cut(every)
    groups: dict[str, list[Found]] = {}
    for one in kept:
        groups.setdefault(_rule_id(one.finding), []).append(one)
    ids = sorted(groups)
    index = {rule: number for number, rule in enumerate(ids)}
    incomplete = [one for one in report.images if one.verdict.status == "incomplete"]
    notes = [
        _notification(
            "error", f"{image.component} was not looked into fully: {image.verdict.reason}"
        )
        for image in sorted(incomplete, key=lambda image: (image.component, image.platform))
    ]
    driver = {
        "name": "Trivy",
        "informationUri": "https://trivy.dev",
        "version": report.trivy or "unknown",
        "rules": [_rule(rule, groups[rule]) for rule in ids],
    }
    return _run(
        report,
        "scan",
        driver,
        [_result(one, index[_rule_id(one.finding)]) for one in kept],
        [*_told(left), *notes],
        successful=not incomplete,
    )


def _run(
    report: ScanReport,
    what: str,
    driver: Json,
    results: list[Json],
    notifications: list[Json],
    *,
    successful: bool = True,
) -> Json:
    where = f"{quote(report.project, safe='')}/{quote(report.environment, safe='')}"
    invocation: Json = {"executionSuccessful": successful}
    if notifications:
        invocation["toolExecutionNotifications"] = notifications
    return {
        "tool": {"driver": driver},
        # Up to the last slash it is GitHub's category: one for each project and environment.
        "automationDetails": {"id": f"{what}/{where}/"},
        "columnKind": "unicodeCodePoints",
        "invocations": [invocation],
        "results": results,
        "properties": {
            "commit": report.source.commit or "",
            "branch": report.source.branch or "",
            "database": report.database or "",
            "policy": report.policy,
        },
    }


def _rule_id(finding: Finding) -> str:
    """Of a vulnerability its own, so that hosts link it; else no two kinds share one."""
    return finding.id if finding.kind == "vulnerability" else f"{finding.kind}.{finding.id}"


def _rule(rule: str, members: Sequence[Found]) -> Json:
    """What its findings have in common; the worst severity that it has anywhere."""
    worst = min(members, key=lambda one: severity_rank(one.finding))
    finding = worst.finding
    title = next((one.finding.title for one in members if one.finding.title), "") or finding.id
    severity = "CRITICAL" if finding.kind == "secret" else finding.severity
    made: Json = {
        "id": rule,
        "name": _NAMES[finding.kind],
        "shortDescription": {"text": _plain(f"{finding.id}: {title}"[:_TEXT])},
        "fullDescription": {"text": _plain(f"{finding.kind}, {severity.lower()}: {title}"[:_TEXT])},
        "help": {"text": _plain(_help(members))},
        "defaultConfiguration": {"level": "error" if severity_rank(finding) < 2 else "warning"},
        "properties": {
            "security-severity": _SCORES[severity],
            "tags": ["security", finding.kind, severity.lower()],
        },
    }
    url = next((web(one.finding.url) for one in members if web(one.finding.url)), "")
    if url:
        made["helpUri"] = url
    return made


def _help(members: Sequence[Found]) -> str:
    """What to do about it, a line for each package."""
    lines = sorted({_todo(one.finding) for one in members})
    more = [f"and {len(lines) - _NAMED} more"] if len(lines) > _NAMED else []
    return "\n".join([*lines[:_NAMED], *more])


def _todo(finding: Finding) -> str:
    if finding.kind == "vulnerability":
        update = f"update to {finding.fixed}" if finding.fixed else "no fixed version yet"
        return f"{finding.package} {finding.installed}: {update}"
    if finding.kind == "secret":
        return "Take it out of the image and revoke it: it is in a layer that was built"
    return f"{finding.package or finding.target}: {finding.title or finding.id}"


def _result(one: Found, rule: int) -> Json:
    finding, judged, place = one.finding, one.judged, one.own
    what = f"{finding.package} {finding.installed}".strip() or finding.target or finding.id
    platforms = f" ({', '.join(one.platforms)})" if one.platforms else ""
    brought = f", brought by {place.base}" if place.base else ""
    fixed = f" Fixed in {finding.fixed}." if finding.fixed else ""
    made: Json = {
        "ruleId": _rule_id(finding),
        "ruleIndex": rule,
        "level": _level(judged),
        "message": {
            "text": _plain(
                f"{finding.id} in {what} of {one.component}{platforms}{brought}: "
                f"{finding.title or finding.severity.lower()}.{fixed}"
            )
        },
        "partialFingerprints": _fingerprints(*one.key),
        "properties": {"component": one.component, "standing": judged.standing},
    }
    made["locations"] = [_location(place.dockerfile, place.line, one.component)]
    if judged.standing in ("waived", "not affected"):
        until = f" (until {judged.until})" if judged.until else ""
        made["suppressions"] = [
            {
                "kind": "external",
                "status": "accepted",
                "justification": f"{judged.why or judged.standing}{until}",
            }
        ]
    return made


def _level(judged: Judged) -> str:
    """What fails the image is an error; of the rest the severe is a warning."""
    if judged.standing == "counts":
        return "error"
    severe = severity_rank(judged.finding) < 2
    return "warning" if severe and judged.standing in ("unfixed", "below") else "note"


def _location(path: str, line: int, component: str, column: int = 0) -> Json:
    made: Json = {}
    if component:
        made["logicalLocations"] = [{"name": component, "kind": "resource"}]
    if path:
        region = {"startLine": max(line, 1), **({"startColumn": column} if column > 0 else {})}
        made["physicalLocation"] = {
            "artifactLocation": {"uri": quote(path, safe="/")},
            "region": region,
        }
    return made


def _hadolint(report: ScanReport) -> Json:
    remarks = sorted(
        set(report.dockerfiles),
        key=lambda one: (
            not one.gates,
            list(_REMARKS).index(one.level),
            one.dockerfile,
            one.line,
            one.column,
            one.code,
            one.message,
        ),
    )
    kept, left = _cut(remarks)
    ids = sorted({one.code for one in kept})
    messages = {code: next(one.message for one in kept if one.code == code) for code in ids}
    driver: Json = {
        "name": "hadolint",
        "informationUri": "https://github.com/hadolint/hadolint",
        "rules": [_remark_rule(code, messages[code] or code) for code in ids],
    }
    seen: dict[tuple[str, ...], int] = {}
    results = []
    for one in kept:
        # Not by line, which moves: by how many of its kind come before it.
        key = (one.dockerfile, one.code, one.message)
        seen[key] = seen.get(key, 0) + 1
        results.append(_remark(one, ids.index(one.code), (*key, str(seen[key]))))
    return _run(report, "hadolint", driver, results, _told(left))


def _remark(one: Remark, rule: int, key: tuple[str, ...]) -> Json:
    return {
        "ruleId": one.code,
        "ruleIndex": rule,
        "level": "error" if one.gates else _REMARKS[one.level],
        "message": {"text": _plain(one.message or one.code)},
        "locations": [_location(one.dockerfile, one.line, "", one.column)],
        "partialFingerprints": _fingerprints(*key),
    }


def _remark_rule(code: str, message: str) -> Json:
    address = ""
    if re.fullmatch(r"DL\d+", code):
        address = f"https://github.com/hadolint/hadolint/wiki/{code}"
    elif re.fullmatch(r"SC\d+", code):
        address = f"https://www.shellcheck.net/wiki/{code}"
    text = {"text": _plain(message[:_TEXT])}
    return {
        "id": code,
        "name": "DockerfilePractice",
        "shortDescription": text,
        "fullDescription": text,  # it and help: GitHub refuses a rule without
        "help": {"text": f"{text['text']}\n{address}".strip()},
        "properties": {"tags": ["dockerfile"]},
        **({"helpUri": address} if address else {}),
    }


def _cut(ordered: Sequence[T]) -> tuple[Sequence[T], int]:
    return ordered[:RESULTS], max(len(ordered) - RESULTS, 0)


def _told(left: int) -> list[Json]:
    if not left:
        return []
    return [
        _notification(
            "warning", f"{left} less important results are left out; scan.json has all of them"
        )
    ]


def _notification(level: str, text: str) -> Json:
    return {"level": level, "message": {"text": _plain(text)}}


def _fingerprints(*parts: str) -> Json:
    """The second is the only one that GitHub regards: usually a hash of the line, and
    how many such lines come before."""
    encoded = b"\0".join(part.encode(errors="replace") for part in parts)
    digest = hashlib.sha256(encoded).hexdigest()
    return {"kfpCiFinding/v1": digest, "primaryLocationLineHash": f"{digest[:16]}:1"}


def _plain(text: str) -> str:
    """Text without SARIF's own links and placeholders (3.11.5, 3.11.6)."""
    return re.sub(r"\{(?=\d)", "{ ", text.replace("](", "] ("))
