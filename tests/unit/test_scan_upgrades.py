"""What to update, where, and what changed since the build before."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from ci_tools.documents import Finding, Judged, ScanReport
from ci_tools.report import versions
from ci_tools.report.news import News, news
from ci_tools.report.places import Found, Place, found
from ci_tools.report.upgrades import bases, upgrades
from tests.fakes import scan_sample
from tests.fakes.scan_reports import image, of, reports, vulnerability


def counting(report: ScanReport) -> list[Found]:
    return [one for one in found(report) if one.judged.standing == "counts"]


def since(before: ScanReport, report: ScanReport) -> News:
    return news(report, found(report), before)


@pytest.mark.parametrize(
    ("fixes", "kind", "least"),
    [
        (["1.1"], "deb", "1.1"),
        (["3.0.9-1", "3.0.14-1", "3.0.14-1~deb12u1"], "deb", "3.0.14-1"),
        (["1:1.0", "9.0"], "deb", "1:1.0"),
        (["2.0", "2.0rc1"], "pypi", "2.0"),
        (["1.0, 1.0.5", "1.0"], "pypi", "1.0"),
        (["1.2.9, 2.0.3", "2.0.1"], "npm", "2.0.3"),
        (["1.2.9, 2.0.3", "1.2.8, 2.0.2"], "npm", "1.2.9"),
        (["4.1.9, 4.2.1", "4.2.0"], "pypi", "4.2.1"),
        (["4.1.9, 4.2.1", "4.1.10, 4.2.0"], "pypi", "4.1.10"),
        (["2.3.1, 2.12.2, 2.15.0", "2.3.1, 2.12.3, 2.17.0"], "maven", "2.3.1"),
        (["2.12.2, 2.15.0", "2.12.3, 2.17.0", "2.17.1"], "maven", "2.17.1"),
        (["1.2, 3.4", "2.0"], "pypi", "3.4"),
        (["1.0", "odd version"], "pypi", "1.0, odd version"),
        (["1.0", "2.0"], "unheard-of", "1.0, 2.0"),
        (["1.0", "2.0"], "", "1.0, 2.0"),
        (["", " , "], "deb", ""),
        ([], "deb", ""),
    ],
)
def test_the_lowest_version_that_mends_all(fixes: list[str], kind: str, least: str) -> None:
    assert versions.least(fixes, kind) == least
    assert versions.least(fixes[::-1] * 2, kind) == least or ", " in least


def standing(finding: Finding, how: Any = "waived", **more: str) -> Judged:
    return Judged(finding=finding, standing=how, **more)


SIBLING = "clinical/base"


def family(*findings: Finding, **more: Any) -> ScanReport:
    """A base with a layer of python's and one of its own, and two children on it."""
    child: dict[str, Any] = {
        "lines": {"deep": 1, "shared": 1, "own": 5},
        "bases": {"deep": SIBLING, "shared": SIBLING},
        "parents": [SIBLING],
    }
    base = image("base", *findings, lines={"deep": 2, "shared": 4}, bases={"deep": "python:3"})
    return of(base, *(image(name, *findings, **child) for name in ("one", "two")), **more)


def test_a_sibling_s_findings_are_mended_where_the_sibling_got_them() -> None:
    deep, shared = vulnerability("CVE-1", layer="deep"), vulnerability("CVE-2", layer="shared")
    places = {(one.component, one.finding.id): one for one in found(family(deep, shared))}
    for name in ("base", "one", "two"):
        assert places[name, "CVE-1"].place == Place("python:3", "base", "base/Dockerfile", 2)
        assert places[name, "CVE-2"].place == Place("", "base", "base/Dockerfile", 4)
    assert places["one", "CVE-2"].own == Place(SIBLING, "one", "one/Dockerfile", 1)


def test_a_sibling_that_is_not_here_is_a_base_like_any_other() -> None:
    report = family(vulnerability("CVE-1", layer="deep"))
    alone = msgspec.structs.replace(report, images=report.images[1:2])
    (one,) = found(alone)
    assert one.place == Place(SIBLING, "one", "one/Dockerfile", 1)


def test_a_layer_that_is_not_known_is_the_component_s_own_without_a_line() -> None:
    (one,) = found(of(image("a", vulnerability("CVE-1", layer="x"))))
    assert one.place == Place("", "a", "a/Dockerfile", 0)


def test_what_counts_comes_first_then_secrets_then_by_severity() -> None:
    secret = Finding(kind="secret", id="key", severity="LOW", target="/x")
    waived = Judged(finding=vulnerability("CVE-3", severity="CRITICAL"), standing="waived")
    high = vulnerability("CVE-1", severity="HIGH")
    critical = vulnerability("CVE-2", severity="CRITICAL")
    report = of(image("b", critical), image("a", waived, high, secret))
    ids = [one.finding.id for one in found(report)]
    assert ids == ["key", "CVE-2", "CVE-1", "CVE-3"]


def test_one_update_in_the_base_mends_all_components() -> None:
    report = family(
        vulnerability("CVE-1", layer="deep", fixed="1.2", severity="LOW"),
        vulnerability("CVE-2", layer="deep", fixed="1.10", severity="CRITICAL"),
        vulnerability("CVE-3", layer="deep", fixed=""),
        vulnerability("CVE-4", layer="shared", fixed="1.2"),
    )
    base, own = upgrades(counting(report))
    assert (base.package, base.installed, base.to) == ("pkg", ("1.0",), "1.10")
    assert (base.base, own.base) == ("python:3", "")
    assert base.places == (Place("python:3", "base", "base/Dockerfile", 2),)
    assert base.components == ("base", "one", "two")
    assert [one.finding.id for one in base.distinct] == ["CVE-2", "CVE-1"]
    assert base.severities == {"CRITICAL": 1, "LOW": 1}
    assert own.places == (Place("", "base", "base/Dockerfile", 4),)
    (share,) = bases(counting(report))
    assert (share.base, len(share.distinct), share.fixable) == ("python:3", 3, 2)


def test_of_one_finding_with_several_severities_the_worst_is_told() -> None:
    low, high = (vulnerability("CVE-1", severity=one, layer="l") for one in ("LOW", "HIGH"))
    base: dict[str, Any] = {"bases": {"l": "python:3"}, "lines": {"l": 1}}
    (one,) = upgrades(counting(of(image("a", low, **base), image("b", high, **base))))
    assert one.severities == {"HIGH": 1}


def test_only_what_counts_is_to_be_updated() -> None:
    finding = vulnerability("CVE-1")
    stands = ("below", "unfixed", "waived", "not affected")
    report = of(image("a", *(standing(finding, how) for how in stands)))
    assert upgrades(counting(report)) == bases(counting(report)) == []


@settings(max_examples=150, deadline=None)
@given(reports())
def test_every_counted_finding_with_a_fix_is_in_exactly_one_update(report: ScanReport) -> None:
    wanted = Counter(
        {
            (image.component, *judged.finding.identity): 1
            for image in report.images
            for judged in image.findings
            if judged.standing == "counts"
        }
    )
    updates = upgrades(counting(report))
    mended = Counter(one.key for update in updates for one in update.findings)
    left = Counter(one.key for one in counting(report) if not one.finding.fixed)
    assert mended + left == wanted
    assert not mended & left
    assert all(one.finding.fixed for update in updates for one in update.findings)
    assert len({(one.base, one.package, one.kind) for one in updates}) == len(updates)
    assert sum(len(one.findings) for one in bases(counting(report))) <= len(counting(report))


def test_what_is_new_and_what_is_gone() -> None:
    stays, comes, goes = (vulnerability(f"CVE-{number}") for number in range(3))
    before = of(image("a", stays, goes), image("old", stays))
    after = of(
        image("a", msgspec.structs.replace(stays, installed="1.0.1", layer="other"), comes),
        image("b", stays),
    )
    told = since(before, after)
    assert [(one.found.component, one.found.finding.id) for one in told.new] == [
        ("a", "CVE-1"), ("b", "CVE-0"),
    ]  # fmt: skip
    assert [(one.found.component, one.found.finding.id) for one in told.gone] == [("a", "CVE-2")]
    assert told.absent == ("old",)
    assert (told.unsure, told.policy) == ((), False)


def test_what_counts_no_more_or_again_says_how_it_stood() -> None:
    finding = vulnerability("CVE-1")
    counts, waived = of(image("a", finding)), of(image("a", standing(finding)), policy="other")
    (gone,) = since(counts, waived).gone
    (new,) = since(waived, counts).new
    assert (gone.other, new.other) == ("waived", "waived")
    assert since(counts, waived).policy
    assert since(counts, waived).new == since(waived, counts).gone == ()


@pytest.mark.parametrize("incomplete", [{"status": "incomplete"}, {"database": None}])
def test_what_was_not_looked_for_is_neither_new_nor_gone(incomplete: Any) -> None:
    secret = Finding(kind="secret", id="key", target="/x")
    full = of(image("a", vulnerability("CVE-1"), secret))
    partly = of(image("a", **incomplete))
    for told in (since(full, partly), since(partly, full)):
        assert told.unsure == ("a",)
        assert {one.found.finding.id for one in (*told.new, *told.gone)} == {"key"}


@settings(max_examples=100, deadline=None)
@given(reports(), reports())
def test_news_of_nothing_and_the_other_way_round(one: ScanReport, other: ScanReport) -> None:
    assert not (told := since(one, one)).new
    assert not told.gone
    assert told.absent == ()
    forward, back = since(other, one), since(one, other)
    new = {change.found.key for change in forward.new}
    gone = {change.found.key for change in forward.gone}
    assert not new & gone
    # What came on the way there goes on the way back, where both reports know of it.
    both = {image.component for image in one.images} & {image.component for image in other.images}
    left = {change.found.key for change in back.gone}
    assert {key for key in new if key[0] in both} == {key for key in left if key[0] in both}
    now = {found.key for found in counting(one)}
    assert new <= now
    assert not gone & now


def test_the_sample_tells_its_story() -> None:
    report, before = scan_sample.report(), scan_sample.before()
    told = since(before, report)
    ids = {change.found.finding.id for change in told.new}
    assert ids == {scan_sample.TORCH.id, scan_sample.KEY.id, scan_sample.OPENSSL[2].id}
    assert {(change.found.finding.package, change.other) for change in told.gone} == {
        ("curl", ""), ("mlflow", "waived"),
    }  # fmt: skip
    first = upgrades(counting(report))[0]
    assert (first.package, first.to, first.base) == (
        "libexpat1", "2.5.0-1+deb12u1", "python:3.11-slim-bookworm",
    )  # fmt: skip
    assert len(first.components) == 5
