"""Which values a task gets, and which a graph gives: the driver's `resolve.go`.

Pure functions of the IR and of what the tasks before made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ci_tools.kubeflow.local import cel

SUCCEEDED, FAILED, SKIPPED = "SUCCEEDED", "FAILED", "SKIPPED"
_FINAL_STATE = {SUCCEEDED: "COMPLETE", FAILED: "FAILED", SKIPPED: "CANCELED"}  # MLMD's words
_KINDS: dict[str, tuple[type, ...]] = {
    "NUMBER_INTEGER": (int, float),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
    "TASK_FINAL_STATUS": (dict,),
}

ArtifactList = list[dict[str, Any]]
"""RuntimeArtifacts as JSON: name, uri, type, metadata."""


class InputError(ValueError):
    """A task that cannot get its inputs; on a cluster its driver would fail."""


class Collected(list[Any]):
    """What a loop's iterations made. Those of a loop in a loop become one flat list."""


class Values(NamedTuple):
    """Inputs or outputs. A parameter that is None is there without a value."""

    parameters: dict[str, Any]
    artifacts: dict[str, ArtifactList]


NOTHING = Values({}, {})


class Outcome(NamedTuple):
    """How a task ended. outputs are those of a task that succeeded."""

    state: str
    outputs: Values = NOTHING


class Scope(NamedTuple):
    """What a task of a graph can refer to.

    inputs:    those of the graph.
    produced:  how the graph's tasks ended, so far.
    constants: run-wide placeholders, as `{{$.pipeline_job_name}}`, by their text.
    """

    inputs: Values
    produced: Mapping[str, Outcome]
    constants: Mapping[str, str]


def root_inputs(component: Mapping[str, Any], arguments: Mapping[str, Any]) -> Values:
    """Inputs of the pipeline itself; what is neither given nor has a default is None."""
    definitions = component.get("inputDefinitions", {}).get("parameters", {})
    values = {
        name: arguments[name] if arguments.get(name) is not None else it.get("defaultValue")
        for name, it in definitions.items()
    }
    return Values({name: integral(value) for name, value in values.items()}, {})


def task_inputs(
    name: str, task: Mapping[str, Any], component: Mapping[str, Any], scope: Scope
) -> Values:
    """Inputs of one task, of the declared types. Raises InputError.

    An optional input that gets no value is left out, so that a step's own
    default counts; a nested graph gets it as its default or None, as a pipeline does.
    """
    given = task.get("inputs", {})
    definitions = component.get("inputDefinitions", {})
    declared = definitions.get("parameters", {})
    parameters: dict[str, Any] = {}
    for key, spec in given.get("parameters", {}).items():
        value = parameter(spec, scope, name=f"input '{key}' of task '{name}'")
        if value is not None:
            parameters[key] = value
        elif not _optional(declared.get(key, {})):
            raise InputError(f"its input '{key}' has no value ({_origin(spec)})")
    if "dag" in component:
        for key, definition in declared.items():
            if key not in parameters and _optional(definition):
                parameters[key] = integral(definition.get("defaultValue"))
    artifacts = {}
    for key, spec in given.get("artifacts", {}).items():
        found = _artifacts(spec, scope)
        if found is not None:
            artifacts[key] = found
        elif not _optional(definitions.get("artifacts", {}).get(key, {})):
            raise InputError(f"its input '{key}' has no artefact ({_origin(spec)})")
    return Values(_typed(parameters, task, component, iterating=False), artifacts)


def iterations(
    task: Mapping[str, Any], component: Mapping[str, Any], inputs: Values
) -> list[Values]:
    """The inputs of each iteration of a loop whose own inputs are `inputs`. Raises InputError."""
    iterator = task["parameterIterator"]
    source, item_input = iterator["items"], iterator["itemInput"]
    if "inputParameter" in source:
        items = inputs.parameters.get(source["inputParameter"])
    else:
        items = source.get("raw")
    if isinstance(items, str):
        try:
            items = json.loads(items)
        except ValueError as error:
            raise InputError(f"its items are not a list but {items[:80]!r}") from error
    if not isinstance(items, list):
        raise InputError(f"its items are not a list but {items!r}")
    rest = {k: v for k, v in inputs.parameters.items() if k != source.get("inputParameter")}
    return [
        Values(
            _typed({**rest, item_input: integral(item)}, task, component, iterating=True),
            inputs.artifacts,
        )
        for item in items
    ]


def graph_outputs(dag: Mapping[str, Any], produced: Mapping[str, Outcome]) -> Values:
    """What a graph gives. An output whose task did not run is left out."""
    outputs = dag.get("outputs", {})
    parameters: dict[str, Any] = {}
    for name, spec in outputs.get("parameters", {}).items():
        single = spec.get("valueFromParameter")
        selectors = [single] if single else spec["valueFromOneof"]["parameterSelectors"]
        for selector in selectors:
            made = _made(produced, selector["producerSubtask"]).parameters
            if selector["outputParameterKey"] in made:
                parameters[name] = made[selector["outputParameterKey"]]
                break
    artifacts: dict[str, ArtifactList] = {}
    for name, spec in outputs.get("artifacts", {}).items():
        for selector in spec["artifactSelectors"]:
            found = _made(produced, selector["producerSubtask"]).artifacts
            if selector["outputArtifactKey"] in found:
                artifacts[name] = found[selector["outputArtifactKey"]]
                break
    return Values(parameters, artifacts)


def collected(component: Mapping[str, Any], each: Sequence[Values]) -> Values:
    """A loop's outputs: every output over all iterations, in their order.

    One that an iteration did not make is left out as a whole: Kubeflow's driver
    fails whoever asks for it, and a shorter list would hide the hole.
    """
    outputs = component.get("outputDefinitions", {})
    parameters: dict[str, Any] = {}
    for name in outputs.get("parameters", {}):
        if all(name in it.parameters for it in each):
            parameters[name] = Collected()
            for it in each:
                value = it.parameters[name]
                parameters[name] += value if isinstance(value, Collected) else [value]
    artifacts = {
        name: [artifact for it in each for artifact in it.artifacts[name]]
        for name in outputs.get("artifacts", {})
        if all(name in it.artifacts for it in each)
    }
    return Values(parameters, artifacts)


def parameter(spec: Mapping[str, Any], scope: Scope, name: str) -> Any:
    """One value by its `InputParameterSpec`; None when it is not there.

    Raises InputError for one that refers to nothing.
    """
    if "componentInputParameter" in spec:
        key = spec["componentInputParameter"]
        if key not in scope.inputs.parameters:
            raise InputError(f"{name} refers to '{key}', which the graph around it does not have")
        value = scope.inputs.parameters[key]
    elif "taskOutputParameter" in spec:
        source = spec["taskOutputParameter"]
        made = _made(scope.produced, source["producerTask"]).parameters
        value = made.get(source["outputParameterKey"])
    elif "runtimeValue" in spec:
        value = _constant(integral(spec["runtimeValue"].get("constant")), scope.constants)
    elif "taskFinalStatus" in spec:
        task = spec["taskFinalStatus"]["producerTask"]
        return {
            "state": _FINAL_STATE[scope.produced[task].state],
            "pipelineTaskName": task,
            "pipelineJobResourceName": scope.constants.get("{{$.pipeline_job_resource_name}}", ""),
            "error": {},  # Kubeflow fills in neither code nor message
        }
    else:
        raise InputError(f"{name} is of a kind that is unknown here: {', '.join(spec)}")
    if value is not None and (selector := spec.get("parameterExpressionSelector")):
        try:
            return integral(cel.select(selector, value))
        except cel.ExpressionError as error:
            raise InputError(str(error)) from error
    return value


def integral(value: Any) -> Any:
    """3.0 as 3, at any depth: the IR knows one kind of number, and prints whole ones plainly."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return type(value)(integral(item) for item in value)
    if isinstance(value, dict):
        return {key: integral(item) for key, item in value.items()}
    return value


def _typed(
    values: Mapping[str, Any],
    task: Mapping[str, Any],
    component: Mapping[str, Any],
    *,
    iterating: bool,
) -> dict[str, Any]:
    """Everything can become a string; nothing else is converted."""
    typed = dict(values)
    iterator = task.get("parameterIterator", {})
    of_the_other = {
        iterator.get("items", {}).get("inputParameter") if iterating else iterator.get("itemInput")
    }
    for name, definition in component.get("inputDefinitions", {}).get("parameters", {}).items():
        if name in of_the_other:  # the loop has the items, an iteration its item
            continue
        if name not in typed:
            if not _optional(definition):
                raise InputError(f"its input '{name}' gets no value")
            continue
        value, kind = typed[name], definition.get("parameterType", "")
        if value is None:
            continue
        if kind == "STRING":
            typed[name] = cel.text(value)
        elif kind in _KINDS and (
            not isinstance(value, _KINDS[kind])
            or (isinstance(value, bool) and kind.startswith("NUMBER_"))
        ):
            raise InputError(
                f"its input '{name}' is a {kind}, and gets the {type(value).__name__} "
                f"{json.dumps(value)[:80]}"
            )
        if (allowed := definition.get("literals")) and typed[name] not in integral(allowed):
            raise InputError(f"its input '{name}' must be one of {json.dumps(allowed)}")
    return typed


def _constant(value: Any, constants: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for placeholder, text in constants.items():
            value = value.replace(placeholder, text)
    return value


def _artifacts(spec: Mapping[str, Any], scope: Scope) -> ArtifactList | None:
    if "componentInputArtifact" in spec:
        return scope.inputs.artifacts.get(spec["componentInputArtifact"])
    source = spec["taskOutputArtifact"]
    return _made(scope.produced, source["producerTask"]).artifacts.get(source["outputArtifactKey"])


def _made(produced: Mapping[str, Outcome], task: str) -> Values:
    return produced[task].outputs if task in produced else NOTHING


def _optional(definition: Mapping[str, Any]) -> bool:
    return bool(definition.get("isOptional")) or definition.get("defaultValue") is not None


def _origin(spec: Mapping[str, Any]) -> str:
    for kind, key in (
        ("taskOutputParameter", "outputParameterKey"),
        ("taskOutputArtifact", "outputArtifactKey"),
    ):
        if kind in spec:
            return f"task '{spec[kind]['producerTask']}' made no '{spec[kind][key]}'"
    return "the graph around it got none"
