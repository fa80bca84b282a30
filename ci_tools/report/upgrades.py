"""What to update, and how much of what was found that mends. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ci_tools.report import versions
from ci_tools.report.places import Found, Place, severity_rank


@dataclass(frozen=True)
class Group:
    """Findings that have one cause. findings: one for each component that has it."""

    findings: tuple[Found, ...]

    @property
    def components(self) -> tuple[str, ...]:
        return tuple(sorted({one.component for one in self.findings}))

    @property
    def distinct(self) -> tuple[Found, ...]:
        """Each once, whatever the number of components."""
        first: dict[tuple[str, ...], Found] = {}
        for one in self.findings:
            first.setdefault(one.finding.identity, one)
        return tuple(first.values())

    @property
    def severities(self) -> dict[str, int]:
        """How many distinct ones of each severity, the worst first."""
        ordered = sorted(self.distinct, key=lambda one: severity_rank(one.finding))
        return dict(Counter(one.finding.severity for one in ordered))


@dataclass(frozen=True)
class Upgrade(Group):
    """One package to update in one base image, or where Dockerfiles install it.

    kind:      of package, as in its purl; "" where that is not known.
    installed: versions that are there. to: the lowest that mends all findings.
    base:      "" for what Dockerfiles install themselves.
    places:    lines to change.
    """

    package: str
    kind: str
    installed: tuple[str, ...]
    to: str
    base: str
    places: tuple[Place, ...]


@dataclass(frozen=True)
class BaseShare(Group):
    """What one base image from outside brings; `findings` are those that count."""

    base: str
    places: tuple[Place, ...]

    @property
    def fixable(self) -> int:
        """How many of the distinct findings a fixed version exists for."""
        return sum(1 for one in self.distinct if one.finding.fixed)


def upgrades(counted: Iterable[Found]) -> list[Upgrade]:
    """What to update, the most urgent first. Every finding that a version mends is in
    exactly one. counted: what counts."""
    groups: dict[tuple[str, str, str], list[Found]] = {}
    for one in counted:
        if one.finding.fixed:
            key = (one.place.base, one.finding.package, _kind(one.finding.purl))
            groups.setdefault(key, []).append(one)
    made = [
        Upgrade(
            package=package,
            kind=kind,
            installed=tuple(sorted({one.finding.installed for one in members})),
            to=versions.least({one.finding.fixed for one in members}, kind),
            base=base,
            places=_places(members),
            findings=tuple(members),
        )
        for (base, package, kind), members in groups.items()
    ]
    return sorted(made, key=lambda one: (*_urgency(one.findings), one.base, one.package, one.kind))


def bases(counted: Iterable[Found]) -> list[BaseShare]:
    """The base images that bring something that counts, the worst first."""
    groups: dict[str, list[Found]] = {}
    for one in counted:
        if one.place.base:
            groups.setdefault(one.place.base, []).append(one)
    made = [BaseShare(tuple(members), base, _places(members)) for base, members in groups.items()]
    return sorted(made, key=lambda one: (*_urgency(one.findings), one.base))


def _places(members: Iterable[Found]) -> tuple[Place, ...]:
    return tuple(sorted({one.place for one in members}, key=lambda one: one[2:]))


def _urgency(members: Iterable[Found]) -> tuple[int, ...]:
    """How many of each severity, negative: more and worse comes first."""
    ranks = Counter(severity_rank(one.finding) for one in members)
    return tuple(-ranks[rank] for rank in range(5))


def _kind(purl: str) -> str:
    """`pkg:deb/debian/zlib@1` -> `deb` (https://github.com/package-url/purl-spec)."""
    return purl.removeprefix("pkg:").partition("/")[0] if purl.startswith("pkg:") else ""
