"""A FAKE of an OCI registry, for tests only: a STAND-IN that keeps everything in memory
and says so in the header X-Stand-In of each answer.

What it obeys are the rules of the distribution specification 1.1 that matter to a
client which attaches artifacts: uploads in two steps, a manifest is refused when what
it names is not there (its subject excepted), a tag can be immutable, and the list of
referrers is the registry's (with pages and filter) or, without the API, nobody's.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

INDEX = "application/vnd.oci.image.index.v1+json"
Reply = tuple[int, dict[str, str], bytes]


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def error(status: int, code: str) -> Reply:
    return status, {}, json.dumps({"errors": [{"code": code, "message": code.lower()}]}).encode()


@dataclass
class FakeRegistry:
    """api: whether it has the referrers API. page: descriptors a page. filters: whether
    it filters by type. immutable: whether a tag can be replaced. deletes: the status of
    a DELETE that is refused, 0 where it is done. before: may answer instead."""

    api: bool = True
    page: int = 100
    filters: bool = True
    immutable: bool = False
    deletes: int = 0
    before: Callable[[str, str], Reply | None] = lambda method, path: None
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # digest -> type, content
    tags: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def image(self, name: str = "image") -> str:
        """Put an image there; its digest."""
        content = json.dumps(
            {"schemaVersion": 2, "config": {"digest": name}, "layers": []}
        ).encode()
        kind = "application/vnd.docker.distribution.manifest.v2+json"
        self.manifests[digest_of(content)] = (kind, content)
        return digest_of(content)

    def index(self, subject: str) -> Any:
        """The list under the referrers tag."""
        return json.loads(self.manifests[self.tags[subject.replace(":", "-")]][1])

    def put_index(self, subject: str, index: Any) -> None:
        content = index if isinstance(index, bytes) else json.dumps(index).encode()
        self.manifests[digest_of(content)] = (INDEX, content)
        self.tags[subject.replace(":", "-")] = digest_of(content)

    def reply(self, method: str, path: str, kind: str, body: bytes) -> Reply:
        with self.lock:
            self.asked.append((method, path))
        instead = self.before(method, path)
        if instead is not None:
            return instead
        with self.lock:
            return self._reply(method, path, kind, body)

    def _reply(self, method: str, path: str, kind: str, body: bytes) -> Reply:
        url = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path.endswith("/tags/list"):
            return self._tags(url.path, query)
        match = re.fullmatch(r"/v2/(.+?)/(blobs/uploads|blobs|manifests|referrers)/(.*)", url.path)
        if match is None:
            return error(404, "UNSUPPORTED")
        _, what, reference = match.groups()
        if what == "blobs/uploads":
            return self._upload(method, path, query.get("digest", ""), body)
        if what == "referrers":
            return self._referrers(url.path, reference, query)
        if what == "blobs":
            held = self.blobs.get(reference)
            return error(404, "BLOB_UNKNOWN") if held is None else (200, {}, held)
        if method == "PUT":
            return self._put(reference, kind, body)
        digest = self.tags.get(reference, reference)
        if digest not in self.manifests:
            return error(404, "MANIFEST_UNKNOWN")
        if method == "DELETE":
            if self.deletes:
                return error(self.deletes, "UNSUPPORTED")
            del self.manifests[digest]
            return 202, {}, b""
        kind, content = self.manifests[digest]
        return 200, {"Content-Type": kind, "Docker-Content-Digest": digest}, content

    def _upload(self, method: str, path: str, digest: str, body: bytes) -> Reply:
        if method == "POST":
            return 202, {"Location": f"{path}1?state=x"}, b""
        if digest_of(body) != digest:
            return error(400, "DIGEST_INVALID")
        self.blobs[digest] = body
        return 201, {}, b""

    def _put(self, reference: str, kind: str, body: bytes) -> Reply:
        manifest = json.loads(body)
        digest = digest_of(body)
        for one in [*manifest.get("layers", []), manifest.get("config", {})]:
            if one and one["digest"] not in self.blobs:
                return error(400, "MANIFEST_BLOB_UNKNOWN")
        for one in manifest.get("manifests", []):
            if one["digest"] not in self.manifests:
                return error(400, "MANIFEST_BLOB_UNKNOWN")
        if not reference.startswith("sha256:"):
            if self.immutable and reference in self.tags:
                return error(400, "TAG_INVALID")
            self.tags[reference] = digest
        elif reference != digest:
            return error(400, "DIGEST_INVALID")
        self.manifests[digest] = (kind, body)
        subject = manifest.get("subject", {}).get("digest", "")
        headers = {"OCI-Subject": subject} if subject and self.api else {}
        return 201, {**headers, "Docker-Content-Digest": digest}, b""

    def _tags(self, path: str, query: dict[str, str]) -> Reply:
        found, start = sorted(self.tags), int(query.get("from", 0))
        more = start + self.page < len(found)
        headers = {"Link": f'<{path}?from={start + self.page}>; rel="next"'} if more else {}
        body = {"name": path.split("/")[2], "tags": found[start : start + self.page]}
        return 200, headers, json.dumps(body).encode()

    def _referrers(self, path: str, subject: str, query: dict[str, str]) -> Reply:
        if not self.api:
            return 404, {}, b"404 page not found\n"
        found = []
        for digest, (kind, content) in self.manifests.items():
            manifest = json.loads(content)
            if manifest.get("subject", {}).get("digest") != subject:
                continue
            entry = {"mediaType": kind, "digest": digest, "size": len(content)}
            entry["artifactType"] = manifest["artifactType"]
            found.append({**entry, "annotations": manifest.get("annotations", {})})
        headers = {"Content-Type": INDEX}
        if self.filters and "artifactType" in query:
            headers["OCI-Filters-Applied"] = "artifactType"
            found = [one for one in found if one["artifactType"] == query["artifactType"]]
        start = int(query.get("from", 0))
        if start + self.page < len(found):
            headers["Link"] = f'<{path}?from={start + self.page}>; rel="next"'
        index = {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": found[start : start + self.page],
        }
        return 200, headers, json.dumps(index).encode()


@contextmanager
def serve(fake: FakeRegistry) -> Iterator[str]:
    """The host that it answers at."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            kind = self.headers.get("Content-Type", "")
            status, headers, answer = fake.reply(self.command, self.path, kind, body)
            self.send_response(status)
            headers = {"X-Stand-In": "a fake registry for tests", **headers}
            for name, value in {**headers, "Content-Length": str(len(answer))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer)

        do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

        def log_message(self, *_: object) -> None: ...

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"127.0.0.1:{httpd.server_port}"
    finally:
        httpd.shutdown()
        httpd.server_close()
