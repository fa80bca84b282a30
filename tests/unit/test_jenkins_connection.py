"""The session with a controller: who we are, refusals, crumbs, restarts; against a fake."""

from __future__ import annotations

import dataclasses
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import jenkins as python_jenkins
import pytest

from ci_tools.errors import ConfigError, CredentialsError, JenkinsError
from ci_tools.jenkins import address, builds, connection, linter, queue, refusals
from ci_tools.jenkins.connection import Connection
from ci_tools.jenkins.credentials import Credentials
from tests.fakes import ports
from tests.fakes.certificates import Authority
from tests.fakes.jenkins import FakeJenkins, Request, Response, document, page

TOKEN = "11fake0token"
BY_TOKEN = Credentials("ci", TOKEN, "$JENKINS_TOKEN")
BY_PASSWORD = Credentials("ci", "fake-password", "netrc")


def connected(
    fake: FakeJenkins, who: Credentials | None = BY_TOKEN, **keywords: Any
) -> tuple[Connection, list[str]]:
    told: list[str] = []
    return Connection(fake.url, who, told.append, **keywords), told


# Who we are ------------------------------------------------------------------------


def test_who_we_are_is_asked_first(jenkins: FakeJenkins) -> None:
    asked, _ = connected(jenkins)
    assert asked.who() == asked.user == "ci"
    assert jenkins.seen == ["GET /whoAmI/api/json"]


def test_a_wrong_token_is_told_as_such_and_not_shown(jenkins: FakeJenkins) -> None:
    asked, _ = connected(jenkins, Credentials("ci", "wrong-token-1", "$JENKINS_TOKEN"))
    with pytest.raises(CredentialsError, match=r"user or the token from \$JENKINS_TOKEN") as error:
        asked.who()
    assert "wrong-token-1" not in str(error.value)
    assert error.value.exit_code == 15


def test_without_credentials_we_are_nobody(jenkins: FakeJenkins) -> None:
    asked, _ = connected(jenkins, None)
    assert asked.who() == ""
    with pytest.raises(CredentialsError, match="who has no credentials") as error:
        asked.get("api/json")
    assert "JENKINS_USER" in error.value.todo


def test_netrc_is_not_looked_into_behind_our_back(
    jenkins: FakeJenkins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login ci password {TOKEN}\n")
    monkeypatch.setenv("NETRC", str(netrc))
    asked, _ = connected(jenkins, None)
    assert asked.who() == ""


def test_credentials_that_something_takes_away(jenkins: FakeJenkins) -> None:
    def nobody(_: Request, __: Any) -> Response:
        return document({"name": "anonymous", "anonymous": True})

    jenkins.route("GET", "/whoAmI/api/json", nobody)
    asked, _ = connected(jenkins)
    with pytest.raises(CredentialsError, match="ignores the credentials"):
        asked.who()


def test_a_locked_controller(jenkins: FakeJenkins) -> None:
    jenkins.locked = True
    for who in (BY_TOKEN, None):
        asked, _ = connected(jenkins, who)
        with pytest.raises(JenkinsError, match="is locked") as error:
            asked.who()
        assert error.value.exit_code == 60


@pytest.mark.parametrize("login", ["redirect", "page"])
def test_a_login_page_is_no_answer(jenkins: FakeJenkins, login: str) -> None:
    jenkins.login = login
    asked, _ = connected(jenkins)
    with pytest.raises(CredentialsError, match="a login page") as error:
        asked.who()
    assert "secret=1" not in str(error.value)


def test_something_else_than_jenkins(jenkins: FakeJenkins) -> None:
    jenkins.route("GET", "/whoAmI/api/json", lambda *_: document({"hello": "world"}))
    asked, _ = connected(jenkins)
    with pytest.raises(JenkinsError, match="is not Jenkins"):
        asked.who()


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b"\xff", b"[" * 100_000])
def test_an_answer_of_another_form(jenkins: FakeJenkins, body: bytes) -> None:
    answer = Response(200, {"Content-Type": "application/json"}, body)
    jenkins.route("GET", "/whoAmI/api/json", lambda *_: answer)
    asked, _ = connected(jenkins)
    with pytest.raises(JenkinsError):
        asked.who()


@pytest.mark.parametrize(
    "definitions", [1, "x", {"name": "P"}, [1], [[]], [{"name": "P", "defaultParameterValue": 1}]]
)
def test_parameters_of_another_form(jenkins: FakeJenkins, definitions: object) -> None:
    told = {"buildable": True, "property": [{"parameterDefinitions": definitions}]}
    jenkins.route("GET", "/job/ml/api/json", lambda *_: document(told))
    asked, _ = connected(jenkins)
    with pytest.raises(JenkinsError, match="not of its API's form"):
        builds.find(asked, "ml", None)


def test_parameters_without_a_name_or_a_default(jenkins: FakeJenkins) -> None:
    definitions = [{}, {"name": None}, {"name": "P"}, {"name": "Q", "defaultParameterValue": None}]
    told = [None, {}, {"parameterDefinitions": None}, {"parameterDefinitions": definitions}]
    job = document({"buildable": True, "property": told})
    jenkins.route("GET", "/job/ml/api/json", lambda *_: job)
    asked, _ = connected(jenkins)
    assert builds.find(asked, "ml", None).parameters == {"P": None, "Q": None}


# The linter ------------------------------------------------------------------------


def linted(jenkins: FakeJenkins, data: object) -> list[str]:
    path = "/pipeline-model-converter/validateJenkinsfile"
    jenkins.route("POST", path, lambda *_: document({"status": "ok", "data": data}))
    return linter.errors(connected(jenkins)[0], "pipeline {}")


def test_what_the_linter_says(jenkins: FakeJenkins) -> None:
    """As ModelConverterAction: one error is a text, several of a compiler are a list."""
    assert linted(jenkins, {"result": "success"}) == []
    errors = [{"error": "no agent"}, {"error": ["line 1", "line 2"]}, {}, "odd"]
    told = linted(jenkins, {"result": "failure", "errors": errors})
    assert told == ["no agent", "line 1", "line 2", "None", "odd"]


@pytest.mark.parametrize(
    "data",
    [None, 1, [], {}, {"errors": None}, {"errors": {}}, {"result": "failure", "errors": []}],
)
def test_a_linter_that_does_not_say_success_passes_nothing(
    jenkins: FakeJenkins, data: object
) -> None:
    with pytest.raises(JenkinsError, match=r"not of its API's form|neither takes"):
        linted(jenkins, data)


def test_a_controller_that_has_moved(jenkins: FakeJenkins) -> None:
    moved = Response(301, {"Location": "https://jenkins.example.com/whoAmI/api/json"})
    jenkins.route("GET", "/whoAmI/api/json", lambda *_: moved)
    asked, _ = connected(jenkins)
    with pytest.raises(JenkinsError, match=r"moved to https://jenkins\.example\.com\. "):
        asked.who()
    assert jenkins.seen == ["GET /whoAmI/api/json"]  # and nobody was sent elsewhere


@pytest.mark.parametrize("place", ["https://[jenkins", "//[::1/whoAmI/api/json"])
def test_a_controller_that_has_moved_nowhere(jenkins: FakeJenkins, place: str) -> None:
    moved = Response(301, {"Location": place})
    jenkins.route("GET", "/whoAmI/api/json", lambda *_: moved)
    asked, _ = connected(jenkins)
    with pytest.raises(JenkinsError, match="an address that is none"):
        asked.who()


# Refusals --------------------------------------------------------------------------


def test_a_page_that_is_not_there_may_be_one_that_we_may_not_see(jenkins: FakeJenkins) -> None:
    asked, _ = connected(jenkins)
    with pytest.raises(refusals.NotThere, match="no permission to see it") as error:
        asked.get("job/none/api/json")
    assert error.value.exit_code == 60
    assert isinstance(error.value, python_jenkins.NotFoundException)
    assert not asked.job_exists("none")  # one of python-jenkins' own methods


def test_a_permission_that_is_missing_is_named(jenkins: FakeJenkins) -> None:
    jenkins.add("ml")
    jenkins.forbidden.add("Job/Build")
    asked, _ = connected(jenkins)
    asked.who()
    with pytest.raises(CredentialsError, match="ci lacks the permission Job/Build"):
        asked.post("job/ml/build")
    assert "GET /crumbIssuer/api/json" not in jenkins.seen


@pytest.mark.parametrize(
    ("headers", "body", "said"),
    [
        ({"X-Error": "a job of that name exists"}, "<html>no", "a job of that name exists"),
        ({}, "<html><nav>menu</nav><div id='x'></div>", "menu"),
        ({}, '<nav>menu</nav><div id="main-panel" class="x"><p>it&#039;s no</p>', "it's no"),
        ({"Content-Type": "text/plain"}, "a <b> c", "a <b> c"),
        ({}, "", "Bad Request"),
    ],
)
def test_a_servers_own_words(
    jenkins: FakeJenkins, headers: dict[str, str], body: str, said: str
) -> None:
    answer = Response(400, {"Content-Type": "text/html", **headers}, body.encode())
    jenkins.route("GET", "/api/json", lambda *_: answer)
    asked, _ = connected(jenkins)
    with pytest.raises(refusals.BadRequestError) as error:
        asked.get("api/json")
    assert error.value.what.endswith(f"({said})")


def test_what_a_server_says_never_shows_the_token(jenkins: FakeJenkins) -> None:
    said = page(f"<html>you sent <b>{TOKEN}</b><script>x()</script>\x1b[2J", 500)
    jenkins.route("GET", "/api/json", lambda *_: said)
    asked, _ = connected(jenkins)
    with pytest.raises(JenkinsError, match="answers 500 to GET /api/json") as error:
        asked.get("api/json")
    assert TOKEN not in str(error.value)
    assert "you sent ***" in str(error.value)
    assert "x()" not in str(error.value)


# Crumbs ----------------------------------------------------------------------------


def test_a_token_needs_no_crumb_and_asks_for_none(jenkins: FakeJenkins) -> None:
    jenkins.add("ml")
    asked, _ = connected(jenkins)
    asked.post("job/ml/build")
    assert jenkins.seen == ["POST /job/ml/build"]


def test_a_password_gets_a_crumb_and_a_new_one_when_that_has_expired(jenkins: FakeJenkins) -> None:
    jenkins.add("ml")
    asked, _ = connected(jenkins, BY_PASSWORD)
    crumb, post = "GET /crumbIssuer/api/json", "POST /job/ml/build"
    asked.post("job/ml/build")
    assert jenkins.seen == [post, crumb, post]
    asked.post("job/ml/build")
    assert jenkins.seen[3:] == [post]
    jenkins.expire_crumbs()
    asked.post("job/ml/build")
    assert jenkins.seen[4:] == [post, crumb, post]


def test_a_crumb_that_is_never_right_is_not_asked_for_again_and_again(jenkins: FakeJenkins) -> None:
    jenkins.add("ml")
    wrong = document({"crumb": "wrong", "crumbRequestField": "Jenkins-Crumb"})
    jenkins.route("GET", "/crumbIssuer/api/json", lambda *_: wrong)
    asked, _ = connected(jenkins, BY_PASSWORD)
    with pytest.raises(CredentialsError, match="crumb"):
        asked.post("job/ml/build")
    assert len(jenkins.seen) == 3
    assert not jenkins.items


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b'"crumb"'])
def test_a_crumb_issuer_that_answers_nonsense(jenkins: FakeJenkins, content: bytes) -> None:
    jenkins.add("ml")
    odd = dataclasses.replace(document({}), body=content)
    jenkins.route("GET", "/crumbIssuer/api/json", lambda *_: odd)
    asked, _ = connected(jenkins, BY_PASSWORD)
    with pytest.raises(JenkinsError, match="crumbIssuer/api/json with what is not of its API"):
        asked.post("job/ml/build")
    assert not jenkins.items


def test_a_controller_without_crumbs(jenkins: FakeJenkins) -> None:
    jenkins.add("ml")
    jenkins.crumbs = False
    asked, _ = connected(jenkins, BY_PASSWORD)
    assert asked.post("job/ml/build").status_code == 201
    assert asked.get("crumbIssuer/api/json" if jenkins.crumbs else "api/json").ok


# A controller that is away ---------------------------------------------------------


def test_a_restart_is_waited_for_and_told_once(jenkins: FakeJenkins) -> None:
    asked, told = connected(jenkins)
    asked.who()
    jenkins.restart(5)
    asked.get("api/json")
    assert len(told) == 2
    assert "asked again for up to" in told[0]
    assert told[1] == "Jenkins answers again"


def test_a_controller_whose_process_is_gone_for_a_while() -> None:
    fake = FakeJenkins()
    port = ports.reserved()
    with fake.running(port=port):
        asked, told = connected(fake)
        asked.who()
    asked._session.close()  # the fake's threads would serve an open connection on and on
    over = threading.Event()

    def again() -> None:
        with fake.running(port=port):
            over.wait(300)

    thread = threading.Thread(target=again)
    asked._told = lambda line: (told.append(line), thread.start() if len(told) == 1 else None)
    try:
        assert asked.get("api/json").ok
    finally:
        over.set()
        thread.join()
    assert "does not answer" in told[0]
    assert told[1:] == ["Jenkins answers again"]


def test_a_controller_that_stays_away(jenkins: FakeJenkins) -> None:
    asked, told = connected(jenkins, patience=3.0)
    asked.who()
    jenkins.restart(10_000)
    with pytest.raises(refusals.Away) as error:
        asked.get("api/json")
    assert error.value.exit_code == 60
    assert len(told) == 1


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FIRST_PATIENCE", 0.01)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        asked = Connection(f"http://127.0.0.1:{taken.getsockname()[1]}", None, lambda _: None)
        with pytest.raises(refusals.Away, match="connection refused") as error:
            asked.who()
    assert not error.value.maybe_done


def test_a_host_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FIRST_PATIENCE", 0.0)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    asked = Connection("http://jenkins.invalid", BY_TOKEN, lambda _: None)
    with pytest.raises(refusals.Away, match="name is not known"):
        asked.who()


def test_a_post_without_an_answer_is_not_sent_again(jenkins: FakeJenkins) -> None:
    jenkins.add("ml")
    jenkins.losing = 1
    asked, _ = connected(jenkins)
    asked.who()
    with pytest.raises(refusals.Unanswered):
        asked.post("job/ml/build")
    assert jenkins.seen.count("POST /job/ml/build") == 1


def test_a_post_that_a_starting_controller_turned_away_is_sent_again(jenkins: FakeJenkins) -> None:
    jenkins.add("ml")
    asked, _ = connected(jenkins)
    asked.who()
    away = [page("<title>Jenkins is getting ready to work</title>", 503)]
    start = jenkins._start
    jenkins.route(
        "POST", r"/(job/ml)/(build)", lambda *it: away.pop() if away else start(*it)
    )  # fmt: skip
    assert asked.post("job/ml/build").status_code == 201
    assert jenkins.seen.count("POST /job/ml/build") == 2


def test_no_answer_in_time(jenkins: FakeJenkins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "TIMEOUT", (5.0, 0.02))
    monkeypatch.setattr(connection, "FIRST_PATIENCE", 0.0)
    jenkins.slow = 0.3
    asked, _ = connected(jenkins)
    with pytest.raises(refusals.Away, match="no answer in time"):
        asked.who()


# TLS, and what the environment says --------------------------------------------------


def test_tls_of_a_companys_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.signed("server"))
    with FakeJenkins().running(context) as fake:
        monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
        monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
        monkeypatch.setenv("PYTHONHTTPSVERIFY", "0")  # python-jenkins would verify nothing
        asked, _ = connected(fake)
        with pytest.raises(JenkinsError, match="no TLS connection") as error:
            asked.who()
        assert "REQUESTS_CA_BUNDLE" in error.value.todo
        assert fake.seen == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority.bundle))
        asked, _ = connected(fake)
        assert asked.who() == "ci"


def test_extra_headers_are_sent_and_not_logged(
    jenkins: FakeJenkins, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setenv("JENKINS_API_EXTRA_HEADERS", "X-Proxy-Token: proxy-secret\nX-Other: 1")
    heard: dict[str, str] = {}

    def who(request: Request, _: Any) -> Response:
        heard.update(request.headers)
        return document({"name": "ci", "anonymous": False})

    jenkins.route("GET", "/whoAmI/api/json", who)
    asked, _ = connected(jenkins)
    asked.who()
    assert (heard["x-proxy-token"], heard["x-other"]) == ("proxy-secret", "1")
    assert "proxy-secret" not in caplog.text + "".join(capfd.readouterr())


def test_a_controller_below_a_path(jenkins: FakeJenkins) -> None:
    with FakeJenkins(prefix="/ci/jenkins").running() as fake:
        fake.add("ml/feature%2Fx")
        asked, _ = connected(fake)
        asked.who()
        job = builds.find(asked, "ml", "feature/x")
        made = queue.request(asked, job, {}, lambda _: None)
        assert made.item is not None
        assert queue.wait(asked, job, made.item, lambda _: None, patience=60) == 1
        assert asked.job_exists("ml/feature%2Fx")  # one of python-jenkins' own


# Addresses -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://ci:11fake0token@jenkins.example.com",
        "https://11fake0token@jenkins.example.com/",
        "ftp://jenkins.example.com",
        "jenkins.example.com",
        "https://jenkins.example.com/?token=11fake0token",
        "https://jenkins.example.com/#x",
        "https://jenkins.example.com/\x1b[2J",
        "",
    ],
)
def test_addresses_that_are_refused_and_never_quoted(url: str) -> None:
    with pytest.raises(ConfigError) as error:
        address.controller(url, "JENKINS_URL")
    assert TOKEN not in str(error.value)
    assert error.value.__cause__ is None
    assert "JENKINS_URL" in str(error.value)


@pytest.mark.parametrize(
    ("branch", "name", "in_url"),
    [
        # What branch-api's NameEncoder makes of them, and what a browser shows for that.
        ("main", "main", "main"),
        ("feature/x", "feature%2Fx", "feature%252Fx"),
        ("50%", "50%25", "50%2525"),
        ("a?b#c[d]\\e", "a%3Fb%23c%5Bd%5D%5Ce", "a%253Fb%2523c%255Bd%255D%255Ce"),
        ("..", "%2E.", "%252E."),
        (".", "%2E", "%252E"),
        ("$(touch x)`'\"", "$(touch x)`'\"", "%24%28touch%20x%29%60%27%22"),
        ("../../admin", "..%2F..%2Fadmin", "..%252F..%252Fadmin"),
        ("grün", "grün", "gr%C3%BCn"),
    ],
)
def test_a_branch_is_one_part_of_a_path(branch: str, name: str, in_url: str) -> None:
    assert address.branch_job(branch) == name
    assert address.job_path(f"ml/{address.branch_job(branch)}") == f"job/ml/job/{in_url}"


@pytest.mark.parametrize("name", ["", "/", "a//b", "a/../b", ".", "a/\x1b", "a\nb"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ConfigError):
        address.job_path(name)


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("http://elsewhere/job/ml/job/feature%252Fx/", True),
        ("http://elsewhere/jenkins/job/ml/job/feature%252Fx/", True),
        ("/job/ml/job/feature%252Fx", True),
        ("http://elsewhere/job/team/job/ml/job/feature%252Fx/", False),
        ("http://elsewhere/job/ml/", False),
        ("http://[", False),
        ("", False),
    ],
)
def test_a_jobs_own_url(url: str, same: bool) -> None:
    assert address.is_job(url, "job/ml/job/feature%252Fx") is same
