"""Where the cause of a finding is: the base image, or the line that brought it."""

from __future__ import annotations

from typing import NamedTuple

from ci_tools.components.references import component_named
from ci_tools.documents import Finding, Judged, ScannedImage, ScanReport


class Place(NamedTuple):
    """Where somebody can do something about a finding.

    base:       image from outside, as in FROM; "" where a Dockerfile brought it,
                or where that is not known.
    component:  whose Dockerfile it is: a sibling's, where it came with the sibling.
    line:       of the layer or of FROM; 0 where that is not known.
    """

    base: str
    component: str
    dockerfile: str
    line: int


class Found(NamedTuple):
    """One finding of a component, once for all its images.

    key: what makes it the same in another build.
    place: below the siblings that brought it. own: in the component's own Dockerfile.
    platforms: of the images that have it, where the component has several; else none.
    images: numbers, in the report, of the images that have it.
    """

    component: str
    key: tuple[str, ...]
    judged: Judged
    place: Place
    own: Place
    platforms: tuple[str, ...] = ()
    images: tuple[int, ...] = ()

    @property
    def finding(self) -> Finding:
        return self.judged.finding


_ORDER = {"counts": 0, "unfixed": 1, "below": 2, "waived": 3, "not affected": 4}
_SEVERE = {"CRITICAL": 0, "HIGH": 1, "MEDIUM": 2, "LOW": 3, "UNKNOWN": 4}


def standing_rank(judged: Judged) -> int:
    """0 for what counts, more for what matters less."""
    return _ORDER[judged.standing]


def severity_rank(finding: Finding) -> int:
    """0 for CRITICAL, more for what is less severe. A secret is never less than that."""
    return 0 if finding.kind == "secret" else _SEVERE[finding.severity]


def found(report: ScanReport) -> list[Found]:
    """Every finding of every component once, whatever the number of its images,
    versions and files; of several the one that matters most. What counts comes first,
    then by severity; the order depends on nothing else.
    """
    images = _Images(report)
    groups: dict[tuple[str, ...], list[tuple[int, ScannedImage, Judged]]] = {}
    for number, image in enumerate(report.images):
        for judged in image.findings:
            same = (image.component, *judged.finding.identity)
            groups.setdefault(same, []).append((number, image, judged))
    made = []
    for key, members in groups.items():
        number, image, judged = min(members, key=_first) if len(members) > 1 else members[0]
        several = len(images.platforms[image.component]) > 1
        platforms = sorted({one.platform for _, one, _ in members}) if several else []
        place, own = images.places(number, judged.finding.layer)
        numbers = tuple(sorted({one for one, _, _ in members})) if len(members) > 1 else (number,)
        made.append(Found(image.component, key, judged, place, own, tuple(platforms), numbers))
    return sorted(made, key=_weight)


def _weight(one: Found) -> tuple[object, ...]:
    return (standing_rank(one.judged), severity_rank(one.finding), one.key)


def _first(member: tuple[int, ScannedImage, Judged]) -> tuple[object, ...]:
    _, image, judged = member
    finding = judged.finding
    return (
        standing_rank(judged),
        severity_rank(finding),
        not finding.fixed,
        image.platform,
        finding.target,
        finding.line,
        finding.installed,
        image.reference,
        repr(judged),
    )


def _own(image: ScannedImage, layer: str) -> Place:
    base = image.bases.get(layer, "")
    return Place(base, image.component, image.dockerfile, image.lines.get(layer, 0))


class _Images:
    """The images of a report by name, and where their layers come from."""

    def __init__(self, report: ScanReport) -> None:
        self._report = report
        self._project = report.project
        self._places: dict[tuple[int, str], tuple[Place, Place]] = {}
        self._images: dict[tuple[str, str], list[ScannedImage]] = {}
        self.platforms: dict[str, set[str]] = {}
        for image in report.images:
            self._images.setdefault((image.component, image.platform), []).append(image)
            self.platforms.setdefault(image.component, set()).add(image.platform)

    def places(self, number: int, layer: str) -> tuple[Place, Place]:
        """`Found.place` and `Found.own` of what a layer of the report's image of that
        number brought: worked out once a layer, for one may bring a thousand findings."""
        if (number, layer) not in self._places:
            image = self._report.images[number]
            self._places[number, layer] = self._below(image, layer), _own(image, layer)
        return self._places[number, layer]

    def _below(self, image: ScannedImage, layer: str) -> Place:
        """Down through the siblings that an image is built on, as far as they are here."""
        place, seen = _own(image, layer), {image.component}
        while place.base in image.parents:
            name = component_named(place.base, self.platforms, self._project)
            those = self._images.get((name or "", image.platform), [])
            below = next((one for one in those if layer in one.lines or layer in one.bases), None)
            if below is None or below.component in seen:
                break
            seen.add(below.component)
            image, place = below, _own(below, layer)
        return place
