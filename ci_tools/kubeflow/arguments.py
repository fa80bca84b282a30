"""A run's arguments, checked against the pipeline before anything starts."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping

from ci_tools.documents import Json, JsonValue
from ci_tools.errors import ConfigError
from ci_tools.kubeflow.ir import Parameter

_TRUE, _FALSE = frozenset({"true", "yes", "1"}), frozenset({"false", "no", "0"})
_WORDS = {
    "NUMBER_INTEGER": "an integer",
    "NUMBER_DOUBLE": "a number",
    "BOOLEAN": "true or false",
    "STRING": "a string",
    "LIST": "a list",
    "STRUCT": "a mapping",
}


def checked(
    pipeline: str, declared: Mapping[str, Parameter], given: Mapping[str, JsonValue]
) -> Json:
    """`given` with every value of its declared type; defaults are not filled in.

    Text, as a command line gives it, is read as the declared type. The types
    are those of the IR's ParameterType.

    Raises ConfigError for an unknown name (naming the nearest valid one), a
    missing required one and a value of another type.
    """
    for name in given:
        if name not in declared:
            near = difflib.get_close_matches(name, declared, n=1, cutoff=0.5)
            raise ConfigError(
                f"pipeline '{pipeline}' has no parameter '{name}'",
                f"Did you mean '{near[0]}'"
                if near
                else f"It takes: {', '.join(declared) or 'no parameters'}",
            )
    missing = [name for name, it in declared.items() if it.required and name not in given]
    if missing:
        raise ConfigError(
            f"pipeline '{pipeline}' needs a value for {', '.join(map(repr, missing))}",
            "Give it with -p NAME=VALUE, or under 'parameters' of the pipeline in ci.yaml",
        )
    return {name: _coerced(pipeline, name, declared[name], v) for name, v in given.items()}


def with_defaults(declared: Mapping[str, Parameter], given: Mapping[str, JsonValue]) -> Json:
    """What the run really gets: every parameter, its default where none is given."""
    return {name: given.get(name, parameter.default) for name, parameter in declared.items()}


def _coerced(pipeline: str, name: str, parameter: Parameter, value: JsonValue) -> JsonValue:
    if value is None and not parameter.required:
        return None
    try:
        return _as(parameter.type, value)
    except ValueError as error:
        raise ConfigError(
            f"parameter '{name}' of pipeline '{pipeline}' must be "
            f"{_WORDS.get(parameter.type, parameter.type)}, not {json.dumps(value)}",
            f"Mend it: -p {name}="
            + ("\"'TEXT'\" (in quotes of its own)" if parameter.type == "STRING" else "VALUE")
            + ", or 'parameters' of the pipeline in ci.yaml",
        ) from error


def _as(kind: str, value: JsonValue) -> JsonValue:
    """`value` as the IR type `kind`. Raises ValueError (JSONDecodeError is one)."""
    if kind == "BOOLEAN":
        if isinstance(value, str) and value.lower() in _TRUE | _FALSE:
            return value.lower() in _TRUE
        return _instance(value, bool)
    if isinstance(value, bool) and kind.startswith("NUMBER_"):
        raise ValueError(value)
    if kind == "NUMBER_INTEGER":
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return int(value) if isinstance(value, str) else _instance(value, int)
    if kind == "NUMBER_DOUBLE":
        if isinstance(value, (str, int, float)):
            return float(value)
        raise ValueError(value)
    if kind == "STRING":
        return _instance(value, str)
    if kind in ("LIST", "STRUCT"):
        parsed: JsonValue = json.loads(value) if isinstance(value, str) else value
        return _instance(parsed, list if kind == "LIST" else dict)
    return value  # TASK_FINAL_STATUS and what a later IR may bring: the server decides


def _instance(value: JsonValue, kind: type) -> JsonValue:
    if not isinstance(value, kind):
        raise ValueError(value)
    return value
