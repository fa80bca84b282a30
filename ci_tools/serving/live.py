"""What a service runs now, and what a deployment would change. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from ci_tools.config import PredictionService
from ci_tools.documents import Model
from ci_tools.serving import comparison, task_definition
from ci_tools.serving.declaration import Servable
from ci_tools.serving.revisions import VERIFIED
from ci_tools.serving.rollout import short
from ci_tools.serving.service_comparison import normalise_service, service_differences
from ci_tools.serving.service_settings import service_arguments
from ci_tools.serving.task_definition import Definition


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """A service as it is.

    task_definition: ARN; definition: as described, not normalised.
    verified: ARN of the revision that we last recorded as verified.
    service:  as described by ECS.
    """

    task_definition: str
    definition: Definition
    verified: str | None
    service: Mapping[str, Any]

    @classmethod
    def of(cls, service: Mapping[str, Any], definition: Mapping[str, Any]) -> Live:
        """From describe_services (with TAGS) and describe_task_definition."""
        tags = {tag.get("key"): tag.get("value") for tag in service.get("tags") or []}
        return cls(
            task_definition=service["taskDefinition"],
            definition=dict(definition),
            verified=tags.get(VERIFIED) or None,
            service=service,
        )

    @property
    def arn(self) -> str:
        return str(self.service["serviceArn"])

    @property
    def short(self) -> str:
        """`family:revision` of what it runs."""
        return short(self.task_definition)

    @property
    def desired(self) -> int:
        return int(self.service.get("desiredCount", 0))

    @property
    def primary(self) -> Mapping[str, Any]:
        deployments = self.service.get("deployments") or []
        return next((d for d in deployments if d.get("status") == "PRIMARY"), {})

    @property
    def serves(self) -> bool:
        """All tasks of the current revision run and ECS calls it completed."""
        return (
            self.desired > 0
            and self.primary.get("rolloutState", "COMPLETED") == "COMPLETED"
            and int(self.primary.get("runningCount", 0)) >= self.desired
        )

    @property
    def good(self) -> str | None:
        """The revision to go back to: the verified one, else the one that serves."""
        return self.verified or (self.task_definition if self.serves else None)


def desired_count(servable: Servable, live: Live | None) -> int | None:
    """The desiredCount to ask for, None where an autoscaler's is to be left."""
    if servable.count_is_others and live is not None and live.desired > 0:
        return None
    return servable.first_count


def changes(
    servable: Servable, definition: Definition, arguments: Definition, live: Live
) -> list[str]:
    """What differs between a live service and what is wanted, a line each."""
    lines = comparison.difference(live.definition, definition)
    now = normalise_service(dict(live.service))
    then = normalise_service(arguments)
    if "networkConfiguration" not in arguments:  # a stand-in makes its own
        for key in ("subnets", "securityGroups", "assignPublicIp"):
            then[key] = now[key]
    lines += service_differences(now, then)
    count = desired_count(servable, live)
    if count is not None and count != live.desired:
        lines.append(f"service.desiredCount: {live.desired} -> {count}")
    return lines


def plan(
    servable: Servable,
    image: str | None,
    model: Model | None,
    live: Live | None,
    *,
    settings: PredictionService,
    images: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """What a deployment would do, for a dry run; asks nobody.

    image: None where it is not built yet; model: None where it is not known
    yet or there is none; images: of the components that sidecars are; live:
    None where nobody was asked or nothing runs.

    Raises ServiceError as `task_definition.render` does.
    """
    source = servable.model
    where = f"service '{servable.service}' in cluster '{settings.cluster}'"
    lines = [f"{where}: {_size(servable)}"]
    lines.append(f"  image: {image or 'not built yet'}")
    if model is not None:
        lines.append(f"  model: {model.uri} (sha256 {model.sha256})")
    elif source is not None and source.pipeline is not None:
        lines.append(f"  model: '{source.artifact}' of the next run of '{source.pipeline}'")
    elif source is not None:
        lines.append(f"  model: {source.uri} (sha256 {source.sha256})")
        model = Model(uri=source.uri or "", sha256=source.sha256 or "")
    arguments = service_arguments(servable, settings)
    beside = [one.image for one in servable.sidecars.values() if "@" not in one.image]
    known = image is not None and all(name in images for name in beside)
    if image is not None and known and (model is not None or source is None):
        definition = task_definition.render(
            servable, image=image, model=model, settings=settings, images=images
        )
        lines.append(f"  task definition: sha256 {comparison.sha256(definition)}")
        if live is not None:
            changed = changes(servable, definition, arguments, live)
            lines += [f"  {line}" for line in changed] or ["  unchanged"]
    lines += [f"  smoke test: {t.method} {t.path} -> {t.status}" for t in servable.smoke_tests]
    if live is not None and live.good is not None:
        lines.append(f"  on failure: back to {short(live.good)}")
    return lines


def _size(servable: Servable) -> str:
    scaling = servable.autoscaling
    count = f"{scaling.min} to {scaling.max}" if scaling else str(servable.count)
    said = f"{count} x {servable.cpu} CPU units, {servable.memory} MiB"
    strategy = servable.deployment.strategy
    return said if strategy == "rolling" else f"{said}, {strategy.replace('_', '/')}"


def restoring_arguments(live: Live, servable: Servable, revision: str) -> Definition:
    """The arguments of `update_service` that put a service back as it was."""
    arguments: Definition = {
        "taskDefinition": revision,
        "desiredCount": live.desired or servable.count,
    }
    if live.service.get("networkConfiguration"):
        arguments["networkConfiguration"] = live.service["networkConfiguration"]
    arguments["loadBalancers"] = live.service.get("loadBalancers") or []
    return arguments


def model_of(definition: Definition, service: str) -> Model | None:
    """The model that a rendered or described definition gives the service's container."""
    for container in definition.get("containerDefinitions") or []:
        if container.get("name") == service:
            told = {e.get("name"): e.get("value") for e in container.get("environment") or []}
            uri, sha256 = told.get("MODEL_URI"), told.get("MODEL_SHA256")
            return Model(uri=uri, sha256=sha256) if uri and sha256 else None
    return None


def private_addresses(tasks: Sequence[Mapping[str, Any]], revision: str) -> list[str]:
    """IPv4 addresses of described tasks that run `revision`."""
    return [
        detail["value"]
        for task in tasks
        if task.get("taskDefinitionArn") == revision and task.get("lastStatus") == "RUNNING"
        for attachment in task.get("attachments") or []
        for detail in attachment.get("details") or []
        if detail.get("name") == "privateIPv4Address"
    ]
