"""What a person sees: progress on stderr, results on stdout.

On a terminal what is under way is shown live; elsewhere (Jenkins) every event
is a plain line with the seconds since the start, and so is every new step.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from ci.view import View
from ci_tools.printable import printable

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

_KEPT = "\n\t"  # of a message; all else that is no printable character is escaped
_REDRAWN = 0.25  # seconds
_CUT = 200  # characters of a step in a plain line
_INDENT = "\n" + " " * 10  # a message's further lines cannot be taken for other messages


class Console:
    """Safe to use from several threads. quiet: only warnings and errors."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._terminal = draws(sys.stderr, os.environ)
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._drawing = threading.RLock()  # held while the terminal changes
        self._rich: RichConsole | None = None
        self._view = View()
        self._live = False
        self._told: dict[str, set[str]] = {}
        self.warnings: list[str] = []

    def stage(self, name: str) -> None:
        """A stage begins."""
        self._print(f"── {name}", style="bold")

    def event(self, text: str) -> None:
        """Something happened."""
        self._print(text)

    def warn(self, text: str) -> None:
        """Something a person must not overlook; it is told again in the summary."""
        with self._lock:
            if text not in self.warnings:
                self.warnings.append(text)
        self._print(f"WARNING: {text}", style="bold yellow", loud=True)

    def error(self, text: str) -> None:
        self._print(f"ERROR: {text}", style="bold red", loud=True)

    @contextmanager
    def working(self, name: str, what: str) -> Iterator[None]:
        """`name` is busy with `what` until the block ends.

        A row of the live view; a plain line where there is no terminal.
        """
        with self._lock:
            self._told[name] = set()
        self._view.begin(name, what)
        self._plain(name, what)
        try:
            yield
        finally:
            self._view.end(name)

    def detail(self, name: str, text: str, *, minor: bool = False) -> None:
        """What `name` does just now, inside of `working`: one of its steps.

        It may be told again and again: a plain line is written once a step, and
        none for what is minor.
        """
        if not self._view.detail(name, text) or minor:
            return
        with self._lock:
            told = self._told.setdefault(name, set())
            if text in told:
                return
            told.add(text)
        self._plain(name, text)

    def finished(self, name: str, ok: bool) -> None:
        """`name`, one of the live view's total, is through with all it had to do."""
        self._view.finished(name, ok)

    @contextmanager
    def live(
        self, total: int | None = None, remaining: Callable[[], float | None] | None = None
    ) -> Iterator[None]:
        """While the block runs, a terminal shows what is under way.

        total:     how many `finished` there will be; None: they are not counted.
        remaining: the seconds left, None where nobody knows. It is asked some
                   times a second from another thread.
        """
        if self._quiet or not self._terminal or self._live:
            yield
            return
        self._live = True
        self._view = View(total, remaining)
        try:
            with self._drawn():
                yield
        finally:
            self._live = False
            self._view = View()

    @contextmanager
    def _drawn(self) -> Iterator[None]:
        """The view is drawn by a thread of our own: rich's would draw while another
        thread prints, and each would erase what it believes to stand there.
        """
        from rich.live import Live

        live = Live(
            self._view,
            console=self._console(),
            auto_refresh=False,
            transient=True,
            # What somebody prints there would tear the view; in a pipe it is a result.
            redirect_stdout=sys.stdout.isatty(),
        )
        over = threading.Event()

        def draw() -> None:
            with contextlib.suppress(OSError):  # the terminal may be gone
                while not over.wait(_REDRAWN):
                    with self._drawing:
                        live.refresh()

        thread = threading.Thread(target=draw, daemon=True)
        try:
            with contextlib.suppress(OSError), self._drawing:
                live.start(refresh=True)
            thread.start()
            yield
        finally:
            over.set()
            if thread.is_alive():
                thread.join()
            with contextlib.suppress(OSError), self._drawing:
                live.stop()

    def _plain(self, name: str, what: str) -> None:
        if self._terminal:
            return
        what = what if len(what) <= _CUT else what[: _CUT - 1] + "…"
        self._print(f"{printable(name)} | {printable(what)}")

    def _print(self, text: str, *, style: str | None = None, loud: bool = False) -> None:
        if self._quiet and not loud:
            return
        text = printable(text, keep=_KEPT)
        # Who reads may be gone (a terminal that was closed): the work goes on.
        with contextlib.suppress(OSError):
            if self._terminal:
                with self._drawing:
                    self._console().print(
                        text, style=style, highlight=False, markup=False, emoji=False
                    )
                return
            text = text.replace("\n", _INDENT)
            line = f"[{time.monotonic() - self._started:7.1f}] {text}\n"
            with self._lock:
                sys.stderr.write(line)
                sys.stderr.flush()

    def _console(self) -> RichConsole:
        """One for all: a live view goes out of the way of its own console's lines only."""
        from rich.console import Console as RichConsole

        with self._lock:
            if self._rich is None:
                self._rich = RichConsole(stderr=True, force_terminal=True)
            return self._rich


def draws(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether `stream` is a terminal that can be drawn on, and a person's.

    Not where NO_COLOR (no-color.org), a terminal without cursor movements, or a
    CI says otherwise: Jenkins and others keep what they get, escapes and all.
    """
    return (
        stream.isatty()
        and not environ.get("NO_COLOR")
        and environ.get("TERM", "dumb") not in ("", "dumb", "unknown")
        and environ.get("CI", "").lower() in ("", "0", "false")
        and not environ.get("JENKINS_URL")
    )


def counted(number: int, noun: str) -> str:
    """`1 image`, `2 images`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of as many cells as lines whose columns stand under each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
