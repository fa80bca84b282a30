"""A build's console: its bytes as they come, as lines that harm no terminal."""

from __future__ import annotations

import codecs
import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ci_tools.errors import JenkinsError
from ci_tools.jenkins import builds
from ci_tools.jenkins.refusals import Away, NotThere
from ci_tools.printable import printable

if TYPE_CHECKING:
    import requests

    from ci_tools.jenkins.builds import Job
    from ci_tools.jenkins.connection import Connection

POLL = (1.0, 5.0)  # seconds between two looks at a console that says nothing new
LONGEST = 64 * 1024  # characters of a line; a longer one is broken
_PIECE = 64 * 1024  # bytes
_SIZE = re.compile(r"[0-9]{1,18}")
# A note of Jenkins' own: what a page shows as a link. Whole pages of base64.
_NOTE = re.compile(r"\x1b\[8mha:[^\x1b]*\x1b\[0m")
_COLOUR = re.compile(r"\x1b\[([0-9;]{0,24})m")
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_HIDING = frozenset({"5", "6", "8"})  # blinking, and what cannot be seen
_RESET = "\x1b[0m"


def follow(
    connection: Connection,
    job: Job,
    number: int,
    *,
    to_the_end: bool,
    poll: tuple[float, float] | None = None,
) -> Iterator[list[str]]:
    """The lines of a console, as many at once as came at once.

    to_the_end: wait for more until the build is over; else what there is. An empty list
    says that all there was by now has been told.
    A controller that restarts meanwhile goes on where it was. Lines are text as it was
    written: see `harmless`.

    Raises NotThere for a build that is not there, or no more; others as
    `Connection.jenkins_request`.
    """
    first, longest = poll or POLL
    start, pause = 0, first
    decoder, lines = _decoder(), Lines()
    while True:
        before, more = start, False
        for piece in _pieces(connection, job, number, start):
            if isinstance(piece, bytes):
                if found := lines.feed(decoder.decode(piece)):
                    yield found
                continue
            start, more = piece
            if start < before:  # Jenkins has a shorter one now, and gives that from its start
                rest = lines.feed(decoder.decode(b"", final=True)) + lines.end()
                decoder = _decoder()
                yield rest
        if not more or not to_the_end:
            break
        yield []
        pause = first if start != before else min(pause * 1.5, longest)
        time.sleep(pause)
    if rest := lines.feed(decoder.decode(b"", final=True)) + lines.end():
        yield rest


def _decoder() -> codecs.IncrementalDecoder:
    """A character may be cut in two between answers."""
    return codecs.getincrementaldecoder("utf-8")("replace")


def _pieces(
    connection: Connection, job: Job, number: int, start: int
) -> Iterator[bytes | tuple[int, bool]]:
    """Where the next bytes begin and whether there will be any; then those from `start` on.

    A connection that breaks in the middle is made anew, and what came already is left
    out: a console only grows. It may have grown meanwhile: the last one told is right.
    """
    done, path = 0, f"{job.path}/{number}/logText/progressiveText"
    for attempt in range(5):
        try:
            answer = connection.stream(path, start=str(start))
        except NotThere as error:
            raise builds.not_there(job, number) from error
        # Without notes there are fewer bytes than the size says: it counts, not they.
        size = answer.headers.get("X-Text-Size", "")
        if not _SIZE.fullmatch(size):
            answer.close()
            raise JenkinsError(
                f"Jenkins tells no size of the console of build {number}",
                "Check that the address is Jenkins' own",
            )
        yield int(size), answer.headers.get("X-More-Data", "").lower() == "true"
        try:
            skip = done
            for piece in _content(answer):
                fresh, skip = piece[skip:], max(0, skip - len(piece))
                if fresh:
                    done += len(fresh)
                    yield fresh
        except Away:
            if attempt == 4:
                raise
            continue
        finally:
            answer.close()
        return


def _content(answer: requests.Response) -> Iterator[bytes]:
    import requests

    try:
        yield from answer.iter_content(_PIECE)
    except requests.RequestException as error:
        raise Away(
            "Jenkins hung up in the middle of a console", "Ask for the console again"
        ) from error


class Lines:
    """Cuts text that comes in pieces into lines."""

    def __init__(self) -> None:
        self._rest = ""

    def feed(self, text: str) -> list[str]:
        """The lines that are whole by now, without their ends."""
        parts = (self._rest + text).split("\n")
        self._rest = parts.pop()
        while len(self._rest) > LONGEST:
            parts.append(self._rest[:LONGEST])
            self._rest = self._rest[LONGEST:]
        return parts

    def end(self) -> list[str]:
        """What is left, where the last line has no end."""
        rest, self._rest = self._rest, ""
        return [rest] if rest else []


def harmless(line: str, *, colours: bool = False) -> str:
    """A line without what a terminal would act upon. colours: they stay.

    Of a line that is drawn again and again (`\\r`) only what is drawn last stays.
    """
    line = _NOTE.sub("", line).rstrip("\r").rpartition("\r")[2]
    if "\x1b" not in line:
        return printable(line, keep="\t")
    parts, end, coloured = [], 0, False
    for match in _SEQUENCE.finditer(line):
        parts.append(printable(line[end : match.start()], keep="\t"))
        end = match.end()
        colour = _COLOUR.fullmatch(match[0])
        if colours and colour and _shows(colour[1]):
            parts.append(match[0])
            coloured = True
    parts.append(printable(line[end:], keep="\t"))
    return "".join(parts) + (_RESET if coloured else "")


def _shows(codes: str) -> bool:
    """Whether text in this colour can be read: `8` hides it, in `38;5;8` it is a grey."""
    given = codes.split(";")
    return bool({"38", "48"} & set(given)) or not (_HIDING & {it.lstrip("0") for it in given})
