"""Verdicts."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ci_tools.config import Scan
from ci_tools.errors import ToolError
from ci_tools.scanner import gate
from ci_tools.scanner.trivy import Database

IMAGE = "sha256:" + "1" * 64
FRESH = Database(updated="2026-01-01T00:00:00Z")
NONE = Database(problem="no network")


def report(*results: dict[str, Any], image: str = IMAGE) -> gate.Report:
    document = {
        "SchemaVersion": 2, "Metadata": {"ImageID": image}, "Results": list(results),
        "Unknown": "fields are Trivy's own business",
    }  # fmt: skip
    return gate.read(msgspec.json.encode(document))


def vulnerable(severity: str, fixed: str = "", number: int = 1) -> dict[str, Any]:
    return {
        "Target": "debian",
        "Vulnerabilities": [
            {
                "VulnerabilityID": f"CVE-{n}", "PkgName": "zlib", "InstalledVersion": "1",
                "FixedVersion": fixed, "Severity": severity,
            }
            for n in range(number)
        ],
    }  # fmt: skip


SECRET = {"Target": "/app/.env", "Secrets": [{"RuleID": "aws-key", "Match": "AKIASECRET"}]}
CLEAN = {"Target": "debian", "Vulnerabilities": None}


@pytest.mark.parametrize(
    ("results", "policy", "database", "status", "counts"),
    [
        ([], Scan(), FRESH, "pass", {}),
        ([CLEAN], Scan(), FRESH, "pass", {}),
        ([vulnerable("HIGH", "2")], Scan(), FRESH, "fail", {"HIGH": 1}),
        ([vulnerable("CRITICAL", "2", 5)], Scan(), FRESH, "fail", {"CRITICAL": 5}),
        ([vulnerable("HIGH")], Scan(), FRESH, "pass", {}),  # nothing to upgrade to
        ([vulnerable("HIGH")], Scan(ignore_unfixed=False), FRESH, "fail", {"HIGH": 1}),
        ([vulnerable("LOW", "2")], Scan(), FRESH, "pass", {}),
        ([vulnerable("LOW", "2")], Scan(severities=("LOW",)), FRESH, "fail", {"LOW": 1}),
        ([vulnerable("UNKNOWN", "2")], Scan(), FRESH, "pass", {}),
        ([], Scan(), NONE, "incomplete", {}),
        ([vulnerable("HIGH", "2")], Scan(), NONE, "fail", {"HIGH": 1}),
        ([SECRET], Scan(severities=()), FRESH, "fail", {"SECRET": 1}),
        ([SECRET], Scan(severities=()), NONE, "fail", {"SECRET": 1}),
        (
            [SECRET, vulnerable("HIGH", "2", 2), vulnerable("CRITICAL", "2")],
            Scan(), FRESH, "fail", {"CRITICAL": 1, "HIGH": 2, "SECRET": 1},
        ),
    ],
)  # fmt: skip
def test_verdicts(
    results: list[dict[str, Any]],
    policy: Scan,
    database: Database,
    status: str,
    counts: dict[str, int],
) -> None:
    verdict = gate.judge(report(*results), IMAGE, policy, "0.70", database)
    assert (verdict.status, verdict.counts) == (status, counts)
    assert verdict.database == database.updated
    assert bool(verdict.reason) == (status != "pass")


def test_the_reason_names_findings_but_no_secret() -> None:
    found = report(SECRET, vulnerable("HIGH", "2", 5))
    reason = gate.judge(found, IMAGE, Scan(), "0.70", FRESH).reason
    assert reason.startswith("aws-key in /app/.env; CVE-0 in zlib 1 (fixed in 2)")
    assert reason.endswith("and 3 more")
    assert "AKIASECRET" not in reason


def test_without_a_database_the_reason_is_why() -> None:
    assert gate.judge(report(), IMAGE, Scan(), "1", NONE).reason == "no network"
    assert gate.judge(report(), IMAGE, Scan(), "1", Database()).reason


@pytest.mark.parametrize("image", ["sha256:" + "2" * 64, ""])
def test_a_report_of_another_image_is_refused(image: str) -> None:
    with pytest.raises(ToolError, match=f"instead of {IMAGE}"):
        gate.judge(report(image=image), IMAGE, Scan(), "1", FRESH)


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b"{}", b"\xff", b'{"SchemaVersion": "2"}',
            b'{"SchemaVersion": 2, "Results": [{"Secrets": 1}]}'],
)  # fmt: skip
def test_a_damaged_report_is_refused(raw: bytes) -> None:
    with pytest.raises(ToolError, match="report cannot be read"):
        gate.read(raw)


def test_when_a_verdict_still_stands() -> None:
    verdict = gate.judge(report(), IMAGE, Scan(), "0.70", FRESH)
    newer = Database(updated="2026-01-02T00:00:00Z")
    assert gate.still_valid(verdict, Scan(), "0.70", FRESH)
    # the time-out, and where the database came from, judge nothing
    assert gate.still_valid(verdict, Scan(timeout=1, database="x"), "0.70", FRESH)
    assert gate.still_valid(verdict, Scan(severities=("CRITICAL", "HIGH")), "0.70", FRESH)
    assert not gate.still_valid(verdict, Scan(), "0.71", FRESH)
    assert not gate.still_valid(verdict, Scan(), "0.70", newer)
    assert not gate.still_valid(verdict, Scan(), "0.70", NONE)
    assert not gate.still_valid(verdict, Scan(severities=("HIGH",)), "0.70", FRESH)
    assert not gate.still_valid(verdict, Scan(ignore_unfixed=False), "0.70", FRESH)


def test_new_rules_expire_old_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = gate.judge(report(), IMAGE, Scan(), "0.70", FRESH)
    monkeypatch.setattr(gate, "_RULES", gate._RULES + 1)
    assert not gate.still_valid(verdict, Scan(), "0.70", FRESH)
