"""JUnit XML, as Jenkins' own test view reads it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ci_tools.storage import write_bytes

_FORBIDDEN = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass
class Suite:
    """One suite: an image or a pipeline; its cases are steps or expectations."""

    name: str
    cases: list[tuple[str, float, str | None]] = field(default_factory=list)

    def passed(self, case: str, seconds: float) -> None:
        self.cases.append((case, seconds, None))

    def failed(self, case: str, message: str, seconds: float = 0.0) -> None:
        self.cases.append((case, seconds, message))


def write(path: Path, suites: Sequence[Suite]) -> None:
    """Write suites atomically. Raises WriteError."""
    root = ET.Element("testsuites")
    for suite in suites:
        failures = [case for case in suite.cases if case[2] is not None]
        element = ET.SubElement(
            root,
            "testsuite",
            name=_clean(suite.name),
            tests=str(len(suite.cases)),
            failures=str(len(failures)),
            time=f"{sum(case[1] for case in suite.cases):.3f}",
        )
        for name, seconds, message in suite.cases:
            case = ET.SubElement(
                element,
                "testcase",
                classname=_clean(suite.name),
                name=_clean(name),
                time=f"{seconds:.3f}",
            )
            if message is not None:
                ET.SubElement(case, "failure", message=_clean(message)).text = _clean(message)
    ET.indent(root)
    write_bytes(path, ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")


def _clean(text: str) -> str:
    """Without the characters that XML 1.0 forbids (https://www.w3.org/TR/xml/#charsets)."""
    return _FORBIDDEN.sub("", text)
