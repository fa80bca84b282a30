"""How far a run is, task by task, for whoever watches it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ci_tools.documents import Run


class Task(NamedTuple):
    """One task of a run, as it is now.

    name:    within its pipeline; `dag/task` for one of a nested pipeline or a loop.
             "" is the run itself, when there is something to tell of it (PAUSED).
    state:   PENDING, RUNNING, SUCCEEDED, SKIPPED, FAILED or CANCELED; also CACHED.
    seconds: how long it has run; None before it starts.
    """

    name: str
    state: str
    seconds: float | None = None


Watch = Callable[[Sequence[Task]], None]
"""Is called with all tasks known so far, each time that something changed."""


def nobody(_: Sequence[Task]) -> None:
    """Watches nothing."""


Announce = Callable[["Run"], None]
"""Is told of a run once it exists, before anybody waits for it: its id and its link.
What it raises ends the waiting, and the run goes on."""


def unannounced(_: Run) -> None:
    """Lets a run begin without a word."""
