"""Text from elsewhere, made harmless to a terminal."""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    """`text` with what a terminal would act upon shown as Python escapes it.

    A file's name may hold colours, line ends, what turns the direction of
    writing, or bytes that are no text. keep: characters to leave as they are.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in keep else one.encode("unicode_escape").decode()
        for one in text
    )
