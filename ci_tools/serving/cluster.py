"""One ECS cluster: the questions and orders a deployment has for it.

The thin edge: every method is a call or two of the API, with AWS' refusals as
CredentialsError or ServiceError.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, cast

from ci_tools.aws_codes import code_of
from ci_tools.config import PredictionService
from ci_tools.errors import CIError
from ci_tools.serving import aws, revisions, rollout
from ci_tools.serving.asked import Client
from ci_tools.serving.live import Live
from ci_tools.serving.revisions import Known
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
    """client: for tests; one of `clients` otherwise, made on first use."""

    def __init__(
        self, settings: PredictionService, client: ECSClient | None, clients: Client
    ) -> None:
        self.name = settings.cluster
        self._settings = settings
        self._client = client
        self._clients = clients
        self._brings: dict[str, str] = {}  # service revision -> its task definition

    @cached_property
    def _ecs(self) -> ECSClient:
        return self._client or cast("ECSClient", self._clients("ecs"))

    def prepare(self) -> None:
        """Have the client. Asks nobody."""
        _ = self._ecs

    # asking --------------------------------------------------------------------

    def live(self, service: str) -> Live | None:
        """A service and its task definition, None when there is no such service."""
        described = self.describe(service)
        if described is None:
            return None
        return Live.of(described, self.definition(described["taskDefinition"]))

    def describe(self, service: str) -> Described | None:
        """A service as ECS describes it, None when there is none."""
        from botocore.exceptions import ClientError

        with aws.translated(self._settings):
            try:
                answer = self._ecs.describe_services(
                    cluster=self.name, services=[service], include=["TAGS"]
                )
            except ClientError as error:
                code = code_of(error)
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
            return rollout.judge_service_deployment(ours, told, service)
        found = rollout.judge(ours, service)
        if found.outcome == "waiting":
            found = rollout.judge(ours, service, self.tasks(ours, "STOPPED"))
        return found

    def story(self, ours: Rollout) -> str:
        """Why tasks stopped and what the service said last, a line each."""
        try:
            stopped = rollout.reasons(self.tasks(ours, "STOPPED"))
            service = self.describe(ours.service)
        except CIError as error:  # the failure itself must still be told
            return f"\n  why is not known: {error.what}"
        said = rollout.events(service, ours.began) if service else []
        lines = [*(f"stopped: {one}" for one in stopped), *(f"event: {one}" for one in said)]
        return "".join(f"\n  {line}" for line in lines)

    def registered(self, family: str, *, most: int = 100) -> list[str]:
        """ARNs of the active revisions of a family, newest first; at most so many."""
        found: list[str] = []
        with aws.translated(self._settings):
            pages = self._ecs.get_paginator("list_task_definitions").paginate(
                familyPrefix=family, status="ACTIVE", sort="DESC"
            )
            for page in pages:
                # The prefix is one of others' families too.
                found += [
                    arn
                    for arn in page["taskDefinitionArns"]
                    if rollout.short(arn).rpartition(":")[0] == family
                ]
                if len(found) >= most:
                    break
        number = {arn: int(arn.rpartition(":")[2]) for arn in found}
        return sorted(found, key=number.__getitem__, reverse=True)[:most]

    def revisions(self, family: str, *, most: int = 100) -> list[Known]:
        """The same, with what is known of each."""
        return [self.known(arn) for arn in self.registered(family, most=most)]

    def in_use(self, service: str) -> set[str]:
        """The revisions that a service's deployments bring, or that it would go back to."""
        described = self.describe(service)
        if described is None:
            return set()
        now = Live.of(described, {})
        deployments = described.get("deployments") or []
        brought = {str(one.get("taskDefinition")) for one in deployments}
        return brought | {now.task_definition} | ({now.verified} if now.verified else set())

    def definition(self, task_definition: str) -> Definition:
        """A task definition as described."""
        with aws.translated(self._settings):
            answer = self._ecs.describe_task_definition(taskDefinition=task_definition)
        return cast("Definition", answer["taskDefinition"])

    def known(self, task_definition: str) -> Known:
        """One revision, by its ARN."""
        with aws.translated(self._settings):
            answer = self._ecs.describe_task_definition(
                taskDefinition=task_definition, include=["TAGS"]
            )
        described = cast("Described", answer["taskDefinition"])
        return Known.of(described, cast("Sequence[Mapping[str, str]]", answer.get("tags", [])))

    def _service_deployment(self, ours: Rollout) -> Described | None:
        """Our service deployment, None where ECS tells nothing."""
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
                        return {**brief, **self._details(brief.get("serviceDeploymentArn"))}
            except ClientError as error:
                if code_of(error) not in _NO_API:
                    raise
        return None

    def _details(self, service_deployment: str | None) -> Described:
        """What the list does not tell: the stage, and what made ECS go back."""
        from botocore.exceptions import ClientError

        if service_deployment is None:
            return {}
        try:
            found = self._ecs.describe_service_deployments(
                serviceDeploymentArns=[service_deployment]
            )["serviceDeployments"]
        except ClientError as error:
            if code_of(error) not in _NO_API:
                raise
            return {}
        return cast("Described", found[0]) if found else {}

    def _definition_of(self, revision: str) -> str:
        if revision not in self._brings:
            described = self._ecs.describe_service_revisions(serviceRevisionArns=[revision])
            found = described["serviceRevisions"]
            self._brings[revision] = found[0].get("taskDefinition", "") if found else ""
        return self._brings[revision]

    # ordering ------------------------------------------------------------------

    def register(self, definition: Definition, tags: Mapping[str, str]) -> str:
        """Register a task definition; its ARN."""
        with aws.translated(self._settings):
            order: dict[str, Any] = {**definition, "tags": revisions.as_ecs(tags)}
            made = self._ecs.register_task_definition(**order)["taskDefinition"]
        return made["taskDefinitionArn"]

    def deregister(self, task_definition: str) -> None:
        """Nothing can be deployed from it any more; what runs goes on."""
        with aws.translated(self._settings):
            self._ecs.deregister_task_definition(taskDefinition=task_definition)

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

    def tag(self, arn: str, tags: Mapping[str, str]) -> None:
        """Add tags to a service or a task definition."""
        with aws.translated(self._settings):
            order: dict[str, Any] = {"resourceArn": arn, "tags": revisions.as_ecs(tags)}
            self._ecs.tag_resource(**order)

    def untag(self, arn: str, key: str) -> None:
        with aws.translated(self._settings):
            self._ecs.untag_resource(resourceArn=arn, tagKeys=[key])
