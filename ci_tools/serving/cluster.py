"""One ECS cluster: the questions and orders a deployment has for it.

The thin edge: every method is a call or two of the API, with AWS' refusals as
CredentialsError or ServiceError.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, cast

from ci_tools.config import PredictionService
from ci_tools.errors import CIError
from ci_tools.serving import aws, rollout
from ci_tools.serving.live import VERIFIED, Live
from ci_tools.serving.rollout import Judgement, Rollout
from ci_tools.serving.task_definition import Definition

if TYPE_CHECKING:
    from mypy_boto3_ecs import ECSClient

Described = Mapping[str, Any]

# A server that has no such API, or a role that may not use it: deployments[]
# of the service tell as much, only later.
_NO_API = {
    "AccessDeniedException",
    "InvalidAction",
    "UnknownOperationException",
    "UnsupportedFeatureException",
}
_LOOKED_AT = 5  # newest service deployments
_SKEW = timedelta(seconds=5)  # between the two records that ECS makes of one deployment


class Cluster:
    """client: for tests; made on first use otherwise."""

    def __init__(self, settings: PredictionService, client: ECSClient | None = None) -> None:
        self.name = settings.cluster
        self._settings = settings
        self._client = client
        self._brings: dict[str, str] = {}  # service revision -> its task definition

    @cached_property
    def _ecs(self) -> ECSClient:
        return self._client or aws.ecs(self._settings)

    # asking --------------------------------------------------------------------

    def live(self, service: str) -> Live | None:
        """A service and its task definition, None when there is no such service."""
        described = self.describe(service)
        if described is None:
            return None
        with aws.translated(self._settings):
            answer = self._ecs.describe_task_definition(taskDefinition=described["taskDefinition"])
        return Live.of(described, cast("Described", answer["taskDefinition"]))

    def describe(self, service: str) -> Described | None:
        """A service as ECS describes it, None when there is none."""
        from botocore.exceptions import ClientError

        with aws.translated(self._settings):
            try:
                answer = self._ecs.describe_services(
                    cluster=self.name, services=[service], include=["TAGS"]
                )
            except ClientError as error:
                code = error.response.get("Error", {}).get("Code")
                if code == "ClusterNotFoundException" and self._settings.endpoint_url is not None:
                    return None  # a stand-in's cluster is made with the first service
                raise
        found = [s for s in answer["services"] if s.get("status") != "INACTIVE"]
        return cast("Described", found[0]) if found else None

    def tasks(self, ours: Rollout, status: Literal["RUNNING", "STOPPED"]) -> list[Described]:
        """Tasks of our revision, described."""
        with aws.translated(self._settings):
            arns = self._ecs.list_tasks(
                cluster=self.name, serviceName=ours.service, desiredStatus=status
            )["taskArns"]
            if not arns:
                return []
            tasks = self._ecs.describe_tasks(cluster=self.name, tasks=arns)["tasks"]
        return [
            cast("Described", task)
            for task in tasks
            if task.get("taskDefinitionArn") == ours.task_definition
        ]

    def judge(self, ours: Rollout) -> Judgement:
        """What has become of our deployment so far."""
        service = self.describe(ours.service)
        if service is None:
            return Judgement(outcome="failed", reason="the service is gone")
        told = self._service_deployment(ours)
        if told is not None:
            return rollout.judge_service_deployment(ours, *told, service)
        found = rollout.judge(ours, service)
        if found.outcome == "waiting":
            found = rollout.judge(ours, service, self.tasks(ours, "STOPPED"))
        return found

    def story(self, ours: Rollout) -> str:
        """Why tasks stopped and what the service said last; "" when nothing did."""
        try:
            stopped = rollout.reasons(self.tasks(ours, "STOPPED"))
            service = self.describe(ours.service)
        except CIError as error:  # the failure itself must still be told
            return f"; why is not known: {error.what}"
        said = rollout.events(service, ours.began) if service else []
        text = f"; stopped tasks: {'; '.join(stopped)}" if stopped else ""
        return text + (f"; last events: {' / '.join(said)}" if said else "")

    def _service_deployment(self, ours: Rollout) -> tuple[str, str] | None:
        """Status and reason of our service deployment, None where ECS tells nothing."""
        from botocore.exceptions import ClientError

        with aws.translated(self._settings):
            try:
                listed = self._ecs.list_service_deployments(cluster=self.name, service=ours.service)
                for brief in listed["serviceDeployments"][:_LOOKED_AT]:  # newest first
                    if ours.began is not None and brief["createdAt"] < ours.began - _SKEW:
                        continue
                    if self._definition_of(brief["targetServiceRevisionArn"]) == (
                        ours.task_definition
                    ):
                        return brief["status"], brief.get("statusReason", "")
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") not in _NO_API:
                    raise
        return None

    def _definition_of(self, revision: str) -> str:
        if revision not in self._brings:
            described = self._ecs.describe_service_revisions(serviceRevisionArns=[revision])
            found = described["serviceRevisions"]
            self._brings[revision] = found[0].get("taskDefinition", "") if found else ""
        return self._brings[revision]

    # ordering ------------------------------------------------------------------

    def register(self, definition: Definition) -> str:
        """Register a task definition; its ARN."""
        with aws.translated(self._settings):
            made = self._ecs.register_task_definition(**definition)["taskDefinition"]
        return made["taskDefinitionArn"]

    def create(self, service: str, arguments: Definition) -> Described:
        """Create a service; as described.

        The cluster is made in a stand-in only: on AWS it is somebody's decision.
        """
        with aws.translated(self._settings):
            if self._settings.endpoint_url is not None:
                self._ecs.create_cluster(clusterName=self.name)
            order = {"cluster": self.name, "serviceName": service, "launchType": "FARGATE"}
            made: dict[str, Any] = {**order, **arguments}
            return cast("Described", self._ecs.create_service(**made)["service"])

    def update(self, service: str, arguments: Definition) -> Described:
        """Update a service; as described."""
        with aws.translated(self._settings):
            answer = self._ecs.update_service(cluster=self.name, service=service, **arguments)
        return cast("Described", answer["service"])

    def record_verified(self, service_arn: str, task_definition: str) -> None:
        """As a tag of the service, where any agent finds it."""
        with aws.translated(self._settings):
            self._ecs.tag_resource(
                resourceArn=service_arn, tags=[{"key": VERIFIED, "value": task_definition}]
            )
