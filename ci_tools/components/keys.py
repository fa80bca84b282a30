"""A component's key: what its image is made of, before it is made.

The key is a hash over the context's files, the Dockerfile, build arguments,
target, platforms, and what the image is built on: siblings by their key,
external images by digest, the Dockerfile's own frontend among them. The idea is
docker-library's buildId.

An image that is built again by force needs a key of its own, for of one key there
is one image: the name of what forces it is then an ingredient too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from ci_tools.components import context, graph, hashing
from ci_tools.components.discovery import Component
from ci_tools.components.hashing import Hashing
from ci_tools.components.references import split
from ci_tools.documents import Ingredients

# Raise it when the ingredients change: every key then changes at once. 2: the frontend
# counts, arguments that no ARG uses and stages that no build reaches do not.
_RECIPE = 2
OUTPUTS = "build"  # where the stages write unless told otherwise


def compute(
    repository: Path,
    components: Mapping[str, Component],
    bases: Mapping[str, str],
    begun: Hashing | None = None,
    forced: Mapping[str, str] | None = None,
) -> dict[str, tuple[str, bool]]:
    """Name -> (key, provisional), parents first.

    bases: external reference as written -> digest. An image whose base is not
    among them, and every image built on it, has a provisional key.
    begun: workers that hash the contexts already; by default they start here.
    forced: component -> the name of what forces it to be built again. Its key is
    then no other plan's; those of its children follow.

    Raises CycleError, and as `ingredients`.
    """
    order = _ordered(components)
    for name in order:
        _check(repository, components[name])
    wanted = [_paths(repository, components[name]) for name in order]
    keys: dict[str, str] = {}
    provisional: dict[str, bool] = {}
    with begun or Hashing(wanted) as hashed:
        for name, found in zip(order, hashing.many(wanted, hashed), strict=True):
            made_of = _ingredients(
                components[name], found.dockerfile, {}, keys, bases, (forced or {}).get(name, "")
            )
            keys[name] = _key(made_of, found.context)
            provisional[name] = _provisional(components[name], made_of, provisional)
    return {name: (key, provisional[name]) for name, key in keys.items()}


def ingredients(
    repository: Path,
    component: Component,
    keys: Mapping[str, str],
    bases: Mapping[str, str],
    forced: str = "",
) -> Ingredients:
    """What the key of one component is made of, with whole hashes.

    keys: component -> key, of all its parents at least. bases: as in `compute`.
    forced: what forces it, "" for nothing.

    Raises DockerfileError for a file that cannot be read, ConfigError for a
    context that is sent `.git` or what the stages write.
    """
    _check(repository, component)
    folder, dockerfile = _paths(repository, component)
    files = context.entries(folder, dockerfile)
    hashed = context.file_hash(dockerfile, folder, files)
    return _ingredients(component, hashed, files, keys, bases, forced)


def key_of(made_of: Ingredients) -> str:
    """The key: a hash over the canonical form of all ingredients, 64 hex."""
    return _key(made_of, context.entries_hash(made_of.files))


def digest_of(reference: str, bases: Mapping[str, str]) -> str | None:
    """The digest that a base reference stands for, None where nobody has said."""
    return split(reference).digest or bases.get(reference)


def _ordered(components: Mapping[str, Component]) -> list[str]:
    return graph.ordered({n: sorted(c.parents.values()) for n, c in components.items()})


def _paths(repository: Path, component: Component) -> tuple[str, str]:
    """Context and Dockerfile."""
    root = str(repository)
    folder = root if component.context == "." else f"{root}/{component.context}"
    return folder, f"{root}/{component.dockerfile}"


def _check(repository: Path, component: Component) -> None:
    """Refuse a context that is sent what the stages write, in the default directory."""
    if component.holds(OUTPUTS):
        folder, dockerfile = _paths(repository, component)
        context.check_outputs(Path(folder), Path(dockerfile), repository / OUTPUTS)


def _ingredients(
    component: Component,
    dockerfile: str,
    files: dict[str, str],
    keys: Mapping[str, str],
    bases: Mapping[str, str],
    forced: str,
) -> Ingredients:
    return Ingredients(
        recipe=_RECIPE,
        dockerfile=dockerfile,
        files=files,
        platform=",".join(component.platforms),
        target=component.target,
        syntax=component.syntax,
        args=component.args,
        parents={reference: keys[parent] for reference, parent in component.parents.items()},
        bases={reference: digest_of(reference, bases) for reference in component.bases},
        forced=forced,
    )


def _provisional(
    component: Component, made_of: Ingredients, provisional: Mapping[str, bool]
) -> bool:
    return None in made_of.bases.values() or any(
        provisional[parent] for parent in component.parents.values()
    )


def _key(made_of: Ingredients, files: str) -> str:
    canonical = {
        # File names need not be UTF-8, which JSON must be: they are hashed first.
        "context": files,
        "recipe": made_of.recipe,
        "dockerfile": made_of.dockerfile,
        "args": made_of.args,
        "target": made_of.target,
        "platform": made_of.platform,
        "syntax": made_of.syntax,
        "parents": made_of.parents,
        "bases": made_of.bases,
    }
    if made_of.forced:  # else it is not there: no other key may change
        canonical["forced"] = made_of.forced
    return hashlib.sha256(msgspec.json.encode(canonical, order="sorted")).hexdigest()
