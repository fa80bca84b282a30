"""bases.lock: what stays in it, what is said of it, and who is asked for it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from ci.bases import behind
from ci.plan import _age
from ci_tools.components.discovery import discover
from ci_tools.config import Config
from ci_tools.errors import ConfigError, RegistryError
from ci_tools.images import bases
from ci_tools.local import state

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
PYTHON = "python:3.11-slim"


class Server:
    """A registry that holds digests only, and counts what it is asked."""

    def __init__(self) -> None:
        self.held: dict[str, str] = {}
        self.asked: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                digest = server.held.get(self.path)
                self.send_response(200 if digest else 404)
                if digest and self.command == "HEAD":
                    self.send_header("Docker-Content-Digest", digest)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None: ...

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.httpd.server_port}"

    def hold(self, name: str, digest: str) -> str:
        path, _, tag = name.partition(":")
        self.held[f"/v2/{path}/manifests/{tag}"] = digest
        return f"{self.host}/{name}"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    threading.Thread(target=made.httpd.serve_forever, daemon=True).start()
    yield made
    made.httpd.shutdown()
    made.httpd.server_close()


def probed(home: Path, name: str, *, reachable: bool, ago: float = 0) -> None:
    probe = state.Probe(reachable=reachable, asked=time.time() - ago)
    state.save(home, state.State(probes={name: probe}))


def test_no_file_locks_nothing(tmp_path: Path) -> None:
    assert bases.locked(tmp_path) == {}


@pytest.mark.parametrize(
    "text", ["a: latest\n", f"a: {A}0\n", "- a\n", f"a: {A}\na: {B}\n", "a: !!python/name:x\n"]
)
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / bases.FILE).write_text(text)
    with pytest.raises(ConfigError, match=bases.FILE):
        bases.locked(tmp_path)


def test_what_is_written_is_sorted_yaml_with_a_header(tmp_path: Path) -> None:
    hostile = "x:1 # 'a': {b"
    locked = {"python:3.11": B, "debian:12": A, hostile: C, "y" * 300: A}
    assert bases.write(tmp_path, locked)
    text = (tmp_path / bases.FILE).read_text()
    assert text.startswith("#")
    assert "python -m ci bases refresh" in text
    assert list(yaml.safe_load(text)) == sorted(locked)
    assert bases.locked(tmp_path) == locked
    assert not bases.write(tmp_path, locked)


def test_a_repository_without_bases_gets_no_file(tmp_path: Path) -> None:
    assert not bases.write(tmp_path, {})
    assert not list(tmp_path.iterdir())


def test_comments_stay_with_their_entry_and_go_with_it() -> None:
    before = bases.render({"a:1": A, "b:1": A, "c:1": A}).replace(
        f"b:1: {A}", f"\n# why b\nb:1: {A}  # beside b\n# why c"
    )
    before += "# at the end\n"
    after = bases.render({"b:1": B, "d:1": C}, before)
    assert after.splitlines() == [
        *bases.HEADER,
        "# why b",
        f"b:1: {B}  # beside b",
        f"d:1: {C}",
        "# at the end",
    ]
    assert bases.render({"b:1": B, "d:1": C}, after) == after


def test_a_refresh_tells_moved_new_and_dropped() -> None:
    result = bases.refresh({"a": A, "b": B, "old": C}, {"a": A, "b": C, "n": A}, ["a", "b", "n"])
    assert result.locked == {"a": A, "b": C, "n": A}
    assert result.moved == {"b": bases.Move(before=B, after=C)}
    assert (result.new, result.dropped) == ({"n": A}, {"old": C})


def test_an_unknown_reference_names_the_nearest() -> None:
    assert bases.chosen([], ["a:1", "b:1"]) == ["a:1", "b:1"]
    assert bases.chosen(["b:1", "b:1"], ["a:1", "b:1"]) == ["b:1"]
    with pytest.raises(ConfigError) as raised:
        bases.chosen(["python:3.11-slm"], ["debian:12", PYTHON])
    assert f"Did you mean '{PYTHON}'" in str(raised.value)


def test_a_reference_by_digest_needs_no_lock() -> None:
    by_digest = f"python@{A}"
    assert bases.lockable([PYTHON, by_digest, "a:1"]) == ["a:1", PYTHON]
    assert bases.known([by_digest, PYTHON], {PYTHON: B}, None) == {
        by_digest: f"docker.io/library/python@{A}",
        PYTHON: f"docker.io/library/python@{B}",
    }


def test_stand_ins_come_first_until_a_public_registry_answers(tmp_path: Path) -> None:
    stand_in = f"127.0.0.1:1/bases/python@{C}"
    base = {"image": stand_in, "made_from": "x", "created": "y"}
    (tmp_path / "bases.json").write_text(json.dumps({"schema": 1, "bases": {PYTHON: base}}))
    assert bases.known([PYTHON], {PYTHON: A}, tmp_path) == {PYTHON: stand_in}
    assert bases.known([PYTHON], {PYTHON: A}, None)[PYTHON].endswith(A)
    probed(tmp_path, "public", reachable=False)
    assert bases.known([PYTHON], {PYTHON: A}, tmp_path) == {PYTHON: stand_in}
    probed(tmp_path, "public", reachable=True)
    assert bases.known([PYTHON], {PYTHON: A}, tmp_path)[PYTHON].endswith(A)


def test_resolving_asks_each_registry(server: Server) -> None:
    one, two = server.hold("team/one:1", A), server.hold("two:2", B)
    assert bases.resolve([one, two]) == {one: A, two: B}


def test_what_cannot_be_resolved_is_named(server: Server) -> None:
    there = server.hold("one:1", A)
    for reference in (f"{server.host}/none:1", "127.0.0.1:1/away:1", server.hold("x:1", "md5:1")):
        with pytest.raises(RegistryError, match=reference):
            bases.resolve([there, reference])


def test_only_what_moved_is_observed(server: Server, tmp_path: Path) -> None:
    same, gone = server.hold("same:1", A), f"{server.host}/gone:1"
    moved = server.hold("moved:1", B)
    observed = bases.observe({same: A, moved: A, gone: A}, tmp_path)
    assert observed == ([(moved, B, None), (gone, None, None)], [])
    assert not (tmp_path / "local.json").exists()


def test_a_registry_that_is_away_is_one_sentence_an_hour(tmp_path: Path) -> None:
    locked = {"127.0.0.1:1/a:1": A, "127.0.0.1:1/b:1": A}
    observed = bases.observe(locked, tmp_path)
    assert observed.drifts == []
    assert len(observed.problems) == 1
    assert "127.0.0.1:1" in observed.problems[0]
    assert bases.observe(locked, tmp_path) == ([], [])
    probed(tmp_path, "registry 127.0.0.1:1", reachable=False, ago=3700)
    assert len(bases.observe(locked, tmp_path).problems) == 1


def test_who_did_not_answer_is_not_asked(server: Server, tmp_path: Path) -> None:
    moved = server.hold("moved:1", B)
    probed(tmp_path, f"registry {server.host}", reachable=False)
    assert bases.observe({moved: A}, tmp_path) == ([], [])
    assert server.asked == []
    probed(tmp_path, f"registry {server.host}", reachable=False, ago=3700)
    assert bases.observe({moved: A}, tmp_path).drifts


def test_docker_hub_is_not_asked_where_no_public_registry_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed(tmp_path, "public", reachable=False)
    monkeypatch.setattr(bases.registry, "of", lambda *_: pytest.fail("asked"))
    assert bases.observe({PYTHON: A}, tmp_path) == ([], [])


def test_behind_are_those_that_are_built_on_it_too(repository) -> None:
    repository.write("base/Dockerfile", f"FROM {PYTHON}\n")
    repository.write("child/Dockerfile", "FROM base\n")
    repository.write("grandchild/Dockerfile", "FROM child\n")
    repository.write("other/Dockerfile", "FROM debian:12\n")
    components = discover(repository.root, Config(), "p")
    assert behind(components, ["base"]) == {"base", "child", "grandchild"}
    assert behind(components, ["other"]) == {"other"}


def test_an_epoch_is_no_age() -> None:
    from datetime import datetime, timedelta, timezone

    now = datetime.now(timezone.utc)
    assert "3 days ago" in _age(now - timedelta(days=3, hours=1))
    assert "today" in _age(now + timedelta(hours=1))  # clocks differ
    assert _age(datetime(1970, 1, 1, tzinfo=timezone.utc)) == _age(None) == ""
