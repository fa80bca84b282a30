"""A task's inputs as the driver resolves them: missing, of the wrong type, one of a few."""

from __future__ import annotations

from typing import Any

import pytest

from ci_tools.kubeflow.local import resolve
from ci_tools.kubeflow.local.resolve import NOTHING, InputError, Outcome, Scope, Values


def inputs(definition: dict[str, Any], spec: dict[str, Any] | None, scope: Scope) -> dict[str, Any]:
    component = {"inputDefinitions": {"parameters": {"x": definition}}, "executorLabel": "e"}
    task = {"inputs": {"parameters": {} if spec is None else {"x": spec}}}
    return resolve.task_inputs("t", task, component, scope).parameters


def around(**parameters: Any) -> Scope:
    return Scope(Values(parameters, {}), {"before": Outcome("SUCCEEDED", NOTHING)}, {})


FROM_GRAPH = {"componentInputParameter": "g"}
FROM_TASK = {"taskOutputParameter": {"producerTask": "before", "outputParameterKey": "o"}}
REQUIRED, OPTIONAL = {"parameterType": "STRING"}, {"parameterType": "STRING", "isOptional": True}


@pytest.mark.parametrize(
    ("spec", "scope", "sentence"),
    [
        (FROM_GRAPH, around(g=None), r"'x' has no value \(the graph around it got none\)"),
        (FROM_TASK, around(), r"'x' has no value \(task 'before' made no 'o'\)"),
        (None, around(), "its input 'x' gets no value"),
        (FROM_GRAPH, around(), "refers to 'g', which the graph around it does not have"),
        ({"odd": 1}, around(), "of a kind that is unknown here: odd"),
    ],
)
def test_a_required_input_without_a_value(
    spec: dict[str, Any] | None, scope: Scope, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        inputs(REQUIRED, spec, scope)


@pytest.mark.parametrize("spec", [FROM_TASK, FROM_GRAPH, None])
def test_an_optional_input_without_a_value_is_left_out(spec: dict[str, Any] | None) -> None:
    assert inputs(OPTIONAL, spec, around(g=None)) == {}


@pytest.mark.parametrize(
    ("kind", "value", "result"),
    [
        ("STRING", 3.0, "3"),
        ("STRING", True, "true"),
        ("STRING", [1.0, "a"], '[1,"a"]'),
        ("NUMBER_INTEGER", 3.0, 3),
        ("NUMBER_DOUBLE", 3, 3),
        ("BOOLEAN", False, False),
        ("LIST", [], []),
        ("STRUCT", {"a": 1}, {"a": 1}),
        ("A_LATER_TYPE", "as it is", "as it is"),
    ],
)
def test_a_value_of_the_declared_type(kind: str, value: Any, result: Any) -> None:
    constant = {"runtimeValue": {"constant": value}}
    found = inputs({"parameterType": kind}, constant, around())["x"]
    assert (found, type(found)) == (result, type(result))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("NUMBER_INTEGER", "3"),
        ("NUMBER_INTEGER", True),  # an int to Python
        ("NUMBER_DOUBLE", False),
        ("BOOLEAN", 1),
        ("BOOLEAN", "true"),
        ("LIST", "[]"),
        ("STRUCT", []),
    ],
)
def test_nothing_but_text_is_converted(kind: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"its input 'x' is a {kind}, and gets the"):
        inputs({"parameterType": kind}, {"runtimeValue": {"constant": value}}, around())


def test_one_of_a_few() -> None:
    definition = {"parameterType": "STRING", "literals": ["a", "b"]}
    assert inputs(definition, {"runtimeValue": {"constant": "b"}}, around()) == {"x": "b"}
    with pytest.raises(InputError, match="must be one of"):
        inputs(definition, {"runtimeValue": {"constant": "c"}}, around())


@pytest.mark.parametrize("required", [True, False])
def test_an_artefact_that_is_not_there(required: bool) -> None:
    definition = {"artifacts": {"d": {"isOptional": not required}}}
    component = {"inputDefinitions": definition, "executorLabel": "e"}
    source = {"producerTask": "before", "outputArtifactKey": "data"}
    task = {"inputs": {"artifacts": {"d": {"taskOutputArtifact": source}}}}
    if required:
        with pytest.raises(
            InputError, match=r"'d' has no artefact \(task 'before' made no 'data'\)"
        ):
            resolve.task_inputs("t", task, component, around())
    else:
        assert resolve.task_inputs("t", task, component, around()) == NOTHING


@pytest.mark.parametrize("items", ["no json", '{"a": 1}', 3, None])
def test_items_that_are_no_list(items: Any) -> None:
    task = {"parameterIterator": {"itemInput": "i", "items": {"inputParameter": "all"}}}
    with pytest.raises(InputError, match="its items are not a list but"):
        resolve.iterations(task, {}, Values({"all": items}, {}))


def test_an_iteration_has_its_item_instead_of_the_items() -> None:
    task = {"parameterIterator": {"itemInput": "i", "items": {"inputParameter": "all"}}}
    found = resolve.iterations(task, {}, Values({"all": "[1.0, 2]", "k": "v"}, {}))
    assert found == [Values({"k": "v", "i": 1}, {}), Values({"k": "v", "i": 2}, {})]
