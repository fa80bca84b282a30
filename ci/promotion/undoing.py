"""A promotion undone: every step that was begun, and the record of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import datetime, timezone

from ci.promotion import steps, ways
from ci.promotion.target import Target
from ci_tools.documents import Journal, Promotion
from ci_tools.errors import CIError, CredentialsError, PromotionStuckError, RegistryError
from ci_tools.promotion import engine, gate


def undone(target: Target, journal: Journal, reason: str, alive: Callable[[], None]) -> Promotion:
    """Undo a promotion and record that.

    alive: raises PromotionUnderWayError where somebody took it over, who goes on with it.
    Raises that, and PromotionStuckError where undoing did not work.
    """
    console = target.workspace.console
    problems: list[str] = []

    def keep(one: Journal) -> None:
        why = target.journals.keep_if_possible(one)
        if why:
            console.warn(f"the journal cannot be kept: {why}")

    def ours() -> None:
        """Where nobody can tell, it is: what can be put back is put back."""
        with contextlib.suppress(RegistryError, CredentialsError):
            alive()

    ours()
    console.event(f"going back: {reason}")
    problems += engine.backward(
        journal,
        ways.ways_of(target, console.event),
        keep,
        reason=reason,
        alive=ours,
        told=console.event,
    )
    record = None
    ours()
    try:
        record = target.tell(_record_of_failure(target, journal, stuck=bool(problems)))
        journal.open = bool(problems)
        target.journals.keep(journal)
    except CIError as error:
        problems.append(f"this cannot be recorded: {error.what}")
    if problems or record is None:
        raise PromotionStuckError(
            f"{journal.release} was not brought to '{target.name}' ({journal.reason}), and "
            f"'{target.name}' could not be put back completely:{gate.sentence(problems)}",
            f"Mend that, then run 'python -m ci promote --undo --to {target.name}'; it tries again",
        )
    return record


def _record_of_failure(target: Target, journal: Journal, *, stuck: bool) -> Promotion:
    """Put the record of a promotion that was undone, once."""
    outcome = "partly undone" if stuck else "undone"
    head = target.records.head()
    if head is not None and (head.record.id, head.record.outcome) == (journal.id, outcome):
        return head.record
    before = target.records.at(journal.previous) if journal.previous else None
    stands = target.records.standing(before)
    record = steps.recorded(journal, outcome, now(), standing=stands.digest if stands else "")
    record.previous = head.digest if head else ""
    return target.records.put(record).record


def now() -> str:
    """RFC 3339, in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
