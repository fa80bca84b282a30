"""The page for people, and all reports together."""

from __future__ import annotations

import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import pytest
from hypothesis import given, settings

from ci_tools import storage
from ci_tools.documents import Finding, Judged, Remark, ScanReport, Source, WaiverNote
from ci_tools.errors import MissingInputError
from ci_tools.report import page, scan
from ci_tools.report.places import found
from tests.fakes import scan_sample
from tests.fakes.scan_reports import image, of, reports, vulnerability

_VOID = {"meta", "br"}


class Page(HTMLParser):
    """A page as a browser reads it: well nested, or it fails."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.words.append(" " if tag in ("br", "td", "th", "tr", "p") else "")
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))

    def values(self, name: str) -> set[str]:
        return {value for _, attribute, value in self.attributes if attribute == name}


def shown(report: ScanReport, before: ScanReport | None = None) -> Page:
    return Page(page.render(report, found(report), before))


def check_harmless(read: Page) -> None:
    """No scripts, nothing from outside, no address but of the web or of this page."""
    allowed = (
        "html head meta title style body h1 h2 h3 p b a br code span table thead tbody tr th td"
    )
    assert set(read.tags) <= {*allowed.split(), "ul", "li", "details", "summary"}
    names = {name for _, name, _ in read.attributes}
    assert names <= set("lang charset name content class border cellpadding href rel id".split())
    for address in read.values("href"):
        assert re.match(r"https?://[^/]|#image-\d+$", address), address


@settings(max_examples=60, deadline=None)
@given(reports(), reports())
def test_any_report_makes_a_harmless_page(report: ScanReport, before: ScanReport) -> None:
    check_harmless(shown(report, before))
    check_harmless(shown(report))


NASTY = "<script>alert(1)</script><img src=x onerror=y>\"'&{{7*7}}"


def test_nothing_from_outside_is_markup() -> None:
    finding = Finding(
        kind="vulnerability", id=NASTY, title=NASTY, package=NASTY, installed=NASTY, fixed=NASTY,
        target=NASTY, layer="l", url=f"https://x/{NASTY}", severity="HIGH",
    )  # fmt: skip
    held = Judged(finding=finding, standing="waived", why=NASTY, until=NASTY)
    secret = Finding(kind="secret", id=NASTY, title=NASTY, target=NASTY)
    report = of(
        image(NASTY, finding, secret, bases={"l": NASTY}, lines={"l": 1}, dockerfile=NASTY,
              platform=NASTY, reference=NASTY, reason=NASTY, status="fail"),
        image("b", held),
        project=NASTY, environment=NASTY, trivy=NASTY, database=NASTY, created=NASTY,
        source=Source(commit=NASTY, branch=NASTY),
        waivers=[WaiverNote(problem="expired", id=NASTY, package=NASTY, component=NASTY,
                            owner=NASTY, expires=NASTY)],
        dockerfiles=[Remark(dockerfile=NASTY, line=1, code=NASTY, level="info", message=NASTY)],
    )  # fmt: skip
    before = msgspec.structs.replace(report, images=[image("b", finding), image("c" + NASTY)])
    read = shown(report, before)
    check_harmless(read)
    assert not read.tags["script"]
    assert NASTY in read.text
    assert "49" not in read.text.replace(NASTY, "")


def test_only_addresses_of_the_web_are_links() -> None:
    for url in ("javascript:alert(1)", "data:text/html,x", "//evil", "https:///x", "http://a b",
                "ht\ntps://x", 'https://x/"onx='):  # fmt: skip
        read = shown(of(image("a", vulnerability("CVE-1", url=url))))
        assert read.values("href") == {"#image-1"}
    good = "https://avd.aquasec.com/nvd/cve-2024-1?a=b&c=d#x"
    assert good in shown(of(image("a", vulnerability("CVE-1", url=good)))).values("href")


def test_text_cannot_turn_round_what_stands_beside_it() -> None:
    report = of(image("a", vulnerability("CVE-1", title="x\u202egpj.exe\x1b[2J")))
    text = page.render(report, found(report), None)
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert "x\ufffdgpj.exe\ufffd[2J" in text


def test_the_sample_says_what_a_person_needs() -> None:
    report, before = scan_sample.report(), scan_sample.before()
    read = shown(report, before)
    check_harmless(read)
    for sentence in (
        "6 of 8 images fail, 1 is incomplete.",
        "libexpat1 deb 2.5.0-1 → 2.5.0-1+deb12u1",
        "libssl3 deb 3.0.11-1~deb12u2 → 3.0.17-1~deb12u3",
        "base python:3.11-slim-bookworm, FROM in components/ml-base/Dockerfile line 1",
        "5 components: evaluate, export, ml-base, prepare, train",
        "trivy did not finish its scan (no time left)",
        "CVE-2025-32434",
        "aws-access-key-id",
        "/home/app/.aws/credentials line 2",
        "Compared with 2026-11-21 16:40 UTC, commit b7d20e6c11aa.",
        "CVE-2023-38545 in curl 7.88.1-10",
        "expires soon",
        "waived: Models come from our own registry only",
        "warning, fails the plan",
    ):
        assert sentence in read.text, sentence


def test_a_page_of_images_that_pass_says_so_first() -> None:
    text = shown(of(image("a"), image("b"))).text
    assert "All 2 images pass." in text
    assert "There is no earlier report to compare with." in text
    assert "To do first" not in text
    assert "No image was scanned." in shown(of()).text


def test_what_is_live_says_where_it_runs_and_keeps_two_releases_apart() -> None:
    new = image("a", reference="r@sha256:2", services=["scoring"], pipelines=["one", "two"])
    old = image("a", vulnerability("CVE-1"), reference="r@sha256:1", status="fail",
                pipelines=["three"])  # fmt: skip
    report = of(new, old)
    rows = page.view(report, found(report), None)["rows"]
    assert [(row.image.reference, row.verdict, row.counts) for row in rows] == [
        ("r@sha256:1", "fails", {"high": 1}), ("r@sha256:2", "passes", {}),
    ]  # fmt: skip
    text = shown(of(new, old)).text
    assert "service scoring; pipelines one, two" in text
    assert "pipeline three" in text
    assert "Runs in" not in shown(of(image("a"))).text


def test_a_long_list_is_cut_and_says_so() -> None:
    many = [vulnerability(f"CVE-{n}", fixed="", severity="LOW") for n in range(450)]
    below = [Judged(finding=one, standing="below") for one in many]
    assert "And 300 that matter less" in shown(of(image("a", *below))).text


def test_all_reports_are_written(tmp_path: Path) -> None:
    report, before = scan_sample.report(), scan_sample.before()
    scan.write(tmp_path / "reports", report, before)
    folder = tmp_path / "reports"
    assert {path.name for path in folder.iterdir()} == {
        "scan.json", "scan.sarif", "scan.xml", "scan.html",
    }  # fmt: skip
    assert storage.read(folder / "scan.json", ScanReport, made_by="build") == report
    assert json.loads((folder / "scan.sarif").read_bytes())["version"] == "2.1.0"
    suites = ET.fromstring((folder / "scan.xml").read_bytes())
    assert len(suites) == len(report.images)
    assert (folder / "scan.html").read_text() == page.render(report, found(report), before)
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    scan.write(folder, report, before)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


def note(problem: Any, id: str) -> WaiverNote:
    return WaiverNote(problem=problem, id=id)


def test_shards_make_one_report() -> None:
    remark = Remark(dockerfile="d", line=1, code="DL1", level="info", message="m")
    one = of(
        image("b", vulnerability("CVE-1")),
        waivers=[note("unused", "x"), note("unused", "y"), note("expired", "z")],
        dockerfiles=[remark],
        created="2026-11-24T02:00:00Z",
        database="2026-11-23T00:00:00Z",
    )
    two = of(image("a"), waivers=[note("unused", "y")], dockerfiles=[remark])
    joined = scan.join([one, two])
    assert [image.component for image in joined.images] == ["a", "b"]
    # A waiver that one shard used is used.
    assert [(it.problem, it.id) for it in joined.waivers] == [("expired", "z"), ("unused", "y")]
    assert joined.dockerfiles == [remark]
    assert (joined.created, joined.database) == ("2026-11-24T02:00:00Z", "2026-11-23T00:00:00Z")
    assert scan.join([two, of(database=None)]).database is None
    assert scan.join([two]) == two


@settings(max_examples=40, deadline=None)
@given(reports())
def test_a_report_cut_into_shards_is_joined_to_what_it_was(report: ScanReport) -> None:
    half = len(report.images) // 2
    parts = [
        msgspec.structs.replace(report, images=report.images[half:]),
        msgspec.structs.replace(report, images=report.images[:half]),
    ]
    joined = scan.join(parts)
    assert joined == scan.join(parts[::-1]) == scan.join([report])
    assert sorted(joined.images, key=repr) == sorted(report.images, key=repr)


@pytest.mark.parametrize(
    "other", [{"project": "x"}, {"environment": "x"}, {"policy": "x"}, {"source": Source()}]
)
def test_reports_of_different_builds_are_not_joined(other: Any) -> None:
    with pytest.raises(MissingInputError, match=next(iter(other))):
        scan.join([of(), of(**other)])
    with pytest.raises(MissingInputError):
        scan.join([])
