"""Stages `promote` and `rollback`: a release into an environment, whole or not at all.

What keeps it whole: a gate before anything is touched, a lock, steps in an order in which
nothing is seen before all is there, a journal of them, and the way back of each.
"""

from __future__ import annotations

import getpass
import os
import socket
import uuid
from collections.abc import Callable, Sequence

from ci.promotion import facts, plan, promoted, steps, turn, undoing
from ci.promotion.plan import Planned
from ci.promotion.target import Target
from ci.promotion.turn import Request as Request
from ci.workspace import Workspace
from ci_tools.documents import Action, Journal, Promotion
from ci_tools.errors import (
    CIError,
    InterruptedRunError,
    PromotionRefusedError,
    PromotionUnderWayError,
    PromotionUndoneError,
    ReleaseNotFoundError,
)
from ci_tools.promotion import engine, gate, records
from ci_tools.promotion.records import Kept
from ci_tools.release.bundle import Bundle


def promote(workspace: Workspace, what: str, request: Request) -> Promotion:
    """Bring a release into the environment of the workspace, or leave it as it was.

    what: its name, commit, digest or the path of its bundle. One that was interrupted
    goes on where it was.

    Raises PromotionRefusedError (nothing was touched), PromotionUndoneError,
    PromotionStuckError, PromotionUnderWayError; ReleaseNotFoundError,
    ReleaseSignatureError, ConfigError, RegistryError, CredentialsError.
    """
    target = Target(workspace)
    _ = target.settings
    return _brought(target, target.find(what), "promote", request)


def rollback(workspace: Workspace, what: str | None, request: Request) -> Promotion:
    """Go back to a release that the environment ran: the one before, or `what`.

    Raises as `promote`, and ReleaseNotFoundError where there is none to go back to.
    """
    target = Target(workspace)
    _ = target.settings
    return _brought(target, _earlier(target, what), "rollback", request)


def plan_of(workspace: Workspace, what: str | None, action: Action, request: Request) -> Planned:
    """What `promote` or `rollback` would do, and whether it would be refused. Changes nothing
    but files below the build directory. Raises as they do, less what the doing raises, and
    PromotionRefusedError at once for a release that nobody signed, whatever it names."""
    target = Target(workspace)
    _ = target.settings
    bundle = target.find(what or "") if action == "promote" else _earlier(target, what)
    by = person()
    known = facts.gathered(
        target, bundle, action, by=by, approvals=request.approvals, look_only=True
    )
    judged = gate.judge(known, target.settings, action)
    if not known.believed:
        raise _refused(bundle.release.name, target.name, judged.refusals)
    refusals, warnings = judged.refusals, judged.warnings
    open_ = target.journals.read()
    try:
        turn.check_open(open_, bundle.release.name, action)
    except PromotionUnderWayError as error:
        refusals = [*refusals, error.what]
    else:
        if open_ is not None and open_.open:
            warnings = [*warnings, f"{turn.unfinished(open_)[0]}: this would go on with it"]
    stands = promoted.standing(target)
    warnings = [
        *warnings, *promoted.left(promoted.declared(target, stands, bundle), bundle.release)
    ]  # fmt: skip
    return plan.plan(
        target,
        bundle,
        action,
        runs=stands.record.release if stands else "",
        refusals=refusals,
        warnings=warnings,
    )


def raise_refusals(planned: Planned) -> None:
    """Raises PromotionRefusedError where it would be refused."""
    if planned.refusals:
        raise _refused(planned.release, planned.environment, planned.refusals)


def undo(workspace: Workspace, request: Request) -> Promotion | None:
    """Put back what an interrupted promotion did; its record, or None where none is open.

    Needs the journal alone, on whatever machine. Raises PromotionStuckError,
    PromotionUnderWayError, RegistryError, CredentialsError.
    """
    target = Target(workspace)
    journal = target.journals.read()
    if journal is None or not journal.open:
        return None
    with turn.lease(target, request, journal.release, person()) as alive:
        journal = target.journals.read()
        if journal is None or not journal.open:
            return None
        with turn.told_where(journal):
            why = "it was interrupted, and then undone by hand"
            return undoing.undone(target, journal, why, alive)


def _brought(target: Target, bundle: Bundle, action: Action, request: Request) -> Promotion:
    release = bundle.release
    turn.check_free(target, release.name, action, request)
    _ = target.signer  # a key that is missing is told before anything is touched
    by = person()
    known = facts.gathered(target, bundle, action, by=by, approvals=request.approvals)
    judged = gate.judge(known, target.settings, action)
    if judged.refusals:
        raise _refused(release.name, target.name, judged.refusals)
    for warning in judged.warnings:
        target.workspace.console.warn(f"going back all the same: {warning}")
    with turn.lease(target, request, release.name, by, lambda: target.prepare(release)) as alive:
        journal = target.journals.read_closed(request.wait)
        turn.check_open(journal, release.name, action)
        head = target.records.head()
        if journal is None or not journal.open:
            journal = _begun(target, bundle, action, head, by, gate.approvers(known))
        else:
            target.workspace.console.event(f"going on with what {journal.by} began")
        with turn.told_where(journal):
            return _carried_out(target, bundle, journal, head, alive)


def _carried_out(
    target: Target,
    bundle: Bundle,
    journal: Journal,
    head: Kept | None,
    alive: Callable[[], None],
) -> Promotion:
    """Every step; or all of them undone, and the error that says so."""
    console = target.workspace.console
    declared = promoted.declared(target, target.records.standing(head), bundle)
    for sentence in promoted.left(declared, bundle.release):
        console.warn(sentence)
    doing = steps.steps_of(
        target,
        bundle,
        journal,
        declared=declared,
        now=undoing.now,
        told=console.event,
    )
    try:
        with console.live(), console.working(target.name, f"{journal.action} {journal.release}"):
            engine.forward(journal, doing, target.journals.keep, alive=alive)
    except (PromotionUnderWayError, InterruptedRunError):
        raise  # it is another's now, or is gone on with later
    except CIError as error:
        undoing.undone(target, journal, error.what, alive)
        raise PromotionUndoneError(
            f"{journal.release} was not brought to '{target.name}', which is as it was before: "
            f"{error.what}",
            error.todo,
        ) from error
    journal.open = False
    why = target.journals.keep_if_possible(journal)
    if why:
        console.warn(
            f"'{target.name}' runs {journal.release}, but others may be told that this is "
            f"unfinished ({why}); then: {turn.again(journal)}"
        )
    return target.tell(target.records.at(journal.steps[-1].result["digest"]).record)


def _begun(
    target: Target,
    bundle: Bundle,
    action: Action,
    head: Kept | None,
    by: str,
    approvals: Sequence[str],
) -> Journal:
    release = bundle.release
    return Journal(
        id=uuid.uuid4().hex,
        action=action,
        environment=target.name,
        project=release.project,
        release=release.name,
        bundle=bundle.sha256,
        commit=release.source.commit,
        previous=head.digest if head else "",
        by=by,
        approvals=list(approvals),
        began=undoing.now(),
        steps=steps.pending(release),
    )


def _earlier(target: Target, what: str | None) -> Bundle:
    if what is not None:
        return target.published(what)
    history, gone = target.records.known()
    found = records.before([one.record for one in history])
    if found is None:
        raise ReleaseNotFoundError(
            f"what '{target.name}' ran before is not known ({gone})"
            if gone
            else f"'{target.name}' ran nothing before what it runs now",
            f"See 'python -m ci releases history --env {target.name}', and name a release",
        )
    return target.published(found.release)


def _refused(release: str, environment: str, refusals: Sequence[str]) -> PromotionRefusedError:
    return PromotionRefusedError(
        f"{release} may not go to '{environment}', where nothing was touched:"
        f"{gate.sentence(refusals)}",
        "Mend each of these, or promote another release",
    )


def person() -> str:
    """Who promotes, as far as anybody tells: Jenkins' user, else this machine's."""
    told = os.environ.get("BUILD_USER_ID") or os.environ.get("BUILD_USER")
    if told:
        return told
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def lines(record: Promotion) -> list[str]:
    """What was done, for people."""
    done = {"promote": "runs", "rollback": "is back on"}[record.action]
    told = [f"'{record.environment}' {done} {record.release}"]
    told += [f"  image     {name}  {one}" for name, one in sorted(record.images.items())]
    told += [
        f"  pipeline  {name}  {one.version}  {one.version_id}"
        for name, one in sorted(record.pipelines.items())
    ]
    told += [
        f"  service   {one.service}  {one.task_definition}  {one.url}"
        for _, one in sorted(record.services.items())
    ]
    return told


def undo_lines(record: Promotion | None) -> list[str]:
    if record is None:
        return ["no promotion is unfinished"]
    return [
        f"{record.release} was undone in '{record.environment}'",
        *map("  {}".format, record.steps),
    ]
