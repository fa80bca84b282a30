r"""Variables in a Dockerfile's words: `$NAME`, `${NAME:-word}`, `${NAME#pattern}`.

What BuildKit's frontend/dockerfile/shell does, quotes and escapes included: the
reference that a FROM line comes to must be the one that BuildKit asks for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_REGEX = frozenset("[]{}.+()|^$")
_PARAMETERS = frozenset("@*#?-$!0")  # `$@` and the like are names of one character


def expand(word: str, variables: Mapping[str, str], escape: str = "\\") -> str:
    """The word with its variables replaced, its quotes and escapes taken off.

    escape: what the directive `# escape=` says. Raises ValueError with the reason.
    """
    return _Word(word, variables, escape).read()


class _Word:
    def __init__(self, text: str, variables: Mapping[str, str], escape: str) -> None:
        self._text = text
        self._position = 0
        self._variables = variables
        self._escape = escape

    def read(self, stop: str = "", *, raw: bool = False) -> str:
        """Up to the character `stop`, which is passed over, or the end.

        raw: keep the escape character, for a pattern to be read.
        """
        found: list[str] = []
        while sign := self._next():
            if sign == stop:
                return "".join(found)
            if sign == "'":
                found.append(self._single_quoted())
            elif sign == '"':
                found.append(self._double_quoted(raw=raw))
            elif sign == "$":
                found.append(self._variable())
            elif sign == self._escape:
                found.append((sign if raw else "") + self._next())
            else:
                found.append(sign)
        if stop:
            raise ValueError(f"a missing '{stop}'")
        return "".join(found)

    def _next(self) -> str:
        sign = self._peek()
        self._position += 1
        return sign

    def _peek(self) -> str:
        return self._text[self._position : self._position + 1]

    def _single_quoted(self) -> str:
        end = self._text.find("'", self._position)
        if end < 0:
            raise ValueError("a quote that is never closed")
        begin, self._position = self._position, end + 1
        return self._text[begin:end]

    def _double_quoted(self, *, raw: bool) -> str:
        found: list[str] = []
        while sign := self._next():
            if sign == '"':
                return "".join(found)
            if sign == "$":
                found.append(self._variable())
            elif sign == self._escape:
                if raw:
                    found.append(sign)
                escaped = self._peek() in {'"', "$", self._escape}
                found.append(self._next() if escaped else sign)
            else:
                found.append(sign)
        raise ValueError("a quote that is never closed")

    def _variable(self) -> str:
        """What `$NAME` or `${NAME...}` stands for; the `$` is passed over already."""
        if self._peek() != "{":
            name = self._name()
            return self._variables.get(name, "") if name else "$"
        self._next()
        name = self._name()
        sign = self._next()
        if sign == "}" and name:
            return self._variables.get(name, "")
        if not name or not sign:
            raise ValueError("a ${ that names nothing or is never closed")
        if sign == "/":
            return self._replaced(self._variables.get(name, ""))
        empty_too = sign == ":"
        if empty_too:
            sign = self._next()
        if not sign or sign not in ("-+?" if empty_too else "-+?#%"):
            raise ValueError(f"an unknown modifier '{sign}' of ${{{name}}}")
        word = self.read("}", raw=sign in "#%")
        value = self._variables.get(name)
        there = bool(value) if empty_too else value is not None
        if sign == "+":
            return word if there else ""
        if sign in "#%":
            return _trimmed(value or "", word, sign)
        if there:
            return value or ""
        if sign == "?":
            raise ValueError(f"{name}: {word or 'not set'}")
        return word

    def _replaced(self, value: str) -> str:
        everywhere = self._peek() == "/"
        if everywhere:
            self._next()
        pattern = _regex(self.read("/", raw=True), greedy=True)
        replacement = self.read("}", raw=True)
        return re.sub(pattern, lambda _: replacement, value, count=0 if everywhere else 1)

    def _name(self) -> str:
        begin = self._position
        sign = self._peek()
        if sign.isdecimal():
            while self._peek().isdecimal():
                self._next()
        elif sign in _PARAMETERS:
            self._next()
        else:
            while self._peek().isalnum() or self._peek() == "_":
                self._next()
        return self._text[begin : self._position]


def _trimmed(value: str, pattern: str, sign: str) -> str:
    """Without what the pattern matches in front (#) or at the end (%); twice the
    sign takes the longest match instead of the shortest."""
    greedy = pattern.startswith(sign)
    matcher = re.compile(_regex(pattern[greedy:], greedy=greedy))
    if sign == "#":
        match = matcher.match(value)
        return value[match.end() :] if match else value
    starts = range(len(value) + 1) if greedy else range(len(value), -1, -1)
    return next((value[:one] for one in starts if matcher.fullmatch(value, one)), value)


def _regex(pattern: str, *, greedy: bool) -> str:
    """`*` and `?` of a shell's pattern; BuildKit knows no classes."""
    found: list[str] = []
    position = 0
    while position < len(pattern):
        sign = pattern[position]
        position += 1
        if sign == "*":
            found.append(".*" if greedy else ".*?")
        elif sign == "?":
            found.append(".")
        elif sign == "\\" and pattern[position : position + 1] not in ("}", "/"):
            escaped = pattern[position : position + 1]
            if not escaped or escaped not in "*?\\":
                raise ValueError(f"an escape '\\{escaped}' that no pattern has")
            found.append("\\" + escaped)
            position += 1
        elif sign != "\\":
            found.append("\\" + sign if sign in _REGEX else sign)
    return "".join(found)
