"""A scan in Jenkins' test view. Pure."""

from __future__ import annotations

from collections import Counter

from ci_tools.documents import Finding, Judged, ScannedImage, ScanReport
from ci_tools.report.junit import Suite
from ci_tools.report.places import standing_rank

VERDICT = "scan"


def suites(report: ScanReport) -> list[Suite]:
    """A suite for each image, `scan.<component>`, with the platform where a component has
    several, and a number where several releases of it are live. The image is
    then a property.

    The case "scan" passes where the image does, is skipped where an incomplete scan
    was let through, and else fails. Besides, a case for each finding that counts
    (failed) or that a waiver or VEX holds back (skipped, with the reason); its name
    has no version, line or digest, so that Jenkins knows it again.
    """
    images = sorted(report.images, key=lambda one: (one.component, one.platform, one.reference))
    components = Counter(image.component for image in images)
    live = Counter((image.component, image.platform) for image in images)
    told: Counter[tuple[str, str]] = Counter()
    made = []
    for image in images:
        several = components[image.component] > 1
        parts = [image.platform] if several else []
        one = (image.component, image.platform)
        told[one] += 1
        parts += [str(told[one])] if told[one] > 1 else []
        where = ", ".join(part for part in parts if part)
        suite = _suite(f"scan.{image.component}" + (f" ({where})" if where else ""), image)
        if live[one] > 1:
            suite.properties["image"] = image.reference
        made.append(suite)
    return made


def _suite(name: str, image: ScannedImage) -> Suite:
    suite = Suite(name)
    verdict = image.verdict
    told = verdict.reason or f"the scan's verdict is {verdict.status}"
    if verdict.status == "pass":
        suite.passed(VERDICT, 0.0)
    elif verdict.status == "incomplete" and image.reference:
        suite.skipped(VERDICT, told)
    else:
        suite.failed(VERDICT, told)
    cases: dict[str, list[Judged]] = {}
    for judged in image.findings:
        cases.setdefault(_name(judged.finding), []).append(judged)
    for case in sorted(cases):
        members = sorted(cases[case], key=lambda one: (standing_rank(one), repr(one)))
        worst = members[0]
        if worst.standing == "counts":
            counting = [one for one in members if one.standing == "counts"]
            suite.failed(case, "\n".join(dict.fromkeys(_told(one.finding) for one in counting)))
        elif worst.standing in ("waived", "not affected"):
            until = f", until {worst.until}" if worst.until else ""
            suite.skipped(case, f"{worst.standing}: {worst.why or 'no reason is given'}{until}")
    return suite


def _name(finding: Finding) -> str:
    """By `Finding.identity`, for people. No finding is called as the verdict is."""
    kind = "" if finding.kind == "vulnerability" else f" ({finding.kind})"
    return f"{finding.id} {finding.package or finding.target or '-'}{kind}"


def _told(finding: Finding) -> str:
    where = f"{finding.package} {finding.installed}".strip()
    if finding.target:
        line = f" line {finding.line}" if finding.line else ""
        where = f"{where} in {finding.target}{line}".strip()
    fixed = ""
    if finding.kind == "vulnerability":
        fixed = f"; update to {finding.fixed}" if finding.fixed else "; no fixed version yet"
    title = f": {finding.title}" if finding.title else ""
    address = f" {finding.url}" if finding.url else ""
    return f"{finding.severity} {finding.id}{title} ({where}{fixed}){address}"
