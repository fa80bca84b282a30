"""A login at Dex by user and password, as a browser does it; the result is cookies.

The way (read from dexidp/dex, oauth2-proxy and Kubeflow's guide "Connect the SDK to
the API"): what stands before Kubeflow (oauth2-proxy, authservice) redirects to Dex,
perhaps after a sign-in page of its own with nothing but a button; Dex shows its
connectors where it has several, then a form with the fields of a user and a
password, which it shows again for wrong ones; perhaps it asks for an approval; then
redirects lead back, and the proxy sets its session cookie.

Forms are recognised by what is in them, not by their addresses, which differ. The
password goes to Kubeflow's own scheme://host or the one declared for Dex, nowhere
else: every address is held to these two.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urlsplit

import requests  # here, since only those who log in import this module

from ci_tools import config
from ci_tools.errors import CIError, CredentialsError
from ci_tools.kubeflow import tls
from ci_tools.kubeflow.auth import hidden
from ci_tools.kubeflow.connection import AWAY, TIMEOUT, Away, joined, no_answer, origin, shown

_PAGES = 8  # sign-in, connectors, password, approval, and some to spare


def session_cookies(
    settings: config.KubeflowServer, dex: config.DexLogin, user: str, password: str
) -> str:
    """The text of a Cookie header with a session of that user.

    Raises CredentialsError for a wrong password or a login that goes otherwise,
    Away, and KubeflowError without a TLS connection.
    """
    with _Session() as session:
        session.trust_env = False  # no proxy, and no password of ~/.netrc
        session.verify, session.cert = tls.files(settings)
        try:
            return _Login(settings, dex, session, (user, password)).cookies()
        except requests.exceptions.RequestException as error:
            # Its words may hold an address with a state in its query: not shown.
            raise no_answer(settings, error, f"its login: {type(error).__name__}") from error


class _Session(requests.Session):
    """Cookies and nothing more: redirects are not even looked at, `_Login` follows them."""

    def get_redirect_target(self, _resp: requests.Response) -> str | None:
        return None


class _Login:
    def __init__(
        self,
        settings: config.KubeflowServer,
        dex: config.DexLogin,
        session: requests.Session,
        user: tuple[str, str],
    ) -> None:
        self._endpoint, self._dex, self._session = settings.endpoint.rstrip("/"), dex, session
        self._user = user
        self._origins = {origin(self._endpoint), origin(dex.address or self._endpoint)}

    def cookies(self) -> str:
        answer, sent = self._open("GET", f"{self._endpoint}/"), False
        for _ in range(_PAGES):
            page = _Page()
            page.feed(answer.text)
            if form := page.form("password"):
                if answer.request.method == "POST":  # Dex shows it again, at its own address
                    raise CredentialsError(
                        f"Dex at {self._shown(answer.url)} does not know this user and password",
                        f"Set {self._dex.user_env} and {self._dex.password_env} to valid ones",
                    )
                if sent:  # logged in, and asked to log in again: the session is not taken
                    break
                answer, sent = self._submit(answer.url, form.filled(*self._user)), True
            elif form := page.approval():
                answer = self._submit(answer.url, form)
            elif not sent and (link := page.connector(self._dex.connector)):
                answer = self._open("GET", joined(answer.url, link))
            elif not sent and (form := page.button()):
                answer = self._submit(answer.url, form)
            else:
                break
        if sent and (found := self._of_endpoint()):
            return found
        if self._endpoint.startswith("http:") and any(it.secure for it in self._session.cookies):
            raise CredentialsError(
                f"the login at {self._endpoint} sets cookies that only https may carry",
                "Write an https:// address as 'kubeflow.endpoint' in ci.yaml",
            )
        raise self._stuck(answer, "sets no session cookie" if sent else "shows no login form")

    def _of_endpoint(self) -> str:
        """Those of all cookies that a browser would send to Kubeflow."""
        request = requests.Request("GET", f"{self._endpoint}/apis/")
        return str(self._session.prepare_request(request).headers.get("Cookie", ""))

    def _submit(self, page: str, form: _Form) -> requests.Response:
        address = joined(page, form.action)
        if form.method == "post":
            return self._open("POST", address, data=form.fields)
        return self._open("GET", address, params=form.fields)

    def _open(
        self,
        method: str,
        address: str,
        data: dict[str, str] | None = None,
        params: dict[str, str] | None = None,
    ) -> requests.Response:
        """A page, after at most as many redirects as requests allows, all of them here."""
        for _ in range(self._session.max_redirects):
            if origin(address) not in self._origins:
                raise self._astray(address)
            answer = self._session.request(
                method, address, data=data, params=params, timeout=TIMEOUT, allow_redirects=False
            )
            if answer.status_code in AWAY:
                raise Away(
                    f"the login at {self._shown(answer.url)} answered {answer.status_code}",
                    "Ask who runs it",
                )
            if not answer.is_redirect:
                return answer
            # Every redirect of a login is followed with GET: a password is sent once.
            method, data, params = "GET", None, None
            address = joined(answer.url, answer.headers["Location"])
        raise self._stuck(answer, "redirects without an end")

    def _shown(self, address: str) -> str:
        """An address for a sentence, in which somebody may have put the password."""
        return hidden(shown(address), self._user[1:])

    def _astray(self, address: str) -> CIError:
        return CredentialsError(
            f"the login of {self._endpoint} leads to {self._shown(address)}, which ci.yaml does "
            "not name",
            "If that is your Dex, write its scheme://host as 'kubeflow.dex.address'",
        )

    def _stuck(self, answer: requests.Response, how: str) -> CIError:
        return CredentialsError(
            f"the login at {self._shown(answer.url)} {how} (status {answer.status_code})",
            "Check 'kubeflow.endpoint' and 'kubeflow.dex' in ci.yaml with a browser: is this a "
            "password login of Dex, and its connector the one that is named",
        )


@dataclass
class _Form:
    """kinds: the types of its fields; fields: what is sent."""

    action: str = ""
    method: str = "get"
    kinds: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)

    def filled(self, user: str, password: str) -> _Form:
        words = {"password": password, "text": user, "email": user}
        answers = {name: words[kind] for name, kind in self.kinds.items() if kind in words}
        return _Form(self.action, "post", self.kinds, {**self.fields, **answers})


class _Page(HTMLParser):
    """The forms and links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[_Form] = []
        self.links: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        if tag == "a" and "href" in said:
            self.links.append(said["href"])
        elif tag == "form":
            self.forms.append(_Form(said.get("action", ""), said.get("method", "get").lower()))
            self._inside = True
        elif tag == "input" and self._inside and (name := said.get("name")):
            kind = said.get("type", "text").lower()
            self.forms[-1].kinds[name] = kind
            if kind not in ("checkbox", "radio", "submit", "button"):
                self.forms[-1].fields[name] = said.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False

    def form(self, kind: str) -> _Form | None:
        """The first form with a field of that kind."""
        return next((it for it in self.forms if kind in it.kinds.values()), None)

    def approval(self) -> _Form | None:
        """Dex's consent; the form beside it rejects."""
        return next((it for it in self.forms if it.fields.get("approval") == "approve"), None)

    def connector(self, name: str) -> str | None:
        """The link to one of Dex's connectors: .../auth/NAME?..."""
        return next((it for it in self.links if urlsplit(it).path.endswith(f"/auth/{name}")), None)

    def button(self) -> _Form | None:
        """oauth2-proxy's sign-in page: a form with nothing to fill in, that leads on."""
        return next(
            (
                it
                for it in self.forms
                if it.method == "get" and set(it.kinds.values()) <= {"hidden", "submit"}
            ),
            None,
        )
