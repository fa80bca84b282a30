"""JUnit XML, as Jenkins' own test view reads it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ci_tools.errors import MissingInputError
from ci_tools.storage import write_bytes

# What is forbidden, not what is allowed: Python takes ten times as long to compile that.
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]")


@dataclass
class Suite:
    """One suite: an image or a pipeline; its cases are steps or expectations.

    name: `KIND.WHAT`, as `image.train`: Jenkins groups by what is before the last dot.
    properties: what else is known of it, such as where a run is to be seen.

    Jenkins knows a test again by the names of its suite and case: none may hold a
    digest, a time or a run's id. Of equal names of cases the later are numbered.
    """

    name: str
    cases: list[tuple[str, float, str | None]] = field(default_factory=list)
    skips: list[tuple[str, str]] = field(default_factory=list)
    properties: dict[str, str] = field(default_factory=dict)

    def passed(self, case: str, seconds: float) -> None:
        self.cases.append((case, seconds, None))

    def failed(self, case: str, message: str, seconds: float = 0.0) -> None:
        self.cases.append((case, seconds, message))

    def skipped(self, case: str, reason: str) -> None:
        self.skips.append((case, reason))


def write(path: Path, suites: Sequence[Suite]) -> None:
    """Write suites atomically, sorted by name. Raises WriteError."""
    _write(path, [_element(suite) for suite in sorted(suites, key=lambda one: one.name)])


def join(path: Path, sources: Sequence[Path], instead: Sequence[Suite] = ()) -> None:
    """Write one report of several, atomically, its suites by name.

    instead: suites to have in place of those of the same name. Of equal names in
    the sources the first counts.

    Raises MissingInputError for a source that cannot be read, WriteError.
    """
    suites = {_clean(suite.name): _element(suite) for suite in instead}
    for source in sources:
        try:
            root = ET.fromstring(source.read_bytes())  # noqa: S314 - this module wrote it
        except (OSError, ET.ParseError) as error:
            raise MissingInputError(
                f"{source} cannot be read ({error})", "Run 'python -m ci build' for its shard again"
            ) from error
        for suite in root.iter("testsuite"):
            suites.setdefault(suite.get("name", ""), suite)
    _write(path, [suites[name] for name in sorted(suites)])


def _write(path: Path, suites: Sequence[ET.Element]) -> None:
    root = ET.Element("testsuites")
    root.extend(suites)
    ET.indent(root)
    write_bytes(path, ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")


def _element(suite: Suite) -> ET.Element:
    failures = [case for case in suite.cases if case[2] is not None]
    element = ET.Element(
        "testsuite",
        name=_clean(suite.name),
        tests=str(len(suite.cases) + len(suite.skips)),
        failures=str(len(failures)),
        time=f"{sum(case[1] for case in suite.cases):.3f}",
    )
    if suite.skips:
        element.set("skipped", str(len(suite.skips)))
    if suite.properties:
        properties = ET.SubElement(element, "properties")
        for name, value in suite.properties.items():
            ET.SubElement(properties, "property", name=_clean(name), value=_clean(value))
    used: Counter[str] = Counter()
    for name, seconds, message in suite.cases:
        case = ET.SubElement(
            element,
            "testcase",
            classname=_clean(suite.name),
            name=_unique(name, used),
            time=f"{seconds:.3f}",
        )
        if message is not None:
            ET.SubElement(case, "failure", message=_clean(message)).text = _clean(message)
    for name, reason in suite.skips:
        case = ET.SubElement(
            element,
            "testcase",
            classname=_clean(suite.name),
            name=_unique(name, used),
            time="0.000",
        )
        ET.SubElement(case, "skipped", message=_clean(reason))
    return element


def _unique(name: str, used: Counter[str]) -> str:
    name = _clean(name)
    used[name] += 1
    while used[name] > 1:
        name = f"{name} ({used[name]})"
        used[name] += 1
    return name


def _clean(text: str) -> str:
    """Without the characters that XML 1.0 forbids (https://www.w3.org/TR/xml/#charsets)."""
    return _FORBIDDEN.sub("", text)
