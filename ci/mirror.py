"""`scan db`: Trivy's databases into a registry of the company's own."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ci.workspace import Workspace
from ci_tools import config
from ci_tools.images.direct import Patience
from ci_tools.images.registry import Registry
from ci_tools.scanner import mirroring
from ci_tools.scanner.mirroring import Mirrored, Name, Wanted

# A registry answers a large blob when it has stored it.
_PATIENCE = Patience(connect=10, read=300)


class Mirror(msgspec.Struct, kw_only=True):
    """All that was copied, or was there already."""

    databases: list[Mirrored]


def wanted(to: str, sources: Sequence[str], *, java: bool, checks: bool) -> list[Wanted]:
    """What to copy. Raises ConfigError."""
    names: list[Name] = ["trivy-db"]
    names += ["trivy-java-db"] if java else []
    names += ["trivy-checks"] if checks else []
    return mirroring.wanted(to, sources, names)


def mirror(workspace: Workspace, asked: Sequence[Wanted]) -> Mirror:
    """Copy them, one after the other. Raises as `mirroring.mirror`."""
    registries: dict[str, Registry] = {}

    def registry(host: str) -> Registry:
        if host not in registries:
            registries[host] = _registry(workspace, host)
        return registries[host]

    done = []
    for one in asked:
        with workspace.console.working(one.name, f"copying it to {one.target}"):
            done.append(mirroring.mirror(one, registry, told=workspace.console.event))
    return Mirror(databases=done)


def _registry(workspace: Workspace, host: str) -> Registry:
    """As the environment declares it, where it is the one of that host."""
    declared = workspace.config.environment(workspace.environment_name).registry
    if declared is None or declared.host != host:
        declared = config.Registry(host="registry-1.docker.io" if host == "docker.io" else host)
    return Registry(
        declared.host, plain_http=declared.plain_http, ecr=declared.ecr, patience=_PATIENCE
    )


def lines(result: Mirror) -> list[str]:
    """A line for each, with what `scan` of ci.yaml is to name."""
    width = max((len(one.name) for one in result.databases), default=0)
    return [
        f"{one.name:<{width}}  {one.reference}" + (f"  of {one.date}" if one.date else "")
        for one in result.databases
    ]


def would(asked: Sequence[Wanted]) -> list[str]:
    """The same before it is done. Nobody is asked."""
    return [f"copy {' or else '.join(one.sources)} to {one.target}" for one in asked]
