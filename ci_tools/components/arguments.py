"""Which of the configured build arguments a build uses, and which a key counts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

# https://docs.docker.com/reference/dockerfile/#predefined-args: without an ARG
# BuildKit gives a RUN the proxies but leaves them out of its cache, and
# SOURCE_DATE_EPOCH sets times only, which are no content here either.
_PROXIES = frozenset({"http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"})
_EPOCH = "SOURCE_DATE_EPOCH"
_SYNTAX = "BUILDKIT_SYNTAX"
_BUILT_IN = "dockerfile.v0"  # what BUILDKIT_SYNTAX says for the engine's own frontend
_PLATFORM = frozenset(
    f"{whose}{part}"
    for whose in ("TARGET", "BUILD")
    for part in ("PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT")
) | {"TARGETSTAGE"}


class Arguments(NamedTuple):
    """counted: in the key, and given to the build. predefined: only the latter.

    unused: names that nothing uses. syntax: the frontend that BUILDKIT_SYNTAX
    names instead of the Dockerfile, "" for the engine's own, None without it.
    """

    counted: dict[str, str]
    predefined: dict[str, str]
    unused: tuple[str, ...]
    syntax: str | None


def sort(given: Mapping[str, str], declared: Collection[str]) -> Arguments:
    """Sort the arguments of a component. declared: by an ARG that the build reaches."""
    counted: dict[str, str] = {}
    predefined: dict[str, str] = {}
    unused: list[str] = []
    syntax: str | None = None
    for name, value in given.items():
        if name == _SYNTAX:
            image = value.strip().partition(" ")[0]
            if image == _BUILT_IN:
                syntax, counted[name] = "", value
            elif image:
                syntax = image
            else:
                unused.append(name)
        elif name in declared or name in _PLATFORM or name.startswith("BUILDKIT_"):
            counted[name] = value
        elif name.lower() in _PROXIES or name == _EPOCH:
            predefined[name] = value
        else:
            unused.append(name)
    return Arguments(counted, predefined, tuple(unused), syntax)
