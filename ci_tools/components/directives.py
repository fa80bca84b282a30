"""Parser directives: the first comment lines of a Dockerfile (`# syntax=`, `# escape=`).

The rules are those of BuildKit's frontend/dockerfile/parser/directives.go.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

_KNOWN = ("syntax", "escape", "check")
_SPACE = "[\t\n\f\r ]*"
_DIRECTIVE = re.compile(rf"([a-zA-Z][a-zA-Z0-9]*){_SPACE}={_SPACE}(.+?){_SPACE}\Z")


def syntax(text: str) -> str | None:
    """The image of the frontend that a build gives the file to, None for the engine's own.

    It is that of `# syntax=`, of `// syntax=`, or of a JSON object's "syntax",
    below a shebang line too. Behind a space it is no part of the image.
    """
    text = text.removeprefix("\ufeff")
    if text.startswith("#!"):
        text = text.partition("\n")[2]
    for comment in ("#", "//"):
        for name, value in _directives(text, comment):
            if name == "syntax":
                return value.partition(" ")[0]
    if text.lstrip().startswith("{"):
        try:
            value = json.loads(text).get("syntax")
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, str) else None
    return None


def escape(text: str) -> str:
    """The character that escapes the next one: `\\`, or what `# escape=` says."""
    return dict(_directives(text.removeprefix("\ufeff"), "#")).get("escape", "\\")[:1]


def _directives(text: str, comment: str) -> Iterator[tuple[str, str]]:
    """Up to the first line that is none, or says again what one before it said."""
    seen: set[str] = set()
    for line in text.split("\n"):
        match = _DIRECTIVE.match(line.removeprefix(comment).lstrip())
        if not line.startswith(comment) or match is None:
            return
        name = match[1].lower()
        if name not in _KNOWN or name in seen:
            return
        seen.add(name)
        yield name, match[2]
