"""Stage `bases`: what the external base images are locked to, and moving that on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from ci.console import counted
from ci.workspace import Workspace
from ci_tools.components.discovery import Component
from ci_tools.components.references import split
from ci_tools.errors import CredentialsError, RegistryError
from ci_tools.images import bases
from ci_tools.images.bases import Refresh

NOT_LOCKED = "not locked"


class Listed(msgspec.Struct, kw_only=True):
    """One external base. users: components that name it themselves.

    digest: from bases.lock or the reference itself, None where neither has one.
    here:   the image that stands in for it on this machine, by digest.
    """

    digest: str | None
    users: list[str]
    here: str | None = None


def list_(workspace: Workspace) -> dict[str, Listed]:
    """Reference -> what is known of it, those that only bases.lock has too. No network.

    Raises ConfigError for a damaged bases.lock, and what discovery raises.
    """
    locked = bases.locked(workspace.declared_in)
    used = users(workspace.components)
    found = bases.known(used, locked, workspace.home if workspace.embedded else None)
    listed: dict[str, Listed] = {}
    for reference in sorted({*locked, *used}):
        digest = split(reference).digest or locked.get(reference)
        here = found.get(reference)
        listed[reference] = Listed(
            digest=digest,
            users=used.get(reference, []),
            here=here if here and here != (digest and bases.pinned(reference, digest)) else None,
        )
    return listed


def list_lines(listed: Mapping[str, Listed]) -> list[str]:
    """For people, a line a base."""
    width = max(map(len, listed), default=0)
    return [
        f"{reference:<{width}}  {base.digest or NOT_LOCKED:<71}  "
        + (", ".join(base.users) or "nobody ('bases refresh' drops it)")
        + (f"  (here a stand-in: {base.here})" if base.here else "")
        for reference, base in listed.items()
    ]


def refresh(workspace: Workspace, named: Sequence[str] = ()) -> Refresh:
    """Ask what the bases stand for today and write bases.lock, all or nothing.

    named: only these, whatever else bases.lock holds stays; else all, and what
    nobody uses any more goes.

    Raises ConfigError for a name that is no base here, RegistryError or
    CredentialsError naming the base that cannot be looked up, WriteError.
    """
    before = bases.locked(workspace.declared_in)
    lockable = bases.lockable(users(workspace.components))
    wanted = bases.chosen(named, lockable)
    with workspace.console.working(bases.FILE, f"asking for {counted(len(wanted), 'base image')}"):
        today = resolve(workspace.components, wanted)
    result = bases.refresh(before, today, keep={*before} if named else lockable)
    bases.write(workspace.declared_in, result.locked)
    return result


def refresh_lines(result: Refresh) -> list[str]:
    """What a refresh changed, for people."""
    lines = [
        *(f"{r}: {_short(m.before)} → {_short(m.after)}" for r, m in result.moved.items()),
        *(f"{r}: new, {_short(digest)}" for r, digest in result.new.items()),
        *(f"{r}: dropped, nobody uses it" for r in result.dropped),
    ]
    return lines or [f"{bases.FILE} is up to date ({counted(len(result.locked), 'base image')})"]


def refresh_dry_run(workspace: Workspace, named: Sequence[str] = ()) -> list[str]:
    """What a refresh would ask and drop, a line each. Asks nobody."""
    before = bases.locked(workspace.declared_in)
    lockable = bases.lockable(users(workspace.components))
    dropped = [] if named else sorted({*before} - {*lockable})
    return [
        *(
            f"{reference}: would ask {split(split(reference).canonical).registry} "
            + (f"(now {_short(before[reference])})" if reference in before else f"({NOT_LOCKED})")
            for reference in bases.chosen(named, lockable)
        ),
        *(f"{reference}: would be dropped, nobody uses it" for reference in dropped),
    ]


def resolve(components: Mapping[str, Component], references: Collection[str]) -> dict[str, str]:
    """Reference -> digest of today.

    Raises RegistryError or CredentialsError naming the reference, and for the
    frontend of a Dockerfile, which nobody looks for among images, that file too.
    """
    frontends = {one.syntax: one.dockerfile for one in components.values() if one.syntax}
    found: dict[str, str] = {}
    for reference in sorted(frontends.keys() & set(references)):
        try:
            found |= bases.resolve([reference])
        except (RegistryError, CredentialsError) as error:
            raise type(error)(
                f"{frontends[reference]} wants the frontend {reference}, but {error.what}",
                "Take its '# syntax=' line out, which leaves the engine's own frontend, or run "
                "'python -m ci bases refresh' where that registry answers and commit bases.lock",
            ) from error
    return found | bases.resolve([one for one in references if one not in found])


def users(components: Mapping[str, Component]) -> dict[str, list[str]]:
    """External reference -> the components that name it, sorted."""
    found: dict[str, list[str]] = {}
    for name, component in sorted(components.items()):
        for reference in component.bases:
            found.setdefault(reference, []).append(name)
    return dict(sorted(found.items()))


def behind(components: Mapping[str, Component], direct: Iterable[str]) -> set[str]:
    """`direct`, and every component that is built on one of them."""
    reached = set(direct)
    grown = True
    while grown:
        more = {n for n, c in components.items() if reached & {*c.parents.values()}} - reached
        grown = bool(more)
        reached |= more
    return reached


def _short(digest: str) -> str:
    return digest[: len("sha256:") + 12]
