"""What a request to Kubeflow may meet, and what it may tell whom: a fake server on loopback."""

from __future__ import annotations

import json
import logging
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ci_tools import config
from ci_tools.errors import CIError, CredentialsError, KubeflowError
from ci_tools.kubeflow import api, auth, connection, login_dex
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


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever this machine or pod would give by itself."""
    monkeypatch.delenv(auth.TOKEN_ENV, raising=False)
    monkeypatch.setattr(auth, "SERVICE_ACCOUNT", tmp_path / "no-pod" / "token")


@pytest.fixture
def fake() -> Iterator[FakeKubeflow]:
    with serve(FakeKubeflow()) as served:
        yield served


# pages and redirects ----------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_credentials_go_to_no_other_host(
    fake: FakeKubeflow, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("KFP_TOKEN", "a.bearer.token")
    with serve(FakeKubeflow()) as elsewhere:
        there = {"Location": f"{elsewhere.endpoint}/dex/auth?state=s"}
        fake.gate = lambda *_: (status, there, b"")
        assert "login page" in refused(fake)
        one = declared(fake)
        made = connection.Connection(one, auth.chosen(one))
        with pytest.raises(ValueError, match="is not at"):
            made.request("GET", elsewhere.endpoint)
        assert elsewhere.requests == []


def test_a_server_that_has_moved(fake: FakeKubeflow) -> None:
    there = {"Location": f"https://new.example/kubeflow/pipeline{HEALTH}?x=1"}
    fake.gate = lambda *_: (308, there, b"")
    with pytest.raises(
        KubeflowError, match=r"redirects to https://new\.example/kubeflow/pipeline\."
    ):
        connected(fake)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200, HTML, b"<html><FORM action=/login></form>"), "shows a login page"),
        ((200, HTML, b"<html><div id=app></div>"), "add '/pipeline' to 'kubeflow.endpoint'"),
        ((403, HTML, b"<html>Request blocked"), "a page with status 403"),
        ((403, {"kind": "text/plain"}, b"RBAC: access denied"), "403 RBAC: access denied"),
        ((401, {"kind": "text/plain"}, b"Jwt is expired"), "401 Jwt is expired"),
        ((401, {"kind": "application/json"}, b"{}"), "refuses it (401 Unauthorized)"),
        ((302, {"Location": "http://["}, b""), "shows a login page"),
        ((307, {"Location": HEALTH, "Set_Cookie": "a=b"}, b""), "shows a login page"),
    ],
)
def test_what_asks_for_a_login_is_renewed_once(
    fake: FakeKubeflow, tmp_path: Path, answer: Any, said: str
) -> None:
    file = tmp_path / "token"
    file.write_text("old.token")
    seen: list[str] = []

    def gate(method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
        seen.append(headers["authorization"])
        file.write_text("new.token")
        return None if headers["authorization"] == "Bearer new.token" else answer

    fake.gate = gate
    connection = connected(fake, token_file=str(file))
    assert seen == ["Bearer old.token", "Bearer new.token"]
    fake.gate = lambda *_: answer
    with pytest.raises(CredentialsError) as caught:
        connection.call(connection.health.healthz_service_get_healthz_with_http_info)
    assert said in str(caught.value)
    with pytest.raises(CredentialsError):
        connection.raw("GET", "/ml_metadata/anything", origin=True)


def test_what_kubeflow_forbids_is_not_renewed(fake: FakeKubeflow, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("a.token")
    connection = connected(fake, token_file=str(file), namespace="theirs")
    fake.forbidden = {"theirs"}
    file.write_text("another.token")
    fake.requests.clear()
    listing = connection.pipelines.pipeline_service_get_pipeline_by_name_with_http_info
    with pytest.raises(CredentialsError, match=r"403 User is not .*to namespace 'theirs' for the"):
        connection.ask(listing, "demo", namespace="theirs")
    assert len(fake.requests) == 1


def test_a_proxy_s_404_is_no_missing_pipeline(fake: FakeKubeflow) -> None:
    connection = connected(fake)
    fake.gate = lambda *_: (404, HTML, b"<html>default backend - 404</html>")
    listing = connection.pipelines.pipeline_service_get_pipeline_by_name_with_http_info
    with pytest.raises(KubeflowError, match="no Kubeflow API") as caught:
        connection.ask(listing, "demo")
    assert not isinstance(caught.value, api.NotFound)


def test_a_proxy_s_page_says_its_title(fake: FakeKubeflow) -> None:
    made = connected(fake)
    title = b"<html><head><title>400 No required SSL certificate was sent</title></head>"
    fake.gate = lambda *_: (400, HTML, title)
    with pytest.raises(KubeflowError, match="No required SSL certificate was sent"):
        made.call(made.health.healthz_service_get_healthz_with_http_info)


def test_threads_get_their_own_answers(fake: FakeKubeflow) -> None:
    made = connected(fake)

    def created(number: int) -> str:
        create = made.experiments.experiment_service_create_experiment_with_http_info
        return str(made.ask(create, {"display_name": f"number {number}"}).display_name)

    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(created, range(60)))
    assert names == [f"number {number}" for number in range(60)]


# nothing secret in any sentence -------------------------------------------------------------

# Begun as no word of ours is, since Hypothesis draws from those, too.
SECRET = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=6, max_size=40
).map("~9{}".format)


@given(
    secret=SECRET,
    status=st.sampled_from([200, 302, 400, 401, 403, 404, 409, 418, 500, 503]),
    kind=st.sampled_from(["application/json", "text/html", "text/plain", "image/png"]),
    form=st.sampled_from(['{{"message": {0}}}', '{{"state": {0}}}', "<form>{0}", "{0}"]),
)
@example(secret="token=with=signs", status=401, kind="text/plain", form="{0}")
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("as_cookie", [False, True])
def test_a_server_that_repeats_our_secret(
    fake: FakeKubeflow,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    as_cookie: bool,
    secret: str,
    status: int,
    kind: str,
    form: str,
) -> None:
    """Hostile: it has what we sent, and puts it wherever we may read it."""
    secret = secret.replace(";", "x")
    name = "KFP_COOKIES" if as_cookie else "KFP_TOKEN"
    monkeypatch.setenv(name, f"session={secret}" if as_cookie else secret)
    where = {"cookies_env": name} if as_cookie else {"token_env": name}
    place = urllib.request.quote(secret) if status == 302 else ""
    headers = {"kind": kind, "Location": f"/login/{secret}/{place}?{secret}"}
    fake.gate = lambda *_: (status, headers, form.format(json.dumps(secret)).encode())
    one = declared(fake, **where)
    made = api.Api(connection.Connection(one, auth.chosen(one)), one, patience=0)
    said = []
    with caplog.at_level(logging.INFO):
        for ask in (
            lambda: made.call(made.health.healthz_service_get_healthz_with_http_info),
            lambda: made.raw("POST", "/x", body=b"{}"),
        ):
            try:
                ask()
            except CIError as error:
                said.append(f"{error} {error!r} {error.todo}")
    assert said or (status < 500 and kind != "text/html")
    everything = " ".join([*said, caplog.text, *capfd.readouterr()])
    for spelling in (secret, urllib.request.quote(secret), json.dumps(secret)[1:-1]):
        assert spelling not in everything


# what kfp.Client would do by itself ------------------------------------------------------------


@pytest.mark.parametrize("namespace", [None, "kubeflow", "team"])
def test_a_connection_asks_for_the_health_once(fake: FakeKubeflow, namespace: str | None) -> None:
    """Of itself the client asks five times, with pauses of 5 s, where there is no namespace."""
    connected(fake, namespace=namespace)
    assert fake.requests == [f"GET {HEALTH}"]


def test_nothing_of_this_machine_leaks_into_a_build(
    fake: FakeKubeflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables and files that kfp, its in-cluster defaults, urllib3 or requests may read."""
    import kfp.client.client

    (tmp_path / "token").write_text("left.over.token")
    context = {
        "namespace": "left-over",
        "client_authentication_cookie": "left=over",
        "client_authentication_header_name": "x-left",
        "client_authentication_header_value": "over",
    }
    (tmp_path / "context.json").write_text(json.dumps(context))
    monkeypatch.setattr(
        kfp.client.client.Client, "_LOCAL_KFP_CONTEXT", str(tmp_path / "context.json")
    )
    with serve(FakeKubeflow()) as elsewhere:
        for name in (
            "KF_PIPELINES_ENDPOINT",
            "KF_PIPELINES_UI_ENDPOINT",
            "HTTP_PROXY",
            "http_proxy",
        ):
            monkeypatch.setenv(name, elsewhere.endpoint)
        for name in ("IAP_OAUTH2_CLIENT_ID", "APP_OAUTH2_CLIENT_ID", "APP_OAUTH2_CLIENT_SECRET"):
            monkeypatch.setenv(f"KF_PIPELINES_{name}", "left-over")
        monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login left password over")
        monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
        fake.gate = recorder = Recorder()
        uploaded(KubeflowServer(declared(fake), patience=1), tmp_path)
        fake.gate = dex = FakeDex()
        monkeypatch.setenv("DEX_USER", dex.user)
        monkeypatch.setenv("DEX_PASSWORD", dex.password)
        connected(fake, **login())
        assert elsewhere.requests == []
    assert len(recorder.headers) > 3
    kept = {"authorization", "cookie", "x-left"}
    assert not any(kept & set(headers) for headers in recorder.headers)
    assert not any("left" in request for request in fake.requests)


def test_every_request_has_a_time_out(
    fake: FakeKubeflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that takes a request and says nothing: this test would hang."""
    for module in (connection, login_dex):
        monkeypatch.setattr(module, "TIMEOUT", (5, 0.05))
    one, dex = declared(fake), config.DexLogin(user_env="A", password_env="B")
    made = api.Api(connection.Connection(one, auth.chosen(one)), one, patience=0)
    going = threading.Event()
    fake.gate = lambda *_: going.wait() and None
    (tmp_path / "file").write_text("anything")
    try:
        for ask in (
            lambda: made.raw("GET", HEALTH),
            lambda: made.call(made.health.healthz_service_get_healthz_with_http_info),
            lambda: made.call(
                made.uploads.upload_pipeline_version_with_http_info, str(tmp_path / "file")
            ),
            lambda: made.call(made.runs.run_service_create_run_with_http_info, {}),
            lambda: made.call(made.runs.run_service_get_run_with_http_info, "a"),
            lambda: login_dex.session_cookies(one, dex, "user", "password"),
        ):
            with pytest.raises(api.Away, match="does not answer"):
                ask()
    finally:
        going.set()


# requests that no generated class knows ---------------------------------------------


@pytest.mark.parametrize("origin", [False, True])
def test_raw_answers_every_status(fake: FakeKubeflow, origin: bool) -> None:
    raw = connected(fake).raw
    prefix = "/apis/v2beta1"
    good = raw("GET", f"{prefix}/healthz", origin=origin)
    assert (good.status, good.headers["content-type"]) == (200, "application/json")
    assert b"fake" in good.body
    missing = raw("GET", f"{prefix}/runs/no-such-run", origin=origin)
    assert (missing.status, b"not found" in missing.body) == (404, True)


def test_raw_below_an_endpoint_with_a_path_and_beside_it(fake: FakeKubeflow) -> None:
    one = config.KubeflowServer(endpoint=f"{fake.endpoint}/pipeline/")
    made = connection.Connection(one, auth.chosen(one))
    assert made.url("/apis", origin=False) == f"{fake.endpoint}/pipeline/apis"
    assert made.url("/ml_metadata", origin=True) == f"{fake.endpoint}/ml_metadata"


def test_raw_sends_headers_and_body_and_our_credentials(
    fake: FakeKubeflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KFP_TOKEN", "a.bearer.token")
    made = connected(fake)
    fake.gate = recorder = Recorder()
    answer = made.raw(
        "POST",
        "/apis/v2beta1/experiments",
        headers={"Content-Type": "application/json", "Authorization": "Basic of-a-caller"},
        body=b'{"display_name": "one"}',
    )
    assert answer.status == 200
    assert [it["display_name"] for it in fake.experiments.values()] == ["one"]
    assert recorder.headers[0]["authorization"] == "Bearer a.bearer.token"


def test_raw_is_of_this_host_only(fake: FakeKubeflow) -> None:
    made = connected(fake)
    with pytest.raises(ValueError, match="absolute path"):
        made.raw("GET", "http://elsewhere/")
    with pytest.raises(ValueError, match="absolute path"):
        made.raw("GET", "@elsewhere/", origin=True)


def test_raw_says_when_the_server_is_away(fake: FakeKubeflow) -> None:
    made = connected(fake)
    fake.failing = 1
    with pytest.raises(api.Away, match="503"):
        made.raw("GET", HEALTH)
