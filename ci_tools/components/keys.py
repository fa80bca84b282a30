"""A component's key: what its image is made of, before it is made.

The key is a hash over the context's files, the Dockerfile, build arguments,
target, platforms, and what the image is built on: siblings by their key,
external images by digest, the Dockerfile's own frontend among them. The idea is
docker-library's buildId.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from ci_tools.components import context, graph
from ci_tools.components.discovery import Component
from ci_tools.components.references import split
from ci_tools.documents import Ingredients

# Raise it when the ingredients change: every key then changes at once. 2: the frontend
# counts, arguments that no ARG uses and stages that no build reaches do not.
_RECIPE = 2
OUTPUTS = "build"  # where the stages write unless told otherwise


class Keyed(NamedTuple):
    """provisional: the key may change once the digest of a base is known."""

    name: str
    key: str
    provisional: bool
    ingredients: Ingredients


def compute(
    repository: Path,
    components: Mapping[str, Component],
    bases: Mapping[str, str],
) -> dict[str, tuple[str, bool]]:
    """Name -> (key, provisional), parents first.

    bases: external reference as written -> digest. An image whose base is not
    among them, and every image built on it, has a provisional key.

    Raises CycleError, and DockerfileError for a file that cannot be read.
    """
    keyed = each(repository, components, bases)
    return {one.name: (one.key, one.provisional) for one in keyed}


def each(
    repository: Path,
    components: Mapping[str, Component],
    bases: Mapping[str, str],
) -> Iterator[Keyed]:
    """As `compute`, one by one with the ingredients, so that nobody has to hold
    those of a whole repository."""
    keys: dict[str, str] = {}
    provisional: set[str] = set()
    for name in graph.ordered({n: sorted(c.parents.values()) for n, c in components.items()}):
        component = components[name]
        made_of = ingredients(repository, component, keys, bases)
        keys[name] = key_of(made_of)
        if None in made_of.bases.values() or provisional.intersection(component.parents.values()):
            provisional.add(name)
        yield Keyed(name, keys[name], name in provisional, made_of)


def ingredients(
    repository: Path,
    component: Component,
    keys: Mapping[str, str],
    bases: Mapping[str, str],
) -> Ingredients:
    """What the key of one component is made of, with whole hashes.

    keys: component -> key, of all its parents at least. bases: as in `compute`.

    Raises DockerfileError for a file that cannot be read, ConfigError for a
    context that is sent `.git` or what the stages write.
    """
    folder, dockerfile = repository / component.context, repository / component.dockerfile
    context.check_outputs(folder, dockerfile, repository / OUTPUTS)
    return Ingredients(
        recipe=_RECIPE,
        dockerfile=hashlib.sha256(dockerfile.read_bytes()).hexdigest(),
        files=context.entries(folder, dockerfile),
        platform=",".join(component.platforms),
        target=component.target,
        syntax=component.syntax,
        args=component.args,
        parents={reference: keys[parent] for reference, parent in component.parents.items()},
        bases={reference: digest_of(reference, bases) for reference in component.bases},
    )


def key_of(made_of: Ingredients) -> str:
    """The key: a hash over the canonical form of all ingredients, 64 hex."""
    canonical = {
        # File names need not be UTF-8, which JSON must be: they are hashed first.
        "context": context.entries_hash(made_of.files),
        "recipe": made_of.recipe,
        "dockerfile": made_of.dockerfile,
        "args": made_of.args,
        "target": made_of.target,
        "platform": made_of.platform,
        "syntax": made_of.syntax,
        "parents": made_of.parents,
        "bases": made_of.bases,
    }
    return hashlib.sha256(msgspec.json.encode(canonical, order="sorted")).hexdigest()


def digest_of(reference: str, bases: Mapping[str, str]) -> str | None:
    """The digest that a base reference stands for, None where nobody has said."""
    return split(reference).digest or bases.get(reference)
