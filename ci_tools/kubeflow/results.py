"""How what a run gave is named, the same for a server's runs and embedded ones."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def numbered(named: Iterable[tuple[str, Item]]) -> Iterator[tuple[str, Item]]:
    """Artefacts by name; those of a loop's iterations are told apart by a number."""
    seen: dict[str, int] = {}
    for name, item in named:
        seen[name] = seen.get(name, 0) + 1
        number = f"-{seen[name]}" if seen[name] > 1 else ""
        yield f"{name}{number}", item


def metrics(found: list[tuple[str, str, float]]) -> dict[str, float]:
    """Metrics of (task, name, value) by name, or `task.name` where several report the same one."""
    reports = Counter(name for _, name, _ in found)
    named: dict[str, float] = {}
    for task, name, value in found:
        key = name if reports[name] == 1 else f"{task}.{name}"
        number = 2
        while key in named:
            key, number = f"{task}.{name}-{number}", number + 1
        named[key] = value
    return named


def is_number(value: object) -> bool:
    """Whether a bound can be held against it: no truth value, not NaN, not infinite."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
