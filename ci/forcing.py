"""Components that are built again though the registry has their key.

An image is named by its key and a tag never gets another image, so a forced build
has a key of its own: `Force.by` becomes an ingredient. It holds for the plan that
was told so, for its lock, its pipelines and its release; the next plan has the key
of the sources again, and its image of before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timezone
from typing import NamedTuple

from ci_tools.config_errors import did_you_mean
from ci_tools.errors import ConfigError

ALL = "all"
_LONGEST = 200  # characters of a name


class Force(NamedTuple):
    """names: of components, or `all`. by: what forces them, "" for the time of now.

    Two plans of the same sources with equal names give equal keys, so that a plan
    that is made again in one build of Jenkins builds nothing twice.
    """

    names: Collection[str]
    by: str = ""


def forced(force: Force | None, components: Mapping[str, object]) -> dict[str, str]:
    """Component -> what forces it. Empty for None and for no name.

    Raises ConfigError for an unknown component, naming the nearest, and for a `by`
    that cannot be shown.
    """
    if force is None or not force.names:
        return {}
    for name in force.names:
        if name != ALL and name not in components:
            raise _unknown(name, components)
    by = force.by or datetime.now(timezone.utc).isoformat()
    if len(by) > _LONGEST or not by.isprintable():
        raise ConfigError(
            f"'{by[:_LONGEST]}' cannot name what forces a build",
            f"Give --force-id at most {_LONGEST} printable characters, such as a build's number",
        )
    return dict.fromkeys(components if ALL in force.names else sorted(force.names), by)


def _unknown(name: str, components: Mapping[str, object]) -> ConfigError:
    every = ", ".join(components) or "none"
    return ConfigError(
        f"there is no component '{name}' to build again",
        did_you_mean(name, list(components)) or f"Name one of: {every}; or 'all'",
    )
