"""Stages, as a Pipeline's console tells of them: no plugin is needed.

`[Pipeline] stage` is followed by `[Pipeline] { (Name)`; its end, `[Pipeline] // stage`,
has no name. Branches of a `parallel` write as they come: of stages that began inside of
one nobody can tell which has ended, before all have.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import NamedTuple

_LINE = re.compile(
    r"(?:\[(?P<at>\d{4}-\d\d-\d\dT[\d:.]+Z)\] ?)?\[Pipeline\] "
    r"(?P<what>stage|parallel|// stage|// parallel|\{ \((?P<name>.{1,300})\))\s*"
)
_SKIPPED = re.compile(r'(?:\[[^\]]{1,40}\] ?)?Stage "(?P<name>.{1,300})" skipped due to ')


class Mark(NamedTuple):
    """began: else it ended, after `seconds` where that is known."""

    name: str
    began: bool
    seconds: float | None = None
    skipped: bool = False


class _Open(NamedTuple):
    name: str
    at: float | None


class Marks:
    """Give it every line, in order."""

    def __init__(self) -> None:
        self._announced = False
        self._open: list[_Open] = []
        self._parallels: list[int] = []  # how many stages were open as it began
        self._skipped: set[str] = set()

    def line(self, text: str, now: float | None) -> list[Mark]:
        """The marks that a line is. now: seconds since 1970 at which it was written,
        None where nobody knows; a time stamp in the line says it better.
        """
        if "[Pipeline]" not in text:
            if "skipped due to " in text and (skipped := _SKIPPED.match(text)):
                self._skipped.add(skipped["name"])
            return []
        found = _LINE.fullmatch(text.rstrip())
        if found is None:
            return []
        at = _seconds(found["at"]) if found["at"] else now
        announced, self._announced = self._announced, found["what"] == "stage"
        match found["what"]:
            case "parallel":
                self._parallels.append(len(self._open))
            case "// parallel":
                below = self._parallels.pop() if self._parallels else 0
                ended, self._open = self._open[below:], self._open[:below]
                return [self._end(one, None) for one in ended]  # when, nobody can tell
            case "// stage" if self._open and self._certain():
                return [self._end(self._open.pop(), at)]
            case "stage" | "// stage":
                pass
            case _:
                name = found["name"]
                if announced:
                    self._open.append(_Open(name, at))
                    return [Mark(name, True)]
                if self._parallels and name.startswith("Branch: "):
                    return [Mark(name.removeprefix("Branch: "), True)]
        return []

    def _certain(self) -> bool:
        """Whether the stage that ended is the one that began last."""
        return not self._parallels or len(self._open) == self._parallels[-1] + 1

    def _end(self, one: _Open, at: float | None) -> Mark:
        known = at is not None and one.at is not None
        seconds = max(0.0, at - one.at) if known else None  # type: ignore[operator]
        skipped = one.name in self._skipped
        self._skipped.discard(one.name)
        return Mark(one.name, False, seconds, skipped)


def _seconds(stamp: str) -> float | None:
    try:
        return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None
