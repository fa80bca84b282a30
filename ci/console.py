"""What a person sees: progress on stderr, results on stdout.

On a terminal what is under way is shown live; elsewhere (Jenkins) every event
is a plain line with the seconds since the start.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.live import Live
    from rich.table import Table


class Console:
    """Safe to use from several threads. quiet: only warnings and errors."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._started = time.monotonic()
        self._lock = threading.RLock()
        self._running: dict[str, tuple[str, float]] = {}
        self._live: Live | None = None
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
        """`name` is busy with `what` until the block ends; shown on a terminal only."""
        with self._lock:
            self._running[name] = (what, time.monotonic())
        try:
            yield
        finally:
            with self._lock:
                self._running.pop(name, None)

    @contextmanager
    def live(self) -> Iterator[None]:
        """While the block runs, a terminal shows what is under way."""
        if self._quiet or not sys.stderr.isatty():
            yield
            return
        from rich.live import Live

        with Live(
            console=_rich(), get_renderable=self._table, refresh_per_second=4, transient=True
        ) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def _table(self) -> Table:
        from rich.table import Table

        table = Table.grid(padding=(0, 2))
        with self._lock:
            for name, (what, since) in self._running.items():
                table.add_row("…", name, what, f"{time.monotonic() - since:.0f} s")
        return table

    def _print(self, text: str, *, style: str | None = None, loud: bool = False) -> None:
        if self._quiet and not loud:
            return
        with self._lock:
            if self._live is not None:
                self._live.console.print(text, style=style, highlight=False, markup=False)
            elif sys.stderr.isatty():
                _rich().print(text, style=style, highlight=False, markup=False)
            else:
                print(
                    f"[{time.monotonic() - self._started:7.1f}] {text}", file=sys.stderr, flush=True
                )


def counted(number: int, noun: str) -> str:
    """`1 image`, `2 images`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _rich() -> RichConsole:
    from rich.console import Console as RichConsole

    return RichConsole(stderr=True)
