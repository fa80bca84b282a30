"""What the registry client believes, against a small server of its own."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest

from ci_tools.errors import CredentialsError, PushError, RegistryError
from ci_tools.images import preflight, registry, transport
from ci_tools.images.ecr import Ecr
from ci_tools.images.manifests import Platform, normalised
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
    assert transport.loopback(host) is plain


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


class Talk(NamedTuple):
    """What a server was told: method, path, headers."""

    method: str
    path: str
    headers: dict[str, str]


Reply = tuple[int, dict[str, str], bytes]


@contextlib.contextmanager
def talking(reply: Callable[[Talk], Reply]) -> Iterator[tuple[str, list[Talk]]]:
    """A server whose answers a test makes, and what it was told."""
    told: list[Talk] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            talk = Talk(self.command, self.path, {k.lower(): v for k, v in self.headers.items()})
            told.append(talk)
            status, headers, body = reply(talk)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)

        do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

        def log_message(self, *_: object) -> None: ...

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{httpd.server_port}", told
    finally:
        httpd.shutdown()
        httpd.server_close()


def test_a_token_is_asked_for_each_repository_and_verb() -> None:
    """As Harbor, GitLab and Docker Hub do: one that is for something else is refused."""

    def reply(talk: Talk) -> Reply:
        if talk.path.startswith("/token"):
            scope = parse_qs(urlsplit(talk.path).query)["scope"][0]
            return 200, {}, json.dumps({"token": scope.replace(":", "_")}).encode()
        repository = talk.path.removeprefix("/v2/").partition("/")[0]
        verb = "pull" if talk.method in ("GET", "HEAD") else "pull,push"
        scope = f"repository:{repository}:{verb}"
        if talk.headers.get("authorization") != f"Bearer {scope.replace(':', '_')}":
            realm = f'Bearer realm="http://{host}/token",service="s",scope="{scope}"'
            return 401, {"Www-Authenticate": realm}, b"{}"
        if talk.method == "HEAD":
            return 200, {"Docker-Content-Digest": DIGEST}, b""
        return (202, {}, b"") if talk.method == "POST" else (404, {}, b"{}")

    with talking(reply) as (host, _):
        registry = Registry(host)
        for repository in ("a", "b", "a"):
            assert registry.digest(repository, "k") == DIGEST
        assert registry.preflight(["a", "b"]) == []


def test_a_login_is_not_sent_to_a_realm_that_is_no_address(monkeypatch, tmp_path) -> None:
    """oras-py takes the realm of a basic challenge for one."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    basic = "Basic " + base64.b64encode(b"u:p").decode()

    def reply(talk: Talk) -> Reply:
        if talk.headers.get("authorization") == basic:
            return 200, {}, b"{}"
        return 401, {"Www-Authenticate": f'Basic realm="{host}"'}, b"{}"

    with talking(reply) as (host, told):
        (tmp_path / "config.json").write_text(
            json.dumps({"auths": {host: {"auth": basic.removeprefix("Basic ")}}})
        )
        registry = Registry(host)
        registry.ping()
        registry.ping()
        # A challenge to plain HTTP, one to who knows logins; then it is known.
        assert [talk.path for talk in told] == ["/v2/"] * 4


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (401, b"{}", CredentialsError, "refuses our push"),
        (
            403,
            b'{"errors":[{"code":"DENIED","message":"not authorized to perform: '
            b'ecr:InitiateLayerUpload"}]}',
            CredentialsError,
            "DENIED not authorized to perform: ecr:InitiateLayerUpload",
        ),
        (404, b'{"errors":[{"code":"NAME_UNKNOWN"}]}', PushError, "no such repository"),
        (405, b'{"errors":[{"code":"UNSUPPORTED"}]}', PushError, "read-only"),
        (500, b"<html>", RegistryError, "HTTP 500"),
        (302, b"", RegistryError, "HTTP 302"),
    ],
)
def test_why_a_push_would_not_be_taken(status, body, error, words) -> None:
    with talking(lambda _: (status, {}, body)) as (host, _):
        with pytest.raises(error) as caught:
            Registry(host).preflight(["p/train"])
        assert words in caught.value.what
        assert "p/train" in caught.value.what


def test_a_push_that_ecr_refuses_names_the_permissions() -> None:
    class Prepared(Ecr):
        def credentials(self) -> tuple[str, str]:
            return ("AWS", "x")

        def prepare(self, name: str) -> list[str]:
            return [f"made {name}"]

    ecr = Prepared("111111111111.dkr.ecr.eu-west-1.amazonaws.com")

    def http(host: str) -> transport.Transport:
        return transport.Transport(
            host,
            plain_http=True,
            patience=transport.DEFAULT,
            credentials=ecr.credentials,
            renew=lambda _: None,
        )

    with talking(lambda _: (202, {}, b"")) as (host, told):
        assert preflight.check(http(host), ecr, ["b", "a", "b"]) == ["made a", "made b"]
        assert sorted(talk.path for talk in told if talk.method == "POST") == [
            "/v2/a/blobs/uploads/",
            "/v2/b/blobs/uploads/",
        ]
    with talking(lambda _: (403, {}, b"{}")) as (host, _):
        with pytest.raises(CredentialsError) as caught:
            preflight.check(http(host), ecr, ["p/train"])
        assert f"{host}/p/train" in caught.value.what
        assert "ecr:InitiateLayerUpload" in caught.value.todo
        assert "repository/p/train in eu-west-1 of account 111111111111" in caught.value.todo


@pytest.mark.parametrize("cancelled", [204, 404, 405, 500])
def test_a_registry_that_cancels_no_upload_is_no_worse(cancelled: int) -> None:
    def reply(talk: Talk) -> Reply:
        return (202, {"Location": "/up/1"}, b"") if talk.method == "POST" else (cancelled, {}, b"")

    with talking(reply) as (host, told):
        assert Registry(host).preflight(["p/train"]) == []
    assert [(talk.method, talk.path) for talk in told] == [
        ("GET", "/v2/"),
        ("POST", "/v2/p/train/blobs/uploads/"),
        ("DELETE", "/up/1"),
    ]


def test_who_is_away_is_waited_for_once() -> None:
    """Each wait is as long as a timeout, times the retries; the repositories may be hundreds."""
    asked: list[int] = []

    class Counted(Registry):
        def credentials(self) -> None:
            asked.append(1)

    with pytest.raises(RegistryError, match="does not answer"):
        Counted("127.0.0.1:1").preflight([f"p/{number}" for number in range(40)])
    assert len(asked) == 1


def test_a_preflight_of_nothing_asks_nobody() -> None:
    assert Registry("127.0.0.1:1").preflight([]) == []


def test_credentials_go_nowhere_else() -> None:
    class Own(Registry):
        def credentials(self) -> tuple[str, str]:
            return ("u", "p")

    with talking(lambda _: (204, {}, b"")) as (other, seen):
        location = {"Location": f"http://{other}/up/1"}
        with talking(lambda _: (202, location, b"")) as (host, told):
            assert Own(host).preflight(["p/train"]) == []
            assert told[0].headers["authorization"].startswith("Basic ")
        assert seen == []


def test_ecr_credentials_are_renewed_once_when_refused() -> None:
    """The header is the new token's in this and in every later request, in every thread."""
    tokens = iter(["one", "two"])

    class Own(Registry):
        token = next(tokens)

        def credentials(self) -> tuple[str, str]:
            return ("AWS", self.token)

        def renew(self, refused: tuple[str, str]) -> tuple[str, str] | None:
            if refused == ("AWS", self.token):
                type(self).token = next(tokens)
            return ("AWS", self.token)

    accepted = "Basic " + base64.b64encode(b"AWS:two").decode()

    def reply(talk: Talk) -> Reply:
        known = talk.headers["authorization"] == accepted
        return (200, {"Docker-Content-Digest": DIGEST}, b"") if known else (403, {}, b"")

    with talking(reply) as (host, told):
        registry = Own(host)
        assert registry.digest("a", "k") == DIGEST
        assert len(told) == 2
        registry.digests([("a", str(number)) for number in range(50)])
        assert len(told) == 52


def test_what_a_registry_goes_on_refusing_is_asked_twice_at_most() -> None:
    class Own(Registry):
        def credentials(self) -> tuple[str, str]:
            return ("AWS", "one")

        def renew(self, refused: tuple[str, str]) -> tuple[str, str] | None:
            return ("AWS", "two")

    with talking(lambda _: (403, {}, b"{}")) as (host, told):
        with pytest.raises(CredentialsError, match="HTTP 403"):
            Own(host).digest("a", "k")
        assert len(told) == 2


IMMUTABLE = {
    "ecr": (400, "TAG_INVALID", "The image tag 'release-1' already exists in the 'a' repository"),
    "harbor": (412, "PRECONDITION", "configured as immutable"),
    "other": (409, "CONFLICT", ""),
}


@pytest.mark.parametrize("kind", sorted(IMMUTABLE))
@pytest.mark.parametrize("taken", ["same", "other", None])
def test_a_tag_that_is_immutable(kind: str, taken: str | None) -> None:
    status, code, message = IMMUTABLE[kind]
    there = {"same": DIGEST, "other": "sha256:" + "0" * 64, None: None}[taken]
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()

    def reply(talk: Talk) -> Reply:
        if talk.method == "PUT":
            return status, {}, body
        if talk.method == "GET":
            return 200, {"Content-Type": "application/x"}, MANIFEST
        return (200, {"Docker-Content-Digest": there}, b"") if there else (404, {}, b"")

    with talking(reply) as (host, told):
        if there is None:
            with pytest.raises(PushError, match=code):
                Registry(host).tag("a", DIGEST, "release-1")
        else:
            assert Registry(host).tag("a", DIGEST, "release-1") == there
    put = next(talk for talk in told if talk.method == "PUT")
    assert put.headers["content-type"] == "application/x"


def test_a_tag_that_we_may_not_give() -> None:
    def reply(talk: Talk) -> Reply:
        return (403, {}, b"{}") if talk.method == "PUT" else (200, {}, MANIFEST)

    with talking(reply) as (host, _), pytest.raises(CredentialsError, match="a:release-1"):
        Registry(host).tag("a", DIGEST, "release-1")


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (("linux", "amd64", ""), "linux/amd64"),
        (("linux", "x86_64", ""), "linux/amd64"),
        (("linux", "amd64", "v1"), "linux/amd64"),
        (("linux", "amd64", "v3"), "linux/amd64/v3"),
        (("linux", "arm64", "v8"), "linux/arm64"),
        (("Linux", "AARCH64", ""), "linux/arm64"),
        (("linux", "arm", ""), "linux/arm/v7"),
        (("linux", "arm", "6"), "linux/arm/v6"),
        (("linux", "armhf", ""), "linux/arm/v7"),
        (("linux", "armel", ""), "linux/arm/v6"),
        (("windows", "amd64", ""), "windows/amd64"),
        (("", "", ""), ""),
    ],
)
def test_a_platform_has_one_spelling(given: tuple[str, str, str], name: str) -> None:
    assert normalised(Platform(*given)) == name


def test_an_artefact_has_a_digest_but_no_platform(server, answers) -> None:
    answers["/v2/a/manifests/tag"] = (200, MANIFEST)
    answers["/v2/a/blobs/sha256:" + "c" * 64] = (200, b"\x00")
    assert [image.digest for image in server.images("a", "tag").values()] == [DIGEST]
