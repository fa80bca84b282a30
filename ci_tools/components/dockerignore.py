"""`.dockerignore`: which paths of a build context the engine is not sent.

The rules are those of moby's patternmatcher and ignorefile packages
(https://pkg.go.dev/github.com/moby/patternmatcher). docker-py has them too, but
importing it costs more time than a whole dry run, it reads `[!a]` in another way
and never ignores a Dockerfile; the tests hold the two against each other.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_LITERAL = frozenset(".+()|{}$")  # mean something to `re`, nothing to a pattern


class _Pattern(NamedTuple):
    regex: re.Pattern[str]
    exception: bool  # begins with `!`: what it matches is sent after all


class Ignore:
    """The patterns of one ignore file, ready to be asked.

    Raises ValueError, naming the line, for a pattern that no engine accepts.
    """

    def __init__(self, lines: Iterable[str] = ()) -> None:
        self._patterns = list(_patterns(lines))
        self.has_exceptions = any(pattern.exception for pattern in self._patterns)

    def ignores(self, path: str) -> bool:
        """Whether a path, relative to the context and with `/`, is left out.

        A pattern that matches a directory matches all that is below it, and
        the last pattern that matches decides.
        """
        parts = path.split("/")
        above = ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
        ignored = False
        for regex, exception in self._patterns:
            if exception == ignored and any(regex.match(candidate) for candidate in above):
                ignored = not exception
        return ignored


def _patterns(lines: Iterable[str]) -> Iterator[_Pattern]:
    for number, line in enumerate(lines, start=1):
        if line.startswith("#"):
            continue
        text = line.strip()
        exception = text.startswith("!")
        text = text[1:].strip() if exception else text
        if not text:
            if exception:
                raise ValueError(f"line {number}: '!' names nothing")
            continue
        cleaned = posixpath.normpath(text).lstrip("/")
        try:
            yield _Pattern(re.compile(_regex(cleaned)), exception)
        except re.error as error:
            raise ValueError(f"line {number}: '{line.strip()}' is no pattern ({error})") from error


def _regex(pattern: str) -> str:
    """A pattern as a regular expression over a whole path."""
    found, position = ["^"], 0
    while position < len(pattern):
        rest = pattern[position:]
        if rest.startswith("**"):
            # Any number of directories, also none; at the end, everything.
            taken = 3 if rest.startswith("**/") else 2
            found.append("(.*/)?" if len(rest) > taken else ".*")
            position += taken
            continue
        sign = rest[0]
        if sign == "*":
            found.append("[^/]*")
        elif sign == "?":
            found.append("[^/]")
        elif sign == "\\":
            position += 1
            found.append(re.escape(pattern[position : position + 1] or "\\"))
        else:
            found.append("\\" + sign if sign in _LITERAL else sign)
        position += 1
    return "".join(found) + r"\Z"
