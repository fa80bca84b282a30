"""An engine that goes away, hangs or is not waited for any more."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import docker
import pytest

from ci_tools import process
from ci_tools.errors import EngineError, ImageTestError
from ci_tools.images.engine import Engine


class FakeEngine:
    """As much of the engine's API as the run of a test asks for.

    wait: what happens to a request for a container's end: "ends", "hangs" or "breaks".
    """

    def __init__(self) -> None:
        self.wait, self.removed, self.asked = "ends", threading.Event(), threading.Event()
        fake, self._closing = self, threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def _say(self, status: int, body: object = None) -> None:
                content = json.dumps(body).encode() if body is not None else b""
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self) -> None:
                if "/logs" in self.path:
                    self._say(200, "said")
                else:
                    self._say(200, {"Id": "c", "Config": {"Tty": True}})

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.path.endswith("/create"):
                    self._say(201, {"Id": "c"})
                elif "/wait" not in self.path:
                    self._say(204)
                elif fake.wait == "ends":
                    self._say(200, {"StatusCode": 0})
                else:
                    self.send_response(200)
                    self.send_header("Content-Length", "20")
                    self.end_headers()
                    fake.asked.set()
                    if fake.wait == "hangs":
                        fake._closing.wait(60)
                    self.close_connection = True

            def do_DELETE(self) -> None:
                fake.removed.set()
                self._say(204)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def fake() -> Iterator[FakeEngine]:
    made = FakeEngine()
    yield made
    made.close()


def engine(port: int) -> Engine:
    return Engine(docker.DockerClient(base_url=f"tcp://127.0.0.1:{port}", version="1.41"))


def run(fake: FakeEngine, log: Path, timeout: float = 30.0) -> None:
    engine(fake.port).test("a", "sha256:1", ["true"], timeout, log)


class Anonymous:
    host = "127.0.0.1:1"

    def credentials(self) -> None:
        return None


@pytest.mark.parametrize(
    "ask",
    [
        lambda gone, _: gone.pull("a:1", Anonymous()),
        lambda gone, _: gone.image_id("a:1"),
        lambda gone, _: gone.layers("sha256:1"),
        lambda gone, _: gone.push(Anonymous(), "a", "1", "sha256:1"),
        lambda gone, log: gone.test("a", "sha256:1", ["true"], 30.0, log),
    ],
    ids=["pull", "image_id", "layers", "push", "test"],
)
def test_an_engine_that_is_gone_is_told(
    fake: FakeEngine, tmp_path: Path, ask: Callable[[Engine, Path], object]
) -> None:
    fake.close()
    with pytest.raises(EngineError, match="the Docker engine does not answer"):
        ask(engine(fake.port), tmp_path / "log")


def test_a_name_that_cannot_be_taken_away_stays(fake: FakeEngine) -> None:
    fake.close()
    engine(fake.port).untag("a:1")


def test_a_declared_test_that_ends_well(fake: FakeEngine, tmp_path: Path) -> None:
    run(fake, tmp_path / "log")
    assert "said" in (tmp_path / "log").read_text()
    assert fake.removed.is_set()


def test_a_declared_test_that_does_not_end(fake: FakeEngine, tmp_path: Path) -> None:
    fake.wait = "hangs"
    with pytest.raises(ImageTestError, match="no end within 1 s"):
        run(fake, tmp_path / "log", timeout=0.6)
    assert fake.removed.is_set()


def test_an_engine_that_goes_during_a_declared_test_is_no_failing_test(
    fake: FakeEngine, tmp_path: Path
) -> None:
    fake.wait = "breaks"
    with pytest.raises(EngineError):
        run(fake, tmp_path / "log")


def test_an_interrupted_declared_test_leaves_no_container(
    fake: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.wait = "hangs"
    ended: list[BaseException] = []

    def test() -> None:
        try:
            run(fake, tmp_path / "log")
        except ImageTestError as error:
            ended.append(error)

    thread = threading.Thread(target=test)
    thread.start()
    assert fake.asked.wait(30)
    monkeypatch.setattr(process, "_stopping", True)
    thread.join(10)
    assert fake.removed.is_set()
    assert "interrupted" in str(ended[0])
