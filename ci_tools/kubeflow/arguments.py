"""A run's arguments, checked against the pipeline before anything starts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import yaml

from ci_tools import yaml_safe
from ci_tools.config_errors import did_you_mean
from ci_tools.documents import Json, JsonValue
from ci_tools.errors import ConfigError
from ci_tools.kubeflow.ir import Parameter

_TRUE, _FALSE = frozenset({"true", "yes", "1"}), frozenset({"false", "no", "0"})
_GIVE = "with -p NAME=VALUE, or under 'parameters' of ci.yaml or of the test's file"
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

    Text, as a command line gives it, is read as the declared type: a string as it is,
    lists and mappings as YAML; no text is no value, but for a string. The types are
    those of the IR's ParameterType.

    Raises ConfigError for an unknown name (naming the nearest valid one), a
    missing required one and a value of another type.
    """
    for name in given:
        if name not in declared:
            raise ConfigError(
                f"pipeline '{pipeline}' has no parameter '{name}'",
                did_you_mean(name, list(declared))
                or f"It takes: {', '.join(declared) or 'no parameters'}",
            )
    missing = [name for name, it in declared.items() if it.required and name not in given]
    if missing:
        raise ConfigError(
            f"pipeline '{pipeline}' needs a value for {', '.join(map(repr, missing))}",
            f"Give it {_GIVE}",
        )
    return {name: _coerced(pipeline, name, declared[name], v) for name, v in given.items()}


def with_defaults(declared: Mapping[str, Parameter], given: Mapping[str, JsonValue]) -> Json:
    """What the run really gets: every parameter, its default where none is given."""
    return {name: given.get(name, parameter.default) for name, parameter in declared.items()}


def _coerced(pipeline: str, name: str, parameter: Parameter, value: JsonValue) -> JsonValue:
    if not parameter.required and (
        value is None or (parameter.type != "STRING" and value in ("", "null", "~"))
    ):
        return None
    try:
        return _as(parameter.type, value)
    except (ValueError, OverflowError) as error:  # the latter: an integer that is no double
        raise ConfigError(
            f"parameter '{name}' of pipeline '{pipeline}' must be "
            f"{_WORDS.get(parameter.type, parameter.type)}, not {json.dumps(value)}",
            ("Put it in quotes, or give" if parameter.type == "STRING" else "Give")
            + f" another {_GIVE.replace('NAME', name)}",
        ) from error


def _as(kind: str, value: JsonValue) -> JsonValue:
    """`value` as the IR type `kind`. Raises ValueError."""
    if kind == "BOOLEAN":
        if isinstance(value, str) and value.lower() in _TRUE | _FALSE:
            return value.lower() in _TRUE
        return _instance(value, bool)
    if kind.startswith("NUMBER_"):
        return _number(kind, value)
    if kind == "STRING":
        return _instance(value, str)
    if kind in ("LIST", "STRUCT"):
        parsed = _yaml(value) if isinstance(value, str) else value
        return _instance(parsed, list if kind == "LIST" else dict)
    return value  # TASK_FINAL_STATUS and what a later IR may bring: the server decides


def _number(kind: str, value: JsonValue) -> JsonValue:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(value)
    if kind == "NUMBER_INTEGER":
        try:
            return int(value) if isinstance(value, str) else _instance(value, int)
        except ValueError:  # such as 3.0 and 1e3
            number = float(value)
            if not number.is_integer():
                raise
            return int(number)
    number = float(value)
    if not math.isfinite(number):  # which JSON has not
        raise ValueError(value)
    return number


def _yaml(text: str) -> Any:
    """The value of a text, if it is one that JSON has too. Raises ValueError."""
    try:
        value = yaml_safe.load(text)
        json.dumps(value, allow_nan=False)
    except (yaml.YAMLError, TypeError, RecursionError) as error:
        raise ValueError(text) from error
    return value


def _instance(value: JsonValue, kind: type) -> JsonValue:
    if not isinstance(value, kind):
        raise ValueError(value)
    return value
