"""From what was found to a verdict. Pure: a record, a policy and a day in, a verdict out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from typing import Literal

import msgspec

from ci_tools.documents import Finding, Judged, ScanRecord, Verdict, WaiverNote
from ci_tools.documents.scan import SEVERITIES, Kind
from ci_tools.scanner.policy import Active, Waiver

_SHOWN = 3
_SOON = timedelta(days=14)


def today() -> date:
    """In UTC, so that a waiver ends everywhere at once."""
    return datetime.now(timezone.utc).date()


def judge(
    record: ScanRecord, policy: Active, component: str, day: date, problem: str = ""
) -> tuple[Verdict, list[Judged]]:
    """The verdict on one image, and where each finding stands; what counts comes first.

    A secret fails it, whatever the policy says, and so does whatever the policy
    counts. Without a vulnerability database that is new enough, or where not all
    was looked for that the policy counts, no image can pass: it is incomplete.

    problem: why there is no database, for the reason.
    """
    judged = sorted(
        (_stand(finding, policy, component, day) for finding in record.findings), key=_order
    )
    counted = [one for one in judged if one.standing == "counts"]
    counts = Counter(
        "SECRET" if one.finding.kind == "secret" else one.finding.severity for one in counted
    )
    status: Literal["pass", "fail", "incomplete"] = "pass"
    reason = lacking(record, policy, day, problem)
    if counted:
        status = "fail"
        more = f" and {len(counted) - _SHOWN} more" if len(counted) > _SHOWN else ""
        reason = "; ".join(_reason(one) for one in counted[:_SHOWN]) + more
    elif reason:
        status = "incomplete"
    ends = [one.until for one in judged if one.standing == "waived"]
    made = _day(record.database)
    if made is not None:
        ends.append((made + timedelta(days=policy.database_days + 1)).isoformat())
    verdict = Verdict(
        status=status,
        trivy=record.matched,
        database=record.database,
        policy=policy.hash,
        counts=dict(sorted(counts.items())),
        reason=reason,
        until=min(ends, default=""),
    )
    return verdict, judged


def lacking(record: ScanRecord, policy: Active, day: date, problem: str = "") -> str:
    """Why a record cannot make an image pass; "" if it can."""
    if record.lacking:
        return "; ".join(record.lacking)
    if record.database is None:
        return problem or "there is no vulnerability database"
    made = _day(record.database)
    if made is None or (day - made).days > policy.database_days:
        age = f"of {made}" if made else "without a date"
        return f"the vulnerability database is {age}, more than {policy.database_days} days old" + (
            f"; {problem}" if problem else ""
        )
    if record.vex != policy.vex_hash and any(one.vex for one in record.findings):
        why = problem or "there is no vulnerability database"
        return f"what VEX documents said of it may be withdrawn, for they were changed, and {why}"
    missing = [
        kind for kind, counts in policy.counts.items() if counts and kind not in record.kinds
    ]
    return f"it was not looked for: {', '.join(missing)}" if missing else ""


def _reason(one: Judged) -> str:
    return f"{told(one.finding)}, {one.why}" if one.why else told(one.finding)


def told(finding: Finding) -> str:
    """A finding in a line, for people, whatever a database or an image calls things:
    a line end in a name could forge a message of ours."""
    return " ".join(_told(finding).split())


def _told(finding: Finding) -> str:
    if finding.kind == "secret":
        return f"{finding.id} in {finding.target}"
    if finding.kind == "license":
        return f"licence {finding.id} of {finding.package or finding.target}"
    if finding.kind == "misconfiguration":
        return f"{finding.id} ({finding.title})" if finding.title else finding.id
    fixed = f" (fixed in {finding.fixed})" if finding.fixed else ""
    return f"{finding.id} in {finding.package} {finding.installed}{fixed}"


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
        until=min((one.until for one in verdicts.values() if one.until), default=""),
    )


def still_valid(
    verdict: Verdict, policy_hash: str, trivy: str, database: str | None, day: date
) -> bool:
    """Whether a recorded verdict may stand: same Trivy and policy, no older database
    than the one at hand, and no waiver that it needs has expired since."""
    return (
        verdict.trivy == trivy
        and not older(verdict.database, database)
        and verdict.policy == policy_hash
        and (not verdict.until or day < date.fromisoformat(verdict.until))
    )


def older(one: str | None, other: str | None) -> bool:
    """Whether a database's date (RFC 3339, UTC) is before another's; none is before any."""
    return (one or "")[:19] < (other or "")[:19]


def notes(
    policy: Active, found: Mapping[str, Collection[Finding]], day: date, *, whole: bool
) -> list[WaiverNote]:
    """Waivers that somebody should look at.

    found: component -> findings of its image. whole: whether these are all
    components; of fewer it cannot be said that a waiver is of no use.
    """
    said = []
    for waiver in policy.waivers:
        used = any(
            waiver.matches(finding, component)
            for component, findings in found.items()
            for finding in findings
        )
        if day >= waiver.expires:
            said.append(_note(waiver, "expired"))
        elif whole and not used:
            said.append(_note(waiver, "unused"))
        elif used and waiver.expires - day <= _SOON:
            said.append(_note(waiver, "expires soon"))
    return said


def _note(waiver: Waiver, problem: Literal["expired", "unused", "expires soon"]) -> WaiverNote:
    return WaiverNote(
        problem=problem,
        id=waiver.id,
        package=waiver.package or "",
        component=waiver.component or "",
        owner=waiver.owner,
        expires=waiver.expires.isoformat(),
    )


def _stand(finding: Finding, policy: Active, component: str, day: date) -> Judged:
    if finding.kind == "secret":
        return Judged(finding=finding, standing="counts")
    if finding.vex:
        return Judged(finding=finding, standing="not affected", why=finding.vex)
    if finding.severity not in policy.counts.get(finding.kind, ()):
        return Judged(finding=finding, standing="below")
    if finding.kind == "vulnerability" and policy.ignore_unfixed and not finding.fixed:
        return Judged(finding=finding, standing="unfixed")
    waiver = _waiver(finding, policy.waivers, component, day)
    if waiver is not None:
        return Judged(
            finding=finding,
            standing="waived",
            why=f"{waiver.reason} ({waiver.owner})",
            until=waiver.expires.isoformat(),
        )
    ended = [one.expires for one in policy.waivers if one.matches(finding, component)]
    why = f"whose waiver expired on {max(ended).isoformat()}" if ended else ""
    return Judged(finding=finding, standing="counts", why=why)


def _waiver(
    finding: Finding, waivers: Sequence[Waiver], component: str, day: date
) -> Waiver | None:
    """Of those that hold today, the one that lasts longest."""
    holding = [one for one in waivers if day < one.expires and one.matches(finding, component)]
    return max(holding, key=lambda one: one.expires, default=None)


_KIND_ORDER: tuple[Kind, ...] = ("secret", "vulnerability", "misconfiguration", "license")
_STANDING_ORDER = ("counts", "waived", "not affected", "unfixed", "below")


def _order(one: Judged) -> tuple[int, int, int, str, str, str]:
    """What counts first, then by class, and the most severe first."""
    finding = one.finding
    return (
        _STANDING_ORDER.index(one.standing),
        _KIND_ORDER.index(finding.kind),
        -SEVERITIES.index(finding.severity),
        finding.package,
        finding.id,
        finding.target,
    )


def _day(database: str | None) -> date | None:
    """The day of RFC 3339 with any fraction, as Trivy writes it; None if it is no date."""
    try:
        return date.fromisoformat((database or "")[:10])
    except ValueError:
        return None
