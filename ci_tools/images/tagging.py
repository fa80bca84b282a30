"""Tags that name one digest and never another, such as a release's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ci_tools.errors import PushError
from ci_tools.images.registry import Registry


class Tag(NamedTuple):
    repository: str
    digest: str
    name: str


def unset(registry: Registry, wanted: Sequence[Tag]) -> list[Tag]:
    """Those that name nothing yet.

    Raises PushError where one names another digest; RegistryError, CredentialsError.
    """
    now = registry.digests([(one.repository, one.name) for one in wanted])
    for one in wanted:
        held = now[one.repository, one.name]
        if held is not None and held != one.digest:
            raise _taken(registry, one, held)
    return [one for one in wanted if now[one.repository, one.name] is None]


def put(registry: Registry, one: Tag) -> None:
    """Let a tag name a digest that is there.

    Raises PushError, also where it is immutable and names another; RegistryError,
    CredentialsError.
    """
    now = registry.tag(one.repository, one.digest, one.name)
    if now != one.digest:
        raise _taken(registry, one, now)


def _taken(registry: Registry, one: Tag, now: str) -> PushError:
    return PushError(
        f"{registry.host}/{one.repository}:{one.name} names {now}, and not {one.digest}",
        "See who set that tag, and take it away if nothing needs it",
    )
