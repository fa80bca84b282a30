"""What holds for every test, however pytest was started."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(scope="session", autouse=True)
def signals_reach_children() -> Iterator[None]:
    """Under nohup, or behind a shell's `&`, we ignore signals, and whoever we start would
    inherit that: tests that send them would wait in vain. A handler is not inherited."""
    ignored = [number for number in _ENDING if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, lambda *_: None)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
