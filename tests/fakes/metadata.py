"""A FAKE of Kubeflow's metadata store behind grpc-web, for tests only.

It keeps everything in memory. What it obeys was read in google/ml-metadata
(`metadata_store.proto`, `metadata_store_service.proto`, `metadata_store.cc`) and
kubeflow/pipelines (`backend/src/v2/metadata/client.go`, `driver/root_dag.go`):
an unknown context is an empty answer and no error, a page has at most 100 items
and 20 where none are asked for, ids that are not known are left out, artefacts
hang on executions by OUTPUT events whose path is their name, and a run's root is
recorded without its outputs.

Messages are written and read here byte by byte, with the field numbers of those
files: nothing is shared with the code under test, so that each checks the other.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KIND = "application/grpc-web+proto"
COMPLETE, FAILED, RUNNING, CACHED, CANCELED = 3, 4, 2, 5, 6  # Execution.State
CREATED = 1_790_000_000_000  # milliseconds: 2026-09-21


# protobuf's wire format ---------------------------------------------------------


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # a negative int64 is its two's complement
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def number(tag: int, value: int) -> bytes:
    return varint(tag << 3) + varint(value)


def double(tag: int, value: float) -> bytes:
    return varint(tag << 3 | 1) + struct.pack("<d", value)


def chunk(tag: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return varint(tag << 3 | 2) + varint(len(data)) + data


def read(data: bytes) -> dict[int, list[Any]]:
    """Fields of a message by number: integers and bytes."""
    found: dict[int, list[Any]] = {}
    at = 0

    def one() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = one()
        if key & 7 == 0:
            found.setdefault(key >> 3, []).append(one())
        else:
            assert key & 7 == 2, "no request has another kind of field"
            length = one()
            found.setdefault(key >> 3, []).append(data[at : at + length])
            at += length
    return found


def ids(fields: dict[int, list[Any]], tag: int) -> list[int]:
    """A repeated int64, one field each: proto2 packs only what says so, and these do not."""
    return [int(it) for it in fields.get(tag, [])]


def plain(value: Any) -> bytes:
    """google.protobuf.Value."""
    if value is None:
        return number(1, 0)
    if isinstance(value, bool):
        return number(4, value)
    if isinstance(value, (int, float)):
        return double(2, float(value))
    if isinstance(value, str):
        return chunk(3, value)
    if isinstance(value, dict):
        return chunk(5, fields_of(value))
    return chunk(6, b"".join(chunk(1, plain(it)) for it in value))


def fields_of(value: dict[str, Any]) -> bytes:
    """google.protobuf.Struct."""
    return b"".join(chunk(1, chunk(1, key) + chunk(2, plain(it))) for key, it in value.items())


def ml_value(value: Any) -> bytes:
    """ml_metadata.Value."""
    if isinstance(value, int):
        return number(1, value)
    if isinstance(value, float):
        return double(2, value)
    if isinstance(value, (str, bytes)):
        return chunk(3, value)
    return chunk(4, fields_of(value))


def properties(values: dict[str, Any]) -> bytes:
    """`custom_properties`, field 5 of Artifact, Execution and Context alike."""
    return b"".join(chunk(5, chunk(1, key) + chunk(2, ml_value(it))) for key, it in values.items())


# the store ----------------------------------------------------------------------


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class FakeMetadata:
    """The store, and what a test may script.

    prefix:   where it is served, as a proxy would put it.
    answers:  (status, headers, body) that the next calls get, whatever they ask.
    refusing: (grpc status, message, as headers only) for the next calls.
    logs:     path with query -> (status, content type, body), for GET.
    """

    prefix: str = ""
    endpoint: str = ""
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    refusing: list[tuple[int, str, bool]] = field(default_factory=list)
    logs: dict[str, tuple[int, str, bytes]] = field(default_factory=dict)
    contexts: dict[str, int] = field(default_factory=dict)
    executions: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    artifacts: dict[int, bytes] = field(default_factory=dict)
    events: list[tuple[int, bytes]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    _last: int = 0

    def _id(self) -> int:
        self._last += 1
        return self._last

    # what drivers and launchers write

    def run(self, run_id: str) -> int:
        """The context of a run and its root, whose id is returned: as `driver.RootDAG` does."""
        self.contexts[run_id] = self._id()
        return self.execution(run_id, "", 0, kind="system.DAGExecution", inputs={"rows": 3})

    def execution(
        self,
        run_id: str,
        task: str,
        parent: int,
        *,
        kind: str = "system.ContainerExecution",
        state: int = COMPLETE,
        outputs: dict[str, Any] | None = None,
        **more: Any,
    ) -> int:
        """more: further custom properties, as `iteration_index=0`."""
        identity = self._id()
        values: dict[str, Any] = {"display_name": task, "task_name": task, **more}
        if parent:
            values["parent_dag_id"] = parent
        if outputs is not None:
            values["outputs"] = outputs
        message = (
            number(1, identity)
            + number(2, 7)  # type_id, which no client needs
            + number(3, state)
            + properties(values)
            + chunk(7, kind)
            + number(8, CREATED)
        )
        self.executions[identity] = (self.contexts[run_id], message)
        return identity

    def dag(self, run_id: str, task: str, parent: int, **more: Any) -> int:
        more.setdefault("state", RUNNING)  # what older servers leave it at
        return self.execution(run_id, task, parent, kind="system.DAGExecution", **more)

    def artifact(
        self, execution: int, name: str, kind: str = "system.Model", uri: str = "", **values: Any
    ) -> int:
        """As `RecordArtifact` and `PublishExecution` do."""
        identity = self._id()
        values = {"display_name": name, "store_session_info": "{}", **values}
        self.artifacts[identity] = (
            number(1, identity)
            + number(2, 9)
            + chunk(3, uri or f"minio://mlpipeline/v2/artifacts/{name}-{identity}")
            + properties(values)
            + number(6, 2)
            + (chunk(8, kind) if kind else b"")
        )
        self.produced(execution, identity, name)
        return identity

    def produced(self, execution: int, artifact: int, name: str, kind: int = 4) -> None:
        """An event; kind 4 is OUTPUT, 3 INPUT. A cached task's names the other run's artefact."""
        path = chunk(1, chunk(2, name))  # one step with a key
        self.events.append(
            (
                execution,
                number(1, artifact) + number(2, execution) + chunk(3, path) + number(4, kind),
            )
        )

    # what clients read

    def call(self, method: str, request: dict[int, list[Any]]) -> bytes:
        match method:
            case "GetContextByTypeAndName":
                known = request[1] == [b"system.PipelineRun"]
                context = self.contexts.get(request[2][0].decode()) if known else None
                return chunk(1, number(1, context)) if context else b""
            case "GetExecutionsByContext":
                options = read(request.get(2, [b""])[0])
                size = options.get(1, [20])[0]
                if not 0 < size < 1 << 31:
                    raise Refused(3, "max_result_size must be positive")
                found = [it for context, it in self.executions.values() if context == request[1][0]]
                first = int(options.get(3, [b""])[0] or 0)
                rest = first + min(size, 100)
                body = b"".join(chunk(1, it) for it in found[first:rest])
                return body + (chunk(2, str(rest)) if rest < len(found) else b"")
            case "GetEventsByExecutionIDs":
                wanted = ids(request, 1)
                return b"".join(chunk(1, it) for whose, it in self.events if whose in wanted)
            case "GetArtifactsByID":
                wanted = ids(request, 1)
                return b"".join(chunk(1, it) for key, it in self.artifacts.items() if key in wanted)
        raise Refused(12, f"the fake does not know {method}")


def frame(flag: int, content: bytes) -> bytes:
    return bytes([flag]) + len(content).to_bytes(4, "big") + content


def trailers(status: int, message: str = "") -> bytes:
    said = f"grpc-message:{message}\r\n" if message else ""
    return frame(0x80, f"grpc-status:{status}\r\n{said}".encode())


class _Handler(BaseHTTPRequestHandler):
    fake: FakeMetadata

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.fake.requests.append(f"GET {self.path}")
        status, kind, body = self.fake.logs.get(self.path, (404, "text/html", b"<p>Cannot GET"))
        self._answer(status, {"Content-Type": kind} if kind else {}, body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fake = self.fake
        fake.requests.append(f"POST {self.path}")
        service = f"{fake.prefix}/ml_metadata.MetadataStoreService/"
        if not self.path.startswith(service):
            self._answer(404, {"Content-Type": "text/html"}, b"<p>Cannot POST")
        elif fake.answers:
            self._answer(*fake.answers.pop(0))
        elif self.headers["Content-Type"] != KIND or self.headers["X-Grpc-Web"] != "1":
            self._answer(415, {}, b"")
        elif fake.refusing:
            status, message, bare = fake.refusing.pop(0)
            said = {"grpc-status": str(status), "grpc-message": message} if bare else {}
            self._answer(
                200, {"Content-Type": KIND, **said}, b"" if bare else trailers(status, message)
            )
        else:
            assert body[0] == 0
            assert int.from_bytes(body[1:5], "big") == len(body) - 5
            try:
                content = fake.call(self.path.removeprefix(service), read(body[5:]))
                self._answer(200, {"Content-Type": KIND}, frame(0, content) + trailers(0))
            except Refused as error:
                self._answer(200, {"Content-Type": KIND}, trailers(error.status, str(error)))

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serve(fake: FakeMetadata) -> Iterator[FakeMetadata]:
    """Serve the fake on a free loopback port, given in `fake.endpoint`."""
    handler = type("Handler", (_Handler,), {"fake": fake})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    fake.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
