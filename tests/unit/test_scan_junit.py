"""A scan in Jenkins' test view."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from ci_tools.documents import Finding, Judged, ScannedImage, ScanReport
from ci_tools.report import junit, scan_junit
from tests.fakes.scan_reports import image, of, reports, vulnerability


def cases(*images: ScannedImage, tmp_path: Path) -> dict[str, tuple[str, str]]:
    """Name of a case -> what became of it, and why, as a reader of XML has it."""
    path = tmp_path / "scan.xml"
    junit.write(path, scan_junit.suites(of(*images)))
    (suite,) = ET.fromstring(path.read_bytes())
    found = {}
    for case in suite:
        assert case.get("classname") == suite.get("name")
        outcome = next(iter(case), None)
        tag = outcome.tag if outcome is not None else "passed"
        found[case.get("name", "")] = (tag, outcome.get("message", "") if tag != "passed" else "")  # type: ignore[union-attr]
    assert len(found) == len(suite) == int(suite.get("tests", ""))
    tags = [tag for tag, _ in found.values()]
    assert tags.count("failure") == int(suite.get("failures", ""))
    assert tags.count("skipped") == int(suite.get("skipped", "0"))
    return found


def test_an_image_that_passes_has_one_case_that_passes(tmp_path: Path) -> None:
    below = Judged(finding=vulnerability("CVE-1"), standing="below")
    assert cases(image("a", below), tmp_path=tmp_path) == {"scan": ("passed", "")}


def test_what_counts_fails_and_what_is_held_back_is_skipped(tmp_path: Path) -> None:
    secret = Finding(
        kind="secret", id="aws-key", severity="CRITICAL", target="/root/x", line=2, title="A key"
    )
    waived = Judged(
        finding=vulnerability("CVE-2"), standing="waived", why="not reached", until="2027-01-01"
    )
    vex = Judged(finding=vulnerability("CVE-3", package="other"), standing="not affected")
    found = cases(
        image(
            "a", vulnerability("CVE-1", title="bad", url="https://x/1"), secret, waived, vex,
            status="fail", reason="2 findings",
        ),
        tmp_path=tmp_path,
    )  # fmt: skip
    assert found == {
        "scan": ("failure", "2 findings"),
        "CVE-1 pkg": (
            "failure", "HIGH CVE-1: bad (pkg 1.0 in debian 12; update to 1.1) https://x/1",
        ),
        "aws-key /root/x (secret)": (
            "failure", "CRITICAL aws-key: A key (in /root/x line 2)",
        ),
        "CVE-2 pkg": ("skipped", "waived: not reached, until 2027-01-01"),
        "CVE-3 other": ("skipped", "not affected: no reason is given"),
    }  # fmt: skip


@pytest.mark.parametrize(("reference", "outcome"), [("r@sha256:0", "skipped"), ("", "failure")])
def test_an_incomplete_scan_fails_unless_it_was_let_through(
    tmp_path: Path, reference: str, outcome: str
) -> None:
    one = image("a", status="incomplete", reason="no database", reference=reference)
    assert cases(one, tmp_path=tmp_path) == {"scan": (outcome, "no database")}


def test_names_are_the_same_in_the_next_build(tmp_path: Path) -> None:
    def names(**more: Any) -> set[str]:
        return set(cases(image("a", vulnerability("CVE-1", **more)), tmp_path=tmp_path))

    assert names() == names(installed="2", fixed="3", layer="x", title="t", target="other")


def test_a_suite_for_each_platform() -> None:
    report = of(
        image("b", platform="linux/amd64"),
        image("a", platform="linux/arm64"),
        image("a", platform="linux/amd64"),
    )
    assert [suite.name for suite in scan_junit.suites(report)] == [
        "scan.a (linux/amd64)", "scan.a (linux/arm64)", "scan.b",
    ]  # fmt: skip
    releases = of(image("a", reference="r@sha256:" + "1" * 64), image("a", reference="r@sha256:2"))
    assert [suite.name for suite in scan_junit.suites(releases)] == [
        "scan.a", "scan.a (2)",
    ]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(reports())
def test_no_suite_is_empty_and_no_name_is_there_twice(report: ScanReport) -> None:
    suites = scan_junit.suites(report)
    assert len({suite.name for suite in suites}) == len(report.images) == len(suites)
    for suite in suites:
        names = [case[0] for case in suite.cases] + [skip[0] for skip in suite.skips]
        assert len(names) == len(set(names))
        assert "scan" in names


def test_of_one_name_what_counts_is_told(tmp_path: Path) -> None:
    waived = Judged(finding=vulnerability("CVE-1", installed="0.1"), standing="waived", why="w")
    for findings in ((waived, vulnerability("CVE-1")), (vulnerability("CVE-1"), waived)):
        outcome, told = cases(image("a", *findings), tmp_path=tmp_path)["CVE-1 pkg"]
        assert outcome == "failure"
        assert "pkg 1.0" in told
        assert "pkg 0.1" not in told
