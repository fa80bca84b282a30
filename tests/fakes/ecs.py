"""A small model of ECS, and deployments with a clock that only sleeping moves.

Every request is checked by botocore's own validator, so the model cannot
take what AWS would refuse.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator

from ci_tools.config import PredictionService
from ci_tools.documents import Revision
from ci_tools.errors import (
    CIError,
)
from ci_tools.serving import smoke
from ci_tools.serving.asked import Findings
from ci_tools.serving.declaration import Servable
from ci_tools.serving.ecs import PredictionServices

SETTINGS = PredictionService(
    cluster="prod",
    region="eu-west-1",
    execution_role="arn:aws:iam::123456789012:role/exec",
    subnets=["subnet-1"],
    url="http://127.0.0.1:1/{service}",
)
V1, V2, V3 = (f"registry.example/iris@sha256:{c * 64}" for c in "123")
PREFIX = "arn:aws:ecs:eu-west-1:123456789012:task-definition/"
MODEL = botocore.session.get_session().get_service_model("ecs")
# What becomes of a deployment at the next look.
Fate = str


def error(code: str, operation: str = "UpdateService") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, operation)


class FakeECS:
    """One service. fates: of its deployments, in the order in which they begin."""

    def __init__(self, *fates: Fate, api: bool = False) -> None:
        self.fates = list(fates)
        self.api = api
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.definitions: list[dict[str, Any]] = []
        self.service: dict[str, Any] | None = None
        self.deployments: list[dict[str, Any]] = []
        self.records: list[dict[str, Any]] = []  # of the service deployments API
        self.tags: dict[str, str] = {}  # of the service
        self.definition_tags: dict[str, dict[str, str]] = {}
        self.deregistered: list[str] = []
        self.details: dict[str, Any] = {}  # that describe_service_deployments adds
        self.refuse: dict[str, Exception] = {}
        self.stopped_tasks = 1
        self.time = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operation = "".join(part.title() for part in name.split("_"))
        if operation not in MODEL.operation_names:
            raise AttributeError(name)

        def call(**arguments: Any) -> Any:
            shape = MODEL.operation_model(operation).input_shape
            report = ParamValidator().validate(arguments, shape).generate_report()
            assert report == "", report
            self.calls.append((name, arguments))
            if name in self.refuse:
                raise self.refuse[name]
            return getattr(self, f"do_{name}")(**arguments)

        return call

    def named(self, name: str) -> list[dict[str, Any]]:
        return [arguments for called, arguments in self.calls if called == name]

    # what a deployment does ------------------------------------------------------

    def begin(self, arn: str) -> None:
        assert self.service is not None
        for deployment in self.deployments:
            deployment["status"] = "ACTIVE"
        self.time += datetime.timedelta(minutes=1)
        number = len(self.records) + 1
        made = {
            "id": f"ecs-svc/{number}",
            "status": "PRIMARY",
            "taskDefinition": arn,
            "rolloutState": "IN_PROGRESS",
            "runningCount": 0,
            "createdAt": self.time,
        }
        self.deployments.insert(0, made)
        self.records.insert(
            0,
            {
                "targetServiceRevisionArn": f"revision/{number}/{arn}",
                "serviceDeploymentArn": f"service-deployment/{number}",
                "createdAt": self.time,
                "status": "IN_PROGRESS",
            },
        )
        self.service["taskDefinition"] = arn
        made["fate"] = self.fates.pop(0) if self.fates else "completes"

    def look(self) -> None:
        primary = self.deployments[0]
        fate = primary.pop("fate", None)
        if fate is None:
            return
        old = self.deployments[1:]
        if fate == "completes":
            assert self.service is not None
            primary.update(rolloutState="COMPLETED", runningCount=self.service["desiredCount"])
            self.deployments = [primary]
            self.records[0]["status"] = "SUCCESSFUL"
        elif fate == "rolls back":
            primary.update(status="ACTIVE", rolloutState="FAILED", rolloutStateReason="breaker")
            old[0].update(status="PRIMARY")
            self.deployments = [old[0], primary]
            self.records[0]["status"] = "ROLLBACK_SUCCESSFUL"
        elif fate == "rolls back and forgets":
            old[0].update(status="PRIMARY")
            self.deployments = [old[0]]
        elif fate == "fails":
            primary.update(rolloutState="FAILED", rolloutStateReason="breaker")
        elif fate == "is superseded":
            self.do_register_task_definition(family="iris", containerDefinitions=[])
            self.begin(f"{PREFIX}iris:{len(self.definitions)}")
        elif fate == "is scaled to 0":
            assert self.service is not None
            self.service["desiredCount"] = 0
        elif fate == "dies while starting":
            primary.update(rolloutState="COMPLETED", runningCount=1, fate="is dead")
            self.deployments = [primary]
        elif fate == "is dead":
            primary.update(runningCount=0)
            self.stopped_tasks = 3
        assert fate in (
            "completes", "rolls back", "rolls back and forgets", "fails", "is superseded",
            "is scaled to 0", "hangs", "dies while starting", "is dead",
        )  # fmt: skip
        assert self.service is not None
        self.service["taskDefinition"] = self.deployments[0]["taskDefinition"]

    # the API ---------------------------------------------------------------------

    def described(self) -> dict[str, Any]:
        assert self.service is not None
        return {
            **self.service,
            "runningCount": sum(d["runningCount"] for d in self.deployments),
            "deployments": [dict(d) for d in self.deployments],
            "events": [{"message": "(service iris) has begun"}],
            "tags": [{"key": k, "value": v} for k, v in self.tags.items()],
        }

    def do_describe_services(self, **_: Any) -> Any:
        if self.service is None:
            return {"services": [], "failures": [{"reason": "MISSING"}]}
        self.look()
        return {"services": [self.described()]}

    def do_describe_task_definition(self, taskDefinition: str, **_: Any) -> Any:
        number = int(taskDefinition.rpartition(":")[2])
        made = {**self.definitions[number - 1], "revision": number}
        told = self.definition_tags.get(taskDefinition, {})
        return {
            "taskDefinition": {**made, "taskDefinitionArn": taskDefinition},
            "tags": [{"key": key, "value": value} for key, value in told.items()],
        }

    def get_paginator(self, name: str) -> Any:
        assert name == "list_task_definitions"
        active = [
            f"{PREFIX}{made['family']}:{number}"
            for number, made in enumerate(self.definitions, start=1)
            if f"{PREFIX}{made['family']}:{number}" not in self.deregistered
        ]
        pages = [{"taskDefinitionArns": [arn]} for arn in reversed(active)]
        return SimpleNamespace(paginate=lambda **_: pages)

    def do_deregister_task_definition(self, taskDefinition: str) -> Any:
        self.deregistered.append(taskDefinition)
        return {}

    def do_register_task_definition(self, tags: Any = (), **definition: Any) -> Any:
        self.definitions.append(definition)
        arn = f"{PREFIX}{definition['family']}:{len(self.definitions)}"
        self.definition_tags[arn] = {tag["key"]: tag["value"] for tag in tags}
        return {"taskDefinition": {**definition, "taskDefinitionArn": arn}}

    def do_create_service(self, **arguments: Any) -> Any:
        self.service = {**arguments, "serviceArn": "arn:service/iris", "status": "ACTIVE"}
        self.begin(arguments["taskDefinition"])
        return {"service": self.described()}

    def do_update_service(self, **arguments: Any) -> Any:
        assert self.service is not None
        begin = arguments.get("taskDefinition", self.service["taskDefinition"])
        new = begin != self.service["taskDefinition"] or arguments.get("forceNewDeployment")
        self.service.update(arguments)
        if new:
            self.begin(begin)
        return {"service": self.described()}

    def do_list_tasks(self, desiredStatus: str, **_: Any) -> Any:
        return {"taskArns": ["task/1"]}

    def do_describe_tasks(self, **_: Any) -> Any:
        return {
            "tasks": [
                {
                    "taskDefinitionArn": f"{PREFIX}iris:{len(self.definitions)}",
                    "stoppedReason": "Essential container in task exited",
                    "stopCode": "EssentialContainerExited",
                    "containers": [{"name": "iris", "exitCode": 3}],
                }
            ]
            * self.stopped_tasks
        }

    def do_tag_resource(self, resourceArn: str, tags: list[dict[str, str]]) -> Any:
        assert self.service is not None
        service = resourceArn == self.service["serviceArn"]
        told = self.tags if service else self.definition_tags[resourceArn]
        told |= {tag["key"]: tag["value"] for tag in tags}
        return {}

    def do_untag_resource(self, resourceArn: str, tagKeys: list[str]) -> Any:
        assert self.service is not None
        service = resourceArn == self.service["serviceArn"]
        for key in tagKeys:
            del (self.tags if service else self.definition_tags[resourceArn])[key]
        return {}

    def do_describe_service_deployments(self, serviceDeploymentArns: list[str]) -> Any:
        (arn,) = serviceDeploymentArns
        found = [r for r in self.records if r["serviceDeploymentArn"] == arn]
        return {"serviceDeployments": [{**found[0], **self.details}] if found else []}

    def do_list_service_deployments(self, **_: Any) -> Any:
        return {"serviceDeployments": [dict(r) for r in self.records] if self.api else []}

    def do_describe_service_revisions(self, serviceRevisionArns: list[str]) -> Any:
        arn = serviceRevisionArns[0].split("/", 2)[2]
        return {"serviceRevisions": [{"taskDefinition": arn}]}

    # what a test looks at --------------------------------------------------------

    @property
    def runs(self) -> str | None:
        return str(self.service["taskDefinition"]).rpartition("/")[2] if self.service else None

    @property
    def verified(self) -> str | None:
        return self.tags.get("kfp-ci:verified", "").rpartition("/")[2] or None


class Run:
    """Deployments of one service with a clock of their own."""

    def __init__(self, ecs: FakeECS, monkeypatch: pytest.MonkeyPatch, **declared: Any) -> None:
        self.ecs = ecs
        self.now = 0.0
        self.told: list[str] = []
        self.smoke: Callable[[], None] = lambda: None
        self.declared = {"service": "iris", "environment": {"PASSWORD": "hunter2"}, **declared}
        self.tags: dict[str, str] = {}
        self.found = Findings()
        self.scaling: Any = None
        self.services = PredictionServices(
            SETTINGS,
            client=ecs,
            clients=lambda service: {"application-autoscaling": self.scaling}[service],
            check=lambda _: self.found,
            clock=lambda: self.now,
            sleep=self.sleep,
        )
        monkeypatch.setattr(smoke, "check", self._check)

    def _check(self, *_: Any, **__: Any) -> Any:
        assert self.ecs.deployments[0]["runningCount"] > 0
        self.smoke()
        return {"requests": []}

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def deploy(self, image: str, **changes: Any) -> Revision:
        servable = Servable(**{**self.declared, **changes})
        return self.services.deploy(
            servable, image, None, on_event=self.told.append, tags=self.tags
        )

    def fails(self, kind: type[CIError], image: str) -> CIError:
        with pytest.raises(kind) as caught:
            self.deploy(image)
        assert type(caught.value) is kind
        assert "hunter2" not in f"{caught.value} {self.told}"
        return caught.value


def wrong() -> None:
    raise smoke.SmokeFailure("GET /health: status 500 instead of 200")
