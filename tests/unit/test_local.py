"""The embedded environment without its servers: state, ports, identity, rendering."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from ci_tools.errors import CIError, LocalEnvironmentError, WriteError
from ci_tools.local import (
    Endpoints,
    aws,
    bases,
    daemon,
    debian,
    down,
    ensure_load_balancer,
    environment,
    home_directory,
    registry,
    stand_in,
    state,
    status,
    up,
)
from tests.fakes import ports

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]


@contextlib.contextmanager
def serving(headers: dict[str, str], body: bytes = b"{}") -> Iterator[int]:
    """A small HTTP server on loopback; its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


class TestState:
    def test_home_is_configured(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("KFP_CI_HOME", str(tmp_path / "x"))
        assert home_directory() == tmp_path / "x"
        monkeypatch.delenv("KFP_CI_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert home_directory() == tmp_path / ".local/share/kfp-ci"

    def test_round_trip(self, tmp_path: Path) -> None:
        written = state.State(
            parts={
                "registry": state.Part(port=1, process=state.Process(pid=2, identity="3@b")),
                "aws": state.Part(port=4, container="c"),
            },
            probes={"public": state.Probe(reachable=False, asked=5.5)},
        )
        state.save(tmp_path, written)
        assert state.load(tmp_path) == written

    def test_none_is_empty(self, tmp_path: Path) -> None:
        assert state.load(tmp_path) == state.State()

    @pytest.mark.parametrize("content", [b"", b"{", b'{"schema": 99}', b'{"schema":1,"parts":3}'])
    def test_damage_says_what_to_do(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "local.json").write_bytes(content)
        with pytest.raises(LocalEnvironmentError, match=r"Delete .*local\.json"):
            status(tmp_path)

    def test_names_differ_by_directory_only(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "a")
        assert state.name(tmp_path / "a") == state.name(tmp_path / "link")
        assert state.name(tmp_path / "a") != state.name(tmp_path / "b")

    def test_lock_excludes(self, tmp_path: Path) -> None:
        counter = tmp_path / "counter"
        counter.write_text("0")

        def add(_: int) -> None:
            with state.locked(tmp_path):
                counter.write_text(str(int(counter.read_text()) + 1))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(add, range(40)))
        assert counter.read_text() == "40"

    def test_lock_gives_up_with_advice(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(state, "_LOCK_SECONDS", 0.0)
        with (
            state.locked(tmp_path),
            pytest.raises(LocalEnvironmentError, match="another session"),
            state.locked(tmp_path),
        ):
            pass

    def test_unwritable_home(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(WriteError, match="KFP_CI_HOME"), state.locked(tmp_path / "file" / "x"):
            pass


class TestPorts:
    def test_preferred_when_free(self) -> None:
        port = ports.reserved()
        assert daemon.choose_port(port) == port

    @pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
    def test_another_when_taken(self, address: str) -> None:
        with socket.socket() as taken:
            taken.bind((address, 0))
            taken.listen()
            port = taken.getsockname()[1]
            assert daemon.choose_port(port) != port


class TestProbe:
    def test_nobody(self) -> None:
        port = ports.reserved()
        assert registry.whose(port, "me") is None
        assert stand_in.whose(port, "me") is None

    def test_registry_by_its_header(self) -> None:
        with serving({"X-Kfp-Ci-Environment": "me"}) as port:
            assert registry.whose(port, "me") == "ours"
            assert registry.whose(port, "you") == "foreign"

    @pytest.mark.parametrize(
        ("body", "whose"),
        [
            (b'{"edition": "me"}', "ours"),
            (b'{"edition": "light"}', "foreign"),
            (b"[]", "foreign"),
            (b"<html>", "foreign"),
            (b"\xff", "foreign"),
        ],
    )
    def test_stand_in_by_its_health(self, body: bytes, whose: str) -> None:
        with serving({}, body) as port:
            assert stand_in.whose(port, "me") == whose

    def test_what_does_not_speak_http_is_foreign(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:

            def answer() -> None:
                connection, _ = server.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"220 mail\r\n")

            thread = threading.Thread(target=answer)
            thread.start()
            assert registry.whose(server.getsockname()[1], "me") == "foreign"
            thread.join()


class TestProcess:
    def test_outlives_alone_and_is_stopped(self, tmp_path: Path) -> None:
        log = tmp_path / "logs" / "x.log"
        started = daemon.start(SLEEP, home=tmp_path, log=log, env={"PYTHONUNBUFFERED": "1"})
        try:
            assert daemon.running(started)
            assert os.getsid(started.pid) == started.pid != os.getsid(0)
            assert daemon.stop(started)
            assert not daemon.running(started)
            assert not daemon.stop(started)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(started.pid, 9)

    def test_a_reused_pid_is_left_alone(self, tmp_path: Path) -> None:
        stranger = subprocess.Popen(SLEEP, stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            recorded = state.Process(pid=stranger.pid, identity="1@another-boot")
            assert not daemon.running(recorded)
            assert not daemon.stop(recorded)
            assert stranger.poll() is None
        finally:
            stranger.kill()
            stranger.wait()

    def test_an_unknown_identity_is_never_running(self) -> None:
        assert not daemon.running(state.Process(pid=os.getpid(), identity=""))
        assert not daemon.running(None)

    def test_identity_is_stable_and_gone_with_the_process(self) -> None:
        child = subprocess.Popen(SLEEP, stdout=subprocess.DEVNULL)
        first = daemon.identity(child.pid)
        assert first
        assert daemon.identity(child.pid) == first != daemon.identity(os.getpid())
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, but not reaped
        assert daemon.identity(child.pid) is None
        child.wait()
        assert daemon.identity(child.pid) is None

    def test_gets_no_credentials(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("AWS_SECRET_ACCESS_KEY", "KFP_TOKEN", "JENKINS_NODE_COOKIE"):
            monkeypatch.setenv(name, "hush")
        log = tmp_path / "x.log"
        program = "import json, os; print(json.dumps(dict(os.environ)))"
        started = daemon.start(
            [sys.executable, "-c", program], home=tmp_path, log=log, env={"OWN": "1"}
        )
        os.waitpid(started.pid, 0)
        seen = json.loads(log.read_text())
        assert "hush" not in seen.values()
        assert seen["OWN"] == "1"

    def test_a_missing_program_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(LocalEnvironmentError, match="cannot be started"):
            daemon.start([tmp_path / "none"], home=tmp_path, log=tmp_path / "x.log")

    def test_last_line(self, tmp_path: Path) -> None:
        log = tmp_path / "x.log"
        assert daemon.last_line(log) == ""
        log.write_bytes(b"a\n" * 9000 + b"the \xff reason\n\n  \n")
        assert daemon.last_line(log) == "the \ufffd reason"


class TestRendering:
    def test_registry_listens_where_told_and_names_its_owner(self) -> None:
        config = yaml.safe_load(
            yaml.safe_dump(
                registry.configuration(address="127.0.0.1:5100", data="/d: #", owner="me")
            )
        )
        assert config["http"]["addr"] == "127.0.0.1:5100"
        assert config["http"]["headers"]["X-Kfp-Ci-Environment"] == ["me"]
        assert config["storage"]["filesystem"]["rootdirectory"] == "/d: #"
        assert config["storage"]["delete"]["enabled"] is True

    def test_stand_in_keeps_to_loopback_and_to_its_home(self, tmp_path: Path) -> None:
        env = stand_in.settings(tmp_path, 4567)
        assert env["BIND_HOST"] == "127.0.0.1"
        assert env["SFTP_ENABLED"] == env["IOT_MTLS_ENABLED"] == "0"
        assert env["GATEWAY_PORT"] == "4567"
        for name in ("S3_DATA_DIR", "STATE_DIR", "TMPDIR"):
            assert Path(env[name]).is_relative_to(tmp_path)
        assert (
            env["MINISTACK_HOSTNAME"]
            != stand_in.settings(tmp_path / "b", 4567)["MINISTACK_HOSTNAME"]
        )

    def test_every_package_of_the_stand_in_is_pinned_with_its_hash(self) -> None:
        lines = stand_in._LOCK_FILE.read_text().replace("\\\n", " ").splitlines()
        packages = [line for line in lines if line and not line.lstrip().startswith("#")]
        assert any(line.startswith("ministack==") for line in packages)
        for line in packages:
            assert "==" in line
            assert "--hash=sha256:" in line

    def test_environment_without_services_asks_nobody(self, tmp_path: Path) -> None:
        found = environment(Endpoints("127.0.0.1:5100", "http://127.0.0.1:1", tmp_path), {})
        assert found.registry
        assert found.registry.host == "127.0.0.1:5100"
        assert found.service
        assert found.service.endpoint_url == "http://127.0.0.1:1"
        assert found.service.url
        assert found.service.url.format(service="iris") == "http://127.0.0.1:1/_alb/iris"

    @pytest.mark.parametrize(
        "address", ["https://ecs.us-east-1.amazonaws.com", "http://127.0.0.1.evil.example:80"]
    )
    def test_load_balancers_are_never_made_on_real_aws(self, address: str) -> None:
        with pytest.raises(LocalEnvironmentError, match="not an address on this machine"):
            ensure_load_balancer(address, "iris", 8080, "/")
        with pytest.raises(LocalEnvironmentError, match="not an address on this machine"):
            aws.ensure_cluster(address)


class TestDown:
    def test_of_nothing(self, tmp_path: Path) -> None:
        assert down(tmp_path / "none") == []
        assert not (tmp_path / "none").exists()

    def test_wipe_spares_what_is_not_ours(self, tmp_path: Path) -> None:
        (tmp_path / "thesis").mkdir()
        (tmp_path / "thesis" / "chapter").write_text("1")
        (tmp_path / "registry" / "docker").mkdir(parents=True)
        elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
        elsewhere.mkdir()
        (elsewhere / "keep").write_text("1")
        (tmp_path / "artifacts").symlink_to(elsewhere)
        state.save(tmp_path, state.State())
        down(tmp_path, wipe=True)
        assert (tmp_path / "thesis" / "chapter").read_text() == "1"
        assert (elsewhere / "keep").read_text() == "1"
        assert not (tmp_path / "registry").exists()
        assert not (tmp_path / "artifacts").is_symlink()
        assert not (tmp_path / "local.json").exists()

    @pytest.mark.parametrize("wipe", [False, True])
    def test_where_no_engine_answers_the_rest_is_stopped(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wipe: bool
    ) -> None:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no-engine.sock")
        port = daemon.choose_port(0)
        process = daemon.start(SLEEP, home=tmp_path, log=tmp_path / "log", env={})
        state.save(tmp_path, state.State(parts={"aws": state.Part(port=port, process=process)}))
        told: list[str] = []
        assert down(tmp_path, wipe=wipe, warn=told.append) == ["aws"]
        assert not daemon.running(process)
        assert len(told) == 1
        assert "does not answer" in told[0]
        assert stand_in.label(tmp_path, port) in told[0] if wipe else "local down" in told[0]
        # The containers are found again by the next one, which has an engine.
        told.clear()
        assert down(tmp_path, wipe=wipe, warn=told.append) == []
        assert len(told) == (0 if wipe else 1)

    def test_says_when_a_server_of_ours_cannot_be_stopped(self, tmp_path: Path) -> None:
        with serving({"X-Kfp-Ci-Environment": state.name(tmp_path)}) as port:
            state.save(tmp_path, state.State(parts={"registry": state.Part(port=port)}))
            with pytest.raises(LocalEnvironmentError, match=f"still answers on port {port}"):
                down(tmp_path)


class TestUp:
    def test_a_server_that_ends_at_once_is_told_with_its_own_words(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program = tmp_path / "bin" / "docker-registry"
        program.parent.mkdir()
        program.write_text("#!/bin/sh\necho 'storage: the disk is full' >&2\nexit 1\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
        home = tmp_path / "home"
        port = ports.reserved()
        state.save(home, state.State(parts={"registry": state.Part(port=port)}))
        with pytest.raises(LocalEnvironmentError, match="the disk is full") as caught:
            up(home)
        assert caught.value.log == home / "logs" / "registry.log"
        assert {line.state for line in status(home)} == {"stopped"}
        assert state.load(home).parts["registry"].process is None


class TestBootstrap:
    SCRIPT = Path(__file__).parents[2] / "scripts" / "bootstrap.sh"

    def run(self, home: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(self.SCRIPT), *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "KFP_CI_HOME": str(home), **env},
        )

    def test_an_unknown_option_is_refused(self, tmp_path: Path) -> None:
        done = self.run(tmp_path, "--test")
        assert done.returncode == 13
        assert done.stderr.startswith("bootstrap: unknown option '--test'")

    def test_an_engine_named_by_hand_is_not_replaced(self, tmp_path: Path) -> None:
        address = f"unix://{tmp_path}/none.sock"
        done = self.run(tmp_path, DOCKER_HOST=address)
        assert done.returncode == 13
        assert f"DOCKER_HOST={address} does not answer" in done.stderr
        assert len(done.stderr.splitlines()) == 1

    def test_names_no_host(self) -> None:
        assert "://" not in self.SCRIPT.read_text()


class TestBases:
    @pytest.mark.parametrize(
        ("reference", "expected"),
        [
            ("python:3.11-slim", ("python", "bookworm")),
            ("python:3.11.9-slim-bookworm", ("python", "bookworm")),
            ("docker.io/library/python:3.13-slim", ("python", "trixie")),
            ("python:3-slim", ("python", "bookworm")),
            ("python:slim-trixie", ("python", "trixie")),
            ("debian:bookworm-slim", ("debian", "bookworm")),
            ("debian:13-slim", ("debian", "trixie")),
            ("debian:12.5-slim", ("debian", "bookworm")),
        ],
    )
    def test_has_a_recipe(self, reference: str, expected: tuple[str, str]) -> None:
        how = debian.recipe(reference)
        assert how is not None
        assert (how.kind, how.suite) == expected

    @pytest.mark.parametrize(
        "reference",
        [
            "python:3.11",
            "python:3.11-alpine",
            "python",
            "ubuntu:24.04",
            "quay.io/library/python:3.11-slim",
            f"python:3.11-slim@sha256:{'0' * 64}",
            "debian:bookworm-slim; reboot",
            "python:../slim",
        ],
    )
    def test_has_none(self, reference: str) -> None:
        assert debian.recipe(reference) is None

    @pytest.mark.parametrize(
        "reference",
        [
            "python:3.12-slim",
            "python:3.9-slim-bullseye",
            "python:3.11-slim-trixie",
            "debian:9-slim",
        ],
    )
    def test_another_version_is_refused_never_swapped(self, reference: str) -> None:
        with pytest.raises(LocalEnvironmentError) as caught:
            debian.recipe(reference)
        assert reference in str(caught.value)
        assert "Python 3.11 on bookworm" in str(caught.value)

    def test_recorded(self, tmp_path: Path) -> None:
        assert bases.recorded(tmp_path) == {}
        (tmp_path / "bases.json").write_text(
            '{"schema": 1, "bases": {"python:3.11-slim": {"image": "127.0.0.1:1/b@sha256:00",'
            ' "made_from": "Debian packages", "created": "2026-01-01T00:00:00+00:00"}}}'
        )
        assert bases.recorded(tmp_path) == {"python:3.11-slim": "127.0.0.1:1/b@sha256:00"}
        (tmp_path / "bases.json").write_text("{}")
        with pytest.raises(LocalEnvironmentError):
            bases.recorded(tmp_path)

    def test_an_answering_public_registry_needs_no_stand_in(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []

        def answers(reference: str) -> bool:
            asked.append(reference)
            return True

        monkeypatch.setattr(bases, "_ask_engine", answers)
        assert bases.substitute("python:3.12-slim", "127.0.0.1:1", tmp_path) is None
        assert bases.substitute("debian:12-slim", "127.0.0.1:1", tmp_path) is None
        assert bases.substitute("ubuntu:24.04", "127.0.0.1:1", tmp_path) is None
        assert asked == ["python:3.12-slim"]  # the second answer is remembered

    def test_an_answer_of_yesterday_is_asked_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        state.save(tmp_path, state.State(probes={"public": state.Probe(reachable=True, asked=1.0)}))
        monkeypatch.setattr(bases, "_ask_engine", lambda _: False)
        with pytest.raises(LocalEnvironmentError, match="no public registry answers"):
            bases.substitute("python:3.12-slim", "127.0.0.1:1", tmp_path)

    def test_a_stand_in_the_registry_holds_is_used_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bases, "_ask_engine", lambda _: False)
        digest = "sha256:" + "ab" * 32
        with serving({"Docker-Content-Digest": digest}) as port:
            found = bases.substitute("python:3.11-slim", f"127.0.0.1:{port}", tmp_path)
        assert found is not None
        assert found.image == f"127.0.0.1:{port}/bases/python@{digest}"
        assert "stand-in" in found.note
        assert bases.recorded(tmp_path) == {"python:3.11-slim": found.image}

    def test_recipes_have_tags_of_their_own(self) -> None:
        how = debian.Recipe("python", "bookworm", "3.11")
        assert debian.fingerprint(how) == debian.fingerprint(how)
        assert debian.fingerprint(how) != debian.fingerprint(how._replace(kind="debian"))


def test_start_up_is_light() -> None:
    """Importing the package loads neither boto3 nor the Docker SDK nor requests."""
    program = (
        "import sys, ci_tools.local; "
        "print(sorted({'boto3', 'botocore', 'docker', 'requests', 'kfp'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_errors_are_the_tools_own() -> None:
    assert issubclass(LocalEnvironmentError, CIError)
    assert LocalEnvironmentError.exit_code == 14
