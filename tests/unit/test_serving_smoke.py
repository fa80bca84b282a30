"""Smoke tests, against a small server on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import urllib3
from hypothesis import given
from hypothesis import strategies as st

from ci_tools.serving.declaration import SmokeTest
from ci_tools.serving.smoke import SmokeFailure, check, mismatch

Answer = tuple[int, bytes]


class Server:
    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.got: list[tuple[str, str, bytes, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                kind = self.headers.get("Content-Type")
                outer.got.append((self.command, self.path, body, kind))
                many = len(outer.answers) > 1
                status, said = outer.answers.pop(0) if many else outer.answers[0]
                self.send_response(status)
                self.send_header("Content-Length", str(len(said)))
                self.send_header("Location", "/elsewhere")
                self.end_headers()
                self.wfile.write(said)

            do_GET = do_POST = handle_any

            def log_message(self, *_: object) -> None:
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/base/"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


class Clock:
    """Time that passes only in `sleep`."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def run(url: str, *tests: SmokeTest, deadline: float = 0.0) -> dict[str, Any]:
    clock = Clock()
    return check(tests, url, deadline=deadline, clock=clock, sleep=clock.sleep)


def test_the_request_is_sent_and_the_answer_kept(server: Server) -> None:
    server.answers = [(200, b'{"label": "setosa", "score": 0.9999999, "extra": []}')]
    test = SmokeTest(
        method="POST", path="/predict", body={"x": [1]}, expect={"label": "setosa", "score": 1.0}
    )
    told = run(server.url, test)
    method, path, body, kind = server.got[0]
    assert (method, path, kind) == ("POST", "/base/predict", "application/json")
    assert json.loads(body) == {"x": [1]}
    assert told["requests"][0]["answer"]["label"] == "setosa"


def test_it_is_tried_again_until_the_answer_is_right(server: Server) -> None:
    server.answers = [(503, b""), (200, b'{"v": 1}'), (200, b'{"v": 2}')]
    run(server.url, SmokeTest(path="/", expect={"v": 2}), deadline=60)
    assert len(server.got) == 3


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((500, b"oops"), "status 500 instead of 200: oops"),
        ((302, b""), "status 302"),  # a redirect is not followed
        ((200, b"<html>"), "not JSON"),
        ((200, b"[" * 100_000), "not JSON"),
        ((200, b'{"v": 1}'), "answer.v is '1' instead of '2'"),
        ((200, b'{"w": 2}'), "has no 'v'"),
        ((200, b'{"v": "' + b"x" * (1 << 20) + b'"}'), "larger than"),
    ],
)
def test_a_wrong_answer_fails_in_the_end(server: Server, answer: Answer, said: str) -> None:
    server.answers = [answer]
    with pytest.raises(SmokeFailure, match=said):
        run(server.url, SmokeTest(path="/", expect={"v": 2}), deadline=3)
    assert len(server.got) > 1


def test_a_slow_answer_is_asked_again_and_does_not_count(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock moves while the server answers: by 3 s first, then by half a second."""
    clock = Clock()
    takes = [3.0, 0.5]
    read = urllib3.HTTPResponse.read

    def slow(response: urllib3.HTTPResponse, *given: Any, **named: Any) -> bytes:
        clock.now += takes.pop(0) if len(takes) > 1 else takes[0]
        return read(response, *given, **named)

    monkeypatch.setattr(urllib3.HTTPResponse, "read", slow)
    server.answers = [(200, b'{"v": 1}')]
    test = SmokeTest(path="/", max_seconds=1)
    told = check([test], server.url, deadline=60, clock=clock, sleep=clock.sleep)
    assert len(server.got) == 2
    assert told["requests"][0]["seconds"] == 0.5

    takes[:] = [3.0]
    with pytest.raises(SmokeFailure, match=r"answered in 3\.000 s, more than the 1 s allowed"):
        check([test], server.url, deadline=clock.now, clock=clock, sleep=clock.sleep)


def test_nobody_there(server: Server) -> None:
    url = server.url
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(SmokeFailure, match="no answer \\(ConnectionRefusedError\\)"):
        run(url, SmokeTest(path="/"))


def test_a_proxy_is_not_asked_for_a_private_address(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    server.answers = [(200, b"ok")]
    assert run(server.url, SmokeTest(path="/"))["requests"][0]["answer"] == "ok"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=10,
)


@given(json_values)
def test_anything_matches_itself(value: Any) -> None:
    assert mismatch(value, json.loads(json.dumps(value))) is None


@given(st.dictionaries(st.text(max_size=3), json_values), st.text(min_size=4), json_values)
def test_an_object_may_hold_more_but_not_less(value: dict[str, Any], key: str, extra: Any) -> None:
    assert mismatch(value, {**value, key: extra}) is None
    assert mismatch({**value, key: extra}, value) is not None


@pytest.mark.parametrize(
    ("expected", "actual"),
    [(1, True), (True, 1), (0, False), ("1", 1), (None, 0), ([1], [1, 2]), ([], {}), (1.0, 1.1)],
)
def test_what_only_looks_equal(expected: Any, actual: Any) -> None:

    assert mismatch(expected, actual) is not None
