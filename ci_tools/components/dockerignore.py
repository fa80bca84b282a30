r"""`.dockerignore`: which paths of a build context the engine is not sent.

The rules are those of BuildKit's client, which walks the context with
moby/patternmatcher (https://pkg.go.dev/github.com/moby/patternmatcher) and
tonistiigi/fsutil, quirks and all: what a directory's walk has found of a
pattern holds below it, an exception that does not apply at a directory is not
asked again for it (`*/b` then `!a` does not bring back a/b), `**x` is a plain
ending, and a class may match `/`. tests/integration/test_context.py holds them
to the engine.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

_LITERAL = frozenset(".+()|{}$")  # mean something to a regular expression, nothing to a pattern
_WILD = frozenset("*[]?\\")
_LONGEST = 1 << 16  # bytes: Go's scanner takes no longer line
# Go's idea of white space; Python's has more.
_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
_MEMBER = re.compile(r"\\.|[^\]\\-]", re.S)  # one character of a class


class _Pattern(NamedTuple):
    matches: Callable[[str], object]
    exception: bool  # begins with `!`: what it matches is sent after all
    cleaned: str


# Which patterns match a directory or one above it; () at the context's root.
Above = tuple[bool, ...]


class Ignore:
    """The patterns of one ignore file, ready to be asked.

    text: the file's content. Raises ValueError, naming the line, for a pattern
    that no engine accepts or that it takes for a regular expression.
    """

    def __init__(self, text: str = "") -> None:
        self._patterns = list(_patterns(text))
        self._exceptions = [
            one.cleaned.removesuffix("/**").removesuffix("/*") + "/"
            for one in self._patterns
            if one.exception
        ]
        self._literal = not any(_WILD.intersection(stem) for stem in self._exceptions)

    def match(self, path: str, above: Above = ()) -> tuple[bool, Above]:
        """Whether a path, relative to the context and with `/`, is left out.

        above: what this method returned of the path's directory. The last
        pattern that matches decides.
        """
        ignored = False
        results = []
        for number, (matches, exception, _) in enumerate(self._patterns):
            found = bool(above) and above[number]
            if not found and exception == ignored:
                found = bool(matches(path))
            results.append(found)
            if found:
                ignored = not exception
        return ignored, tuple(results)

    def ignores(self, path: str) -> bool:
        """As `match`, for a path whose directories nobody has asked for."""
        parts = path.split("/")
        ignored = False
        above: Above = ()
        for count in range(1, len(parts) + 1):
            ignored, above = self.match("/".join(parts[:count]), above)
        return ignored

    def nothing_below(self, directory: str) -> bool:
        """Whether no exception can bring back a file of an ignored directory."""
        inside = directory + "/"
        return self._literal and not any(stem.startswith(inside) for stem in self._exceptions)


def _patterns(text: str) -> Iterator[_Pattern]:
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        if len(line.encode("utf-8", "surrogateescape")) >= _LONGEST:
            raise ValueError(f"line {number} is longer than an engine reads")
        if line.startswith("#"):
            continue
        given = line.strip(_SPACE)
        exception = given.startswith("!")
        cleaned = _clean(given[1:] if exception else given)
        if not exception:
            # BuildKit reads its own result once more: `/!a` is an exception too.
            cleaned = cleaned.strip(_SPACE)
            if not cleaned:
                continue
            exception = cleaned.startswith("!")
            cleaned = cleaned[1:] if exception else cleaned
        try:
            if not cleaned:
                raise ValueError("'!' names nothing")
            yield _Pattern(_matcher(cleaned), exception, cleaned)
        except (ValueError, re.error) as error:
            shown = given.encode("ascii", "backslashreplace").decode()
            raise ValueError(f"line {number}: '{shown}' is no pattern ({error})") from error


def _clean(pattern: str) -> str:
    """Trimmed, through Go's path.Clean, and without the `/` in front."""
    pattern = pattern.strip(_SPACE)
    return posixpath.normpath(pattern).lstrip("/") if pattern else ""


def _matcher(pattern: str) -> Callable[[str], object]:
    """What a cleaned pattern matches, of one path alone."""
    _check(pattern)
    if not _WILD.intersection(pattern):
        return pattern.__eq__
    stem, ending = pattern[:-2], pattern[2:]
    if pattern.endswith("**") and not _WILD.intersection(stem):
        return lambda path: path.startswith(stem)
    if pattern.startswith("**") and not _WILD.intersection(ending):
        whole = ending[1:] if ending.startswith("/") else None
        return lambda path: path.endswith(ending) or path == whole
    return re.compile(_regex(pattern)).match


def _check(pattern: str) -> None:
    r"""Refuse what Go's path.Match refuses, what BuildKit cannot carry, and what
    it would take for a regular expression (`\d`, `[[:alpha:]]`).
    """
    if re.search(r"[\x00-\x1f\x7f]", pattern):
        raise ValueError("a control character in it")
    if re.search(r"\\([^\x00-\x7f]|[0-9A-Za-z]|$)", pattern.replace("\\\\", "")):
        raise ValueError("a backslash before what needs none")
    position = 0
    while position < len(pattern):
        sign = pattern[position]
        position += 2 if sign == "\\" else 1
        if sign == "[":
            position = _class_end(pattern, position)


def _class_end(pattern: str, position: int) -> int:
    """Where a `[...]` ends whose inside begins at `position`."""
    begin = position = position + pattern.startswith("^", position)
    while position == begin or not pattern.startswith("]", position):
        position = _member_end(pattern, position)
        if pattern.startswith("-", position):
            position = _member_end(pattern, position + 1)
    return position + 1


def _member_end(pattern: str, position: int) -> int:
    found = _MEMBER.match(pattern, position)
    if found is None:
        raise ValueError("its [ is never closed, or holds a - or ] in a wrong place")
    return found.end()


def _regex(pattern: str) -> str:
    """A pattern as the regular expression that BuildKit makes of it."""
    found, position = ["^"], 0
    while position < len(pattern):
        rest = pattern[position:]
        if rest.startswith("**"):
            # Any number of directories, also none; at the end, everything.
            taken = 3 if rest.startswith("**/") else 2
            step = "(.*/)?" if len(rest) > taken else ".*"
            if found[-1] != step:  # twice is the same, but slow where nothing matches
                found.append(step)
            position += taken
            continue
        sign = rest[0]
        if sign == "*":
            found.append("[^/]*")
        elif sign == "?":
            found.append("[^/]")
        elif sign == "\\":
            position += 1
            found.append("\\" + pattern[position])
        else:
            found.append("\\" + sign if sign in _LITERAL else sign)
        position += 1
    return _for_python("".join(found)) + r"\Z"


def _for_python(regex: str) -> str:
    """Go's syntax as Python's, which sees more in a class (`[[`, `&&`)."""
    inside, found, position = False, [], 0
    while position < len(regex):
        sign = regex[position]
        taken = 2 if sign == "\\" else 1
        piece = regex[position : position + taken]
        if inside and sign == "[":
            if regex.startswith("[:", position):
                raise ValueError("a class within a class")
            piece = r"\["
        elif inside and sign in "&~":
            piece = "\\" + sign
        elif sign in "[]":
            inside = sign == "["
        found.append(piece)
        position += taken
    return "".join(found)
