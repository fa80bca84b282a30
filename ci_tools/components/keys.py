"""A component's key: what its image is made of, before it is made.

The key is a hash over the context's files, the Dockerfile, build arguments,
target, platform, and what the image is built on: siblings by their key,
external images by digest. The idea is docker-library's buildId; see
docs/architecture.md for what differs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from ci_tools.components import context, graph
from ci_tools.components.discovery import Component
from ci_tools.components.references import split

_RECIPE = 1  # raise it when the ingredients change: every key then changes at once
# In a context that is the whole repository these differ from clone to clone, and
# from one stage to the next, though the sources are equal. BuildKit leaves .git
# out of contexts that it clones itself for the same reason.
_NO_SOURCES = (".git", "build")


def compute(
    repository: Path,
    components: Mapping[str, Component],
    bases: Mapping[str, str],
    *,
    platform: str = "linux/amd64",
) -> dict[str, tuple[str, bool]]:
    """Name -> (key, provisional), parents first.

    bases: external reference as written -> digest. An image whose base is not
    among them, and every image built on it, has a provisional key.

    Raises CycleError.
    """
    keys: dict[str, tuple[str, bool]] = {}
    for name in graph.ordered({n: sorted(c.parents.values()) for n, c in components.items()}):
        component = components[name]
        known = {reference: digest_of(reference, bases) for reference in component.bases}
        ingredients = {
            "recipe": _RECIPE,
            "context": context.tree_hash(
                repository / component.context,
                repository / component.dockerfile,
                without=_NO_SOURCES if component.context == "." else (),
            ),
            "dockerfile": hashlib.sha256(
                (repository / component.dockerfile).read_bytes()
            ).hexdigest(),
            "args": component.args,
            "target": component.target,
            "platform": platform,
            "parents": {ref: keys[parent][0] for ref, parent in component.parents.items()},
            "bases": known,
        }
        canonical = msgspec.json.encode(ingredients, order="sorted")
        provisional = None in known.values() or any(
            keys[parent][1] for parent in component.parents.values()
        )
        keys[name] = (hashlib.sha256(canonical).hexdigest(), provisional)
    return keys


def digest_of(reference: str, bases: Mapping[str, str]) -> str | None:
    """The digest that a base reference stands for, None where nobody has said."""
    return split(reference).digest or bases.get(reference)
