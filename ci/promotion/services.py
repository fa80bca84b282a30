"""The prediction services of an environment, as a promotion needs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from ci import deploy as deploying
from ci.workspace import Workspace
from ci_tools.documents import Model, Revision
from ci_tools.serving import aws, comparison, revisions
from ci_tools.serving.cluster import Cluster
from ci_tools.serving.declaration import Servable
from ci_tools.serving.ecs import PredictionServices
from ci_tools.serving.live import Live
from ci_tools.serving.rollout import short
from ci_tools.serving.service_settings import service_arguments
from ci_tools.serving.task_definition import render

Event = Callable[[str], None]


class Now(Protocol):
    """What a service runs. task_definition: ARN. sha256: of its content, the same anywhere.
    good: ARN that a deployment which fails goes back to, "" for none. verified: what it runs
    is what was verified last."""

    @property
    def task_definition(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    @property
    def desired(self) -> int: ...

    @property
    def serves(self) -> bool: ...

    @property
    def good(self) -> str: ...

    @property
    def verified(self) -> bool: ...


class Wanted(Protocol):
    """A servable with all that it needs in the environment."""

    @property
    def servable(self) -> Servable: ...

    @property
    def image(self) -> str: ...

    @property
    def model(self) -> Model | None: ...

    @property
    def images(self) -> Mapping[str, str]: ...


class Services(Protocol):
    """Every method raises CredentialsError and ServiceError."""

    def prepare(self) -> None:
        """Make ready to be asked."""

    def now(self, service: str) -> Now | None:
        """What it runs; None where there is no such service."""

    def sha256(self, wanted: Wanted) -> str:
        """The hash that `Now.sha256` has once this is deployed. Asks nobody."""

    def diff(self, wanted: Wanted) -> list[str]:
        """What a deployment would change, a line each. Changes nothing."""

    def deploy(self, wanted: Wanted, tags: Mapping[str, str], on_event: Event) -> Revision:
        """See `PredictionServices.deploy`."""

    def go_back(self, servable: Servable, task_definition: str, on_event: Event) -> None:
        """Let an older revision serve again, waited for and proven."""

    def stop(self, service: str, task_definition: str | None) -> None:
        """No task runs any more; of this revision, None where there was none before."""

    def disown(self, task_definition: str) -> None:
        """No release names a revision any more: it goes with those that nobody needs."""

    def clear(self, service: str, sha256: str) -> list[str]:
        """Deregister what was registered for a service that was never made; its names.

        sha256: see `Now`. Nothing where there is such a service.
        """


class _Now:
    def __init__(self, live: Live) -> None:
        self.task_definition, self.desired = live.task_definition, live.desired
        self.sha256 = comparison.sha256(live.definition)
        self.serves, self.good = live.serves, live.good or ""
        self.verified = live.verified == live.task_definition


class EcsServices:
    """Satisfies `Services`."""

    def __init__(self, services: PredictionServices, cluster: Cluster) -> None:
        self._settings = services.settings
        self._services, self._cluster = services, cluster

    def prepare(self) -> None:
        self._services.prepare()

    @classmethod
    def of(cls, workspace: Workspace) -> EcsServices:
        """Those of an environment. Raises ConfigError where it has none."""
        settings = workspace.service_settings()
        cluster = Cluster(settings, None, aws.Clients(settings))
        return cls(deploying.prediction_services(workspace), cluster)

    def now(self, service: str) -> Now | None:
        live = self._services.current(service)
        return None if live is None else _Now(live)

    def sha256(self, wanted: Wanted) -> str:
        service_arguments(wanted.servable, self._settings)  # what is missing is told now
        return comparison.sha256(
            render(
                wanted.servable,
                image=wanted.image,
                model=wanted.model,
                settings=self._settings,
                images=wanted.images,
            )
        )

    def diff(self, wanted: Wanted) -> list[str]:
        return self._services.diff(
            wanted.servable, wanted.image, wanted.model, images=wanted.images
        )

    def deploy(self, wanted: Wanted, tags: Mapping[str, str], on_event: Event) -> Revision:
        return self._services.deploy(
            wanted.servable,
            wanted.image,
            wanted.model,
            on_event=on_event,
            images=wanted.images,
            tags=tags,
        )

    def go_back(self, servable: Servable, task_definition: str, on_event: Event) -> None:
        self._services.rollback(servable, task_definition, on_event=on_event)

    def stop(self, service: str, task_definition: str | None) -> None:
        if task_definition is None:
            self._services.withdraw(service)
        else:
            order = {"taskDefinition": task_definition, "desiredCount": 0}
            self._cluster.update(service, order)

    def disown(self, task_definition: str) -> None:
        """Not deregistered at once: a service that it leaves may still drain its tasks, and
        one that was scaled to nothing names it, to which ECS lets nobody go back once it is
        deregistered."""
        self._cluster.untag(task_definition, revisions.RELEASE)

    def clear(self, service: str, sha256: str) -> list[str]:
        if self._services.current(service) is not None:
            return []
        unused = [
            one.task_definition
            for one in self._services.history(service)
            if one.ours
            and one.cluster == self._settings.cluster
            and not one.verified
            and comparison.sha256(self._cluster.definition(one.task_definition)) == sha256
        ]
        for one in unused:
            self._cluster.deregister(one)
        return [short(one) for one in unused]
