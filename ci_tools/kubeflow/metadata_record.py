"""The metadata store's messages as plain data, with the properties that Kubeflow gives them.

Which these are and what they hold: kubeflow/pipelines `backend/src/v2/metadata/client.go`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

from ci_tools.documents import Json, JsonValue
from ci_tools.kubeflow import metadata_messages as messages

DAG = "system.DAGExecution"
_EXACT = 2**53  # above it a double does not tell one whole number from the next


class Execution(NamedTuple):
    """One thing that ran, or was to run.

    task:       its name in its dag, "" for the run's root.
    kind:       `system.DAGExecution`, `system.ContainerExecution`, an importer's.
    parent:     id of the dag it is in, 0 for the root.
    state:      COMPLETE, CACHED, CANCELED (its condition was false), FAILED, or
                "" for one that did not end.
    iteration:  which round of a loop it is, None outside.
    iterations: how many rounds a loop has, None for what is none.
    pod:        the pod that ran it last, "" before one did; with its namespace.
    created:    YYYY-MM-DD, UTC.
    """

    id: int
    task: str
    kind: str = "system.ContainerExecution"
    parent: int = 0
    state: str = "COMPLETE"
    iteration: int | None = None
    iterations: int | None = None
    outputs: Json = {}
    pod: str = ""
    namespace: str = ""
    created: str = ""

    @property
    def succeeded(self) -> bool:
        return self.state in ("COMPLETE", "CACHED")


class Produced(NamedTuple):
    """One artefact that an execution gave, or took from the cache.

    type: `system.Model` and the like. properties: its metadata; a truth value
    of a step is 0 or 1 here, every number of a step a float.
    """

    execution: int
    name: str
    uri: str
    type: str
    properties: Json = {}


class Record(NamedTuple):
    """Of one run. lost: (execution, name) of artefacts that the store holds no more."""

    executions: Sequence[Execution]
    produced: Sequence[Produced]
    lost: Sequence[tuple[int, str]] = ()


def execution(message: Any) -> Execution:
    """The store's `Execution`, with the properties that Kubeflow gives it."""
    values = _properties(message)
    return Execution(
        id=message.id,
        task=_text(values.get("task_name")),
        kind=message.type,
        parent=_whole(values.get("parent_dag_id")) or 0,
        state=messages.STATES.get(message.last_known_state, ""),
        iteration=_whole(values.get("iteration_index")),
        iterations=_whole(values.get("iteration_count")),
        outputs=_mapping(values.get("outputs")),
        pod=_text(values.get("pod_name")),
        namespace=_text(values.get("namespace")),
        created=_day(message.create_time_since_epoch),
    )


def _day(milliseconds: int) -> str:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, timezone.utc).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return ""


def produced(event: Any, artifact: Any) -> Produced:
    """The store's `Artifact`, by the name that its `Event` gives it."""
    return Produced(
        execution=event.execution_id,
        name=name(event),
        uri=artifact.uri,
        type=artifact.type,
        properties=_properties(artifact),
    )


def name(event: Any) -> str:
    """What the execution calls the artefact: the first step of the event's path."""
    return next((step.key for step in event.path.steps), "")


def _properties(message: Any) -> Json:
    return {entry.key: _value(entry.value) for entry in message.custom_properties}


def _value(value: Any) -> JsonValue:
    """An ML Metadata value as plain data, None for a kind that is not read."""
    kind = value.WhichOneof("value")
    if kind == "struct_value":
        return {key: _plain(it) for key, it in value.struct_value.fields.items()}
    return None if kind is None else getattr(value, kind)


def _plain(value: Any) -> JsonValue:
    """A value of google.protobuf.Struct, whose depth protobuf bounds when it reads."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return {key: _plain(it) for key, it in value.struct_value.fields.items()}
    if kind == "list_value":
        return [_plain(it) for it in value.list_value.values]
    return None if kind in (None, "null_value") else getattr(value, kind)


def as_json(value: JsonValue) -> JsonValue:
    """A value as protobuf's JSON form has it: 3 for 3.0, and "NaN" as a word."""
    if isinstance(value, dict):
        return {key: as_json(it) for key, it in value.items()}
    if isinstance(value, list):
        return [as_json(it) for it in value]
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        if value.is_integer() and abs(value) <= _EXACT:
            return int(value)
    return value


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else ""


def _whole(value: JsonValue) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _mapping(value: JsonValue) -> Json:
    return value if isinstance(value, dict) else {}
