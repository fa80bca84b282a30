"""Whose turn it is: what is unfinished, who is at it, and the lock of an environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import msgspec

from ci.promotion.target import Target
from ci_tools.documents import Action, Journal
from ci_tools.errors import InterruptedRunError, PromotionUnderWayError

_DONE = "done"
_ENDING = 2.0  # seconds from a record to the end of its journal


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """approvals: who approved. wait: seconds for another promotion to end. break_lock:
    take the lock over from whoever has it."""

    approvals: tuple[str, ...] = ()
    wait: float = 0.0
    break_lock: bool = False


def check_free(target: Target, release: str, action: Action, request: Request) -> None:
    """Before the gate: raises PromotionUnderWayError where it would be in vain. One that
    somebody is at is not unfinished: it may be waited for, once the gate let us in."""
    journal = target.journals.read()
    try:
        check_open(journal, release, action)
    except PromotionUnderWayError:
        who = target.lease.holder(_head(target)) if not request.break_lock else ""
        if not who:  # or who was at it ended between these two looks
            check_open(target.journals.read_closed(_ENDING), release, action)
        elif not request.wait:
            raise target.lease.under_way(who) from None


def check_open(journal: Journal | None, release: str, action: Action) -> None:
    """Raises PromotionUnderWayError where something else is unfinished."""
    if journal is None or not journal.open:
        return
    if journal.undoing or (journal.release, journal.action) != (release, action):
        raise PromotionUnderWayError(*unfinished(journal))


def unfinished(journal: Journal) -> tuple[str, str]:
    """What is unfinished, and what to do: two sentences."""
    done = [step.name for step in journal.steps if step.state == _DONE]
    begun = [step.name for step in journal.steps if step.state in ("begun", "stuck")]
    state = "going back" if journal.undoing else f"done: {', '.join(done) or 'nothing'}"
    verb = "promotion" if journal.action == "promote" else "roll-back"
    what = (
        f"the {verb} of {journal.release} to '{journal.environment}' that {journal.by} began at "
        f"{journal.began} is unfinished ({state}{'; within: ' + ', '.join(begun) if begun else ''})"
    )
    undo = f"'python -m ci promote --undo --to {journal.environment}' puts all of it back"
    if journal.undoing:
        return what, undo
    return what, f"{again(journal)} goes on with it, {undo}"


def again(journal: Journal) -> str:
    """The command that goes on with it, in quotes."""
    release = journal.release[:20]  # a name that is enough, and no other of the same commit
    return f"'python -m ci {journal.action} {release} --to {journal.environment}'"


@contextmanager
def told_where(journal: Journal) -> Iterator[None]:
    """Who is interrupted in here is told how far it is, and what to do."""
    try:
        yield
    except (KeyboardInterrupt, InterruptedRunError):
        if not journal.serial or not journal.open:
            raise
        what, todo = unfinished(journal)
        raise InterruptedRunError(f"interrupted; {what}", todo) from None


def lease(
    target: Target,
    request: Request,
    release: str,
    who: str,
    meanwhile: Callable[[], None] = lambda: None,
) -> AbstractContextManager[Callable[[], None]]:
    """The environment's lock, for a release and who promotes it. See `Lease.held`."""
    return target.lease.held(
        lambda: _head(target),
        who=who,
        release=release,
        wait=request.wait,
        take=request.break_lock,
        told=target.workspace.console.event,
        meanwhile=meanwhile,
    )


def _head(target: Target) -> str:
    """Digest of the last record, "" for none."""
    found = target.records.head()
    return found.digest if found else ""
