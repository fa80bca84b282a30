"""What is under way, as a block of lines that a terminal draws again and again.

train    build  [2/5] RUN pip install --no-cache-dir -r requireme…  0:42
serve    scan                                                       1:03
━━━━━━━━━━╺━━━━━━━━━  3/12 · failed 1 · waiting 7 · 1:12 · ETA 4:10
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ci_tools.printable import printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text

_OWN_LINES = 3  # the last line, the one that counts the hidden rows, the cursor's
_BAR = 40  # columns, at most


@dataclass(frozen=True)
class Row:
    """since: when work on `name` began, on the view's clock."""

    name: str
    what: str
    since: float
    detail: str = ""


@dataclass
class View:
    """Safe to use from several threads.

    total:     how many there will be in the end; None: the last line is left out.
    remaining: the seconds until all are finished, or None where nobody knows. It
               is asked at every drawing, in another thread.
    """

    total: int | None = None
    remaining: Callable[[], float | None] | None = None
    clock: Callable[[], float] = time.monotonic
    done: int = 0
    failed: int = 0
    _rows: dict[str, Row] = field(default_factory=dict)
    _began: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._started = self.clock()

    def begin(self, name: str, what: str) -> None:
        """`name` is busy with `what`. Its time runs from its first `begin`."""
        with self._lock:
            since = self._began.setdefault(name, self.clock())
            self._rows[name] = Row(name, what, since)

    def detail(self, name: str, text: str) -> bool:
        """What `name` does just now; whether it is busy, and this is news."""
        with self._lock:
            row = self._rows.get(name)
            if row is None or row.detail == text:
                return False
            self._rows[name] = replace(row, detail=text)
            return True

    def end(self, name: str) -> None:
        """`name` is no longer busy. Where things are counted it may go on soon."""
        with self._lock:
            self._rows.pop(name, None)
            if self.total is None:
                self._began.pop(name, None)

    def finished(self, name: str, ok: bool) -> None:
        """`name` is through with everything."""
        with self._lock:
            self._rows.pop(name, None)
            self._began.pop(name, None)
            self.done += 1
            self.failed += not ok

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = options.max_width, console.size.height
        with self._lock:
            rows = sorted(self._rows.values(), key=lambda row: row.since)
        shown = rows[: max(1, height - _OWN_LINES)]
        if shown:
            yield self._table(shown, width)
        if len(shown) < len(rows):
            yield _text(f"and {len(rows) - len(shown)} more", "dim")
        if self.total is not None:
            yield self._last_line(self.total, width)

    def _table(self, rows: list[Row], width: int) -> Table:
        from rich.table import Table

        now = self.clock()
        table = Table.grid(padding=(0, 2, 0, 0), expand=True, pad_edge=False)
        table.add_column(no_wrap=True, max_width=max(8, width // 4))
        table.add_column(no_wrap=True, max_width=max(6, width // 4))
        table.add_column(no_wrap=True, ratio=1)
        table.add_column(no_wrap=True, justify="right")
        for row in rows:
            table.add_row(
                _text(row.name, "bold"),
                _text(row.what, "cyan"),
                _text(row.detail),
                _text(duration(now - row.since), "dim"),
            )
        return table

    def _last_line(self, total: int, width: int) -> Table:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
        table.add_row(
            ProgressBar(
                total=max(1, total), completed=min(self.done, total), width=min(_BAR, width // 4)
            ),
            _text(self.counts()),
        )
        return table

    def counts(self) -> str:
        """`3/12 · failed 1 · waiting 7 · 1:12 · ETA 4:10`; nought is not told."""
        with self._lock:
            waiting = (self.total or 0) - self.done - len(self._began)
        parts = [f"{self.done}/{self.total}"]
        if self.failed:
            parts.append(f"failed {self.failed}")
        if waiting > 0:
            parts.append(f"waiting {waiting}")
        parts.append(duration(self.clock() - self._started))
        left = None
        if self.remaining is not None:
            with contextlib.suppress(Exception):  # a guess must not end the work
                left = self.remaining()
        if left is not None:
            parts.append(f"ETA {duration(left)}")
        return " · ".join(parts)


def duration(seconds: float) -> str:
    """`0:42`, `12:03`, `1:02:03`."""
    minutes, second = divmod(max(0, round(seconds)), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


def _text(text: str, style: str = "") -> Text:
    """One line, cut with `…` where the room ends; nothing in it is markup."""
    from rich.text import Text

    return Text(printable(text), style=style, no_wrap=True, overflow="ellipsis")
