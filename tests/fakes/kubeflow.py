"""A FAKE of the Kubeflow Pipelines API server (v2beta1), for tests only.

It keeps everything in memory, runs nothing, and says so at /healthz. What it
obeys are the server's rules that matter to a client: names are unique in their
namespace (409), unknown ids are 404, a version needs its pipeline's id (400), a
run that names no version takes the latest one, listings have pages, specs come
back written anew (numbers as floats, wrapped when there are platforms), and a
run goes through whatever states a test scripts.
"""

from __future__ import annotations

import email.parser
import email.policy
import json
import ssl
import sys
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

# What stands before the server: is given each request (method, path, headers, body)
# and answers it (status, headers, body) or lets it through with None.
Gate = Callable[[str, str, dict[str, str], bytes], "tuple[int, dict[str, str], bytes] | None"]


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class FakeKubeflow:
    """The server's state and what a test may script.

    states:   what the next runs' GETs answer, one after the other; the last stays.
    token:    when set, requests without it get 401.
    login:    answer everything with a login page, as a proxy in front does.
    failing:  this many next requests get 503.
    forbidden: namespaces that get 403.
    gate:      what stands before the server and asks for a login.
    plays:    start of a run's display name -> the states of each next run of that
              name, instead of `states`; the last ones stay.
    hanging:  while it is there and not set, requests for a run get no answer.
    stubborn: a run that is terminated does not end.
    nodes:    of the Argo workflow that v1beta1 tells of every run.
    """

    states: list[str] = field(default_factory=lambda: ["SUCCEEDED"])
    token: str = ""
    login: bool = False
    failing: int = 0
    forbidden: set[str] = field(default_factory=set)
    gate: Gate | None = None
    endpoint: str = ""
    page_size: int = 3
    error: dict[str, Any] | None = None
    task_details: list[dict[str, Any]] = field(default_factory=list)
    pipelines: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    schedules: list[dict[str, Any]] = field(default_factory=list)
    plays: dict[str, list[list[str]]] = field(default_factory=dict)
    hanging: threading.Event | None = None
    stubborn: bool = False
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    # pipelines ------------------------------------------------------------------

    def create_pipeline(self, body: dict[str, Any], _query: dict[str, str]) -> dict[str, Any]:
        name, namespace = body.get("name") or body["display_name"], body.get("namespace", "")
        self._allow(namespace)
        if self._find(self.pipelines, name, namespace):
            raise Refused(409, f"Already exist error: The name {name} already exist.")
        return self._add(
            self.pipelines,
            "pipeline_id",
            {
                "name": name,
                "display_name": body.get("display_name") or name,
                "namespace": namespace,
                "description": body.get("description", ""),
            },
        )

    def copy(self, namespace: str, other: str) -> None:
        """Give another namespace what one has, with ids of its own."""
        for pipeline in [it for it in self.pipelines.values() if it["namespace"] == namespace]:
            mine = str(uuid.uuid4())
            self.pipelines[mine] = {**pipeline, "pipeline_id": mine, "namespace": other}
            for version in list(self.versions.values()):
                if version["pipeline_id"] == pipeline["pipeline_id"]:
                    own = {"pipeline_version_id": str(uuid.uuid4()), "pipeline_id": mine}
                    self.versions[own["pipeline_version_id"]] = {**version, **own}

    def delete_pipeline(self, pipeline_id: str, query: dict[str, str]) -> dict[str, Any]:
        if pipeline_id not in self.pipelines:
            raise Refused(404, f"Pipeline {pipeline_id} not found")
        own = [key for key, it in self.versions.items() if it["pipeline_id"] == pipeline_id]
        if own and query.get("cascade", "").lower() != "true":
            raise Refused(400, "it has existing pipeline versions. Set cascade=true")
        for key in own:
            del self.versions[key]
        del self.pipelines[pipeline_id]
        return {}

    def pipeline_by_name(self, name: str, query: dict[str, str]) -> dict[str, Any]:
        namespace = query.get("namespace", "")
        self._allow(namespace)
        found = self._find(self.pipelines, name, namespace)
        if not found:
            raise Refused(404, f"pipeline {name} not found")
        return found

    def upload(self, part: bytes, query: dict[str, str]) -> dict[str, Any]:
        created = self.create_pipeline(
            {"name": query["name"], "namespace": query.get("namespace", "")}, query
        )
        self.upload_version(part, {"name": query["name"], "pipelineid": created["pipeline_id"]})
        return created

    def upload_version(self, part: bytes, query: dict[str, str]) -> dict[str, Any]:
        pipeline_id = query.get("pipelineid", "")
        if not pipeline_id:
            raise Refused(400, "Please specify a pipeline id when uploading a version")
        if pipeline_id not in self.pipelines:
            raise Refused(404, f"Pipeline {pipeline_id} not found")
        if len(query["name"]) > 127:
            raise Refused(400, "version name is longer than 127 characters")
        tags = json.loads(query.get("tags") or "{}")
        _check_tags(tags)
        taken = [it for it in self.versions.values() if it["pipeline_id"] == pipeline_id]
        if any(it["name"] == query["name"] for it in taken):
            raise Refused(409, f"Already exist error: {query['name']} already exist.")
        documents = [_as_protobuf(it) for it in yaml.safe_load_all(part) if it is not None]
        spec = documents[0]
        if len(documents) == 2:
            spec = {"pipeline_spec": documents[0], "platform_spec": documents[1]}
        return self._add(
            self.versions,
            "pipeline_version_id",
            {
                "pipeline_id": pipeline_id,
                "name": query["name"],
                "display_name": query.get("display_name") or query["name"],
                "description": query.get("description", ""),
                "tags": tags,
                "pipeline_spec": spec,
            },
        )

    def version(self, pipeline_id: str, version_id: str) -> dict[str, Any]:
        found = self.versions.get(version_id)
        if not found or found["pipeline_id"] != pipeline_id:
            raise Refused(404, f"PipelineVersion {version_id} not found")
        return found

    def delete_version(self, pipeline_id: str, version_id: str) -> dict[str, Any]:
        self.version(pipeline_id, version_id)
        del self.versions[version_id]
        return {}

    # experiments and runs ---------------------------------------------------------

    def create_experiment(self, body: dict[str, Any]) -> dict[str, Any]:
        name, namespace = body["display_name"], body.get("namespace", "")
        self._allow(namespace)
        if self._find(self.experiments, name, namespace):
            raise Refused(409, f"Already exist error: The name {name} already exist.")
        return self._add(
            self.experiments, "experiment_id", {"display_name": name, "namespace": namespace}
        )

    def schedule(
        self,
        name: str,
        pipeline_id: str,
        version_id: str = "",
        *,
        enabled: bool = True,
        namespace: str = "",
    ) -> None:
        """A recurring run; without a version each of its runs takes the latest."""
        self.schedules.append(
            {
                "recurring_run_id": str(uuid.uuid4()),
                "display_name": name,
                "namespace": namespace,
                "status": "ENABLED" if enabled else "DISABLED",
                "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "pipeline_version_reference": {
                    "pipeline_id": pipeline_id,
                    **({"pipeline_version_id": version_id} if version_id else {}),
                },
            }
        )

    def create_run(self, body: dict[str, Any]) -> dict[str, Any]:
        reference = body["pipeline_version_reference"]
        known = [
            it
            for it in self.versions.values()
            if it["pipeline_id"] == reference["pipeline_id"]
            and it["pipeline_version_id"]
            == reference.get("pipeline_version_id", it["pipeline_version_id"])
        ]
        if not known or body.get("experiment_id") not in self.experiments:
            raise Refused(400, "Failed to create a run: unknown pipeline version or experiment")
        version = known[-1]
        run = {
            "display_name": body["display_name"],
            "experiment_id": body["experiment_id"],
            "runtime_config": body.get("runtime_config", {}),
            "pipeline_version_reference": {
                "pipeline_id": version["pipeline_id"],
                "pipeline_version_id": version["pipeline_version_id"],
            },
            "states": self._play(body["display_name"]),
        }
        return _public(self._add(self.runs, "run_id", run))

    def run(self, run_id: str) -> dict[str, Any]:
        if run_id not in self.runs:
            raise Refused(404, f"Run {run_id} not found")
        run = self.runs[run_id]
        states = run["states"]
        run["state"] = states.pop(0) if len(states) > 1 else states[0]
        if run["state"] == "FAILED":
            run["error"] = self.error
        run["run_details"] = {"task_details": self.task_details}
        return _public(run)

    def run_v1(self, run_id: str) -> dict[str, Any]:
        if run_id not in self.runs:
            raise Refused(404, f"Run {run_id} not found")
        manifest = json.dumps({"status": {"nodes": self.nodes}})
        return {"run": {"id": run_id}, "pipeline_runtime": {"workflow_manifest": manifest}}

    def _play(self, name: str) -> list[str]:
        for start, runs in self.plays.items():
            if name.startswith(start):
                return list(runs.pop(0) if len(runs) > 1 else runs[0])
        return list(self.states)

    def terminate(self, run_id: str) -> dict[str, Any]:
        if run_id not in self.runs:
            raise Refused(404, f"Run {run_id} not found")
        self.runs[run_id]["states"] = ["CANCELING"] if self.stubborn else ["CANCELING", "CANCELED"]
        return {}

    # what they share -------------------------------------------------------------

    def page(self, key: str, items: list[dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
        """At most `page_size` items a page, even if the client asked for more."""
        # The server decodes a filter that has come out of the URL once more.
        written = urllib.parse.unquote_plus(query.get("filter") or "{}")
        for predicate in json.loads(written).get("predicates", []):
            items = [it for it in items if _fits(predicate, it)]
        order = (query.get("sort_by") or "created_at").split()
        if order[0] != "created_at":
            raise Refused(400, f"Cannot sort on field {order[0]}")
        items = sorted(items, key=lambda it: it["created_at"])  # stable, as 1 s may hold many
        if order[1:] == ["desc"]:
            items.reverse()
        first, _, criteria = (query.get("page_token") or "0").partition("|")
        if criteria and criteria != f"{query.get('filter')} {query.get('sort_by')}":
            raise Refused(400, "page token does not match the supplied sort by and/or filtering")
        rest = int(first) + min(self.page_size, int(query.get("page_size") or 20))
        token = f"{rest}|{query.get('filter')} {query.get('sort_by')}"
        return {
            key: items[int(first) : rest],
            "total_size": len(items),
            "next_page_token": token if rest < len(items) else "",
        }

    def _allow(self, namespace: str) -> None:
        if namespace in self.forbidden:
            raise Refused(403, f"User is not authorized in namespace {namespace}")

    @staticmethod
    def _find(table: dict[str, dict[str, Any]], name: str, namespace: str) -> dict[str, Any] | None:
        return next(
            (
                it
                for it in table.values()
                if it.get("name", it["display_name"]) == name and it["namespace"] == namespace
            ),
            None,
        )

    @staticmethod
    def _add(table: dict[str, dict[str, Any]], key: str, body: dict[str, Any]) -> dict[str, Any]:
        identity = str(uuid.uuid4())
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())  # 1 s granularity
        table[identity] = {key: identity, "created_at": created, **body}
        return table[identity]


def _public(run: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in run.items() if key != "states" and value is not None}


def _fits(predicate: dict[str, Any], item: dict[str, Any]) -> bool:
    key = predicate["key"]
    if key not in ("name", "display_name"):
        raise Refused(400, f'no support for filtering on unrecognized field "{key}"')
    value = item.get(key) or item["display_name"]
    text = predicate.get("string_value", predicate.get("stringValue"))
    match predicate["operation"]:
        case "EQUALS" | 1:  # the SDK sends the number
            return bool(value == text)
        case "IS_SUBSTRING":
            return text in value
        case "IN":
            values = predicate.get("string_values", predicate.get("stringValues"))
            return value in values["values"]
    raise Refused(400, f"invalid predicate operation: {predicate['operation']}")


def _check_tags(tags: dict[str, str]) -> None:
    if len(tags) > 20:
        raise Refused(400, f"number of tags ({len(tags)}) exceeds maximum of 20 per entity")
    for key, value in tags.items():
        if not key or "." in key:
            raise Refused(400, f"tag key {key!r} is empty or holds a '.'")
        if len(key) > 63 or len(value) > 63:
            raise Refused(400, f"tag {key!r} exceeds maximum length of 63 characters")


def _as_protobuf(value: Any) -> Any:
    """Protobuf's Struct knows one number type."""
    if isinstance(value, dict):
        return {key: _as_protobuf(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_protobuf(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


class _Handler(BaseHTTPRequestHandler):
    fake: FakeKubeflow
    lock: threading.Lock

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.fake.hanging and "/runs/" in self.path:
            self.fake.hanging.wait(30)
        with self.lock:
            self.fake.requests.append(f"{self.command} {self.path}")
            headers = {name.lower(): value for name, value in self.headers.items()}
            if self.fake.gate and (
                stopped := self.fake.gate(self.command, self.path, headers, body)
            ):
                status, said, page = stopped
                self._answer(status, page, **said)
                return
            if self.fake.login:
                self._answer(200, b"<html><form action=/login></form></html>", "text/html")
                return
            try:
                self._json(200, self._route(body))
            except Refused as error:
                self._json(error.status, {"error_message": str(error), "error_details": "fake"})

    def _route(self, body: bytes) -> dict[str, Any]:
        fake = self.fake
        if fake.failing > 0:
            fake.failing -= 1
            raise Refused(503, "upstream is away")
        if fake.token and self.headers.get("authorization") != f"Bearer {fake.token}":
            raise Refused(401, "Request header error: there is no valid user identity")
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        parts = [urllib.parse.unquote(it) for it in url.path.split("/")[3:]]
        if url.path.startswith("/apis/v1beta1/runs/") and self.command == "GET":
            return fake.run_v1(parts[-1])
        match [self.command, *parts]:
            case ["GET", "healthz"]:
                return {"multi_user": False, "pipeline_store": "fake: nothing here is real"}
            case ["GET", "pipelines"]:
                namespace = query.get("namespace", "")
                fake._allow(namespace)
                found = [it for it in fake.pipelines.values() if it["namespace"] == namespace]
                return fake.page("pipelines", found, query)
            case ["DELETE", "pipelines", identity]:
                return fake.delete_pipeline(identity, query)
            case ["GET", "recurringruns"]:
                namespace = query.get("namespace", "")
                found = [it for it in fake.schedules if it["namespace"] == namespace]
                return fake.page("recurringRuns", found, query)
            case ["POST", "pipelines"]:
                return fake.create_pipeline(json.loads(body), query)
            case ["POST", "pipelines", "upload"]:
                return fake.upload(self._file(body), query)
            case ["POST", "pipelines", "upload_version"]:
                return fake.upload_version(self._file(body), query)
            case ["GET", "pipelines", "names", name]:
                return fake.pipeline_by_name(name, query)
            case ["GET", "pipelines", identity, "versions"]:
                found = [it for it in fake.versions.values() if it["pipeline_id"] == identity]
                return fake.page("pipeline_versions", found, query)
            case ["GET", "pipelines", identity, "versions", version]:
                return fake.version(identity, version)
            case ["DELETE", "pipelines", identity, "versions", version]:
                return fake.delete_version(identity, version)
            case ["GET", "experiments"]:
                found = [
                    it
                    for it in fake.experiments.values()
                    if it["namespace"] == query.get("namespace", "")
                ]
                return fake.page("experiments", found, query)
            case ["POST", "experiments"]:
                return fake.create_experiment(json.loads(body))
            case ["POST", "runs"]:
                return fake.create_run(json.loads(body))
            case ["GET", "runs", identity]:
                return fake.run(identity)
            case ["POST", "runs", action] if action.endswith(":terminate"):
                return fake.terminate(action.removesuffix(":terminate"))
        raise Refused(404, f"the fake does not know {self.command} {url.path}")

    def _file(self, body: bytes) -> bytes:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
        part = next(it for it in message.iter_parts() if it.get_filename())
        return bytes(part.get_payload(decode=True))

    def _json(self, status: int, body: dict[str, Any]) -> None:
        self._answer(status, json.dumps(body).encode(), "application/json")

    def _answer(self, status: int, body: bytes, kind: str = "text/html", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was interrupted, or does not trust us, hangs up.

        Anything else is a defect of the fake.
        """
        if not isinstance(sys.exc_info()[1], ConnectionError | ssl.SSLError):
            super().handle_error(request, client_address)


@contextmanager
def serve(fake: FakeKubeflow, tls: ssl.SSLContext | None = None) -> Iterator[FakeKubeflow]:
    """Serve the fake on a free loopback port, given in `fake.endpoint`."""
    handler = type("Handler", (_Handler,), {"fake": fake, "lock": threading.Lock()})
    server = _Server(("127.0.0.1", 0), handler)
    if tls:  # the handshake happens in the request's own thread
        server.socket = tls.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    fake.endpoint = f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
