"""Measuring in turn, and the tables that come of it."""

from __future__ import annotations

import json
import pstats
import statistics
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Check = Callable[[], object]


def nothing() -> None:
    """Where a side needs no preparation or no check."""


@dataclass(frozen=True)
class Side:
    """What is timed, with what comes before and after it, which is not."""

    act: Callable[[], object]
    prepare: Callable[[], object] = nothing
    check: Check = nothing


@dataclass
class Table:
    """A benchmark's outcome, as Markdown. rows: as `head` has them."""

    title: str
    rows: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    head: tuple[str, ...] = ("what", "ours", "peer", "ratio", "goal", "verdict")

    def compare(
        self, what: str, ours: Sequence[float], peer: Sequence[float], goal: Goal | None = None
    ) -> None:
        """A row from times taken in turn: ratio is the median of each turn's ratio."""
        ratio = statistics.median(mine / theirs for mine, theirs in zip(ours, peer, strict=True))
        self.add(what, seconds(ours), seconds(peer), f"{ratio:.2f}", goal, ratio)

    def add(
        self, what: str, ours: str, peer: str, ratio: str, goal: Goal | None, value: float = 0
    ) -> None:
        told = (goal.text, goal.verdict(value)) if goal else ("", "")
        self.rows.append((what, ours, peer, ratio, *told))

    def __str__(self) -> str:
        rows = [self.head, *self.rows]
        widths = [max(len(row[column]) for row in rows) for column in range(len(self.head))]
        lines = [
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            + " |"
            for row in rows
        ]  # fmt: skip
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        notes = [f"- {note}" for note in self.notes]
        return "\n".join([f"## {self.title}", "", *lines, *([""] if notes else []), *notes])


@dataclass(frozen=True)
class Goal:
    """At most `limit`. at_least turns a speed-up into one: ratio <= 1/times."""

    limit: float
    text: str

    def verdict(self, value: float) -> str:
        if value <= self.limit:
            return "met"
        return f"missed by {value / self.limit - 1:.0%}"


def at_most(limit: float) -> Goal:
    return Goal(limit, f"<= {limit:g}")


def times_faster(times: float) -> Goal:
    return Goal(1 / times, f"<= {1 / times:g} ({times:g}x faster)")


def seconds(times: Sequence[float]) -> str:
    """The median, and the spread that it hides."""
    return f"{statistics.median(times):.2f} s ({min(times):.2f}-{max(times):.2f})"


def in_turn(sides: Mapping[str, Side], runs: int, *, warm: bool = True) -> dict[str, list[float]]:
    """Seconds of each side, A B A B ..., so that what slows the machine hits all.

    warm: begin with a round that does not count. Each figure also goes to stderr.
    """
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(-1 if warm else 0, runs):
        for name, side in sides.items():
            side.prepare()
            started = time.perf_counter()
            side.act()
            spent = time.perf_counter() - started
            print(f"  {number + 1}/{runs} {name}: {spent:.2f} s", file=sys.stderr, flush=True)
            if number >= 0:
                taken[name].append(spent)
            side.check()
    return taken


def fastest(taken: Mapping[str, Sequence[float]], names: Sequence[str]) -> str:
    """The peer's best form."""
    return min(names, key=lambda name: statistics.median(taken[name]))


def steps(repository: Path) -> str:
    """Where the last build's time went, as its JUnit report has it, summed over images."""
    summed: dict[str, float] = {}
    tree = ET.parse(repository / "build" / "reports" / "images.xml")  # noqa: S314 - our own
    for case in tree.iter("testcase"):
        summed[case.attrib["name"]] = summed.get(case.attrib["name"], 0) + float(
            case.attrib["time"]
        )
    whole = json.loads((repository / "build" / "images.lock.json").read_bytes())["seconds"]
    told = ", ".join(f"{name} {spent:.2f} s" for name, spent in summed.items())
    return f"stage {whole:.2f} s; steps summed over images: {told}"


def profiled_lines(file: Path, root: Path, longest: int = 8) -> str:
    """What cProfile saw: our functions with callees, and whose own time is longest.

    Only the main thread is seen, and the profiler's cost is in it.
    """
    stats = pstats.Stats(str(file)).stats  # type: ignore[attr-defined]
    ours: list[tuple[float, str]] = []
    own: list[tuple[float, str]] = []
    for (path, _, name), (_, _, alone, callees, _) in stats.items():
        shown = f"{Path(path).stem}.{name}" if path.endswith(".py") else name
        own.append((alone, shown.strip("<>").replace("built-in method ", "")))
        if path.startswith((f"{root}/ci/", f"{root}/ci_tools/")) and name != "<module>":
            ours.append((callees, shown))
    called, hot = (
        ", ".join(f"{name} {taken:.2f}" for taken, name in sorted(rows, reverse=True)[:longest])
        for rows in (ours, own)
    )
    return f"profiled, in seconds: with callees {called}; own time {hot}"
