"""Waiting for a run's end: right about every state, about time, and about a server that is away.

Apart from the API, so that what decides can be read in one place: `look` asks for
the run, `clock` is monotonic, `halted` says that this process is about to end.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from ci_tools import process
from ci_tools.kubeflow import api

ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"})
_GOING_ON = frozenset({"PENDING", "RUNNING", "CANCELING", "RUNTIME_STATE_UNSPECIFIED"})
_SLICE = 0.1  # seconds: how soon an interruption is noticed
_GROWTH, _JITTER = 1.5, 0.2


class Seen(NamedTuple):
    """run: as the server tells it. state: its end, CANCELED also where the server says FAILED
    of a run that was being cancelled."""

    run: Any
    state: str


class Halted(Exception):
    """This process is about to end, and the run was left as it is."""


class Waiter:
    """Looks at a run until it ends.

    look:     asks for the run. Raises `api.Away` while nobody answers.
    tell:     told of every new state, and of a server that is away, once each.
    poll:     seconds between two looks: at first, and at most.
    patience: seconds that the server may be away.
    seen:     given the run after every look.
    """

    def __init__(
        self,
        look: Callable[[], Any],
        tell: Callable[[str], None],
        *,
        poll: tuple[float, float],
        patience: float,
        seen: Callable[[Any], None],
        halted: Callable[[], bool] = process.stopping,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._look, self._tell, self._seen = look, tell, seen
        self._poll, self._patience = poll, patience
        self._halted, self._clock, self._sleep = halted, clock, sleep
        self._last = ""
        self._cancelling = False

    def wait(self, deadline: float) -> Seen | None:
        """The run once it has ended, or None when the deadline passed first.

        deadline: on the clock. The state is looked at before the clock: a run
        that ended in time did.

        Raises Halted, `api.Away` after `patience`, and what `look` raises else.
        """
        pause, longest = self._poll
        away_since: float | None = None
        while True:
            if self._halted():
                raise Halted
            try:
                run = self._look()
            except api.Away as error:
                now = self._clock()
                if away_since is None:
                    away_since = now
                    self._tell(f"no answer, looking again: {error.what}")
                if now - away_since >= self._patience:
                    raise
            else:
                away_since = None
                ended = self._judged(run)
                if ended is not None:
                    return ended
            left = deadline - self._clock()
            if left <= 0:
                return None
            self._pause(min(pause * random.uniform(1 - _JITTER, 1 + _JITTER), left))  # noqa: S311
            pause = min(pause * _GROWTH, longest)

    def _judged(self, run: Any) -> Seen | None:
        state = str(run.state or "RUNTIME_STATE_UNSPECIFIED")
        self._seen(run)
        if state != self._last:
            self._tell(state + _remark(state))
            self._last = state
        self._cancelling = self._cancelling or state == "CANCELING"
        if state not in ENDED:
            return None
        # A terminated workflow ends as failed in Argo, and so the server calls it
        # (backend/src/apiserver/resource/resource_manager.go, ReportWorkflowResource).
        cancelled = state == "FAILED" and (self._cancelling or _was_cancelling(run))
        return Seen(run, "CANCELED" if cancelled else state)

    def _pause(self, seconds: float) -> None:
        until = self._clock() + seconds
        while not self._halted() and (left := until - self._clock()) > 0:
            self._sleep(min(left, _SLICE))


def _was_cancelling(run: Any) -> bool:
    history = getattr(run, "state_history", None) or []
    return any(str(it.state) in ("CANCELING", "CANCELED") for it in history)


def _remark(state: str) -> str:
    if state == "PAUSED":
        return ": it waits until somebody resumes it"
    if state in ENDED or state in _GOING_ON:
        return ""
    return ": a state that this tool does not know; it is waited for as if it were RUNNING"
