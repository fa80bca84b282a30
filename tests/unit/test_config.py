"""ci.yaml: what may stand there, and what a person is told. jsonschema is the second judge."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from ci_tools import config
from ci_tools.config import Config, Environment
from ci_tools.errors import ConfigError

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "ci_tools/schemas/ci.schema.json").read_text())


def load(repository: Any, text: str | bytes) -> Config:
    repository.write("ci.yaml", text)
    return config.load(repository.root)


def test_it_is_optional(repository: Any) -> None:
    assert config.load(repository.root) == Config()
    assert load(repository, "") == Config()
    assert load(repository, "# nothing\n") == Config()


@pytest.mark.parametrize(
    ("text", "where", "nearest"),
    [
        ("projct: x", "projct", "project"),
        ("build: {job: 1}", "build.job", "jobs"),
        ("scan: {severity: []}", "scan.severity", "severities"),
        ("components: {a: {dockerfil: x}}", "dockerfil", "dockerfile"),
        ("pipelines: {alow_images: []}", "pipelines.alow_images", "allow_images"),
        ("pipelines: {named: {t: {trian: true}}}", "trian", "train"),
        ("pipelines: {named: {t: {expect: {a: {mim: 1}}}}}", "mim", "min"),
        ("environments: {prod: {registri: {}}}", "registri", "registry"),
        ("environments: {prod: {registry: {host: h, prefx: x}}}", "prefx", "prefix"),
        ("environments: {prod: {kubeflow: {endpoint: e, namspace: x}}}", "namspace", "namespace"),
        ("environments: {prod: {service: {clutser: x, region: r}}}", "clutser", "cluster"),
    ],
)
def test_an_unknown_key_names_the_nearest(
    repository: Any, text: str, where: str, nearest: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(repository, text)
    assert where in caught.value.what
    assert caught.value.todo == f"Did you mean '{nearest}'"
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(yaml.safe_load(text))


def test_an_unknown_key_that_is_near_nothing_lists_what_is_valid(repository: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        load(repository, "pipelines: {named: {t: {expect: {a: {zzz: 1}}}}}")
    assert caught.value.todo == "Valid here: min, max, main"


BAD_TYPES = [
    "components: 3", "project: 3", "project: A b", "project: ../x", "ignore: x", "build: {jobs: 0}",
    "build: {jobs: true}", "build: {timeout: 0}", "build: {timeout: 1.5}",
    "scan: {severities: [HIGHH]}",
    "components: {a: {test: [1]}}", "components: {-a: {}}", "components: {a: {args: {x: 1}}}",
    "pipelines: {allow_images: ['x:1']}", "servables: [1]", "environments: {prod: {registry: {}}}",
    "environments: {prod: 1}", "- a", "x", "pipelines: {named: {t: {timeout: soon}}}",
    "build: {platforms: []}", "build: {platforms: [linux/x86_64]}", "build: {platforms: amd64}",
    "components: {a: {platforms: [linux/arm64/v8]}}", "components: {a: {platforms: []}}",
    "environments: {local: {allow_incomplete_scan: maybe}}", "components: {a: null}",
    "environments: {dev: {releases: 'https://x'}}", "environments: {dev: {releases: 's3://'}}",
    "environments: {dev: {signing: {key: ''}}}", "environments: {dev: {signing: x.pem}}",
    "environments: {dev: {signing: {key: a, passphrase_env: 'not a name'}}}",
    "environments: {prod: {promotion: {keys: x.pem}}}",
]  # fmt: skip


@pytest.mark.parametrize("text", BAD_TYPES)
def test_a_wrong_type_is_refused_by_us_and_by_the_schema(repository: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=r"ci.yaml: "):
        load(repository, text)
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(yaml.safe_load(text))


@pytest.mark.parametrize("signing", ["{}", "{key: a, key_env: B}", "{passphrase_env: P}"])
def test_a_signing_key_is_named_once(repository: Any, signing: str) -> None:
    with pytest.raises(ConfigError, match="either key or key_env"):
        load(repository, f"environments: {{dev: {{signing: {signing}}}}}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [}", "does not parse at line 1"),
        ("x: 1\n\ty: 2", "does not parse at line 2"),
        (b"a: \xff", "is not UTF-8"),
        ("\x00", "does not parse"),
        ("project: a\nproject: b\n", r"line 2 \(the key 'project' is there twice\)"),
        ("environments:\n  p: {}\n  p: {}\n", r"line 3 \(the key 'p' is there twice\)"),
        ("a: 1\n---\nb: 1\n", "another document"),
        ("project: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("? [a]\n: 1\n", "does not parse"),
        ("1: 2", "Expected 'str'"),
        ("on: x", "Expected 'str'"),
        ("project: 2024-01-01", "Expected 'str | null', got 'date'.*Put it in quotes"),
        ("project: 1.10", "Expected 'str | null', got 'float'.*Put it in quotes"),
        ("project: [a]", "Expected 'str | null', got 'array'.*Mend it"),
        ("pipelines: {named: {a: {parameters: {day: 2024-01-01}}}}", "'date'.*Put it in quotes"),
    ],
)
def test_yaml_that_is_no_declaration(repository: Any, text: str | bytes, said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("|", r"\|")):
        load(repository, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("environments:\n  dev: {registry: {host: h}}\n  prod: {registry: {host: 3}}\n",
         "got 'int' - at 'environments.prod.registry.host' (line 3)"),
        ("environments:\n  dev: {}\n  prod:\n    registri: {}\n",
         "unknown key 'environments.prod.registri' (line 4)"),
        ("components:\n  a: {args: {x: y}}\n  b:\n    args:\n      x: y\n      z: 2\n",
         "got 'int' - at 'components.b.args.z' (line 6)"),
        ("components:\n  a: {}\n  B b: {}\n", "at the key 'B b' in 'components' (line 3)"),
        ("environments:\n  a: {registry: {host: h}}\n  b:\n    <<: {registry: {host: 3}}\n",
         "at 'environments.b.registry.host' (line 3)"),
        ("scan:\n  waivers:\n  - {id: CVE-1}\n", "at 'scan.waivers[0]' (line 3)"),
        ("environments:\n  a: {}\n  b: {registry: {host: 'https://h'}}\n",
         "at 'environments.b.registry' (line 3)"),
    ],
)  # fmt: skip
def test_the_entry_and_its_line_are_told(repository: Any, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(repository, text)
    assert said in caught.value.what
    assert "..." not in caught.value.what


@pytest.mark.parametrize(
    "host", ["", "a b", "--x", "https://h", "h/y", "[::1", "h:p", "u:secret@h", "h\n", "h:1/p"]
)
def test_a_registry_is_a_host_alone(host: str) -> None:
    with pytest.raises(ValueError, match=r"registry\.host") as caught:
        config.Registry(host=host)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("host", ["h", "127.0.0.1:5100", "[::1]:5000", "a-b.example.com"])
@pytest.mark.parametrize("prefix", [None, "", "team", "/team/models/"])
def test_a_registry(host: str, prefix: str | None) -> None:
    assert config.Registry(host=host, prefix=prefix).host == host


@pytest.mark.parametrize("prefix", ["../x", "A b", "a//b\n", "-"])
def test_a_prefix_that_no_registry_takes(prefix: str) -> None:
    with pytest.raises(ValueError, match=r"registry\.prefix"):
        config.Registry(host="h", prefix=prefix)


def test_merge_keys_still_work(repository: Any) -> None:
    text = (
        "environments:\n  a: &a {registry: {host: h}}\n  b: {<<: *a, allow_incomplete_scan: true}\n"
    )
    assert load(repository, text).environments["b"].registry == config.Registry(host="h")


def test_a_directory_or_a_file_we_may_not_read(repository: Any) -> None:
    (repository.root / "ci.yaml").mkdir()
    with pytest.raises(ConfigError, match=r"ci.yaml cannot be read"):
        config.load(repository.root)


def test_a_link_that_leads_nowhere_and_a_pipe(repository: Any) -> None:
    path = repository.root / "ci.yaml"
    path.symlink_to("nowhere.yaml")
    with pytest.raises(ConfigError, match=r"ci.yaml cannot be read \(No such file"):
        config.load(repository.root)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ConfigError, match=r"ci.yaml is no regular file"):
        config.load(repository.root)


def test_local_is_there_without_being_declared() -> None:
    assert Config().environment("local") == Environment(allow_incomplete_scan=True)
    own = Environment(registry=config.Registry(host="h"))
    assert Config(environments={"local": own}).environment("local") is own


def test_an_unknown_environment_names_the_nearest() -> None:
    declared = Config(environments={"staging": Environment(), "prod": Environment()})
    with pytest.raises(ConfigError, match="Did you mean 'prod'"):
        declared.environment("prd")
    with pytest.raises(ConfigError, match="local, staging, prod"):
        declared.environment("qqq")
    with pytest.raises(ConfigError) as caught:
        Config().environment("qqq")
    assert caught.value.todo.endswith("use one of: local")


def test_the_shipped_schema_is_what_the_command_prints() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "ci", "schema", "ci.yaml"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert printed == (ROOT / "ci_tools/schemas/ci.schema.json").read_text()
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_our_own_ci_yaml_is_valid_by_both() -> None:
    jsonschema.validate(yaml.safe_load((ROOT / "ci.yaml").read_text()), SCHEMA)
    assert config.load(ROOT).project == "clinical-ml"
