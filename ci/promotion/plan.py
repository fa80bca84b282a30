"""What a promotion would do. Asks registries, Kubeflow and ECS; changes nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import msgspec

from ci.promotion import wanted
from ci.promotion.target import Target
from ci_tools.documents import Action
from ci_tools.kubeflow import names
from ci_tools.release.bundle import Bundle

_AT_ONCE = 8


class Copy(msgspec.Struct, kw_only=True):
    """An image that is to be there. present: it is."""

    component: str
    source: str
    target: str
    present: bool


class Version(msgspec.Struct, kw_only=True):
    """A pipeline's version. equal: the names of versions that are this very one."""

    pipeline: str
    version: str
    equal: list[str]


class ServiceChange(msgspec.Struct, kw_only=True):
    """lines: what changes in ECS; none for a service that is as it is to be."""

    component: str
    service: str
    lines: list[str]


class Planned(msgspec.Struct, kw_only=True):
    """refusals: why it would not be done. runs: the release that the environment runs."""

    action: Action
    release: str
    environment: str
    runs: str
    refusals: list[str]
    warnings: list[str]
    copies: list[Copy]
    pipelines: list[Version]
    services: list[ServiceChange]


def plan(
    target: Target,
    bundle: Bundle,
    action: Action,
    *,
    runs: str,
    refusals: list[str],
    warnings: list[str],
) -> Planned:
    """Raises RegistryError, CredentialsError, KubeflowError, ServiceError, ConfigError."""
    release = bundle.release
    moves = target.moves(release)

    def copy(name: str) -> Copy:
        image = release.images[name]
        held = target.registry.digest(target.workspace.repository_of(name), image.digest)
        return Copy(
            component=name,
            source=image.reference,
            target=moves[image.reference],
            present=held == image.digest,
        )

    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        copies = list(pool.map(copy, sorted(release.images)))
    asked = wanted.asked_for(target, bundle)
    inventory = target.kubeflow.inventory() if asked else None
    known = {one.name: one.pipeline_id for one in inventory.pipelines()} if inventory else {}
    versions = [
        Version(
            pipeline=one.name,
            version=one.version,
            equal=[it.name for it in inventory.versions(known[one.name], names.ending(one.sha256))]
            if inventory and one.name in known
            else [],
        )
        for one in asked
    ]
    changes = [
        ServiceChange(
            component=one.component,
            service=one.servable.service,
            lines=target.services.diff(one),
        )
        for one in wanted.servables(target, bundle)
    ]
    return Planned(
        action=action,
        release=release.name,
        environment=target.name,
        runs=runs,
        refusals=refusals,
        warnings=warnings,
        copies=copies,
        pipelines=versions,
        services=changes,
    )


def lines(planned: Planned) -> list[str]:
    """For people, in the order in which it would be done."""
    verb = "promote" if planned.action == "promote" else "go back to"
    told = [
        f"would {verb} {planned.release} in '{planned.environment}', "
        f"which runs {planned.runs or 'no release'}"
    ]
    told += [f"REFUSED: {one}" for one in planned.refusals]
    told += [f"WARNING: {one}" for one in planned.warnings]
    told += [
        f"image     {one.component}  {'present' if one.present else 'to be copied'}  {one.target}"
        for one in planned.copies
    ]
    told += [
        f"pipeline  {one.pipeline}  "
        + (f"equal to {one.equal[0]}" if one.equal else f"new version {one.version}")
        for one in planned.pipelines
    ]
    for change in planned.services:
        told.append(f"service   {change.service}  {'changes' if change.lines else 'as it is'}")
        told += [f"    {line}" for line in change.lines]
    return told
