"""What a step is told and what it leaves: ExecutorInput and ExecutorOutput, as the launcher's.

The source is `launcher_v2.go`: `addDefaultParams`, `prepareOutputFolders`,
`collectOutputParameters` and `mergeRuntimeArtifacts`. Artefacts are files of
this machine, at the same path inside the container.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ci_tools.kubeflow.local.resolve import Values, integral

_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})  # Go's ParseBool
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})


class OutputError(ValueError):
    """A step that ended well and did not leave what it declares."""


def executor_input(component: Mapping[str, Any], inputs: Values, directory: Path) -> dict[str, Any]:
    """The message for a step whose outputs go below `directory`; its defaults included."""
    definitions = component.get("inputDefinitions", {}).get("parameters", {})
    defaults = {
        name: integral(it["defaultValue"])
        for name, it in definitions.items()
        if it.get("defaultValue") is not None
    }
    given = {name: value for name, value in inputs.parameters.items() if value is not None}
    declared = component.get("outputDefinitions", {})
    return {
        "inputs": {
            "parameterValues": defaults | given,
            "artifacts": {name: {"artifacts": it} for name, it in inputs.artifacts.items()},
        },
        "outputs": {
            "parameters": {
                name: {"outputFile": str(directory / name)}
                for name in declared.get("parameters", {})
            },
            "artifacts": {
                name: {
                    "artifacts": [
                        {
                            "name": name,
                            "type": it["artifactType"],
                            "uri": str(directory / name),
                            "metadata": {},
                        }
                    ]
                }
                for name, it in declared.get("artifacts", {}).items()
            },
            "outputFile": str(directory / "executor_output.json"),
        },
    }


def outputs(component: Mapping[str, Any], message: Mapping[str, Any]) -> Values:
    """What the step left. Raises OutputError for a declared parameter without a value."""
    declared, places = component.get("outputDefinitions", {}), message["outputs"]
    reported = _reported(Path(places["outputFile"]))
    parameters = integral(reported.get("parameterValues", {}))
    for name, place in places["parameters"].items():
        if name not in parameters:
            kind = declared["parameters"][name]["parameterType"]
            parameters[name] = _read(name, Path(place["outputFile"]), kind)
    artifacts = {}
    for name, place in places["artifacts"].items():
        (template,) = place["artifacts"]
        own = reported.get("artifacts", {}).get(name, {}).get("artifacts") or [{}]
        if not declared["artifacts"][name].get("isArtifactList"):
            own = own[:1]
        artifacts[name] = [_merged(template, it) for it in own]
    return Values(parameters, artifacts)


def _reported(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise OutputError(f"what it wrote to {path} is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise OutputError(f"what it wrote to {path} is not an ExecutorOutput")
    return found


def _read(name: str, path: Path, kind: str) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(
            f"it ended without writing its output parameter '{name}' ({path})"
        ) from error
    try:
        return integral(_parsed(text, kind))
    except ValueError as error:
        raise OutputError(
            f"its output parameter '{name}' is a {kind}, and it wrote {text[:80]!r}"
        ) from error


def _parsed(text: str, kind: str) -> Any:
    if kind == "STRING":
        return text
    if kind == "NUMBER_INTEGER":
        return int(text.strip())
    if kind == "NUMBER_DOUBLE":
        return float(text.strip())
    if kind == "BOOLEAN":
        if text.strip() not in _TRUE | _FALSE:
            raise ValueError(text)
        return text.strip() in _TRUE
    value = json.loads(text)
    if not isinstance(value, {"LIST": list, "STRUCT": dict}.get(kind, object)):
        raise ValueError(text)
    return value


def _merged(template: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A step need only report what it changes: metadata, or another address."""
    return {
        **template,
        "name": own.get("name") or template["name"],
        "uri": own.get("uri") or template["uri"],
        "metadata": {**template["metadata"], **own.get("metadata", {})},
    }
