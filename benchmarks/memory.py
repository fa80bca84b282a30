"""How much memory programs take that are started below this one."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_LOOK_SECONDS = 0.05
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Memory:
    """An action, and the most that all programs of one name held at once while it ran.

    Resident memory, in bytes; looked at every 50 ms, so a short peak may be missed.
    """

    act: Callable[[], object]
    program: str
    peak: int = 0
    together: int = 0  # programs at that moment

    def __call__(self) -> None:
        ended = threading.Event()
        looking = threading.Thread(target=self._look, args=(ended,))
        looking.start()
        try:
            self.act()
        finally:
            ended.set()
            looking.join()

    def _look(self, ended: threading.Event) -> None:
        while not ended.wait(_LOOK_SECONDS):
            sizes = [_resident(pid) for pid in _below(os.getpid()) if _name(pid) == self.program]
            if sum(sizes) > self.peak:
                self.peak, self.together = sum(sizes), len(sizes)

    def __str__(self) -> str:
        return f"{self.peak / 1e6:.0f} MB"


def _below(pid: int) -> Iterator[int]:
    with suppress(OSError):  # it may end while it is looked at
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                for child in map(int, (thread / "children").read_text().split()):
                    yield child
                    yield from _below(child)


def _name(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def _resident(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    return 0
