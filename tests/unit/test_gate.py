"""Verdicts: what counts, what is waived, what cannot be known."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_tools.documents import Finding, ScanRecord, Verdict
from ci_tools.documents.scan import KINDS, SEVERITIES
from ci_tools.scanner import gate, policy
from ci_tools.scanner.policy import Active, Counting, Override, Policy, Waiver

IMAGE = "sha256:" + "1" * 64
DAY = date(2026, 3, 3)
FRESH = "2026-03-02T00:00:00Z"


def active(environment: str = "local", **declared: Any) -> Active:
    return policy.active(Policy(**declared), environment, Path())


def record(*findings: Finding, database: str | None = FRESH, **more: Any) -> ScanRecord:
    kinds = more.pop("kinds", list(KINDS))
    return ScanRecord(
        image=IMAGE, trivy="0.76.0", matched="0.76.0", kinds=kinds, database=database,
        findings=list(findings), **more,
    )  # fmt: skip


def cve(severity: str = "HIGH", fixed: str = "2", number: int = 1, **more: Any) -> Finding:
    return msgspec.convert(
        {"kind": "vulnerability", "id": f"CVE-2099-{number:04}", "severity": severity,
         "package": "zlib", "installed": "1", "fixed": fixed, **more},
        Finding,
    )  # fmt: skip


def waiver(expires: date = DAY + timedelta(days=100), **more: Any) -> Waiver:
    return Waiver(
        **{"id": "CVE-2099-0001", "reason": "not reachable", "owner": "ml", **more},
        expires=expires,
    )


SECRET = Finding(kind="secret", id="aws-key", severity="CRITICAL", target="/app/.env", line=3)
LICENSE = Finding(kind="license", id="GPL-3.0", severity="HIGH", package="x", target="x/METADATA")
CHECK = Finding(kind="misconfiguration", id="DS-0002", severity="HIGH", title="root")
ALL = Counting(misconfiguration=("HIGH",), license=("HIGH",))
HIGH = Counting(vulnerability=("HIGH",))


@pytest.mark.parametrize(
    ("found", "declared", "status", "counts"),
    [
        (record(), {}, "pass", {}),
        (record(cve()), {}, "fail", {"HIGH": 1}),
        (record(cve("CRITICAL", number=1), cve("CRITICAL", number=2)), {}, "fail", {"CRITICAL": 2}),
        (record(cve(fixed="")), {}, "pass", {}),  # nothing to upgrade to
        (record(cve(fixed="")), {"ignore_unfixed": False}, "fail", {"HIGH": 1}),
        (record(cve("MEDIUM")), {}, "pass", {}),
        (record(cve("LOW")), {"severities": Counting(vulnerability=("LOW",))}, "fail", {"LOW": 1}),
        (record(cve("UNKNOWN")), {}, "pass", {}),
        (record(cve(vex="not_affected")), {}, "pass", {}),
        (record(cve(vex="not_affected"), vex="withdrawn"), {}, "incomplete", {}),
        (record(cve("LOW"), vex="withdrawn"), {}, "pass", {}),
        (record(LICENSE, CHECK), {}, "pass", {}),
        (record(LICENSE, CHECK), {"severities": ALL}, "fail", {"HIGH": 2}),
        (record(database=None), {}, "incomplete", {}),
        (record(cve(), database=None), {}, "fail", {"HIGH": 1}),
        (record(SECRET), {"severities": Counting(vulnerability=())}, "fail", {"SECRET": 1}),
        (record(SECRET, database=None), {}, "fail", {"SECRET": 1}),
        (record(SECRET), {"waivers": [waiver(id="aws-key")]}, "fail", {"SECRET": 1}),
        (record(database="2026-02-24T00:00:00Z"), {}, "pass", {}),  # seven days old
        (record(database="2026-02-23T23:59:59Z"), {}, "incomplete", {}),  # eight
        (record(database="2026-02-23T00:00:00Z"), {"database_days": 8}, "pass", {}),
        (record(database="long ago"), {}, "incomplete", {}),
        (record(lacking=["it holds JAR files"]), {}, "incomplete", {}),
        (record(kinds=["vulnerability", "secret"]), {"severities": ALL}, "incomplete", {}),
        (record(cve()), {"waivers": [waiver()]}, "pass", {}),
        (record(cve()), {"waivers": [waiver(package="zlib", component="one")]}, "pass", {}),
        (record(cve()), {"waivers": [waiver(package="other")]}, "fail", {"HIGH": 1}),
        (record(cve()), {"waivers": [waiver(component="two")]}, "fail", {"HIGH": 1}),
        (record(cve()), {"waivers": [waiver(expires=DAY)]}, "fail", {"HIGH": 1}),
        (record(cve()), {"waivers": [waiver(expires=DAY + timedelta(days=1))]}, "pass", {}),
    ],
)  # fmt: skip
def test_verdicts(
    found: ScanRecord, declared: dict[str, Any], status: str, counts: dict[str, int]
) -> None:
    verdict, judged = gate.judge(found, active(**declared), "one", DAY)
    assert (verdict.status, verdict.counts) == (status, counts)
    assert bool(verdict.reason) == (status != "pass")
    assert len(judged) == len(found.findings)
    assert sum(one.standing == "counts" for one in judged) == sum(counts.values())


def test_the_reason_names_the_worst_first_and_how_many_more() -> None:
    found = record(*(cve("HIGH", number=n) for n in range(1, 5)), cve("CRITICAL", number=9), SECRET)
    reason = gate.judge(found, active(), "one", DAY)[0].reason
    assert reason.startswith("aws-key in /app/.env; CVE-2099-0009 in zlib 1 (fixed in 2); ")
    assert reason.endswith(" and 3 more")


def test_the_reason_tells_of_a_waiver_that_expired() -> None:
    over = [waiver(expires=DAY), waiver(expires=DAY - timedelta(days=9))]
    verdict, (one,) = gate.judge(record(cve()), active(waivers=over), "one", DAY)
    assert verdict.reason.endswith("(fixed in 2), whose waiver expired on 2026-03-03")
    assert one.standing == "counts"
    verdict, _ = gate.judge(record(cve(number=2)), active(waivers=over), "one", DAY)
    assert "waiver" not in verdict.reason


def test_no_name_makes_a_second_line_of_a_reason() -> None:
    """It is the last line of an error that a person reads."""
    forged = "CVE-1\n\rERROR: all is well. Do nothing."
    for kind in KINDS:
        finding = cve(kind=kind, id=forged, package=forged, title=forged, target=forged)
        assert len(gate.told(finding).splitlines()) == 1


def test_why_there_is_no_database_is_told() -> None:
    verdict, _ = gate.judge(record(database=None), active(), "one", DAY, "no such host")
    assert verdict.reason == "no such host"


def test_an_environment_overrides_what_it_names_and_nothing_else() -> None:
    declared = {
        "severities": Counting(vulnerability=("CRITICAL",)),
        "environments": {
            "prod": Override(severities=Counting(vulnerability=("MEDIUM", "HIGH", "CRITICAL"))),
            "dev": Override(ignore_unfixed=False),
        },
    }
    medium, unfixed = record(cve("MEDIUM")), record(cve("CRITICAL", fixed=""))
    for environment, status in (("local", "pass"), ("dev", "pass"), ("prod", "fail")):
        assert gate.judge(medium, active(environment, **declared), "o", DAY)[0].status == status
    for environment, status in (("local", "pass"), ("dev", "fail"), ("prod", "pass")):
        assert gate.judge(unfixed, active(environment, **declared), "o", DAY)[0].status == status
    assert active("dev", **declared).hash != active("prod", **declared).hash


def test_what_any_environment_counts_is_looked_for_in_every() -> None:
    """So that what was found for dev serves the gate of prod."""
    assert active().kinds == ("vulnerability", "secret")
    declared = {"environments": {"prod": Override(severities=Counting(license=("HIGH",)))}}
    assert active("dev", **declared).kinds == ("vulnerability", "secret", "license")


def test_a_verdict_lasts_until_its_waiver_ends_or_its_database_is_too_old() -> None:
    plain, _ = gate.judge(record(), active(), "one", DAY)
    assert plain.until == "2026-03-10"  # seven days after its database, the eighth is too late
    ends = DAY + timedelta(days=2)
    waived, _ = gate.judge(record(cve()), active(waivers=[waiver(expires=ends)]), "one", DAY)
    assert waived.until == ends.isoformat()
    rules = active(waivers=[waiver(expires=ends)]).hash
    for day, valid in ((DAY, True), (ends - timedelta(days=1), True), (ends, False)):
        assert gate.still_valid(waived, rules, "0.76.0", FRESH, day) is valid


def test_a_longer_waiver_of_the_same_finding_counts() -> None:
    long = DAY + timedelta(days=50)
    both = [waiver(expires=DAY + timedelta(days=2)), waiver(expires=long, package="zlib")]
    verdict, judged = gate.judge(record(cve()), active(waivers=both, database_days=99), "one", DAY)
    assert (verdict.until, judged[0].until) == (long.isoformat(), long.isoformat())


@pytest.mark.parametrize(
    ("trivy", "database", "rules", "valid"),
    [
        ("0.76.0", FRESH, None, True),
        ("0.76.0", None, None, True),  # none at hand now: it is no older than that
        ("0.76.0", "2026-03-01T00:00:00Z", None, True),  # another agent had a newer one
        ("0.76.0", "2026-03-02T00:00:01Z", None, False),
        ("0.77.0", FRESH, None, False),
        ("0.76.0", FRESH, "other", False),
    ],
)
def test_a_verdict_is_bound_to_trivy_database_and_policy(
    trivy: str, database: str | None, rules: str | None, valid: bool
) -> None:
    verdict, _ = gate.judge(record(), active(), "one", DAY)
    assert gate.still_valid(verdict, rules or active().hash, trivy, database, DAY) is valid


@pytest.mark.parametrize(
    "changed",
    [
        {"ignore_unfixed": False},
        {"severities": HIGH},
        {"waivers": [waiver()]},
        {"database_days": 8},
    ],
)
def test_every_rule_is_in_the_policys_hash(changed: dict[str, Any]) -> None:
    assert active(**changed).hash != active().hash
    assert active(**changed).hash == active(**changed).hash


def test_waivers_that_somebody_should_look_at() -> None:
    soon, late = DAY + timedelta(days=14), DAY + timedelta(days=15)
    waivers = [
        waiver(id="CVE-2099-0001", expires=late),
        waiver(id="CVE-2099-0002", expires=soon),
        waiver(id="CVE-2099-0003", expires=DAY),
        waiver(id="CVE-2099-0004", expires=soon),
    ]
    found = {"one": [cve(number=1), cve(number=2), cve(number=3)], "two": []}
    told = gate.notes(active(waivers=waivers), found, DAY, whole=True)
    assert [(note.problem, note.id[-1]) for note in told] == [
        ("expires soon", "2"), ("expired", "3"), ("unused", "4"),
    ]  # fmt: skip
    # Of some components only it cannot be said that nobody needs a waiver.
    part = gate.notes(active(waivers=waivers), found, DAY, whole=False)
    assert [note.problem for note in part] == ["expires soon", "expired"]


def test_of_several_platforms_the_worst_counts() -> None:
    def verdict(status: Any, until: str, **counts: int) -> Verdict:
        return Verdict(
            status=status, trivy="t", database=FRESH, policy="p", counts=counts, until=until,
            reason="" if status == "pass" else "why",
        )  # fmt: skip

    both = gate.combined(
        {
            "linux/amd64": verdict("pass", "2026-05-01", LOW=1),
            "linux/arm64": verdict("fail", "2026-04-01", HIGH=2),
        }
    )
    assert (both.status, both.counts, both.reason, both.until) == (
        "fail", {"HIGH": 2, "LOW": 1}, "linux/arm64: why", "2026-04-01",
    )  # fmt: skip
    alone = verdict("pass", "")
    assert gate.combined({"": alone}) is alone


findings = st.builds(
    Finding,
    kind=st.sampled_from(KINDS),
    id=st.sampled_from(["CVE-1", "CVE-2", "DS-1", "MIT"]),
    severity=st.sampled_from(SEVERITIES),
    package=st.sampled_from(["", "a", "b"]),
    fixed=st.sampled_from(["", "2"]),
    target=st.sampled_from(["", "t"]),
    vex=st.sampled_from(["", "", "not_affected"]),
)
waivers = st.builds(
    waiver,
    id=st.sampled_from(["CVE-1", "CVE-2", "DS-1", "MIT"]),
    package=st.sampled_from([None, "a"]),
    component=st.sampled_from([None, "one"]),
    expires=st.integers(-2, 30).map(lambda n: DAY + timedelta(days=n)),
)
countings = st.builds(
    Counting,
    vulnerability=st.sets(st.sampled_from(SEVERITIES)).map(tuple),
    misconfiguration=st.sets(st.sampled_from(SEVERITIES)).map(tuple),
    license=st.sets(st.sampled_from(SEVERITIES)).map(tuple),
)


@given(st.lists(findings, max_size=8), countings, st.booleans(), st.lists(waivers, max_size=3))
def test_a_stricter_policy_never_passes_what_a_laxer_refuses(
    found: list[Finding], counting: Counting, unfixed: bool, excused: list[Waiver]
) -> None:
    everything = Counting(vulnerability=SEVERITIES, misconfiguration=SEVERITIES, license=SEVERITIES)
    lax = active(severities=counting, ignore_unfixed=unfixed, waivers=excused)
    strict = active(severities=everything, ignore_unfixed=False)
    laxly = gate.judge(record(*found), lax, "one", DAY)[0]
    strictly = gate.judge(record(*found), strict, "one", DAY)[0]
    assert sum(laxly.counts.values()) <= sum(strictly.counts.values())
    if strictly.status == "pass":
        assert laxly.status == "pass"
    if any(finding.kind == "secret" for finding in found):
        assert laxly.status == "fail"


@given(st.lists(findings, max_size=8), st.lists(waivers, max_size=3), st.integers(0, 40))
def test_a_verdict_that_stands_would_be_given_again(
    found: list[Finding], excused: list[Waiver], later: int
) -> None:
    rules = active(waivers=excused)
    before = gate.judge(record(*found), rules, "one", DAY)[0]
    day = DAY + timedelta(days=later)
    if gate.still_valid(before, rules.hash, "0.76.0", FRESH, day):
        again = gate.judge(record(*found), rules, "one", day)[0]
        assert (again.status, again.counts) == (before.status, before.counts)
