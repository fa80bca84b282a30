"""The version to update to."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Sequence
from typing import Any


def candidates(fixed: str) -> list[str]:
    """The versions of `Finding.fixed`."""
    return [one for one in (part.strip() for part in fixed.split(",")) if one]


def least(fixes: Collection[str], kind: str) -> str:
    """The lowest version that mends all of these findings.

    fixes: what each of them is mended by, several lines of versions with commas.
    kind:  of package, as in its purl: `deb`, `pypi`.

    Where versions of that kind cannot be compared: all of them, with commas.
    """
    lists = [known for known in map(candidates, sorted(set(fixes))) if known]
    every = list(dict.fromkeys(itertools.chain.from_iterable(lists)))
    if len(every) < 2:
        return "".join(every)
    read = _reader(kind)
    try:
        values = {text: read(text) for text in every}
        ordered = [sorted(known, key=lambda text: values[text]) for known in lists]
        for text in sorted(every, key=lambda text: values[text]):
            if all(_mends(text, known, values) for known in ordered):
                return text
    except (ValueError, TypeError, AttributeError, ArithmeticError):
        pass  # not what the kind's versions look like
    return ", ".join(every)


def _mends(text: str, known: Sequence[str], values: dict[str, Any]) -> bool:
    """Whether a version has the fix that these, the lowest first, have: it is one of
    them, or a later one of the same line, as far as their first numbers tell."""
    value = values[text]
    lower = [one for one in known if values[one] <= value]
    higher = known[len(lower) :]
    if not lower or values[lower[-1]] == value or not higher:
        return bool(lower)
    return _common(text, lower[-1]) > _common(text, higher[0])


def _common(one: str, other: str) -> int:
    """How many numbers two versions have in common at their beginning."""
    pairs = zip(re.split(r"\D+", one), re.split(r"\D+", other), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _reader(kind: str) -> Any:
    from univers.version_range import RANGE_CLASS_BY_SCHEMES

    known = RANGE_CLASS_BY_SCHEMES.get(kind)
    return _unknown if known is None or known.version_class is None else known.version_class


def _unknown(text: str) -> Any:
    raise ValueError(text)
