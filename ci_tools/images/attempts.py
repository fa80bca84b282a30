"""Trying again what failed for a reason that may pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from ci_tools import process
from ci_tools.errors import CIError

T = TypeVar("T")

_FIRST_SECONDS, _LONGEST_SECONDS = 1.0, 30.0


def persistently(action: Callable[[], T], *, attempts: int, told: Callable[[str], None]) -> T:
    """What `action` returns, after at most `attempts` of it.

    Only an error that says so itself (`again`) is worth another attempt. Between
    two lie seconds that double, with a random part, so that many who were
    refused together do not come back together.

    Raises the last error.
    """
    import tenacity

    def tell(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        wait = state.next_action.sleep if state.next_action else 0.0
        told(
            f"attempt {state.attempt_number} of {attempts} failed "
            f"({error.what if isinstance(error, CIError) else error}), again in {wait:.0f} s"
        )

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(
            lambda error: isinstance(error, CIError) and error.again and not process.stopping()
        ),
        stop=tenacity.stop_after_attempt(attempts),
        wait=tenacity.wait_exponential_jitter(multiplier=_FIRST_SECONDS, max=_LONGEST_SECONDS),
        sleep=_pause,
        before_sleep=tell,
        reraise=True,
    )
    return retrying(action)


def _pause(seconds: float) -> None:
    """Sleep, but not when we are about to end."""
    until = time.monotonic() + seconds
    while not process.stopping() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 0.1))
