"""`{{$...}}` in a step's command, as the launcher fills it in (`getPlaceholders`)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ci_tools.kubeflow.local import cel
from ci_tools.kubeflow.local.resolve import InputError

_WHOLE = "{{$}}"
_KEYED = re.compile(
    r"\{\{\$\.(?P<side>inputs|outputs)\.(?P<kind>parameters|artifacts)"
    r"\['(?P<name>[^']+)'\](?P<rest>(?:\.\w+)?(?:\['[^']*'\])?)\}\}"
)
_OUTPUT_FILES = ("{{$.outputs.output_file}}", "{{$.outputMetadataUri}}")
_STRUCTURES = ('{"IfPresent":', '{"Concat":')


def command(
    parts: list[str],
    executor_input: Mapping[str, Any],
    given: frozenset[str],
    constants: Mapping[str, str],
) -> list[str]:
    """The command of a container, filled in.

    executor_input: the ExecutorInput message as JSON, with the step's defaults.
    given:          inputs that the task was given; a default alone does not make
                    an input present (the driver decides before the launcher adds them).
    constants:      placeholders without a key, by their whole text.

    Raises InputError for an input without a value.
    """
    resolved = _in_parameters(executor_input, constants)
    return [fill(text, resolved, constants) for part in parts for text in _structure(part, given)]


def fill(text: str, executor_input: Mapping[str, Any], constants: Mapping[str, str]) -> str:
    """One string, filled in. Raises InputError for an input without a value."""
    for placeholder, value in constants.items():
        text = text.replace(placeholder, value)
    for placeholder in _OUTPUT_FILES:
        text = text.replace(placeholder, str(executor_input["outputs"]["outputFile"]))
    filled = _KEYED.sub(lambda match: _value(match, executor_input), text)
    return filled.replace(_WHOLE, json.dumps(executor_input)) if _WHOLE in text else filled


def _in_parameters(
    executor_input: Mapping[str, Any], constants: Mapping[str, str]
) -> Mapping[str, Any]:
    """Values that are themselves templates: an f-string in a pipeline compiles to one."""
    values = executor_input["inputs"].get("parameterValues", {})
    filled = {
        name: fill(value, executor_input, constants) if isinstance(value, str) else value
        for name, value in values.items()
    }
    return {**executor_input, "inputs": {**executor_input["inputs"], "parameterValues": filled}}


def _value(match: re.Match[str], executor_input: Mapping[str, Any]) -> str:
    side = executor_input[match["side"]]
    name, rest = match["name"], match["rest"]
    if match["kind"] == "artifacts":
        found = side.get("artifacts", {}).get(name, {}).get("artifacts")
        if found is None:
            raise InputError(f"its command needs the artefact '{name}', which it does not get")
        return _of_artifact(found, rest, match[0])
    if match["side"] == "outputs":
        return str(side["parameters"][name]["outputFile"])
    values = side.get("parameterValues", {})
    if values.get(name) is None:
        raise InputError(f"its command needs the input '{name}', which has no value")
    return cel.text(values[name])


def _of_artifact(found: list[dict[str, Any]], rest: str, placeholder: str) -> str:
    if not rest:
        return json.dumps(found)
    if not found:
        raise InputError(f"its command asks for {placeholder} of an empty list")
    field, _, key = rest.removeprefix(".").partition("['")
    value: Any = found[0].get("uri" if field == "path" else field, {})
    if key:
        value = value.get(key.removesuffix("']"))
    return cel.text(value)


def _structure(part: str, given: frozenset[str]) -> Iterator[str]:
    """One element of a command as none, one or several (`IfPresent`, `Concat`)."""
    if not part.lstrip().startswith(_STRUCTURES):
        yield part
        return
    try:
        structure = json.loads(part)
    except ValueError:  # a program's own JSON that looks alike
        yield part
        return
    yield from _flat(structure, given)


def _flat(node: Any, given: frozenset[str]) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, list):
        for item in node:
            yield from _flat(item, given)
    elif isinstance(node, dict) and "Concat" in node:
        yield "".join(text for item in node["Concat"] for text in _flat(item, given))
    elif isinstance(node, dict) and "IfPresent" in node:
        choice = node["IfPresent"]
        yield from _flat(choice.get("Then" if choice["InputName"] in given else "Else"), given)
