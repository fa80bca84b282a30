"""*.test.yaml, and which tests run. jsonschema is the second judge of the files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from ci import choosing
from ci.workspace import Workspace
from ci_tools import config, config_training
from ci_tools.config_training import Declared, TrainingTest
from ci_tools.errors import ConfigError

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "ci_tools/schemas/training-test.schema.json").read_text())

WHOLE = """
pipeline: training
tests:
  smoke:
    parameters: {rows: 10, note: null}
    environments: [dev]
    timeout: 60
    retries: 0
    expect:
      metrics:
        accuracy: {min: 0.9, main: {relative: 0.02, better: higher}}
        loss: {max: 1, main: {absolute: 0.1, better: lower}}
      outputs:
        model: {min_bytes: 100}
        rows: {}
      duration: {max: 600, main: {relative: 0.5}}
  nightly: {}
"""


def declared(repository: Any, *, ci_yaml: str = "", **files: str) -> list[Declared]:
    for name, text in files.items():
        repository.write(f"pipelines/{name}.test.yaml", text)
    repository.write("ci.yaml", ci_yaml)
    settings = config.load(repository.root)
    names = [path.relative_to(repository.root).as_posix() for path in repository.root.rglob("*.*")]
    return config_training.declared(
        repository.root, names, settings.pipelines, {"local", *settings.environments}
    )


DEV = "environments: {dev: {}}"


def test_a_whole_file(repository: Any) -> None:
    jsonschema.validate(yaml.safe_load(WHOLE), SCHEMA)
    smoke, nightly = declared(repository, ci_yaml=DEV, training=WHOLE)
    assert (smoke.label, smoke.file) == ("training/smoke", "pipelines/training.test.yaml")
    assert smoke.test.environments == ("dev",)
    assert smoke.test.parameters == {"rows": 10, "note": None}
    assert smoke.test.expect.metrics["loss"].main is not None
    assert smoke.test.expect.metrics["loss"].main.better == "lower"
    assert (smoke.test.timeout, smoke.test.retries) == (60, 0)
    assert (nightly.test.timeout, nightly.test.retries) == (3600, 1)


def test_what_ci_yaml_says_is_one_more_test_named_default(repository: Any) -> None:
    test = "{train: true, parameters: {a: 1}, retries: 3, expect: {auc: {min: 1}}}"
    text = f"pipelines: {{named: {{training: {test}}}}}"
    (one,) = declared(repository, ci_yaml=text)
    assert (one.name, one.label, one.chosen) == ("default", "training", True)
    assert (one.test.parameters, one.test.retries) == ({"a": 1}, 3)
    assert one.test.expect.metrics["auc"].min == 1


def test_only_files_of_that_name_below_the_directory_are_tests(repository: Any) -> None:
    repository.write("pipelines/deep/er/x.test.yml", "pipeline: x\ntests: {a: {}}")
    repository.write("elsewhere/y.test.yaml", "no: test")
    repository.write("pipelines/z.yaml", "no: test")
    assert [it.label for it in declared(repository)] == ["x/a"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("pipeline: p\ntests: {a: {expects: {}}}", "unknown key 'tests.a.expects' (line 2)"),
        ("pipeline: p\ntests: {a: {expect: {metrics: {m: {minimum: 1}}}}}", "'min'"),
        ("pipeline: p\ntests: {}", "tests"),
        ("tests: {a: {}}", "pipeline"),
        ("pipeline: p\ntests: {default: {}}", "pipelines.named.p"),
        ("pipeline: p\ntests: {a: {environments: [prdo]}}", "'prdo'"),
        ("pipeline: p\ntests: {a: {environments: []}}", "environments"),
        ("pipeline: p\ntests: {a: {retries: -1}}", "retries"),
        ("pipeline: p\ntests: {a: {retries: 1000}}", "retries"),
        ("pipeline: p\ntests: {a: {timeout: 0}}", "timeout"),
        ("pipeline: p\ntests: {a: {expect: {metrics: {m: {main: {relative: 0.1}}}}}}", "better"),
        ("pipeline: p\ntests: {a: {expect: {metrics: {m: {main: {better: up}}}}}}", "up"),
        ("pipeline: p\ntests: {a: {expect: {duration: {main: {relative: -1}}}}}", "relative"),
        ("pipeline: p\ntests: {a: {expect: {duration: {main: {absolute: .nan}}}}}", "absolute"),
        ("pipeline: p\ntests: {a: {expect: {metrics: {m: {min: .nan}}}}}", "finite"),
        ("pipeline: p\ntests: {a: {expect: {metrics: {m: {max: .inf}}}}}", "finite"),
        ("pipeline: p\ntests: {a: {expect: {metrics: {m: {min: 2, max: 1}}}}}", "at least 2"),
        ("pipeline: p\ntests: {a: {}, a: {}}", "twice"),
        ("pipeline: ../p\ntests: {a: {}}", "pipeline"),
        ("pipeline: p\ntests: {'../../x': {}}", "tests"),
        ('pipeline: p\ntests: {"a\\nb": {}}', "tests"),
        ("pipeline: p\ntests: [", "parse"),
        ("- a list", "object"),
        ("", "pipeline"),
    ],
)  # fmt: skip
def test_what_is_refused_is_named(repository: Any, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        declared(repository, ci_yaml="environments: {prod: {}}", p=text)
    assert "pipelines/p.test.yaml" in str(caught.value)
    assert told in str(caught.value), str(caught.value)


def test_advice_names_the_schemas_command(repository: Any) -> None:
    with pytest.raises(ConfigError, match=r"ci schema training\.test\.yaml"):
        declared(repository, p="pipeline: 3\ntests: {a: {}}")


def test_one_test_in_two_files(repository: Any) -> None:
    text = "pipeline: p\ntests: {a: {}}"
    with pytest.raises(ConfigError, match=r"'p/a' is in pipelines/x.*and in pipelines/y"):
        declared(repository, x=text, y=text)


def test_the_shipped_schema_is_what_the_command_prints() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "ci", "schema", "training.test.yaml"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    ).stdout  # fmt: skip
    assert printed == (ROOT / "ci_tools/schemas/training-test.schema.json").read_text()
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


# which run -------------------------------------------------------------------------------


def of(pipeline: str, name: str, chosen: bool = True, *environments: str) -> Declared:
    test = TrainingTest(environments=environments or None)
    return Declared(pipeline, name, test, f"{pipeline}.test.yaml", chosen)


TESTS = [
    of("a", "default"),
    of("b", "default", False),
    of("b", "smoke"),
    of("b", "full", True, "prod"),
    of("c", "default", False),
]
AVAILABLE = ["a", "b", "c", "d"]


def chosen(*names: str, environment: str = "dev", available: Any = AVAILABLE) -> list[str]:
    found = choosing.choose(TESTS, names, available, environment)
    return [f"{it.pipeline}/{it.name}" for it in found.tests]


def test_all_that_are_for_the_environment() -> None:
    assert chosen() == ["a/default", "b/smoke"]
    assert chosen(environment="prod") == ["a/default", "b/smoke", "b/full"]
    left = choosing.choose(TESTS, (), AVAILABLE, "dev").left_out
    assert left == [("b/full", "it is for prod only")]


def test_a_release_needs_every_one_of_them(repository: Any) -> None:
    """Also of a pipeline of which another test was run."""
    text = "environments: {dev: {}, prod: {}}\npipelines: {named: {training: {train: true}}}"
    declared(repository, ci_yaml=text, training=WHOLE)
    for environment, labels in {
        "dev": ["training", "training/smoke", "training/nightly"],
        "prod": ["training", "training/nightly"],
    }.items():
        workspace = Workspace(
            repository=repository.root, build=repository.root / "build",
            environment_name=environment,
        )  # fmt: skip
        assert choosing.tested(workspace) == labels


def test_named_ones() -> None:
    assert chosen("b") == ["b/smoke"]
    assert chosen("b/default") == ["b/default"]
    assert chosen("b/full") == ["b/full"]  # whoever names it means it
    assert chosen("c") == ["c/default"]
    assert chosen("d") == ["d/default"]  # which nobody declares
    assert chosen("b", "b/smoke", "a") == ["b/smoke", "a/default"]


@pytest.mark.parametrize(
    ("names", "available", "told"),
    [
        (["traning"], ["training"], "Did you mean 'training'"),
        (["x"], ["training"], "Name one of: training"),
        (["x"], [], "none was compiled"),
        (["b/smok"], AVAILABLE, "Did you mean 'smoke'"),
        (["/"], AVAILABLE, "there is no pipeline ''"),
        ([], ["a"], "there is no pipeline 'b' that b.test.yaml tests"),
    ],
)
def test_what_is_not_there(names: list[str], available: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choosing.choose(TESTS, names, available, "dev")
    assert told in str(caught.value)


def test_a_named_pipeline_without_a_test_here() -> None:
    with pytest.raises(ConfigError, match=r"no test of 'e' is for environment 'dev'.*e/full"):
        choosing.choose([of("e", "full", True, "prod")], ["e"], ["e"], "dev")
