"""What a child process says, line by line: without secrets, into a log, and
into a bounded piece of memory."""

from __future__ import annotations

import codecs
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType

from ci_tools.errors import WriteError

# Characters. Of output that has a log, memory keeps its start (what was asked
# for) and its end (what went wrong).
HEAD = 64 * 1024
TAIL = 1024 * 1024
# A longer line is broken; of a longer line that is drawn again and again
# (progress bars, with `\r`) only what is drawn last is kept.
LINE = 64 * 1024
REDRAWN = 8 * 1024
_SHORTEST = 8  # of a secret of several lines, lines shorter than this say nothing


class Log:
    """A log file that text is added to; whoever reads it sees it at once.

    Made when missing, with its directory. Raises WriteError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise self._refused(error) from error

    def write(self, text: str) -> None:
        # A file name may be no UTF-8: it is shown as Python escapes it.
        data = text.encode("utf-8", "backslashreplace")
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError as error:
            raise self._refused(error) from error

    def close(self) -> None:
        os.close(self._file)

    def _refused(self, error: OSError) -> WriteError:
        return WriteError(
            f"{self._path} could not be written ({error.strerror})",
            "Free some disk space or mend the permissions, then run the stage again",
        )


class Output:
    """The output of one child process.

    log:     gets every line as it comes. Then `text` is bounded; without a log
             it is all that was said, to the letter.
    on_line: gets every line, without its end.
    secrets: blanked out everywhere. Of one with several lines each line is,
             since the lines come one by one.

    Raises WriteError when the log cannot be written, and what `on_line` raises.
    """

    def __init__(
        self, log: Path | None, on_line: Callable[[str], None] | None, secrets: Iterable[str]
    ) -> None:
        self._blank, longest = _blanker(secrets)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._lines = Lines(self._blank, longest)
        self._kept = Kept() if log else None
        self._whole: list[str] = []
        self._on_line = on_line
        self._log = Log(log) if log else None

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._log is not None:
            self._log.close()

    def head(self, line: str) -> None:
        """A line of our own, for the log only."""
        if self._log is not None:
            self._log.write(self._blank(line) + "\n")

    def feed(self, data: bytes) -> None:
        """The next piece, cut anywhere."""
        text = self._decoder.decode(data)
        if self._kept is None:
            self._whole.append(text)
        if self._kept is not None or self._on_line is not None:
            self._told(list(self._lines.feed(text)))

    def end(self) -> None:
        """No more will come: a last line without an end is a line too."""
        text = self._decoder.decode(b"", final=True)
        if self._kept is None:
            self._whole.append(text)
        lines = list(self._lines.feed(text))
        last = self._lines.rest()
        self._told([*lines, last] if last else lines, ended=not last)

    @property
    def text(self) -> str:
        return self._blank("".join(self._whole)) if self._kept is None else self._kept.text

    def _told(self, lines: list[str], *, ended: bool = True) -> None:
        if not lines:
            return
        if self._kept is not None:
            self._kept.add("\n".join(lines) + ("\n" if ended else ""))
        if self._log is not None:
            self._log.write("\n".join(lines) + "\n")
        if self._on_line is not None:
            for line in lines:
                self._on_line(line)


class Lines:
    """Text in pieces -> whole lines, blanked. What is not yet a line is bounded.

    longest: the length of the longest secret: where a line is broken, so much
    is held back, for a secret may have begun there.
    """

    def __init__(self, blank: Callable[[str], str], longest: int) -> None:
        self._blank = blank
        self._held_back = longest
        self._limit = LINE + longest
        self._pending = ""

    def feed(self, text: str) -> Iterator[str]:
        *whole, self._pending = (self._pending + text).split("\n")
        for line in whole:
            yield self._blank(line.removesuffix("\r"))
        if len(self._pending) > REDRAWN and "\r" in self._pending[:-1]:
            # The last `\r` may be half of a line's end, so it stays.
            at = self._pending.rindex("\r", 0, -1)
            self._pending = self._pending[at + 1 :]
        while len(self._pending) > self._limit:
            self._pending = self._blank(self._pending)
            cut = min(LINE, max(0, len(self._pending) - self._held_back))
            yield self._pending[:cut]
            self._pending = self._pending[cut:]

    def rest(self) -> str:
        """What is left at the end, and is no whole line."""
        pending, self._pending = self._pending, ""
        return self._blank(pending)


class Kept:
    """The first HEAD and the last TAIL characters of a text, about."""

    def __init__(self) -> None:
        self._head: list[str] = []
        self._room = HEAD
        self._tail: deque[str] = deque()
        self._length = 0
        self._left_out = 0

    def add(self, text: str) -> None:
        if self._room > 0:
            self._head.append(text[: self._room])
            text, self._room = text[self._room :], self._room - len(text)
        self._tail.append(text)
        self._length += len(text)
        while self._length - len(self._tail[0]) >= TAIL:
            gone = len(self._tail.popleft())
            self._length -= gone
            self._left_out += gone

    @property
    def text(self) -> str:
        tail = "".join(self._tail)
        left_out = self._left_out + max(0, len(tail) - TAIL)
        gap = f"\n[{left_out} characters are left out here; the log has them]\n" if left_out else ""
        return "".join(self._head) + gap + tail[-TAIL:]


def _blanker(secrets: Iterable[str]) -> tuple[Callable[[str], str], int]:
    """What blanks a text, and the length of the longest secret."""
    words = set(filter(None, secrets))
    words |= {line for word in words for line in word.splitlines() if len(line) >= _SHORTEST}
    if not words:
        return str, 0
    # The longest first: one secret may be the start of another.
    ordered = sorted(words, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, ordered)))
    return (lambda text: pattern.sub("***", text)), len(ordered[0])


def write_everything_to(log: str) -> None:
    """File descriptors 1 and 2 become the log, for this process and its libraries."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
