"""What a declaration says beyond one container: sidecars, strategies, environments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from ci_tools.config import PredictionService, TrafficShift
from ci_tools.errors import ConfigError, ServiceError
from ci_tools.serving.comparison import difference
from ci_tools.serving.declaration import FILE, Servable, load, merge, of
from ci_tools.serving.service_comparison import normalise_service, service_differences
from ci_tools.serving.service_settings import service_arguments
from ci_tools.serving.task_definition import render

DIGEST = "sha256:" + "a" * 64
IMAGE = f"registry.example/iris@{DIGEST}"
GROUPS = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup"
ROLE = "arn:aws:iam::123456789012:role/ecs"
SHIFT = TrafficShift(
    alternate_target_group=f"{GROUPS}/iris-b/2", listener_rule="arn:rule/1", role=ROLE
)
AWS = PredictionService(
    cluster="prod",
    region="eu-west-1",
    execution_role=ROLE,
    subnets=["subnet-1"],
    target_groups={"iris": f"{GROUPS}/iris-a/1"},
    traffic_shifts={"iris": SHIFT},
)
STAND_IN = PredictionService(cluster="c", region="r", endpoint_url="http://127.0.0.1:1")
MODEL = botocore.session.get_session().get_service_model("ecs")
SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:iris-AbCdEf"


def declared(text: str, environment: str = "dev") -> Servable:
    return of(f"service: iris\n{text}".encode(), environment)


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as error:
        declared(text)
    return str(error.value)


def accepted(operation: str, arguments: dict[str, Any]) -> None:
    shape = MODEL.operation_model(operation).input_shape
    assert ParamValidator().validate(arguments, shape).generate_report() == ""


# environments ---------------------------------------------------------------------

OVERRIDDEN = f"""
cpu: 256
memory: 512
environment: {{LOG_LEVEL: debug, COLOUR: blue}}
secrets: {{TOKEN: {SECRET}}}
autoscaling: {{min: 1, max: 2}}
sidecars: {{proxy: {{image: {IMAGE}, port: 9000}}}}
environments:
  prod:
    cpu: 1024
    memory: 2048
    count: 3
    environment: {{LOG_LEVEL: info, COLOUR: null}}
    autoscaling: {{max: 9}}
    sidecars: {{proxy: {{essential: true}}}}
  bare: {{autoscaling: null, sidecars: {{proxy: null}}}}
"""


def test_an_environment_says_what_is_otherwise_there() -> None:
    dev, prod, bare = (declared(OVERRIDDEN, name) for name in ("dev", "prod", "bare"))
    assert (dev.cpu, dev.count, dev.environment["COLOUR"]) == (256, 1, "blue")
    assert (prod.cpu, prod.memory, prod.count) == (1024, 2048, 3)
    assert prod.environment == {"LOG_LEVEL": "info"}
    assert prod.secrets == dev.secrets == {"TOKEN": SECRET}
    assert prod.autoscaling is not None
    assert (prod.autoscaling.min, prod.autoscaling.max) == (1, 9)
    assert (prod.sidecars["proxy"].essential, prod.sidecars["proxy"].port) == (True, 9000)
    assert (bare.autoscaling, bare.sidecars) == (None, {})


def test_a_fault_of_another_environment_is_found_in_every_one() -> None:
    said = refused("environments: {prod: {cpu: 300}}")
    assert "'prod'" in said or "cpu 300" in said
    said = refused("environments: {prod: {sidecars: {proxy: {imagine: x}}}}")
    assert "in 'prod'" in said


@pytest.mark.parametrize("key", ["service", "model", "environments", "port"])
def test_what_a_service_is_cannot_differ_by_environment(key: str) -> None:
    assert f"'environments.prod.{key}' (line 2)" in refused(f"environments: {{prod: {{{key}: x}}}}")


def test_a_secret_in_an_override_is_never_shown() -> None:
    said = refused("environments: {prod: {secrets: {TOKEN: hunter2}}}")
    assert "hunter2" not in said
    assert "secrets.TOKEN" in said


JSON = st.recursive(
    st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
MAPPING = st.dictionaries(st.sampled_from("abc"), JSON, max_size=3)


@given(MAPPING, MAPPING)
def test_merging(whole: dict[str, Any], override: dict[str, Any]) -> None:
    before = repr((whole, override))
    made = merge(whole, override)
    assert merge(made, override) == made  # once is enough
    assert merge(whole, {}) == whole
    assert merge(whole, dict.fromkeys(whole)) == {}
    assert set(made) == {*whole, *override}
    assert repr((whole, override)) == before


def test_it_is_read_from_a_directory_too(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(f"service: iris{OVERRIDDEN}")
    assert load(tmp_path, "prod").count == 3
    assert load(tmp_path).count == 1


# containers -----------------------------------------------------------------------

SIDECARS = f"""
sidecars:
  proxy:
    image: envoy
    essential: true
    port: 9901
    command: [envoy, --quiet]
    environment: {{LEVEL: warn}}
    secrets: {{KEY: "{SECRET}:key::"}}
    cpu: 64
    memory: 128
    health_check: [/bin/true]
  init: {{image: "{IMAGE}", depends_on: {{proxy: HEALTHY}}}}
depends_on: {{init: SUCCESS}}
architecture: arm64
logs: {{group: /ml/iris, create: false}}
"""


def test_sidecars_are_rendered() -> None:
    servable = declared(SIDECARS)
    envoy = f"registry.example/envoy@{DIGEST}"
    made = render(servable, image=IMAGE, model=None, settings=AWS, images={"envoy": envoy})
    accepted("RegisterTaskDefinition", made)
    own, init, proxy = made["containerDefinitions"]
    assert own["dependsOn"] == [{"containerName": "init", "condition": "SUCCESS"}]
    assert (init["image"], init["essential"]) == (IMAGE, False)
    assert (proxy["image"], proxy["essential"], proxy["memory"]) == (envoy, True, 128)
    assert proxy["secrets"] == [{"name": "KEY", "valueFrom": f"{SECRET}:key::"}]
    for container in made["containerDefinitions"]:
        options = container["logConfiguration"]["options"]
        assert options["awslogs-group"] == "/ml/iris"
        assert "awslogs-create-group" not in options
    assert made["runtimePlatform"]["cpuArchitecture"] == "ARM64"


def test_a_sidecar_that_is_in_no_build_is_refused() -> None:
    with pytest.raises(ServiceError, match="'envoy' of 'proxy' is not named by digest"):
        render(declared(SIDECARS), image=IMAGE, model=None, settings=AWS)


def test_a_change_of_a_sidecar_is_told_by_its_name() -> None:
    def with_level(level: str) -> dict[str, Any]:
        text = f"sidecars: {{p: {{image: '{IMAGE}', command: [{level}], secrets: {{}}}}}}"
        return render(declared(text), image=IMAGE, model=None, settings=AWS)

    (line,) = difference(with_level("a"), with_level("b"))
    assert line == 'containerDefinitions.p.command: ["a"] -> ["b"]'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sidecars: {iris: {image: x}}", "the service's own name"),
        ("sidecars: {p: {image: x, port: 8080}}", "one port"),
        ("sidecars: {p: {image: x, memory: 512}}", "take 512 of the task's 512 memory"),
        ("depends_on: {p: START}", "no container of this task"),
        ("sidecars: {p: {image: x}}\ndepends_on: {p: HEALTHY}", "no health_check"),
        ("sidecars: {p: {image: x, essential: true}}\ndepends_on: {p: SUCCESS}", "essential"),
        (
            "sidecars: {p: {image: x, depends_on: {iris: START}}}\ndepends_on: {p: START}",
            "iris, p wait for each other",
        ),
        ("sidecars: {p: {image: x, secrets: {A: hunter2}}}", "sidecars.p.secrets.A"),
        ("sidecars: {p: {image: x, privileged: true}}", "unknown key"),
    ],
)
def test_containers_that_ecs_would_refuse(text: str, said: str) -> None:
    error = refused(text)
    assert said in error
    assert "hunter2" not in error


# strategies -----------------------------------------------------------------------

STRATEGIES = {
    "rolling": "deployment: {alarms: [b, a], minimum_healthy_percent: 50}",
    "blue_green": (
        "deployment: {strategy: blue_green, bake_minutes: 5, hooks: "
        f"[{{function: arn:aws:lambda:r:1:function:f, role: '{ROLE}', "
        "stages: [POST_TEST_TRAFFIC_SHIFT]}]}"
    ),
    "canary": "deployment: {strategy: canary, canary: {percent: 10, bake_minutes: 2}}",
    "linear": "deployment: {strategy: linear, linear: {percent: 25, bake_minutes: 1}}",
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_is_asked_of_ecs(strategy: str) -> None:
    arguments = service_arguments(declared(STRATEGIES[strategy]), AWS)
    accepted("CreateService", {"serviceName": "iris", **arguments})
    accepted("UpdateService", {"service": "iris", **arguments})
    configuration = arguments["deploymentConfiguration"]
    assert configuration["strategy"] == strategy.upper()
    assert configuration["deploymentCircuitBreaker"] == {"enable": True, "rollback": True}
    (balancer,) = arguments["loadBalancers"]
    assert ("advancedConfiguration" in balancer) == (strategy != "rolling")


def test_alarms_take_a_deployment_back() -> None:
    arguments = service_arguments(declared(STRATEGIES["rolling"]), AWS)
    alarms = arguments["deploymentConfiguration"]["alarms"]
    assert alarms == {"alarmNames": ["a", "b"], "enable": True, "rollback": True}


@pytest.mark.parametrize("one", STRATEGIES)
@pytest.mark.parametrize("other", STRATEGIES)
def test_a_change_of_strategy_is_drift_and_nothing_else_is(one: str, other: str) -> None:
    now, then = (
        normalise_service(service_arguments(declared(STRATEGIES[name]), AWS))
        for name in (one, other)
    )
    lines = service_differences(now, then)
    assert bool(lines) == (one != other)
    assert any(line.startswith("service.strategy: ") for line in lines) == (one != other)


def test_the_defaults_that_ecs_spells_out_are_no_drift() -> None:
    arguments = service_arguments(declared("deployment: {strategy: canary}"), AWS)
    answered = {
        **arguments,
        "deploymentConfiguration": {
            **arguments["deploymentConfiguration"],
            "canaryConfiguration": {},
            "alarms": {"alarmNames": [], "enable": False, "rollback": False},
        },
    }
    assert normalise_service(answered) == normalise_service(arguments)


@pytest.mark.parametrize("strategy", ["canary", "linear", "blue_green"])
def test_moving_traffic_needs_to_be_told_how(strategy: str) -> None:
    bare = PredictionService(
        cluster="c", region="r", execution_role=ROLE, subnets=["s"],
        target_groups=AWS.target_groups,
    )  # fmt: skip
    with pytest.raises(ServiceError, match=r"traffic_shifts\.iris"):
        service_arguments(declared(STRATEGIES[strategy]), bare)
    bare.target_groups = {}
    if strategy == "blue_green":  # tasks alone can be exchanged so
        assert service_arguments(declared(STRATEGIES[strategy]), bare)["loadBalancers"] == []
    else:
        with pytest.raises(ServiceError, match=r"target_groups\.iris"):
            service_arguments(declared(STRATEGIES[strategy]), bare)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_stand_in_rolls(strategy: str) -> None:
    configuration = service_arguments(declared(STRATEGIES[strategy]), STAND_IN)[
        "deploymentConfiguration"
    ]
    assert "strategy" not in configuration
    assert "alarms" not in configuration


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("deployment: {canary: {}}", "the strategy is 'rolling'"),
        ("deployment: {strategy: canary, linear: {}}", "the strategy is 'canary'"),
        ("deployment: {strategy: canary, canary: {percent: 0.25}}", "not a multiple of 0.1"),
        ("deployment: {strategy: canary, canary: {percent: 0}}", "canary.percent"),
        ("deployment: {strategy: linear, linear: {percent: 2}}", "linear.percent"),
        ("deployment: {bake_minutes: 5}", "not for the strategy 'rolling'"),
        ("deployment: {maximum_percent: 100}", "no task may be replaced"),
        ("deployment: {strategy: blue}", "strategy"),
        ("autoscaling: {min: 5, max: 2}", "more than 'max'"),
        ("autoscaling: {target: 200}", "200 percent of cpu"),
        ("autoscaling: {metric: gpu}", "autoscaling.metric"),
    ],
)
def test_what_does_not_fit_together(text: str, said: str) -> None:
    assert said in refused(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("deployment: {alarms: [a]}", 600),
        ("deployment: {strategy: blue_green, bake_minutes: 10}", 1200),
        ("deployment: {strategy: canary, bake_minutes: 1}", 600 + 11 * 60),
        ("deployment: {strategy: linear}", 600 + 9 * 6 * 60),
        ("deployment: {strategy: linear, linear: {percent: 30}}\ntimeout: 60", 60 + 3 * 6 * 60),
    ],
)
def test_the_waiting_that_is_declared_comes_on_top_of_the_timeout(text: str, seconds: int) -> None:
    assert declared(text).longest_seconds == seconds


def test_an_autoscaled_service_begins_within_its_bounds() -> None:
    assert declared("count: 1\nautoscaling: {min: 2, max: 4}").first_count == 2
    assert declared("count: 9\nautoscaling: {min: 2, max: 4}").first_count == 4
    assert declared("count: 3").first_count == 3
