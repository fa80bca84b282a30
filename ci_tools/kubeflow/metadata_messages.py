"""The messages of ML Metadata that a run's record is read with.

Only these fields, with the numbers that google/ml-metadata gives them in
`ml_metadata/proto/metadata_store.proto` and `metadata_store_service.proto`; all
others are skipped, as protobuf does with fields that it does not know. What is
written here otherwise is the same bytes: enumerations as the numbers they are,
`map<string, Value>` as the entries it is made of, and proto3 for proto2, with
which protobuf itself refuses text that is not UTF-8.
"""

from __future__ import annotations

import functools
from typing import Any

# A field: name, number, and a scalar's kind or a message's name; `*` before it: repeated.
_Field = tuple[str, int, str]

_MESSAGES: dict[str, tuple[_Field, ...]] = {
    # metadata_store.proto
    "Value": (
        ("int_value", 1, "int64"),
        ("double_value", 2, "double"),
        ("string_value", 3, "string"),
        ("struct_value", 4, "google.protobuf.Struct"),
        ("bool_value", 6, "bool"),
    ),
    "Property": (("key", 1, "string"), ("value", 2, "Value")),  # an entry of such a map
    "Artifact": (
        ("id", 1, "int64"),
        ("uri", 3, "string"),
        ("custom_properties", 5, "*Property"),
        ("type", 8, "string"),
    ),
    "Step": (("index", 1, "int64"), ("key", 2, "string")),  # Event.Path.Step
    "Path": (("steps", 1, "*Step"),),  # Event.Path
    "Event": (
        ("artifact_id", 1, "int64"),
        ("execution_id", 2, "int64"),
        ("path", 3, "Path"),
        ("type", 4, "int32"),
    ),
    "Execution": (
        ("id", 1, "int64"),
        ("last_known_state", 3, "int32"),
        ("custom_properties", 5, "*Property"),
        ("type", 7, "string"),
        ("create_time_since_epoch", 8, "int64"),
    ),
    "Context": (("id", 1, "int64"),),
    "ListOperationOptions": (("max_result_size", 1, "int32"), ("next_page_token", 3, "string")),
    # metadata_store_service.proto
    "GetContextByTypeAndNameRequest": (("type_name", 1, "string"), ("context_name", 2, "string")),
    "GetContextByTypeAndNameResponse": (("context", 1, "Context"),),
    "GetExecutionsByContextRequest": (
        ("context_id", 1, "int64"),
        ("options", 2, "ListOperationOptions"),
    ),
    "GetExecutionsByContextResponse": (
        ("executions", 1, "*Execution"),
        ("next_page_token", 2, "string"),
    ),
    "GetEventsByExecutionIDsRequest": (("execution_ids", 1, "*int64"),),
    "GetEventsByExecutionIDsResponse": (("events", 1, "*Event"),),
    "GetArtifactsByIDRequest": (("artifact_ids", 1, "*int64"),),
    "GetArtifactsByIDResponse": (("artifacts", 1, "*Artifact"),),
}

_ONE_OF = {"Value": "value"}  # of whose fields one is set; Step's are told apart by being empty

SERVICE = "ml_metadata.MetadataStoreService"
OUTPUT = 4  # Event.Type
STATES = {3: "COMPLETE", 4: "FAILED", 5: "CACHED", 6: "CANCELED"}  # Execution.State: the ended ones


def request(method: str, **fields: Any) -> Any:
    """The request message of one of the service's methods."""
    return _classes()[f"{method}Request"](**fields)


def response(method: str, data: bytes) -> Any:
    """The response message in `data`. Raises google.protobuf.message.DecodeError."""
    return _classes()[f"{method}Response"].FromString(data)


@functools.lru_cache(maxsize=1)
def _classes() -> dict[str, Any]:
    """The messages' classes, in a pool of their own: nothing else in the process is touched."""
    from google.protobuf import (  # type: ignore[import-untyped]
        descriptor_pb2,
        descriptor_pool,
        message_factory,
        struct_pb2,
    )

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="kfp_ci/metadata.proto",
        package="ml_metadata",
        syntax="proto3",
        dependency=[struct_pb2.DESCRIPTOR.name],
    )
    for message, fields in _MESSAGES.items():
        made = file.message_type.add(name=message)
        if message in _ONE_OF:
            made.oneof_decl.add(name=_ONE_OF[message])
        for name, number, kind in fields:
            plain = kind.removeprefix("*")
            field = made.field.add(name=name, number=number)
            field.label = kinds.LABEL_OPTIONAL if plain == kind else kinds.LABEL_REPEATED
            if message in _ONE_OF:
                field.oneof_index = 0
            if plain[0].islower() and "." not in plain:
                field.type = getattr(kinds, f"TYPE_{plain.upper()}")
                if plain != kind:
                    field.options.packed = False  # proto2's way, which every server reads
            else:
                field.type = kinds.TYPE_MESSAGE
                field.type_name = f".{plain}" if "." in plain else f".ml_metadata.{plain}"
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"ml_metadata.{name}"))
        for name in _MESSAGES
    }
