"""A proxy before a registry: it writes down what is asked, and does harm when told to."""

from __future__ import annotations

import base64
import contextlib
import http.client
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

PIECE = 1 << 16


class Asked(NamedTuple):
    method: str
    path: str  # with its query
    range: str

    @property
    def blob(self) -> bool:
        return "/blobs/sha256:" in self.path


class Between:
    """harm: asked before each request; one of

    "cut":     half of the answer's content, then the connection is closed.
    "lose":    the request is passed on, but its answer is not given.
    "refuse":  HTTP 500, and nothing is passed on.
    "403":     that status, or another, and nothing is passed on.
    "break":   half of the request's body is read, then the connection is closed.
    "plain":   the query is not passed on.
    "turn":    the content's bits are turned round.
    "whole":   the range that was asked for is not passed on.
    asked: all requests; done: those whose body came whole, and were passed on.
    password: what it wants of `somebody`.
    """

    def __init__(self, host: str, password: str = "") -> None:
        self._upstream = host
        self._login = base64.b64encode(f"somebody:{password}".encode()).decode()
        self._private = bool(password)
        self.harm: Callable[[Asked], str] = lambda _: ""
        self.asked: list[Asked] = []
        self.done: list[Asked] = []
        self.host = ""

    def count(self, method: str, part: str = "") -> int:
        return sum(one.method == method and part in one.path for one in self.asked)

    def handler(self) -> type[BaseHTTPRequestHandler]:
        between = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                asked = Asked(self.command, self.path, self.headers.get("Range", ""))
                length = int(self.headers.get("Content-Length", 0))
                if between._private and between._login not in self.headers.get("Authorization", ""):
                    self.rfile.read(length)
                    self.answer(401, {"WWW-Authenticate": 'Basic realm="test"'}, b"")
                    return
                between.asked.append(asked)
                harm = between.harm(asked)
                if harm == "break":
                    self.rfile.read(length // 2)
                    self.close_connection = True
                    self.connection.close()
                    return
                body = self.rfile.read(length)
                if len(body) < length:  # whoever sent it gave up
                    self.close_connection = True
                    return
                if harm == "refuse" or harm.isdigit():
                    self.answer(int(harm) if harm.isdigit() else 500, {}, b"{}")
                    return
                left_out = {"range", "authorization"} if harm == "whole" else {"authorization"}
                headers = {k: v for k, v in self.headers.items() if k.lower() not in left_out}
                between.done.append(asked)
                upstream = http.client.HTTPConnection(between._upstream, timeout=60)
                path = self.path.partition("?")[0] if harm == "plain" else self.path
                upstream.request(self.command, path, body or None, headers)
                answer = upstream.getresponse()
                content = answer.read()
                upstream.close()
                if harm == "lose":
                    self.close_connection = True
                    self.connection.close()
                    return
                if harm == "turn":
                    content = bytes(255 - byte for byte in content)
                given = dict(answer.getheaders())
                if self.command == "HEAD":
                    self.answer(answer.status, given, b"", given.get("Content-Length", "0"))
                elif harm == "cut":
                    half = content[: len(content) // 2]
                    self.answer(answer.status, given, half, str(len(content)))
                    self.close_connection = True
                else:
                    self.answer(answer.status, given, content)

            do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

            def answer(
                self, status: int, headers: dict[str, str], body: bytes, length: str = ""
            ) -> None:
                self.send_response(status)
                own = {"content-length", "transfer-encoding", "connection", "date", "server"}
                for name, value in headers.items():
                    if name.lower() not in own:
                        self.send_header(name, value)
                self.send_header("Content-Length", length or str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        return Handler


@contextlib.contextmanager
def between(host: str, password: str = "") -> Iterator[Between]:
    """A proxy before the registry at `host`."""
    made = Between(host, password)
    server = ThreadingHTTPServer(("127.0.0.1", 0), made.handler())
    made.host = f"127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
