"""What `--log-level debug` tells, and what it never does."""

from __future__ import annotations

import http.server
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ci import tracing
from ci.console import Console
from ci_tools import process

HIDDEN = "very-secret-words"


class Answers(http.server.BaseHTTPRequestHandler):
    """A fake server that answers 418 with a body, and sends /there elsewhere, for tests."""

    def do_GET(self) -> None:
        body = HIDDEN.encode()
        moved = self.path.startswith("/there")
        self.send_response(302 if moved else 418)
        if moved:
            self.send_header("Location", f"/here?signature={HIDDEN}")
        self.send_header("X-Answer", HIDDEN)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as one:
        threading.Thread(target=one.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{one.server_address[1]}"
        one.shutdown()


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(process, "_stopping", False)
    loggers = [logging.getLogger(name) for name in (process.LOGGER, "urllib3.connectionpool")]
    before = [(one.level, list(one.handlers)) for one in loggers]
    yield
    for one, (level, handlers) in zip(loggers, before, strict=True):
        one.setLevel(level)
        one.handlers[:] = handlers


def test_a_request_by_method_place_status_and_time(
    server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import requests

    tracing.begin(Console())
    url = server.replace("//", f"//user:{HIDDEN}@")
    requests.get(f"{url}/there?token={HIDDEN}", headers={"X-Key": HIDDEN}, timeout=10)
    told = capsys.readouterr().err
    place = server.rpartition("/")[2]
    for path, status in (("there", 302), ("here", 418)):
        (line,) = [line for line in told.splitlines() if f"/{path} " in line]
        assert f"debug: GET http://{place}/{path} {status} " in line
        assert line.endswith(" ms")
    assert HIDDEN not in told
    assert told.count("debug:") == 2  # nothing else that urllib3 says


def test_aws_is_asked_through_the_same(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    import boto3
    import botocore.config
    from botocore.parsers import ResponseParserError

    tracing.begin(Console())
    client = boto3.client(
        "sts", endpoint_url=server, region_name="eu-west-1", aws_access_key_id=HIDDEN,
        aws_secret_access_key=HIDDEN,
        config=botocore.config.Config(retries={"total_max_attempts": 1}),
    )  # fmt: skip
    with pytest.raises(ResponseParserError):  # this server speaks no XML
        client.get_caller_identity()
    (line,) = capsys.readouterr().err.splitlines()
    assert f"debug: POST {server}/ 501 " in line
    assert HIDDEN not in line


def test_a_program_with_its_end(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    tracing.begin(Console())
    command = ["sh", "-c", "exit 3", "--token", HIDDEN, f"https://u:{HIDDEN}@host/x", "in-words"]
    process.run(command, secrets=iter(["in-words"]))
    first, last = capsys.readouterr().err.splitlines()
    assert "sh -c 'exit 3' --token '***' 'https://***@host/x' '***'" in first
    assert "ended with 3 after" in last
    process.run(["sleep", "60"], timeout=0.05)
    assert "was stopped after" in capsys.readouterr().err
    with process.beside(["sleep", "60"], log=tmp_path / "log"):
        assert "sleep 60" in capsys.readouterr().err
    assert "ended with -15" in capsys.readouterr().err


def test_begun_twice_it_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    tracing.begin(Console())
    tracing.begin(Console())
    process.run(["true"])
    assert capsys.readouterr().err.count(": true") == 1


def test_otherwise_nothing_is_told(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    import requests

    requests.get(f"{server}/x", timeout=10)
    process.run(["true"])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["docker", "build", "--build-arg=NPM_TOKEN=abc", "--build-arg", "PASSWORD=x y"],
         "docker build '--build-arg=NPM_TOKEN=***' --build-arg 'PASSWORD=***'"),
        (["x", "--secret=id=npm_token,src=/f", "--password=", "--api-key=a", "--private_key=b"],
         "x --secret=id=npm_token,src=/f --password= '--api-key=***' '--private_key=***'"),
        (["x", "--password-stdin", "-u", "me"], "x --password-stdin -u me"),
        (["x", "--passphrase", "a", "b"], "x --passphrase '***' b"),
        (["x", "--AWS_SECRET_ACCESS_KEY=a=b"], "x '--AWS_SECRET_ACCESS_KEY=***'"),
        (["git", "clone", "https://me:pw@host/r.git"], "git clone 'https://***@host/r.git'"),
        (["x", "a\nb", "\udcff"], r"x 'a\nb' '\udcff'"),
        (["x", "tokens.txt", "secretary"], "x tokens.txt secretary"),
    ],
)  # fmt: skip
def test_a_command_without_its_secrets(arguments: list[str], shown: str) -> None:
    assert process.shown(arguments) == shown


def test_on_the_command_line(repository: Any) -> None:
    repository.write("ci.yaml", "project: ml\n")
    repository.commit()
    done = subprocess.run(
        [sys.executable, "-m", "ci", "plan", "--dry-run", "--log-level", "debug", "--json",
         "--repo", str(repository.root)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert "debug: program 1: git -C" in done.stderr
    assert done.stdout.startswith("{")
