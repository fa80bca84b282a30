"""What changed since the last build of a branch. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ci_tools.documents import ScanReport
from ci_tools.documents.scan import Kind
from ci_tools.report.places import Found, found


@dataclass(frozen=True)
class Change:
    """A finding that counts now and did not, or did and does not now.

    other: where it stood or stands in the other report; "" where it is not there.
    """

    found: Found
    other: str = ""


@dataclass(frozen=True)
class News:
    """new, gone: findings that count, by `Found.key`.

    unsure:  components of which either report is incomplete: what of their
             vulnerabilities came or went is not known.
    absent:  components of the earlier report that this one does not have.
    policy:  whether the policy is another one.
    """

    new: tuple[Change, ...] = ()
    gone: tuple[Change, ...] = ()
    unsure: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    policy: bool = False


def news(report: ScanReport, every: Sequence[Found], before: ScanReport) -> News:
    """What counts since `before`, and what does not any more. every: `found` of the report.

    Of a component that either report did not look into for vulnerabilities none is
    called new or gone; nor is anything of a component that the report does not have.
    """
    now, earlier = ({one.key: one for one in ones} for ones in (every, found(before)))
    here = {image.component for image in report.images}
    unsure = _incomplete(report) | _incomplete(before)

    def known(one: Found) -> bool:
        kind: Kind = one.finding.kind
        return one.component in here and (kind != "vulnerability" or one.component not in unsure)

    return News(
        new=tuple(_changes(now, earlier, known)),
        gone=tuple(_changes(earlier, now, known)),
        unsure=tuple(sorted(unsure & here)),
        absent=tuple(sorted({image.component for image in before.images} - here)),
        policy=report.policy != before.policy,
    )


def _changes(
    ones: dict[tuple[str, ...], Found],
    others: dict[tuple[str, ...], Found],
    known: Callable[[Found], bool],
) -> Iterable[Change]:
    for key, one in ones.items():
        other = others[key].judged.standing if key in others else ""
        if one.judged.standing == "counts" and other != "counts" and known(one):
            yield Change(one, other)


def _incomplete(report: ScanReport) -> set[str]:
    return {
        image.component
        for image in report.images
        if image.verdict.database is None or image.verdict.status == "incomplete"
    }
