"""A FAKE of what stands before Kubeflow: oauth2-proxy (or authservice) and Dex, for tests.

It says so on each of its pages. What it obeys was read from dexidp/dex (server/authflow,
server/consent, web/templates) and oauth2-proxy (oauthproxy.go): who has no session is
redirected, shown a sign-in page with a button (403), or told 401 in JSON where JSON was
asked for; Dex lists its connectors unless there is one, sends on to a form whose address
holds the state, shows the form again with status 401 for a wrong password, asks for an
approval unless that is skipped, and each step's redirect leads back to the proxy, which
wants the CSRF cookie of the browser that began.
"""

from __future__ import annotations

import html
import uuid
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from urllib.parse import parse_qs, urlencode, urlsplit

Response = tuple[int, dict[str, str], bytes]


@dataclass
class FakeDex:
    """A `Gate` of FakeKubeflow.

    button:     whether oauth2-proxy shows its sign-in page first.
    connectors: of Dex; all but "local" know nobody.
    approval:   whether Dex asks for one.
    dex:        scheme://host in Dex's addresses, "" for relative ones.
    secure:     whether the proxy's cookies are for https only.
    sessions:   cookies that are valid now: clear it, and all have expired.
    logins:     how many sessions there ever were.
    """

    user: str = "ci@example.com"
    password: str = "correct horse & battery=staple"
    button: bool = False
    connectors: tuple[str, ...] = ("local",)
    approval: bool = False
    dex: str = ""
    secure: bool = False
    sessions: set[str] = field(default_factory=set)
    logins: int = 0
    refuse_all: bool = False
    passwords: list[str] = field(default_factory=list)
    _states: dict[str, str] = field(default_factory=dict)  # of an auth request: its back

    def __call__(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> Response | None:
        url = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        form = {name: values[0] for name, values in parse_qs(body.decode("latin-1")).items()}
        jar = {name: it.value for name, it in SimpleCookie(headers.get("cookie", "")).items()}
        steps = url.path.strip("/").split("/")
        match method, steps:
            case "GET", ["oauth2", "start"]:
                return self._start(query["rd"])
            case "GET", ["oauth2", "callback"]:
                return self._callback(query, jar)
            case "GET", ["dex", "auth"]:
                return self._choose(url.query)
            case "GET", ["dex", "auth", name]:
                state = self._remember(query["state"])
                back = urlencode({"back": "", "state": state})
                return _redirect(302, f"{self.dex}/dex/auth/{name}/login?{back}")
            case _, ["dex", "auth", name, "login"]:
                return self._password(method, name, path, query, form)
            case _, ["dex", "approval"]:
                return self._approve(method, query, form)
        if jar.get("oauth2_proxy_kubeflow") in self.sessions and not self.refuse_all:
            return None
        if "application/json" in headers.get("accept", ""):
            return 401, {"kind": "application/json"}, b"{}"
        if self.button:
            rest = f'<input type="hidden" name="rd" value="{html.escape(path)}"><button>Go</button>'
            return _page(403, f'<form method="GET" action="/oauth2/start">{rest}</form>')
        return self._start(path)

    def _start(self, back: str) -> Response:
        csrf = uuid.uuid4().hex
        self._states[csrf] = back
        request = {"client_id": "oauth2-proxy", "state": csrf, "redirect_uri": "/oauth2/callback"}
        cookie = self._cookie("_oauth2_proxy_kubeflow_csrf", csrf)
        return _redirect(302, f"{self.dex}/dex/auth?{urlencode(request)}", cookie)

    def _choose(self, query: str) -> Response:
        if len(self.connectors) == 1:
            return _redirect(302, f"/dex/auth/{self.connectors[0]}?{query}")
        links = (
            f'<a href="/dex/auth/{it}?{html.escape(query)}">{it}</a>' for it in self.connectors
        )
        return _page(200, "".join(links))

    def _password(
        self, method: str, name: str, path: str, query: dict[str, str], form: dict[str, str]
    ) -> Response:
        if method == "POST":
            self.passwords.append(form.get("password", ""))
            right = (name, form.get("login"), form.get("password"))
            if right == ("local", self.user, self.password):
                step = urlencode({"req": query["state"], "hmac": "fake"})
                end = "approval" if self.approval else "callback"
                return _redirect(303, f"{self.dex}/dex/approval?{step}&{end}=")
        fields = '<input name="login" type="text"/><input name="password" type="password"/>'
        again = 401 if method == "POST" else 200
        return _page(again, f'<form method="post" action="{html.escape(path)}">{fields}</form>')

    def _approve(self, method: str, query: dict[str, str], form: dict[str, str]) -> Response:
        if self.approval and method == "GET":
            one = '<form method="post"><input type="hidden" name="approval" value="{}"></form>'
            return _page(200, one.format("rejected") + one.format("approve"))
        if self.approval and form.get("approval") != "approve":
            return _page(500, "Approval rejected.")
        csrf = self._states[query["req"]]
        return _redirect(303, "/oauth2/callback?" + urlencode({"code": "c", "state": csrf}))

    def _callback(self, query: dict[str, str], jar: dict[str, str]) -> Response:
        if jar.get("_oauth2_proxy_kubeflow_csrf") != query["state"]:
            return _page(403, "CSRF token mismatch, potential attack")
        session = uuid.uuid4().hex
        self.sessions.add(session)
        self.logins += 1
        cookie = self._cookie("oauth2_proxy_kubeflow", session)
        return _redirect(302, self._states[query["state"]], cookie)

    def _cookie(self, name: str, value: str) -> str:
        return f"{name}={value}; Path=/; HttpOnly" + ("; Secure" if self.secure else "")

    def _remember(self, csrf: str) -> str:
        state = uuid.uuid4().hex
        self._states[state] = csrf
        return state


def _redirect(status: int, location: str, cookie: str = "") -> Response:
    return status, {"Location": location, **({"Set_Cookie": cookie} if cookie else {})}, b""


def _page(status: int, content: str) -> Response:
    return status, {}, f"<html><body>A fake: nobody logs in here.{content}</body></html>".encode()
