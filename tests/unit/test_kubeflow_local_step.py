"""A step's placeholders, outputs and surroundings. Oracles: kfp's own local runner."""

from __future__ import annotations

import copy
import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from ci_tools.kubeflow.local import messages, placeholders, platform
from ci_tools.kubeflow.local.resolve import InputError, Scope, Values, parameter

COMPONENT: dict[str, Any] = {
    "inputDefinitions": {
        "parameters": {
            "n": {"parameterType": "NUMBER_INTEGER"},
            "text": {"parameterType": "STRING"},
            "all": {"parameterType": "LIST"},
            "flag": {"parameterType": "BOOLEAN"},
            "late": {"parameterType": "STRING", "defaultValue": "d", "isOptional": True},
            "never": {"parameterType": "STRING", "isOptional": True},
        }
    },
    "outputDefinitions": {
        "parameters": {"score": {"parameterType": "NUMBER_DOUBLE"}},
        "artifacts": {
            "model": {"artifactType": {"schemaTitle": "system.Model", "schemaVersion": "0.0.1"}}
        },
    },
}
ARTIFACT = {
    "name": "data",
    "uri": "/d/data",
    "type": {"schemaTitle": "system.Dataset"},
    "metadata": {"rows": 3},
}
INPUTS = Values({"n": 3, "text": "so it is", "all": [1, "a"], "flag": True}, {"data": [ARTIFACT]})


def command(*parts: str, inputs: Values = INPUTS) -> list[str]:
    message = messages.executor_input(COMPONENT, inputs, Path("/r/step"))
    given = frozenset(inputs.parameters) | frozenset(inputs.artifacts)
    return placeholders.command(list(parts), message, given, {"{{$.pipeline_job_name}}": "it"})


@pytest.mark.parametrize(
    "part",
    [
        "{{$.inputs.parameters['n']}}",
        "--text={{$.inputs.parameters['text']}}-{{$.inputs.parameters['n']}}",
        "{{$.inputs.parameters['flag']}}",
        "{{$.inputs.artifacts['data'].path}}",
        "{{$.inputs.artifacts['data'].uri}}",
        "{{$.inputs.artifacts['data'].metadata['rows']}}",
        "{{$.outputs.artifacts['model'].path}}",
        "{{$.outputs.parameters['score'].output_file}}",
        "{{$.outputs.output_file}}",
        "{{$.pipeline_job_name}}",
        '{"Concat": ["a", "{{$.inputs.parameters[\'n\']}}", "b"]}',
        '{"IfPresent": {"InputName": "n", "Then": ["x", "{{$.inputs.parameters[\'n\']}}"]}}',
        '{"IfPresent": {"InputName": "absent", "Then": "x", "Else": "y"}}',
        '{"IfPresent": {"InputName": "absent", "Then": "x"}}',
        '{"json": "of the program"}',
        "plain {{ text }}",
    ],
)
def test_as_kfp_local_fills_it_in(part: str) -> None:
    from kfp.local import placeholder_utils

    message = messages.executor_input(COMPONENT, INPUTS, Path("/r/step"))
    expected = placeholder_utils.replace_placeholders(
        [part], copy.deepcopy(message), "it", "step", "/r", "1"
    )
    assert command(part) == expected


def test_where_the_launcher_differs_from_kfp_local() -> None:
    assert command("{{$.inputs.parameters['all']}}") == ['[1,"a"]']
    assert command("{{$.inputs.parameters['late']}}") == ["d"]
    # A default does not make an input present.
    assert command('{"IfPresent": {"InputName": "late", "Then": "x", "Else": "y"}}') == ["y"]
    with pytest.raises(InputError, match="needs the input 'never', which has no value"):
        command("{{$.inputs.parameters['never']}}")
    with pytest.raises(InputError, match="needs the artefact 'gone'"):
        command("{{$.inputs.artifacts['gone'].path}}")


def test_the_whole_message() -> None:
    (text,) = command("{{$}}")
    message = json.loads(text)
    assert message["inputs"]["parameterValues"] == {**INPUTS.parameters, "late": "d"}
    assert message["outputs"]["outputFile"] == "/r/step/executor_output.json"


def test_an_f_string_of_a_pipeline_is_filled_in_the_message_too() -> None:
    inputs = Values({**INPUTS.parameters, "text": "<{{$.inputs.parameters['n']}}>"}, {})
    assert command("{{$.inputs.parameters['text']}}", inputs=inputs) == ["<3>"]
    (text,) = command("{{$}}", inputs=inputs)
    assert json.loads(text)["inputs"]["parameterValues"]["text"] == "<3>"


def outputs(kind: str, written: str | None, directory: Path, reported: Any = None) -> Values:
    component = {"outputDefinitions": {"parameters": {"it": {"parameterType": kind}}}}
    message = messages.executor_input(component, Values({}, {}), directory)
    if written is not None:
        (directory / "it").write_text(written)
    if reported is not None:
        (directory / "executor_output.json").write_text(json.dumps(reported))
    return messages.outputs(component, message)


@pytest.mark.parametrize(
    ("kind", "written", "value"),
    [
        ("STRING", " as it is\n", " as it is\n"),
        ("NUMBER_INTEGER", "7\n", 7),
        ("NUMBER_DOUBLE", " 0.5\n", 0.5),
        ("NUMBER_DOUBLE", "3.0", 3),
        ("BOOLEAN", "True\n", True),
        ("BOOLEAN", "0", False),
        ("LIST", "[1, 2.0]", [1, 2]),
        ("STRUCT", '{"a": null}', {"a": None}),
    ],
)
def test_an_output_parameter_is_read_as_its_type(
    tmp_path: Path, kind: str, written: str, value: Any
) -> None:
    assert outputs(kind, written, tmp_path).parameters == {"it": value}


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        ("NUMBER_INTEGER", "0.5"),
        ("NUMBER_DOUBLE", "much"),
        ("BOOLEAN", "yes"),
        ("LIST", "{}"),
        ("STRUCT", "[]"),
        ("STRUCT", ""),
        ("STRING", None),
    ],
)
def test_an_output_parameter_that_is_not_there_fails(
    tmp_path: Path, kind: str, written: str | None
) -> None:
    with pytest.raises(messages.OutputError, match="its output parameter 'it'"):
        outputs(kind, written, tmp_path)


def test_what_a_step_reports_has_priority(tmp_path: Path) -> None:
    reported = {"parameterValues": {"it": 4.0}}
    assert outputs("NUMBER_INTEGER", "7", tmp_path, reported).parameters == {"it": 4}
    with pytest.raises(messages.OutputError, match="not an ExecutorOutput"):
        outputs("STRING", "x", tmp_path, [])


def test_an_artefact_is_there_without_a_report_and_takes_what_is_reported(tmp_path: Path) -> None:
    message = messages.executor_input(COMPONENT, INPUTS, tmp_path)
    (tmp_path / "score").write_text("1")
    (model,) = messages.outputs(COMPONENT, message).artifacts["model"]
    assert (model["uri"], model["metadata"]) == (str(tmp_path / "model"), {})
    (tmp_path / "executor_output.json").write_text(
        json.dumps({"artifacts": {"model": {"artifacts": [{"metadata": {"auc": 0.5}}]}}})
    )
    (model,) = messages.outputs(COMPONENT, message).artifacts["model"]
    assert (model["uri"], model["metadata"]) == (str(tmp_path / "model"), {"auc": 0.5})


PYTHON = """
from typing import NamedTuple
from kfp import dsl
@dsl.component(base_image="i")
def learn(rows: int, names: list, flag: bool, data: dsl.Input[dsl.Dataset],
          model: dsl.Output[dsl.Model], scores: dsl.Output[dsl.Metrics],
          status: dsl.PipelineTaskFinalStatus, text: str = "d",
          ) -> NamedTuple("Out", [("auc", float), ("n", int), ("all", list)]):
    with open(data.path) as f, open(model.path, "w") as g:
        g.write(f.read() + text + status.state)
    model.metadata["rows"] = data.metadata["rows"]
    scores.log_metric("loss", 0.25)
    return (0.5, rows + 1, names + [flag])
"""


def test_kfp_s_own_executor_understands_the_message(tmp_path: Path) -> None:
    """Python components: what kfp runs in their containers is the oracle."""
    from google.protobuf import json_format
    from kfp.dsl.executor import Executor

    (tmp_path / "learn.py").write_text(PYTHON)
    learn = runpy.run_path(str(tmp_path / "learn.py"))["learn"]
    spec = json.loads(json_format.MessageToJson(learn.pipeline_spec))
    (component,) = (it for it in spec["components"].values() if "executorLabel" in it)
    (tmp_path / "data").write_text("rows;")
    data = {**ARTIFACT, "uri": str(tmp_path / "data")}
    status = {
        "state": "FAILED",
        "pipelineTaskName": "t",
        "pipelineJobResourceName": "r",
        "error": {},
    }
    inputs = Values({"rows": 3, "names": ["a"], "flag": True, "status": status}, {"data": [data]})
    message = messages.executor_input(component, inputs, tmp_path / "out")
    Executor(json.loads(json.dumps(message)), learn.python_func).execute()
    found = messages.outputs(component, message)
    assert found.parameters == {"auc": 0.5, "n": 4, "all": ["a", True]}
    (model,), (scores,) = found.artifacts["model"], found.artifacts["scores"]
    assert Path(model["uri"]).read_text() == "rows;dFAILED"
    assert (model["metadata"], model["type"]["schemaTitle"]) == ({"rows": 3}, "system.Model")
    assert (scores["metadata"], scores["type"]["schemaTitle"]) == (
        {"loss": 0.25},
        "system.Metrics",
    )


def test_only_a_list_of_artefacts_has_several(tmp_path: Path) -> None:
    two = {"artifacts": [{"uri": "/1"}, {"uri": "/2"}]}
    (tmp_path / "executor_output.json").write_text(json.dumps({"artifacts": {"it": two}}))

    def uris(**definition: Any) -> list[str]:
        declared = {"it": {"artifactType": {}, **definition}}
        component = {"outputDefinitions": {"artifacts": declared}}
        message = messages.executor_input(component, Values({}, {}), tmp_path)
        return [found["uri"] for found in messages.outputs(component, message).artifacts["it"]]

    assert uris() == ["/1"]
    assert uris(isArtifactList=True) == ["/1", "/2"]


def surroundings(config: dict[str, Any], home: Path, **inputs: Any) -> platform.Surroundings:
    scope = Scope(Values(inputs, {}), {}, {})
    return platform.surroundings(config, home, lambda spec, name: parameter(spec, scope, name=name))


@pytest.mark.parametrize("name", ["../../etc", "/etc", "", "a/b", ".."])
def test_a_name_is_never_a_path(tmp_path: Path, name: str) -> None:
    for config in (
        {"secretAsEnv": [{"secretName": name, "keyToEnv": []}]},
        {"secretAsEnv": [{"secretName": "s", "keyToEnv": [{"secretKey": name, "envVar": "A"}]}]},
        {"pvcMount": [{"constant": name, "mountPath": "/m"}]},
    ):
        with pytest.raises(InputError, match="is not a name that Kubernetes knows"):
            surroundings(config, tmp_path)
    with pytest.raises(InputError, match="leaves the volume"):
        surroundings(
            {"pvcMount": [{"constant": "v", "mountPath": "/m", "subPath": "../x"}]}, tmp_path
        )


def test_a_name_can_be_a_parameter(tmp_path: Path) -> None:
    spec = {"componentInputParameter": "which"}
    config = {
        "configMapAsEnv": [
            {"configMapNameParameter": spec, "keyToEnv": [{"configMapKey": "k", "envVar": "A"}]}
        ]
    }
    with pytest.raises(InputError, match=r"config_maps/blue/k to run here"):
        surroundings(config, tmp_path, which="blue")
    (tmp_path / "config_maps" / "blue").mkdir(parents=True)
    (tmp_path / "config_maps" / "blue" / "k").write_text("v")
    assert surroundings(config, tmp_path, which="blue").environment == {"A": "v"}


def test_optional_ones_may_be_missing(tmp_path: Path) -> None:
    found = surroundings(
        {
            "secretAsEnv": [
                {
                    "secretName": "s",
                    "optional": True,
                    "keyToEnv": [{"secretKey": "k", "envVar": "A"}],
                }
            ],
            "secretAsVolume": [{"secretName": "s", "optional": True, "mountPath": "/s"}],
        },
        tmp_path,
    )
    assert (found.environment, found.volumes) == ({}, {})


def test_memory_volumes_and_deadlines(tmp_path: Path) -> None:
    found = surroundings(
        {
            "emptyDirMounts": [{"mountPath": "/scratch", "sizeLimit": "64Mi"}],
            "enabledSharedMemory": {"size": "2Gi"},
            "activeDeadlineSeconds": "30",
            "tolerations": [{}],
        },
        tmp_path,
    )
    assert found.tmpfs == {"/scratch": f"mode=1777,size={64 << 20}"}
    assert (found.shared_memory, found.deadline) == (2 << 30, 30.0)
    assert found.notes == ("this machine has no use for its tolerations",)
