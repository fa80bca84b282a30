"""From Trivy's report to a verdict. Pure: a report and a policy in, a verdict out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Literal

import msgspec

from ci_tools.config import Scan
from ci_tools.documents import Verdict
from ci_tools.errors import ToolError
from ci_tools.scanner.trivy import Database

_RULES = 1  # raise it when this module judges differently: old verdicts then expire
_SHOWN = 3


class Vulnerability(msgspec.Struct, rename="pascal"):
    vulnerability_i_d: str = msgspec.field(name="VulnerabilityID", default="")
    pkg_name: str = ""
    installed_version: str = ""
    fixed_version: str = ""
    severity: str = "UNKNOWN"


class Secret(msgspec.Struct, rename="pascal"):
    """What was found, never the secret itself."""

    rule: str = msgspec.field(name="RuleID", default="")
    title: str = ""
    start_line: int = 0


class Result(msgspec.Struct, rename="pascal"):
    target: str = ""
    vulnerabilities: list[Vulnerability] | None = None
    secrets: list[Secret] | None = None


class Metadata(msgspec.Struct, rename="pascal"):
    image: str = msgspec.field(name="ImageID", default="")


class Report(msgspec.Struct, rename="pascal"):
    schema_version: int
    metadata: Metadata = msgspec.field(default_factory=Metadata)
    results: list[Result] | None = None


def read(raw: bytes) -> Report:
    """Trivy's JSON as a report. Raises ToolError for anything else."""
    try:
        return msgspec.json.decode(raw, type=Report)
    except msgspec.MsgspecError as error:
        raise ToolError(
            f"trivy's report cannot be read ({error})", "Scan again: run the stage again"
        ) from error


def policy_hash(policy: Scan) -> str:
    """What a verdict depends on besides the image and the database: 64 hex."""
    rules = {
        "rules": _RULES,
        "severities": sorted(policy.severities),
        "ignore_unfixed": policy.ignore_unfixed,
    }
    return hashlib.sha256(msgspec.json.encode(rules, order="sorted")).hexdigest()


def judge(report: Report, image_id: str, policy: Scan, trivy: str, database: Database) -> Verdict:
    """The verdict on one image.

    A secret fails it, whatever the policy says, and so does a vulnerability
    that the policy counts. Without a vulnerability database no image can pass:
    it is incomplete.

    Raises ToolError when the report is of another image than was built.
    """
    if report.metadata.image != image_id:
        raise ToolError(
            f"trivy scanned {report.metadata.image or 'nothing'} instead of {image_id}",
            "Run the stage again",
        )
    secrets = [
        f"{secret.rule} in {result.target}"
        for result in report.results or ()
        for secret in result.secrets or ()
    ]
    counted = [
        found
        for result in report.results or ()
        for found in result.vulnerabilities or ()
        if found.severity in policy.severities
        and (found.fixed_version or not policy.ignore_unfixed)
    ]
    counts = Counter(found.severity for found in counted)
    if secrets:
        counts["SECRET"] = len(secrets)
    findings = secrets + [
        f"{v.vulnerability_i_d} in {v.pkg_name} {v.installed_version}"
        + (f" (fixed in {v.fixed_version})" if v.fixed_version else "")
        for v in counted
    ]
    status: Literal["pass", "fail", "incomplete"] = "pass"
    reason = ""
    if findings:
        status = "fail"
        more = f" and {len(findings) - _SHOWN} more" if len(findings) > _SHOWN else ""
        reason = "; ".join(findings[:_SHOWN]) + more
    elif database.updated is None:
        status = "incomplete"
        reason = database.problem or "there is no vulnerability database"
    return Verdict(
        status=status,
        trivy=trivy,
        database=database.updated,
        policy=policy_hash(policy),
        counts=dict(sorted(counts.items())),
        reason=reason,
    )


def combined(verdicts: Mapping[str, Verdict]) -> Verdict:
    """The verdict on an image of several platforms, of which each has its own: the worst."""
    order = ("fail", "incomplete", "pass")
    platform, worst = min(verdicts.items(), key=lambda item: order.index(item[1].status))
    if len(verdicts) == 1:
        return worst
    counts = sum((Counter(one.counts) for one in verdicts.values()), Counter())
    return msgspec.structs.replace(
        worst,
        counts=dict(sorted(counts.items())),
        reason=f"{platform}: {worst.reason}" if worst.reason else "",
    )


def still_valid(verdict: Verdict, policy: Scan, trivy: str, database: Database) -> bool:
    """Whether a recorded verdict may stand: same Trivy, database and policy."""
    return (
        verdict.trivy == trivy
        and verdict.database == database.updated
        and verdict.policy == policy_hash(policy)
    )
