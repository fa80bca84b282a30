"""Who we are to Kubeflow: through the real `kfp.Client`, against fake servers on loopback."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ci_tools import config
from ci_tools.errors import ConfigError, CredentialsError
from ci_tools.kubeflow import api, auth
from ci_tools.kubeflow.server import KubeflowServer
from tests.fakes.connected import (
    HEALTH,
    HTML,
    Recorder,
    connected,
    declared,
    login,
    refused,
    uploaded,
)
from tests.fakes.dex import FakeDex
from tests.fakes.kubeflow import FakeKubeflow, serve

COOKIE = "AWSELBAuthSessionCookie-0=first/part+==; AWSELBAuthSessionCookie-1=second.part"


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever this machine or pod would give by itself."""
    monkeypatch.delenv(auth.TOKEN_ENV, raising=False)
    monkeypatch.setattr(auth, "SERVICE_ACCOUNT", tmp_path / "no-pod" / "token")


@pytest.fixture
def fake() -> Iterator[FakeKubeflow]:
    with serve(FakeKubeflow()) as served:
        yield served


class Cookies:
    """A gate in front of Kubeflow: an ALB that knows these texts of a Cookie header."""

    def __init__(self, *known: str, deny: bool = False) -> None:
        self.known, self.deny = set(known), deny

    def __call__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
        if headers.get("cookie") in self.known:
            return None
        if self.deny:
            return 401, HTML, b"<html><h1>401 Authorization Required</h1></html>"
        place = "https://ml.auth.eu-west-1.amazoncognito.com/oauth2/authorize?client_id=x&state=y"
        return 302, {"Location": place, **HTML}, b"<html><h1>302 Found</h1></html>"


def waited(fake: FakeKubeflow, folder: Path, meanwhile: Callable[[], None], **keywords: Any) -> Any:
    """A run that goes on until `meanwhile`, which is called when it is being waited for."""
    kubeflow = KubeflowServer(declared(fake, **keywords), poll=(0.01, 0.05), patience=5)
    upload = uploaded(kubeflow, folder)
    fake.states = ["RUNNING"]

    def act() -> None:
        while not any(f"GET {HEALTH[:-7]}runs/" in it for it in list(fake.requests)):
            time.sleep(0.005)
        meanwhile()
        for run in fake.runs.values():
            run["states"] = ["SUCCEEDED"]

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    try:
        log = folder / "run.log"
        return kubeflow.launch("demo", upload, parameters={}, job_name="j", timeout=60, log=log)
    finally:
        thread.join()


# a token ----------------------------------------------------------------------------


def test_a_token_of_a_variable(fake: FakeKubeflow, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.token = "a.bearer.token"
    monkeypatch.setenv("KFP_TOKEN", "a.bearer.token\n")
    assert connected(fake)
    monkeypatch.setenv("DEV_TOKEN", "a.bearer.token")
    assert connected(fake, token_env="DEV_TOKEN")
    monkeypatch.setenv("DEV_TOKEN", "another.token")
    said = refused(fake, token_env="DEV_TOKEN", namespace="team")
    assert "the bearer token in $DEV_TOKEN has expired or is wrong" in said
    assert "Set the environment variable DEV_TOKEN to a valid token for namespace 'team'" in said


def test_no_credentials_are_needed_where_nobody_asks(fake: FakeKubeflow) -> None:
    fake.gate = recorder = Recorder()
    assert connected(fake)
    assert not any({"authorization", "cookie"} & set(it) for it in recorder.headers)


def test_nothing_was_given(fake: FakeKubeflow) -> None:
    fake.token = "a.bearer.token"
    said = refused(fake)
    assert "no credentials were given ($KFP_TOKEN is not set)" in said
    assert "token_file, cookies_env or dex" in said


def test_a_token_file_is_read_again_when_it_is_refused(fake: FakeKubeflow, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first.token\n")
    fake.token = "first.token"
    connection = connected(fake, token_file=str(file))
    fake.token = "second.token"
    file.write_text("second.token\n")
    fake.requests.clear()
    assert connection.raw("GET", HEALTH).status == 200
    assert len(fake.requests) == 2
    assert connection.raw("GET", HEALTH).status == 200
    assert len(fake.requests) == 3


def test_a_refused_request_is_made_once(fake: FakeKubeflow, tmp_path: Path) -> None:
    """A run is created with the renewed token, and only one."""
    file = tmp_path / "token"
    file.write_text("first.token")
    fake.token = "first.token"
    kubeflow = KubeflowServer(declared(fake, token_file=str(file)), poll=(0.01, 0.05), patience=5)
    upload = uploaded(kubeflow, tmp_path)
    fake.token = "second.token"
    file.write_text("second.token")
    kubeflow.launch(
        "demo", upload, parameters={}, job_name="j", timeout=60, log=tmp_path / "run.log"
    )
    assert len(fake.runs) == 1


def test_the_same_token_is_not_tried_twice(fake: FakeKubeflow, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("old.token")
    fake.token = "new.token"
    said = refused(fake, token_file=str(file))
    assert f"the bearer token in the file {file} has expired" in said
    assert fake.requests == [f"GET {HEALTH}"]


@pytest.mark.parametrize("content", [None, b"", b"\n", b"two\nlines", b"\xff\xfe\x00", b"\xc3\xa4"])
@pytest.mark.parametrize("key", ["token_file", "cookies_file"])
def test_a_file_without_a_secret(
    fake: FakeKubeflow, tmp_path: Path, key: str, content: bytes | None
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    assert str(file) in refused(fake, **{key: str(file)})
    assert fake.requests == []


def test_a_file_that_a_variable_names(
    fake: FakeKubeflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.token = "a.bearer.token"
    (tmp_path / "token").write_text("a.bearer.token")
    monkeypatch.setenv("SECRETS", str(tmp_path))
    assert connected(fake, token_file="${SECRETS}/token")
    with pytest.raises(ConfigError, match=r"\$ELSEWHERE, which is not set"):
        connected(fake, token_file="$ELSEWHERE/token")
    with pytest.raises(ConfigError, match="home directory"):
        connected(fake, token_file="~nobody-of-that-name/token")


def test_in_a_pod_the_service_account_s_token_is_used_unless_another_is_declared(
    fake: FakeKubeflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "projected"
    file.write_text("of.the.pod")
    monkeypatch.setattr(auth, "SERVICE_ACCOUNT", file)
    fake.token = "of.the.pod"
    connection = connected(fake)
    fake.token = "rotated.by.the.kubelet"
    file.write_text("rotated.by.the.kubelet")
    assert connection.raw("GET", HEALTH).status == 200
    assert "($OTHER is not set)" in refused(fake, token_env="OTHER")
    monkeypatch.setenv("KFP_TOKEN", "given")
    assert "the bearer token in $KFP_TOKEN" in refused(fake)
    monkeypatch.delenv("KFP_TOKEN")
    file.write_text("of.another.audience")
    assert "audience pipelines.kubeflow.org" in refused(fake)


# cookies ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", [COOKIE, "authservice_session=MTY5|abc==", 'oauth2_proxy_kubeflow="quoted"; a=']
)
def test_cookies_are_sent_as_they_are(
    fake: FakeKubeflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    fake.gate = Cookies(text)
    monkeypatch.setenv("KFP_COOKIES", text)
    assert connected(fake, cookies_env="KFP_COOKIES").raw("GET", HEALTH).status == 200
    (tmp_path / "cookies").write_text(f"{text}\n")
    assert connected(fake, cookies_file=str(tmp_path / "cookies"))


def test_an_expired_cookie_is_named(fake: FakeKubeflow, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.gate = Cookies("another=session")
    monkeypatch.setenv("KFP_COOKIES", COOKIE)
    said = refused(fake, cookies_env="KFP_COOKIES")
    assert (
        "shows a login page (https://ml.auth.eu-west-1.amazoncognito.com/oauth2/authorize)" in said
    )
    assert "the session cookie in $KFP_COOKIES has expired or is wrong" in said
    assert "copy the text of its Cookie header anew into the environment variable" in said
    assert "state=y" not in said
    fake.gate = Cookies("another=session", deny=True)
    assert "status 401" in refused(fake, cookies_env="KFP_COOKIES")


@pytest.mark.parametrize(
    "text", ["", "just-a-value", "Cookie: a=b", "a=b\r\nX-Evil: 1", "a=ä", "=b"]
)
def test_what_is_no_cookie_is_not_sent(
    fake: FakeKubeflow, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("KFP_COOKIES", text)
    assert "$KFP_COOKIES" in refused(fake, cookies_env="KFP_COOKIES")
    assert fake.requests == []


def test_a_cookie_that_expires_while_we_wait(fake: FakeKubeflow, tmp_path: Path) -> None:
    """Somebody puts a new one into the file, and the run is waited for to its end."""
    file = tmp_path / "cookies"
    file.write_text("session=the-first-one")
    fake.gate = gate = Cookies("session=the-first-one")

    def expire() -> None:
        file.write_text("session=the-second-one")
        gate.known = {"session=the-second-one"}

    run = waited(fake, tmp_path, expire, cookies_file=str(file))
    assert run.state == "SUCCEEDED"
    assert len(fake.runs) == 1


def test_a_cookie_that_expires_for_good(
    fake: FakeKubeflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KFP_COOKIES", COOKIE)
    fake.gate = gate = Cookies(COOKIE)
    with pytest.raises(CredentialsError, match=r"in \$KFP_COOKIES .* may still go on"):
        waited(fake, tmp_path, gate.known.clear, cookies_env="KFP_COOKIES")


# Dex ------------------------------------------------------------------------------------


@pytest.fixture
def dex(fake: FakeKubeflow, monkeypatch: pytest.MonkeyPatch) -> FakeDex:
    fake.gate = made = FakeDex()
    monkeypatch.setenv("DEX_USER", made.user)
    monkeypatch.setenv("DEX_PASSWORD", made.password)
    return made


def test_the_fake_dex_says_that_it_is_one(fake: FakeKubeflow, dex: FakeDex) -> None:
    with urllib.request.urlopen(f"{fake.endpoint}/") as answer:
        assert b"A fake" in answer.read()


@pytest.mark.parametrize("button", [False, True])
@pytest.mark.parametrize("connectors", [("local",), ("ldap", "local", "github")])
@pytest.mark.parametrize("approval", [False, True])
def test_a_login_at_dex(
    fake: FakeKubeflow, dex: FakeDex, button: bool, connectors: tuple[str, ...], approval: bool
) -> None:
    dex.button, dex.connectors, dex.approval = button, connectors, approval
    connection = connected(fake, **login())
    assert connection.raw("GET", HEALTH).status == 200
    assert dex.logins == 1
    assert dex.passwords == [dex.password]


@pytest.mark.parametrize("button", [False, True])
def test_a_session_that_expires_while_we_wait(
    fake: FakeKubeflow, dex: FakeDex, tmp_path: Path, button: bool
) -> None:
    dex.button = button
    run = waited(fake, tmp_path, dex.sessions.clear, **login())
    assert (run.state, dex.logins, len(fake.runs)) == ("SUCCEEDED", 2, 1)


def test_many_threads_log_in_once(fake: FakeKubeflow, dex: FakeDex) -> None:
    connection = connected(fake, **login())
    for expected in (2, 3):
        dex.sessions.clear()
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: connection.raw("GET", HEALTH).status, range(40)))
        assert answers == [200] * 40
        assert dex.logins == expected


def test_a_wrong_password(
    fake: FakeKubeflow, dex: FakeDex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEX_PASSWORD", "a wrong password")
    said = refused(fake, **login())
    assert "does not know this user and password" in said
    assert "DEX_USER and DEX_PASSWORD" in said
    assert "wrong password" not in said
    assert dex.passwords == ["a wrong password"], "a second one may lock the account"


def test_a_user_who_is_not_given(
    fake: FakeKubeflow, dex: FakeDex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DEX_PASSWORD")
    assert "DEX_PASSWORD is not set" in refused(fake, **login())


def test_another_connector(fake: FakeKubeflow, dex: FakeDex) -> None:
    dex.connectors = ("ldap", "github")
    said = refused(fake, **login())
    assert "shows no login form" in said
    assert "its connector" in said
    assert dex.passwords == []


def test_a_session_that_is_refused_at_once(fake: FakeKubeflow, dex: FakeDex) -> None:
    dex.refuse_all = True
    assert "$DEX_USER is refused right after its login" in refused(fake, **login())
    assert dex.logins == 2


def test_cookies_for_https_only(fake: FakeKubeflow, dex: FakeDex) -> None:
    """As with a port-forward to a Kubeflow that is meant for https."""
    dex.secure = True
    assert "cookies that only https may carry" in refused(fake, **login())


def test_a_login_that_is_away(fake: FakeKubeflow, dex: FakeDex) -> None:
    fake.gate = lambda *_: (503, HTML, b"<html>no healthy upstream</html>")
    with pytest.raises(api.Away, match="503"):
        connected(fake, **login())
    assert dex.passwords == []


def test_a_login_that_leads_nowhere(fake: FakeKubeflow, dex: FakeDex) -> None:
    for page in (
        (302, {"Location": "/again"}, b""),
        (200, HTML, b"<form method=get action=/again><input type=hidden name=a></form>"),
        (200, HTML, b"<a href=/dex/auth/local>"),
        (200, HTML, b"\xff\x00<<<form"),
        (302, {"Location": "http://["}, b""),
    ):
        fake.gate = lambda *_, page=page: page
        assert "login" in refused(fake, **login())
    assert dex.passwords == []


def test_a_password_goes_nowhere_but_to_kubeflow_and_its_dex(
    fake: FakeKubeflow, dex: FakeDex
) -> None:
    with serve(FakeKubeflow(gate=dex)) as elsewhere:
        dex.dex = elsewhere.endpoint
        said = refused(fake, **login())
        assert f"leads to {elsewhere.endpoint}/dex/auth, which ci.yaml does not name" in said
        assert (dex.passwords, elsewhere.requests) == ([], [])
        assert connected(fake, **login(address=elsewhere.endpoint))
        fake.gate = lambda *_: (
            200,
            HTML,
            b'<form method=post action="https://evil.example/"><input type=password name=p></form>',
        )
        assert "leads to https://evil.example/" in refused(fake, **login())


def test_a_password_that_comes_back_in_an_address(fake: FakeKubeflow, dex: FakeDex) -> None:
    form = b'<form method=post action="/taken"><input type=password name=p></form>'

    def gate(method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
        if method == "POST":
            return 302, {"Location": f"https://evil.example/{quote(dex.password)}"}, b""
        return 200, HTML, form

    fake.gate = gate
    said = refused(fake, **login())
    assert "leads to https://evil.example/***" in said


@given(st.text(min_size=1))
@example("a.token\r\nX-Evil: 1")
@example("Bearer a.token")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_token_is_sent_whole_or_refused(text: str) -> None:
    made = auth.bearer(lambda: text, what="the token", remedy="Mend it")
    token = text.strip()
    if token and all(0x21 <= ord(it) <= 0x7E for it in token):
        assert made.headers() == {"authorization": f"Bearer {token}"}
        return
    with pytest.raises(CredentialsError) as caught:
        made.headers()
    assert len(token) < 8 or token not in str(caught.value)


# what the settings may say ------------------------------------------------------------------

WAYS: dict[str, Any] = {
    "token_env": "A_TOKEN",
    "token_file": "token",
    "cookies_env": "COOKIES",
    "cookies_file": "cookies",
    "dex": {"user_env": "A", "password_env": "B"},
}


def loaded(folder: Path, **kubeflow: Any) -> config.KubeflowServer | None:
    (folder / "ci.yaml").write_text(json.dumps({"environments": {"dev": {"kubeflow": kubeflow}}}))
    return config.load(folder).environments["dev"].kubeflow


@pytest.mark.parametrize("two", [*combinations(WAYS, 2)], ids=" and ".join)
def test_two_ways_contradict_each_other(tmp_path: Path, two: tuple[str, str]) -> None:
    one = {"endpoint": "https://kubeflow.example"}
    for way in two:
        assert loaded(tmp_path, **one, **{way: WAYS[way]})
    with pytest.raises(ConfigError, match=f"{two[0]} and {two[1]} contradict each other"):
        loaded(tmp_path, **one, **{way: WAYS[way] for way in two})


@pytest.mark.parametrize(
    ("kubeflow", "said"),
    [
        ({"endpoint": "kubeflow.example"}, "https://HOST"),
        ({"endpoint": "https://"}, "https://HOST"),
        ({"endpoint": "https://host:port"}, "https://HOST"),
        ({"endpoint": "https://a b"}, "https://HOST"),
        ({"endpoint": "ftp://host"}, "https://HOST"),
        ({"endpoint": "https://me:hunter22@host"}, "declare where they are"),
        ({"endpoint": "https://host/#/runs"}, "leave out"),
        ({"endpoint": "https://host", "token_env": "eyJhbG.hunter22.x"}, "token_env"),
        ({"endpoint": "https://host", "client_key": "key.pem"}, "needs its client_certificate"),
        ({"endpoint": "https://host", "dex": {"user_env": "A"}}, "password_env"),
        (
            {"endpoint": "https://h", "dex": {**WAYS["dex"], "address": "dex.example"}},
            "dex.address is not the address",
        ),
    ],
)
def test_settings_of_no_use(tmp_path: Path, kubeflow: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, **kubeflow)
    assert said in str(caught.value)
    assert "hunter22" not in str(caught.value)
