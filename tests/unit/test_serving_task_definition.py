"""Rendering, and when two definitions are the same.

botocore's own parameter validator is the oracle for what AWS would take.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from ci_tools.config import PredictionService
from ci_tools.documents import Model
from ci_tools.errors import ServiceError
from ci_tools.serving.comparison import difference, normalise, sha256
from ci_tools.serving.declaration import HealthCheck, Servable
from ci_tools.serving.live import Live, plan
from ci_tools.serving.service_comparison import normalise_service
from ci_tools.serving.service_settings import service_arguments
from ci_tools.serving.task_definition import MODEL_DIRECTORY, render

DIGEST = "sha256:" + "a" * 64
IMAGE = f"registry.example/iris@{DIGEST}"
ROLE = "arn:aws:iam::123456789012:role/exec"
AWS = PredictionService(
    cluster="prod", region="eu-west-1", execution_role=ROLE, subnets=["subnet-2", "subnet-1"]
)
STAND_IN = PredictionService(
    cluster="local", region="us-east-1", endpoint_url="http://127.0.0.1:4566"
)
SECRET = "arn:aws:ssm:eu-west-1:123456789012:parameter/iris/token"
MODEL = Model(uri="s3://bucket/model.json", sha256="b" * 64)
MODEL_FILE = Model(uri="file:///srv/models/run-1/model.json", sha256="b" * 64)


def servable(**changes: Any) -> Servable:
    declared = {"service": "iris", "environment": {"B": "2", "A": ""}, "secrets": {"T": SECRET}}
    return Servable(**{**declared, **changes})


def rendered(**changes: Any) -> dict[str, Any]:
    return render(servable(**changes), image=IMAGE, model=MODEL, settings=AWS)


def accepted(operation: str, arguments: dict[str, Any]) -> None:
    model = botocore.session.get_session().get_service_model("ecs")
    shape = model.operation_model(operation).input_shape
    assert ParamValidator().validate(arguments, shape).generate_report() == ""


@pytest.mark.parametrize(
    ("settings", "model"), [(AWS, MODEL), (AWS, None), (STAND_IN, MODEL_FILE), (STAND_IN, MODEL)]
)
def test_aws_would_take_what_is_rendered(settings: PredictionService, model: Model | None) -> None:
    accepted(
        "RegisterTaskDefinition", render(servable(), image=IMAGE, model=model, settings=settings)
    )
    arguments = service_arguments(servable(), settings)
    accepted("CreateService", {"serviceName": "iris", "taskDefinition": "iris:1", **arguments})
    accepted("UpdateService", {"service": "iris", **arguments})


def test_the_container_gets_model_environment_and_secrets() -> None:
    container = rendered()["containerDefinitions"][0]
    assert {e["name"]: e["value"] for e in container["environment"]} == {
        "A": "",
        "B": "2",
        "MODEL_URI": MODEL.uri,
        "MODEL_SHA256": MODEL.sha256,
    }
    assert container["secrets"] == [{"name": "T", "valueFrom": SECRET}]
    assert container["logConfiguration"]["options"]["awslogs-region"] == "eu-west-1"


def test_a_stand_in_has_no_log_service() -> None:
    made = render(servable(), image=IMAGE, model=None, settings=STAND_IN)
    assert "logConfiguration" not in made["containerDefinitions"][0]


def test_the_health_check_runs_as_declared(tmp_path: Any) -> None:
    """Run it, against a server that answers 200 and 500."""
    import subprocess
    import sys
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/well?deep=1" else 500)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    codes = []
    for path in ("/well?deep=1", "/ill"):
        declared = servable(port=server.server_port, health_check=HealthCheck(path=path))
        made = render(declared, image=IMAGE, model=None, settings=AWS)
        kind, *command = made["containerDefinitions"][0]["healthCheck"]["command"]
        assert (kind, command[0]) == ("CMD", "python3")
        proxied = {"http_proxy": "http://127.0.0.1:9"}
        done = subprocess.run([sys.executable, *command[1:]], env=proxied, check=False)
        codes.append(done.returncode)
    server.shutdown()
    server.server_close()
    assert codes == [0, 1]


def test_a_health_command_is_run_without_a_shell() -> None:
    made = rendered(health_check=HealthCheck(command=["/check", "$(reboot)"]))
    command = made["containerDefinitions"][0]["healthCheck"]["command"]
    assert command == ["CMD", "/check", "$(reboot)"]


@pytest.mark.parametrize("image", ["iris:latest", f"iris@{DIGEST[:-1]}", f"a b@{DIGEST}", ""])
def test_an_image_without_a_digest_is_refused(image: str) -> None:
    with pytest.raises(ServiceError, match="digest"):
        render(servable(), image=image, model=None, settings=AWS)


def test_a_model_file_is_mounted_read_only_for_a_stand_in() -> None:
    made = render(servable(), image=IMAGE, model=MODEL_FILE, settings=STAND_IN)
    container = made["containerDefinitions"][0]
    assert made["volumes"] == [{"name": "model", "host": {"sourcePath": "/srv/models/run-1"}}]
    assert container["mountPoints"] == [
        {"sourceVolume": "model", "containerPath": MODEL_DIRECTORY, "readOnly": True}
    ]
    environment = {e["name"]: e["value"] for e in container["environment"]}
    assert environment["MODEL_URI"] == f"file://{MODEL_DIRECTORY}/model.json"


def test_a_model_file_is_refused_on_aws() -> None:
    with pytest.raises(ServiceError, match="S3"):
        render(servable(), image=IMAGE, model=MODEL_FILE, settings=AWS)


@pytest.mark.parametrize(
    "uri",
    [
        "file:///model.json",  # would mount the whole machine
        "file:///srv/../etc/shadow",
        "file:///srv/%2e%2e/etc/shadow",
        "file:///srv/a:/b/model.json",
        "file:///srv/a%3A/etc/model.json",
        "file:///srv/a%0Ab/model.json",
        "file://elsewhere/srv/model.json",
        "file:srv/model.json",
    ],
)
def test_a_hostile_model_file_is_refused(uri: str) -> None:
    model = Model(uri=uri, sha256="b" * 64)
    with pytest.raises(ServiceError):
        render(servable(), image=IMAGE, model=model, settings=STAND_IN)


def test_fargate_needs_an_execution_role_and_subnets() -> None:
    settings = PredictionService(cluster="c", region="r")
    with pytest.raises(ServiceError, match="execution_role"):
        render(servable(), image=IMAGE, model=None, settings=settings)
    with pytest.raises(ServiceError, match="subnets"):
        service_arguments(servable(), settings)


# comparison ---------------------------------------------------------------------


def as_aws_answers(definition: dict[str, Any], seed: int) -> dict[str, Any]:
    """What describe_task_definition would give back: more, and in another order."""
    shuffle = random.Random(seed).shuffle
    back = copy.deepcopy(definition)
    back |= {
        "taskDefinitionArn": "arn:aws:ecs:eu-west-1:123456789012:task-definition/iris:7",
        "revision": 7,
        "status": "ACTIVE",
        "requiresAttributes": [{"name": "ecs.capability.task-eni"}],
        "compatibilities": ["EC2", "FARGATE"],
        "registeredAt": "2024-01-01",
        "registeredBy": "arn:aws:iam::123456789012:root",
        "placementConstraints": [],
        "pidMode": "",
        "runtimePlatform": {"cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX"},
        "enableFaultInjection": False,
        "cpu": random.Random(seed).choice([back["cpu"], int(back["cpu"]), ".25 vCPU"]),
        "memory": random.Random(seed).choice([back["memory"], "0.5GB", "0.5 GB"]),
    }
    back.setdefault("volumes", [])
    for container in back["containerDefinitions"]:
        container |= {"cpu": 0, "volumesFrom": [], "systemControls": [], "privileged": False}
        container.setdefault("mountPoints", [])
        for key in ("environment", "secrets", "portMappings", "mountPoints"):
            shuffle(container.setdefault(key, []))
    items = list(back.items())
    shuffle(items)
    return dict(items)


servables = st.builds(
    lambda environment, secrets, port: servable(
        environment=environment,
        secrets=dict.fromkeys(secrets - set(environment), SECRET),
        port=port,
    ),
    st.dictionaries(st.from_regex(r"[A-Z]{1,3}", fullmatch=True), st.text(max_size=5), max_size=5),
    st.sets(st.from_regex(r"[A-Z]{1,3}", fullmatch=True), max_size=5),
    st.integers(1, 65535),
)


@given(servables, st.integers(0, 1000))
def test_what_aws_adds_makes_no_difference(declared: Servable, seed: int) -> None:
    for settings, model in ((AWS, MODEL), (STAND_IN, MODEL_FILE)):
        ours = render(declared, image=IMAGE, model=model, settings=settings)
        back = as_aws_answers(ours, seed)
        assert normalise(back) == normalise(ours)
        assert difference(ours, back) == []
        assert sha256(back) == sha256(ours)


@given(servables, st.integers(0, 1000))
def test_normalise_is_idempotent_and_leaves_its_input(declared: Servable, seed: int) -> None:
    back = as_aws_answers(render(declared, image=IMAGE, model=MODEL, settings=AWS), seed)
    before = copy.deepcopy(back)
    assert normalise(normalise(back)) == normalise(back)
    assert back == before


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"cpu": 512, "memory": 1024}, "cpu: 256 -> 512"),
        ({"environment": {"B": "3", "A": ""}}, "environment.B"),
        ({"environment": {"B": "2"}}, "environment.A"),
        ({"secrets": {}}, "secrets"),
        ({"port": 9999}, "portMappings"),
        ({"health_check": HealthCheck(retries=5)}, "healthCheck.retries"),
    ],
)
def test_every_change_is_seen(changes: dict[str, Any], line: str) -> None:
    lines = difference(rendered(), rendered(**changes))
    assert any(line in said for said in lines), lines
    assert sha256(rendered()) != sha256(rendered(**changes))


def test_the_order_of_a_command_matters() -> None:
    one = rendered(health_check=HealthCheck(command=["/check", "a", "b"]))
    other = rendered(health_check=HealthCheck(command=["/check", "b", "a"]))
    assert difference(one, other) != []


def test_values_of_variables_are_not_shown() -> None:
    lines = difference(
        rendered(environment={"PASSWORD": "hunter2"}), rendered(environment={"PASSWORD": "12345"})
    )
    assert len(lines) == 1
    assert "PASSWORD" in lines[0]
    assert "hunter2" not in lines[0]
    assert "12345" not in lines[0]


def test_the_same_revision_has_one_hash_in_any_account() -> None:
    def elsewhere(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: elsewhere(v) for k, v in value.items()}
        if isinstance(value, list):
            return [elsewhere(v) for v in value]
        if isinstance(value, str):
            value = value.replace("123456789012", "210987654321")
            value = value.replace("eu-west-1", "us-east-2")
            return value.replace("registry.example", "other.example/prod")
        return value

    ours = rendered()
    theirs = elsewhere(ours)
    assert theirs != ours
    assert sha256(theirs) == sha256(ours)
    assert difference(theirs, ours) != []


PLAIN: dict[str, Any] = {
    "family": "iris",
    "networkMode": "awsvpc",
    "cpu": "256",
    "memory": "512",
    "volumes": [{"name": "a"}, {"name": "b"}],
    "containerDefinitions": [
        {
            "name": "iris",
            "image": IMAGE,
            "portMappings": [{"containerPort": 80}, {"containerPort": 81}],
            "environment": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
            "secrets": [{"name": "C", "valueFrom": SECRET}, {"name": "D", "valueFrom": SECRET}],
            "mountPoints": [{"sourceVolume": "a"}, {"sourceVolume": "b"}],
        },
        {"name": "beside", "image": IMAGE},
    ],
}


def turned(key: str) -> Callable[[dict[str, Any]], None]:
    def turn(definition: dict[str, Any]) -> None:
        holder = definition if key in definition else definition["containerDefinitions"][0]
        holder[key].reverse()

    return turn


def with_host_ports(definition: dict[str, Any]) -> None:
    for port in definition["containerDefinitions"][0]["portMappings"]:
        port |= {"hostPort": port["containerPort"], "protocol": "tcp"}


def adding(**more: Any) -> Callable[[dict[str, Any]], None]:
    return lambda definition: definition.update(more)


SAME: dict[str, Callable[[dict[str, Any]], None]] = {
    **{key: turned(key) for key in ("volumes", "containerDefinitions", "portMappings",
                                    "environment", "secrets", "mountPoints")},
    "hostPort": with_host_ports,
    "cpu as a number": adding(cpu=256),
    "cpu as vCPU": adding(cpu=".25 vCPU"),
    "memory as GB": adding(memory="0.5 GB"),
    "tags": adding(tags=[{"key": "a", "value": "b"}]),
    "compatibilities": adding(compatibilities=["EC2", "FARGATE"]),
    "taskDefinitionArn": adding(taskDefinitionArn="arn"),
    "requiresAttributes": adding(requiresAttributes=[{"name": "x"}]),
    "revision": adding(revision=7),
    "status": adding(status="ACTIVE"),
    "registeredAt": adding(registeredAt="2026-01-01"),
    "deregisteredAt": adding(deregisteredAt="2026-01-01"),
    "registeredBy": adding(registeredBy="arn"),
}  # fmt: skip


@pytest.mark.parametrize("how", SAME)
def test_each_way_to_say_the_same_definition(how: str) -> None:
    other = copy.deepcopy(PLAIN)
    SAME[how](other)
    assert other != PLAIN
    assert difference(PLAIN, other) == []
    assert sha256(PLAIN) == sha256(other)


def test_a_host_port_counts_where_it_is_one() -> None:
    other = copy.deepcopy(PLAIN)
    with_host_ports(other)
    assert difference({**PLAIN, "networkMode": "bridge"}, {**other, "networkMode": "bridge"})


NETWORK = {"subnets": ["a", "b"], "securityGroups": ["c", "d"], "assignPublicIp": "DISABLED"}
SERVICE: dict[str, Any] = {
    "platformVersion": "LATEST",
    "deploymentConfiguration": {
        "maximumPercent": 200,
        "minimumHealthyPercent": 100,
        "deploymentCircuitBreaker": {"enable": False, "rollback": False},
    },
    "networkConfiguration": {"awsvpcConfiguration": NETWORK},
}


def networked(**changes: Any) -> dict[str, Any]:
    return {"networkConfiguration": {"awsvpcConfiguration": {**NETWORK, **changes}}}


@pytest.mark.parametrize(
    "changes",
    [
        {"platformVersion": None},
        {"deploymentConfiguration": {}},
        {"deploymentConfiguration": {"maximumPercent": 200, "minimumHealthyPercent": 100}},
        {"desiredCount": 7},
        {"tags": [{"key": "a", "value": "b"}]},
        networked(subnets=["b", "a"]),
        networked(securityGroups=["d", "c"]),
        networked(assignPublicIp=None),
    ],
)
def test_each_way_to_say_the_same_service(changes: dict[str, Any]) -> None:
    assert normalise_service({**SERVICE, **changes}) == normalise_service(SERVICE)


@pytest.mark.parametrize(
    "changes",
    [
        {"platformVersion": "1.4.0"},
        {"deploymentConfiguration": {"maximumPercent": 150}},
        {"deploymentConfiguration": {"minimumHealthyPercent": 50}},
        {"deploymentConfiguration": {"deploymentCircuitBreaker": {"enable": True}}},
        networked(subnets=["a"]),
        networked(securityGroups=["c", "e"]),
        networked(assignPublicIp="ENABLED"),
    ],
)
def test_each_other_service(changes: dict[str, Any]) -> None:
    assert normalise_service({**SERVICE, **changes}) != normalise_service(SERVICE)


def test_a_services_defaults_make_no_difference() -> None:
    arguments = service_arguments(servable(), AWS)
    described = {
        **arguments,
        "platformVersion": "LATEST",
        "healthCheckGracePeriodSeconds": 0,
        "deploymentConfiguration": {
            **arguments["deploymentConfiguration"],
            "strategy": "ROLLING",
            "bakeTimeInMinutes": 0,
        },
        "networkConfiguration": {
            "awsvpcConfiguration": {"subnets": ["subnet-1", "subnet-2"], "securityGroups": []}
        },
    }
    assert normalise_service(described) == normalise_service(arguments)
    assert normalise_service({}) != normalise_service(arguments)  # no breaker, no subnets


# plan ---------------------------------------------------------------------------


def test_a_dry_run_says_what_would_change() -> None:
    live = Live(
        task_definition="arn:aws:ecs:eu-west-1:1:task-definition/iris:3",
        definition=as_aws_answers(rendered(), 1),
        verified="arn:aws:ecs:eu-west-1:1:task-definition/iris:3",
        service={"desiredCount": 1, **service_arguments(servable(), AWS)},
    )
    assert any("unchanged" in line for line in plan(servable(), IMAGE, MODEL, live, settings=AWS))
    lines = plan(servable(count=4, port=1234), IMAGE, MODEL, live, settings=AWS)
    assert any("service.desiredCount: 1 -> 4" in line for line in lines)
    assert any("back to iris:3" in line for line in lines)
    assert not any(
        "desiredCount" in line
        for line in plan(servable(count=4, autoscaled=True), IMAGE, MODEL, live, settings=AWS)
    )


def test_a_dry_run_needs_neither_image_nor_model() -> None:
    from ci_tools.serving.declaration import ModelSource

    declared = servable(model=ModelSource(pipeline="training", artifact="model"))
    lines = plan(declared, None, None, None, settings=AWS)
    assert any("not built yet" in line for line in lines)
    assert any("'training'" in line for line in lines)
