"""After a verified deployment: its autoscaler, and the revisions nobody needs any more."""

from __future__ import annotations

from ci_tools.config import PredictionService
from ci_tools.errors import CIError
from ci_tools.serving import autoscaling, revisions
from ci_tools.serving.autoscaling import Scaler
from ci_tools.serving.cluster import Cluster
from ci_tools.serving.declaration import Servable
from ci_tools.serving.live import Live
from ci_tools.serving.rollout import Rollout, short
from ci_tools.serving.watch import Event

_AT_A_TIME = 20  # revisions looked at beyond those that stay: each is a request


class Afterwards:
    def __init__(self, settings: PredictionService, cluster: Cluster, scaler: Scaler) -> None:
        self.settings = settings
        self._cluster = cluster
        self._scaler = scaler

    def scale(self, servable: Servable, ours: Rollout, on_event: Event) -> None:
        """The autoscaler, as declared. What serves goes on serving if that fails."""
        service = self._cluster.describe(ours.service)
        if service is None:
            return
        try:
            metric = self._scaler.apply(servable, service)
            if metric is not None:
                self._cluster.tag(Live.of(service, {}).arn, {autoscaling.TAG: metric})
        except CIError as error:
            raise type(error)(
                f"{short(ours.task_definition)} serves and is verified, but its autoscaling is "
                f"not as declared ({error.what})",
                error.todo,
            ) from error
        if metric is not None:
            on_event(f"{ours.service}: autoscaling {f'by {metric}' if metric else 'taken away'}")

    def prune(self, name: str, on_event: Event) -> None:
        """Deregister what nobody needs; if that fails, the next deployment will."""
        keep = self.settings.keep_revisions
        try:
            if len(self._cluster.registered(name, most=keep + 1)) <= keep:
                return
            for one in revisions.superfluous(
                self._cluster.revisions(name, most=keep + _AT_A_TIME),
                keep=keep,
                cluster=self.settings.cluster,
                in_use=self._cluster.in_use(name),
            ):
                self._cluster.deregister(one.task_definition)
                on_event(f"{name}: deregistered {short(one.task_definition)}")
        except CIError as error:
            on_event(f"{name}: old revisions stay ({error.what})")
