"""Steps, each noted before it is done, so that who comes later can go on or back.

A process may be killed anywhere. Therefore a step is written down as begun, together
with what was there before it, before it changes anything; doing it twice is the same as
once; and undoing it needs nothing but what was written down. That a step is done is
written down with the beginning of the next one, for people: whoever goes on does it again,
since others may have been there meanwhile, or have written what is not so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from ci_tools.documents import Journal, JournalStep, Json
from ci_tools.errors import CIError, MissingInputError

Keep = Callable[[Journal], None]
Told = Callable[[str], None]


class Step(Protocol):
    """One step forward. kind and name: of its entry in the journal."""

    @property
    def kind(self) -> str: ...

    @property
    def name(self) -> str: ...

    def look(self) -> Json:
        """What is there, as far as undoing the step needs it. Changes nothing."""

    def do(self) -> Json:
        """Do it, or what of it is not done yet. Raises CIError."""


class Back(Protocol):
    """One step back."""

    def undo(self, step: JournalStep, /) -> str:
        """Put back what the step changed, if it did; a clause that says what was done.

        A second time it changes nothing. Raises CIError where it cannot be done.
        """


def forward(
    journal: Journal, steps: Sequence[Step], keep: Keep, *, alive: Callable[[], None]
) -> None:
    """Do every step, also one that was done before. The end of the last one is for the
    caller to keep.

    keep: writes the journal; a step goes on only when it returned.
    alive: raises where we may not go on, as who lost the lock.
    Raises what a step, `keep` or `alive` raises; the journal says how far it is.
    MissingInputError where that is a journal of something else.
    """
    if [(one.kind, one.name) for one in journal.steps] != [(one.kind, one.name) for one in steps]:
        raise MissingInputError(
            "the journal tells of other steps than these", "See who may push there, and try again"
        )
    for entry, step in zip(journal.steps, steps, strict=True):
        alive()
        if entry.state == "pending":
            entry.before = step.look()
            entry.state = "begun"
            keep(journal)
        entry.result = step.do()
        entry.state = "done"


def backward(
    journal: Journal,
    ways: Mapping[str, Back],
    keep: Keep,
    *,
    reason: str,
    alive: Callable[[], None],
    told: Told,
) -> list[str]:
    """Undo every step that was begun, the last first; what could not be undone, a
    sentence each.

    One that cannot be undone stops no other. keep: as far as it may fail here, it must
    not raise. ways: kind of a step -> how it is undone. alive: as in `forward`; what it
    raises is raised.
    """
    alive()
    journal.undoing = True
    journal.reason = journal.reason or reason
    keep(journal)
    problems = []
    for entry in reversed(journal.steps):
        if entry.state not in ("begun", "done", "stuck"):
            continue
        alive()
        try:
            entry.note = ways[entry.kind].undo(entry)
            entry.state = "undone"
        except CIError as error:
            entry.note = f"NOT PUT BACK: {error.what}"
            entry.state = "stuck"
            problems.append(f"{entry.name}: {error.what}")
        told(f"{entry.name}: {entry.note}")
        keep(journal)
    return problems
