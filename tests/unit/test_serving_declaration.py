from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_tools.errors import ConfigError
from ci_tools.serving.declaration import FILE, Servable, load, nearest_size

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:iris/db-AbCdEf"


def write(directory: Path, text: str) -> Path:
    (directory / FILE).write_text(text)
    return directory


def refused(directory: Path, text: str) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        load(write(directory, text))
    return error.value


def test_a_whole_declaration(tmp_path: Path) -> None:
    servable = load(
        write(
            tmp_path,
            f"""
service: iris
cpu: 1024
memory: 4096
port: 9000
count: 2
health_check: {{path: /healthz, interval: 10, timeout: 3, retries: 2, start_period: 20}}
environment: {{LOG_LEVEL: info}}
secrets:
  DB_PASSWORD: "{ARN}:password::"
  TOKEN: arn:aws:ssm:eu-west-1:123456789012:parameter/iris/token
model: {{pipeline: training, artifact: model}}
smoke:
  - {{method: POST, path: /predict, body: {{x: [1, 2]}}, expect: {{label: setosa}}}}
timeout: 300
""",
        )
    )
    assert (servable.cpu, servable.memory, servable.count) == (1024, 4096, 2)
    assert servable.smoke_tests[0].body == {"x": [1, 2]}
    assert servable.model is not None
    assert servable.model.pipeline == "training"


def test_without_smoke_tests_the_health_path_is_asked(tmp_path: Path) -> None:
    servable = load(write(tmp_path, "service: iris\nhealth_check: {path: /ok}\n"))
    assert [(t.method, t.path, t.status) for t in servable.smoke_tests] == [("GET", "/ok", 200)]


def test_an_unknown_key_names_the_nearest(tmp_path: Path) -> None:
    error = refused(tmp_path, "service: iris\nhealth_check: {intervall: 5}\n")
    assert "health_check.intervall" in error.what
    assert "'interval'" in error.todo


@pytest.mark.parametrize(
    ("cpu", "memory", "nearest"),
    [
        (256, 4096, "cpu: 512 with memory: 4096"),
        (300, 512, "cpu: 512 with memory: 1024"),
        (1024, 2049, "cpu: 1024 with memory: 3072"),
        (99999, 1, "cpu: 16384 with memory: 122880"),
    ],
)
def test_a_size_fargate_lacks_names_the_nearest(
    tmp_path: Path, cpu: int, memory: int, nearest: str
) -> None:
    error = refused(tmp_path, f"service: iris\ncpu: {cpu}\nmemory: {memory}\n")
    assert nearest in error.todo


@given(st.integers(1, 20000), st.integers(1, 130000))
def test_the_nearest_size_is_always_valid(cpu: int, memory: int) -> None:
    near_cpu, near_memory = nearest_size(cpu, memory)
    Servable(service="x", cpu=near_cpu, memory=near_memory)
    if cpu <= 16384 and memory <= 122880:
        assert near_cpu >= cpu
        assert near_memory >= memory


@pytest.mark.parametrize(
    "value",
    [
        "hunter2-hunter2",
        "arn:aws:s3:::bucket/secret",
        ARN + "\nhunter2",
        "arn:aws:iam::123456789012:role/hunter2",
    ],
)
def test_a_secret_that_is_no_arn_is_refused_and_never_shown(tmp_path: Path, value: str) -> None:
    quoted = value.replace("\n", "\\n")
    error = refused(tmp_path, f'service: iris\nsecrets: {{DB_PASSWORD: "{quoted}"}}\n')
    assert "secrets.DB_PASSWORD" in error.what
    assert value not in str(error)
    assert "hunter2" not in str(error)


@pytest.mark.parametrize("section", ["environment", "secrets"])
def test_the_models_variables_are_reserved(tmp_path: Path, section: str) -> None:
    error = refused(tmp_path, f"service: iris\n{section}: {{MODEL_URI: '{ARN}'}}\n")
    assert "MODEL_URI" in error.what


@pytest.mark.parametrize(
    "text",
    [
        "service: ../iris",
        "service: 'iris; rm -rf /'",
        "service: iris\nport: 0",
        "service: iris\ncount: 0",
        'service: iris\nhealth_check: {path: "/x\'); import os #"}',
        "service: iris\nhealth_check: {path: 'http://elsewhere/'}",
        "service: iris\nhealth_check: {interval: 4}",
        "service: iris\nhealth_check: {command: []}",
        "service: iris\nenvironment: {'A=B': c}",
        "service: iris\nsmoke: [{path: /x, method: 'GET / HTTP/1.1'}]",
        "service: iris\nmodel: {pipeline: p}",
        "service: iris\nmodel: {pipeline: p, artifact: a, uri: s3://b/m, sha256: " + "0" * 64 + "}",
        "service: iris\nmodel: {uri: s3://b/m}",
        "service: iris\nmodel: {uri: s3://b/m, sha256: abc}",
        "service: iris\nenvironment: {A: b}\nsecrets: {A: '" + ARN + "'}",
        "service: !!python/object/apply:os.system [id]",
        "[]",
        "",
    ],
)
def test_what_is_not_valid_is_refused(tmp_path: Path, text: str) -> None:
    refused(tmp_path, text)


def test_no_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=FILE):
        load(tmp_path)
