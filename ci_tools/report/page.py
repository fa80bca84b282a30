"""One HTML page of a scan, for people. Pure.

Jenkins serves archived files with `style-src 'self'` and no scripts
(https://www.jenkins.io/doc/book/security/configuring-content-security-policy/), so
that the page has neither scripts nor anything from outside, and reads without its
style too. Everything in a report may come from a hostile image: the template
escapes all of it.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ci_tools.documents import Finding, ScannedImage, ScanReport
from ci_tools.report.links import web
from ci_tools.report.news import Change, News, news
from ci_tools.report.places import Found
from ci_tools.report.upgrades import bases, upgrades

if TYPE_CHECKING:
    from jinja2 import Template

_TEMPLATE = "page.html.j2"
_ROWS, _LEAST, _MOST = 2_000, 20, 150  # of all images' details, and of one; scan.json has all
_HELD = ("waived", "not affected")
_VERDICTS = {"pass": "passes", "fail": "fails", "incomplete": "incomplete"}
_STATUSES = ("fail", "incomplete", "pass")


class Line(NamedTuple):
    """One finding, with all components that have it. note: what more there is to say."""

    found: Found
    components: tuple[str, ...]
    note: str = ""


class Row(NamedTuple):
    """One image. counts: of what counts, by severity. rest: standing -> number."""

    image: ScannedImage
    verdict: str
    counts: dict[str, int]
    fixable: int
    new: int
    rest: dict[str, int]
    shown: list[Found]
    more: int


def render(report: ScanReport, every: Sequence[Found], before: ScanReport | None) -> str:
    """The page. every: `places.found` of the report. before: the report of the branch's
    last build, None where there is none."""
    return _template().render(view(report, every, before))


def prepare() -> None:
    """Load and compile the template, which `render` does else: a tenth of a second."""
    _template()


@lru_cache(maxsize=1)
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"web": web, "severity": _severity, "day": _day, "counted": _counted}
    return environment.get_template(_TEMPLATE)


def view(report: ScanReport, every: Sequence[Found], before: ScanReport | None) -> dict[str, Any]:
    """What the template shows."""
    changes = news(report, every, before) if before is not None else None
    counted = [one for one in every if one.judged.standing == "counts"]
    todo, others = upgrades(counted), [one for one in counted if not one.finding.fixed]
    own: dict[int, list[Found]] = {number: [] for number in range(len(report.images))}
    for one in every:
        for number in one.images:
            own[number].append(one)
    most = min(max(_ROWS // max(len(own), 1), _LEAST), _MOST)
    rows = [
        _row(report.images[number], number, own[number], changes, most)
        for number in sorted(own, key=lambda number: _image_order(report.images[number]))
    ]
    return {
        "report": report,
        "before": before,
        "rows": rows,
        "verdicts": Counter(row.verdict for row in rows),
        "counting": len({one.finding.identity for one in counted}),
        "upgrades": todo,
        "mended": len({it.finding.identity for one in todo for it in one.findings}),
        "secrets": _lines([one for one in others if one.finding.kind == "secret"]),
        "others": _lines([one for one in others if one.finding.kind != "secret"]),
        "live": any(image.pipelines or image.services for image in report.images),
        "platforms": len({image.platform for image in report.images}) > 1,
        "news": changes,
        "new": _changed(changes.new, "was") if changes else [],
        "gone": _changed(changes.gone, "is now") if changes else [],
        "bases": bases(counted),
        "held": _lines([one for one in every if one.judged.standing in _HELD]),
        "remarks": sorted(
            report.dockerfiles, key=lambda one: (not one.gates, one.dockerfile, one.line, one.code)
        ),
        "waivers": report.waivers,
    }


def _image_order(image: ScannedImage) -> tuple[object, ...]:
    return (
        _STATUSES.index(image.verdict.status),
        image.component,
        image.platform,
        image.reference,
    )


def _row(
    image: ScannedImage, number: int, own: list[Found], changes: News | None, most: int
) -> Row:
    counts = [one for one in own if one.judged.standing == "counts"]
    new = [one for one in changes.new if number in one.found.images] if changes else []
    return Row(
        image=image,
        verdict=_VERDICTS[image.verdict.status],
        counts=dict(Counter(_severity(one.finding) for one in counts)),
        fixable=sum(1 for one in counts if one.finding.fixed),
        new=len(new),
        rest=dict(Counter(one.judged.standing for one in own if one.judged.standing != "counts")),
        shown=own[:most],
        more=max(len(own) - most, 0),
    )


def _changed(changes: Sequence[Change], how: str) -> list[Line]:
    notes = {c.found.key: f"{how} {c.other}" if c.other else "" for c in changes}
    return _lines([change.found for change in changes], notes)


def _lines(ones: Iterable[Found], notes: dict[tuple[str, ...], str] | None = None) -> list[Line]:
    """One line for what several components have in the same way, in the given order."""
    groups: dict[tuple[object, ...], list[Found]] = {}
    for one in ones:
        note = (notes or {}).get(one.key, "")
        judged = one.judged
        place = one.place if one.judged.standing == "counts" else None
        key = (one.finding.identity, judged.standing, judged.why, judged.until, place, note)
        groups.setdefault(key, []).append(one)
    return [
        Line(members[0], tuple(sorted({one.component for one in members})), str(key[-1]))
        for key, members in groups.items()
    ]


def _severity(finding: Finding) -> str:
    return "secret" if finding.kind == "secret" else finding.severity.lower()


def _counted(counts: dict[str, int]) -> list[tuple[int, str, str]]:
    """Number, word in that number, and class of each."""
    return [
        (number, f"{name}s" if name == "secret" and number > 1 else name, name)
        for name, number in ((name.lower(), number) for name, number in counts.items())
    ]


def _day(time: str | None) -> str:
    """`2026-11-24T07:00:12Z` -> `2026-11-24 07:00`."""
    return (time or "")[:16].replace("T", " ")


def _visible(value: object) -> object:
    """Without what changes the order or look of the text around it."""
    if type(value) is not str or value.isprintable():  # what is escaped already is a subclass
        return value
    return "".join(
        character
        if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co")
        else "\N{REPLACEMENT CHARACTER}"
        for character in value
    )
