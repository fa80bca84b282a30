"""External base images: which digest a reference stands for.

`bases.lock` in the repository (reference -> digest, YAML) is where a moved base
is a reviewable change. What it does not name is asked of the registry once;
the embedded environment may have made a stand-in where no registry answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NamedTuple

from msgspec import Meta

from ci_tools import config, local
from ci_tools.components.references import split
from ci_tools.errors import RegistryError
from ci_tools.images import registry

FILE = "bases.lock"
Digest = Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}$")]


class Resolved(NamedTuple):
    """image: by digest. note: what a person should know of it, or ""."""

    image: str
    note: str = ""


def known(references: Iterable[str], repository: Path, home: Path | None) -> dict[str, str]:
    """Reference -> image by digest, without a network, for those that have one.

    home: state of the embedded environment, whose stand-ins then come first.

    Raises ConfigError for a damaged bases.lock.
    """
    path = repository / FILE
    locked = config.parse(path, dict[str, Digest]) if path.exists() else {}
    stand_ins = local.recorded(home) if home is not None else {}
    found: dict[str, str] = {}
    for reference in references:
        digest = split(reference).digest or locked.get(reference)
        if reference in stand_ins:
            found[reference] = stand_ins[reference]
        elif digest:
            found[reference] = _pinned(reference, digest)
    return found


def resolve(
    reference: str, already: str | None, home: Path | None, embedded: str | None
) -> Resolved:
    """The image by digest that a reference stands for, asking the network.

    already:  what `known` says of it, if anything.
    embedded: host of the embedded registry, where a stand-in may be made.

    Raises RegistryError when nobody knows the reference, and what
    `local.substitute` raises.
    """
    if embedded is not None and home is not None:
        stand_in = local.substitute(reference, embedded, home)
        if stand_in is not None:
            return Resolved(stand_in.image, stand_in.note)
    if already is not None:
        return Resolved(already)
    where, path, tag = registry.of(reference)
    digest = where.digest(path, tag)
    if digest is None:
        raise RegistryError(
            f"the base image {reference} is not in its registry", "Mend the FROM line"
        )
    return Resolved(_pinned(reference, digest))


def _pinned(reference: str, digest: str) -> str:
    parts = split(split(reference).canonical)
    return f"{parts.repository}@{digest}"
