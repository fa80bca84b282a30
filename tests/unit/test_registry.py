"""What the registry client believes, against a small server of its own."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ci_tools.errors import CredentialsError, RegistryError
from ci_tools.images import registry
from ci_tools.images.registry import Registry

MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "config": {"digest": "sha256:" + "c" * 64, "size": 10},
        "layers": [{"digest": "sha256:" + "1" * 64, "size": 100}],
    }
).encode()
MADE = datetime(2026, 11, 20, 1, 2, 3, 0, timezone.utc)
DIGEST = f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"


@pytest.fixture
def answers() -> dict[str, tuple[int, bytes]]:
    return {"/v2/": (200, b"{}")}


@pytest.fixture
def server(answers: dict[str, tuple[int, bytes]]) -> Iterator[Registry]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path, (404, b"{}"))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None: ...

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield Registry(f"127.0.0.1:{httpd.server_port}")
    httpd.shutdown()
    httpd.server_close()


def test_an_image_is_what_its_manifest_says(server, answers) -> None:
    answers["/v2/a/b/manifests/tag"] = (200, MANIFEST)
    image = server.image("a/b", "tag")
    assert image is not None
    assert (image.digest, image.config, image.size) == (DIGEST, "sha256:" + "c" * 64, 110)
    assert server.image("a/b", "other") is None
    assert server.digest("a/b", "other") is None


def test_content_that_is_not_its_digest_is_caught(server, answers) -> None:
    answers[f"/v2/a/b/manifests/{DIGEST}"] = (200, MANIFEST + b" ")
    with pytest.raises(RegistryError, match="other content"):
        server.image("a/b", DIGEST)


def test_an_answer_that_is_no_manifest(server, answers) -> None:
    answers["/v2/a/b/manifests/tag"] = (200, b"<html>login</html>")
    with pytest.raises(RegistryError):
        server.image("a/b", "tag")


@pytest.mark.parametrize(("status", "error"), [(401, CredentialsError), (500, RegistryError)])
def test_a_refusal_is_a_sentence(server, answers, status, error) -> None:
    answers["/v2/"] = (status, b"{}")
    with pytest.raises(error):
        server.ping()


def test_nobody_there() -> None:
    with pytest.raises(RegistryError, match="does not answer"):
        Registry("127.0.0.1:1").ping()


@pytest.mark.parametrize(
    ("host", "plain"),
    [
        ("127.0.0.1:5100", True),
        ("localhost:5000", True),
        ("[::1]:5000", True),
        ("127.evil.example", False),
        ("localhost.example:5000", False),
        ("111111111111.dkr.ecr.eu-west-1.amazonaws.com", False),
    ],
)
def test_only_loopback_is_spoken_to_without_tls(host: str, plain: bool) -> None:
    assert registry._loopback(host) is plain


def test_a_reference_is_asked_of_its_own_registry() -> None:
    where, path, tag = registry.of("python:3.11-slim")
    assert (where.host, path, tag) == ("registry-1.docker.io", "library/python", "3.11-slim")


def test_keys_are_asked_all_at_once(server, answers) -> None:
    answers["/v2/a/manifests/k1"] = (200, MANIFEST)
    answers["/v2/b/manifests/k2"] = (200, MANIFEST)
    wanted = [("a", "k1"), ("a", "k2"), ("b", "k2"), ("none", "k1")]
    assert server.digests(wanted) == dict(zip(wanted, [DIGEST, None, DIGEST, None], strict=True))
    assert server.digests([]) == {}


@pytest.mark.parametrize(
    ("config", "created"),
    [
        (b'{"created": "2026-11-20T01:02:03.123456789Z"}', MADE.replace(microsecond=123457)),
        (b'{"created": "2026-11-20T03:02:03+02:00"}', MADE),
        (b'{"created": "2026-11-20T01:02:03"}', MADE),
        (b'{"created": "yesterday"}', None),
        (b"{}", None),
        (b"\x00 not an image", None),
    ],
)
def test_when_an_image_was_made(server, answers, config, created) -> None:
    answers["/v2/a/manifests/tag"] = (200, MANIFEST)
    answers["/v2/a/blobs/sha256:" + "c" * 64] = (200, config)
    assert server.created("a", "tag") == created


def test_an_index_is_as_old_as_its_image_for_our_platform(server, answers) -> None:
    def entry(digest: str, architecture: str) -> dict[str, object]:
        return {"digest": digest, "platform": {"os": "linux", "architecture": architecture}}

    other = "sha256:" + "0" * 64
    for name, entries in {
        "both": [entry(other, "arm64"), entry(DIGEST, "amd64")],
        "other": [entry(other, "arm64")],
    }.items():
        index = {"schemaVersion": 2, "manifests": entries}
        answers[f"/v2/a/manifests/{name}"] = (200, json.dumps(index).encode())
    answers[f"/v2/a/manifests/{DIGEST}"] = (200, MANIFEST)
    answers["/v2/a/blobs/sha256:" + "c" * 64] = (200, b'{"created": "2026-11-20T01:02:03Z"}')
    assert server.created("a", "both") == MADE
    assert server.created("a", "other") is None
    assert server.created("a", "absent") is None
