"""What was promoted to an environment, and what differs between two releases."""

from __future__ import annotations

import msgspec

from ci.console import table
from ci.promotion import turn
from ci.promotion.target import Target
from ci.workspace import Workspace
from ci_tools.documents import Promotion
from ci_tools.errors import MissingInputError, ReleaseNotFoundError
from ci_tools.promotion import compare
from ci_tools.promotion.compare import Difference
from ci_tools.release.bundle import Bundle


class History(msgspec.Struct, kw_only=True):
    """Newest first. runs: the release that the environment runs, "" for none.
    unfinished: a promotion that is under way or was interrupted, and what to do; "" for none.
    gone: why there are no older records; "" where these are all.
    """

    environment: str
    runs: str
    records: list[Promotion]
    unfinished: str = ""
    gone: str = ""


def history(workspace: Workspace) -> History:
    """Raises RegistryError, CredentialsError."""
    target = Target(workspace)
    kept, gone = target.records.known()
    stands = target.records.standing(kept[0] if kept else None)
    return History(
        environment=target.name,
        runs=stands.record.release if stands else "",
        records=[one.record for one in kept],
        unfinished=_unfinished(target),
        gone=gone,
    )


def _unfinished(target: Target) -> str:
    try:
        journal = target.journals.read()
    except MissingInputError as error:  # the records can be read all the same
        return f"{error.what}. {error.todo}"
    return ". ".join(turn.unfinished(journal)) if journal is not None and journal.open else ""


def lines(found: History) -> list[str]:
    """For people."""
    rows = [("WHEN", "WHAT", "OUTCOME", "RELEASE", "COMMIT", "BY", "APPROVED BY")]
    rows += [
        (
            one.ended,
            one.action,
            one.outcome,
            one.release[:20],
            (one.commit or "")[:12],
            one.by,
            ", ".join(one.approvals),
        )
        for one in found.records
    ]
    first = [f"'{found.environment}' runs {found.runs or 'no release'}"]
    if found.unfinished:
        first.append(f"UNFINISHED: {found.unfinished}")
    if len(rows) == 1:
        return [f"nothing was promoted to '{found.environment}'", *first[1:]]
    told = table(rows)
    for row, one in enumerate(found.records, start=1):
        if one.reason:
            told[row] += f"\n    {one.reason}"
    if found.gone:
        told.append(f"what was before is not known: {found.gone}")
    return [*first, *told]


def difference(workspace: Workspace, before: str, after: str) -> Difference:
    """Of two releases, by name, commit, digest or path; of this environment's registry or
    that of the one that it takes releases from. Raises as `Target.find`."""
    target = Target(workspace)
    return compare.compare(_found(target, before), _found(target, after))


def _found(target: Target, what: str) -> Bundle:
    try:
        return target.find(what)
    except ReleaseNotFoundError:
        if target.source is None:
            raise
        return target.published(what)
