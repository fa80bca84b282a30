"""One session with a controller, over python-jenkins, mended where that falls short.

Every request of python-jenkins goes through `jenkins_request`, so that its methods
(`get_plugins`, `create_job`, ...) are mended with ours:

- There is always a time-out, and TLS is always verified (REQUESTS_CA_BUNDLE may name
  the authority).
- A GET is tried again while the controller is away, as it is during a restart. What
  changes something is sent again only where it surely was not done.
- API tokens need no crumb, so none is asked for before one is missed; a crumb that has
  expired is fetched again once.
- Redirects are not followed: an API needs none, and they lead to logins.
- Every refusal is one of our errors; no text of them holds the token.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

import jenkins
import msgspec
import requests
import requests.auth
import tenacity

from ci_tools import typed
from ci_tools.errors import CIError, CredentialsError, JenkinsError
from ci_tools.jenkins import refusals
from ci_tools.jenkins.credentials import Credentials
from ci_tools.jenkins.refusals import Away, NotThere

TIMEOUT = (10.0, 60.0)  # seconds to connect, and to wait for bytes
PATIENCE = 600.0  # seconds that a controller may be away once it has answered
FIRST_PATIENCE = 10.0  # and before: an address may be wrong
PAUSES = (0.5, 10.0)  # seconds between two tries, at first and at most
_EXTRA_HEADERS = "JENKINS_API_EXTRA_HEADERS"
T = TypeVar("T")


class _Nobody(requests.auth.AuthBase):
    """No credentials: requests would look for some in netrc by itself."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class _Elsewhere(requests.Session):
    """No credentials, not even netrc's for a host that a redirect leads to."""

    def rebuild_auth(
        self, prepared_request: requests.PreparedRequest, response: requests.Response
    ) -> None:
        """None, where requests would look into netrc anew."""


class Connection(jenkins.Jenkins):  # type: ignore[misc]
    """url: without a slash at its end. told: is given a line when the controller is
    away, and one when it is back. patience: seconds that it may be away.
    """

    def __init__(
        self,
        url: str,
        credentials: Credentials | None,
        told: Callable[[str], None],
        *,
        patience: float = PATIENCE,
    ) -> None:
        with _without_extra_headers() as extra:
            super().__init__(url, timeout=TIMEOUT)
        self.url, self._credentials, self._told = url, credentials, told
        self._patience = patience
        self._answered = self._away = False
        self.user = ""  # what the controller calls us, once it was asked
        self._session.headers.update(extra)
        self._session.verify = True
        self._auth_resolved = True
        self._session.auth = (
            requests.auth.HTTPBasicAuth(
                credentials.user.encode(), credentials.token.encode()
            )  # bytes, or requests would send latin-1
            if credentials
            else _Nobody()
        )
        self.auth = self._session.auth

    # What is asked ------------------------------------------------------------------

    def who(self) -> str:
        """Our name there, "" where we are anonymous. The first thing to ask: a token
        that is wrong is then told as such, and not as a page that is missing.

        Raises CredentialsError, and JenkinsError for a controller that is locked, away,
        or none at all.
        """
        try:
            me = self.document("whoAmI/api/json", dict[str, Any])
        except CredentialsError as error:
            if self._is_locked():
                raise JenkinsError(
                    f"Jenkins at {self.url} is locked: its set-up was never finished",
                    "Open it in a browser and unlock it with its initialAdminPassword",
                ) from error
            raise
        if "anonymous" not in me:
            raise refusals.no_jenkins(self.url)
        if me["anonymous"] and self._credentials:
            raise CredentialsError(
                f"Jenkins at {self.url} ignores the credentials from {self._credentials.source}",
                "Something in front of it takes the Authorization header away: ask who runs it",
            )
        self.user = "" if me["anonymous"] else str(me.get("name", ""))
        return self.user

    def document(self, path: str, kind: type[T], **query: str) -> T:
        """What a page of the API says, as `kind`. Unknown fields are left out.

        Raises JenkinsError for an answer that is of another form, NotThere, and others
        as `jenkins_request`.
        """
        answer = self.get(path, **query)
        return self.decoded(answer, path, kind)

    def decoded(self, answer: requests.Response, path: str, kind: type[T]) -> T:
        """What an answer's JSON says, as `document`; path: for the message."""
        try:
            return typed.decode(answer.content, kind)
        except msgspec.MsgspecError as error:
            raise JenkinsError(
                f"Jenkins at {self.url} answered {path} with what is not of its API's form "
                f"({self.hidden(error)})",
                "Check that the address is Jenkins' own",
            ) from error

    def get(self, path: str, **query: str) -> requests.Response:
        """The answer to a GET, read whole."""
        return self.jenkins_request(requests.Request("GET", self.at(path), params=query))

    def stream(self, path: str, **query: str) -> requests.Response:
        """The answer to a GET whose body is not read yet; close it."""
        asked = requests.Request("GET", self.at(path), params=query)
        return self.jenkins_request(asked, stream=True)

    def post(self, path: str, form: Mapping[str, str] | None = None) -> requests.Response:
        """The answer to a POST whose parameters are its body: a URL lands in logs.

        Raises Unanswered where nobody knows whether it was done.
        """
        return self.jenkins_request(requests.Request("POST", self.at(path), data=dict(form or {})))

    def at(self, path: str) -> str:
        return f"{self.url}/{path}"

    def hidden(self, text: object) -> str:
        """Words of somebody else's, on one line, short, and without our token."""
        words = " ".join(str(text).split())
        return (self._credentials.hidden(words) if self._credentials else words)[:300]

    # How it is asked: python-jenkins calls these -------------------------------------

    def jenkins_request(
        self,
        req: requests.Request,
        add_crumb: bool = True,  # noqa: ARG002  python-jenkins gives it
        resolve_auth: bool = True,  # noqa: ARG002
        stream: bool | None = None,
    ) -> requests.Response:
        """The answer, if it is no refusal.

        Raises NotThere (404), CredentialsError (401, 403, a login page), Away after
        `patience`, Unanswered, and JenkinsError for all else that is none.
        """

        def once() -> requests.Response:
            answer = self._sent(req, stream)
            if req.method != "GET" and refusals.wants_crumb(answer):
                self._fetch_crumb()
                answer = self._sent(req, stream)  # who refuses has done nothing
            self._judge(req, answer)
            return answer

        answer = self._patiently(once, repeatable=req.method == "GET")
        self._answered = True
        if self._away:
            self._away = False
            self._told("Jenkins answers again")
        return answer

    def maybe_add_crumb(self, req: requests.Request) -> None:
        """Only one that was missed before, and only where something is changed."""
        if self.crumb and req.method != "GET":
            req.headers[self.crumb["crumbRequestField"]] = self.crumb["crumb"]

    def _request(self, req: requests.Request, stream: bool | None = None) -> requests.Response:
        prepared = self._session.prepare_request(req)
        settings = self._session.merge_environment_settings(
            prepared.url, {}, stream, self._session.verify, None
        )
        # requests itself follows redirects, whoever asks by `send`.
        answer: requests.Response = self._session.send(
            prepared, **settings, timeout=self.timeout, allow_redirects=False
        )
        return answer

    def foreign(self, url: str) -> requests.Response:
        """A file that the controller keeps elsewhere (S3, mostly): asked for without
        our credentials. Raises Away, JenkinsError.
        """
        with _Elsewhere() as session:
            session.auth = _Nobody()
            try:
                answer = session.get(url, timeout=TIMEOUT, stream=True)
            except requests.RequestException as error:
                raise refusals.unsent(self.url, error, type(error).__name__) from None
            except ValueError as error:
                raise refusals.sent_nowhere(self.url) from error
        if not answer.ok:
            raise JenkinsError(
                f"where Jenkins keeps its artifacts answers {answer.status_code}",
                "Ask who runs Jenkins",
            )
        return answer

    # -------------------------------------------------------------------------------

    def _sent(self, req: requests.Request, stream: bool | None) -> requests.Response:
        self.maybe_add_crumb(req)
        try:
            return self._request(req, stream)
        except requests.RequestException as error:
            # `from None`: a text of requests' may quote headers and addresses.
            raise refusals.unsent(self.url, error, self.hidden(error), req.method) from None
        except ValueError as error:  # requests looks where a redirect leads, followed or not
            raise refusals.sent_nowhere(self.url) from error

    def _judge(self, req: requests.Request, answer: requests.Response) -> None:
        """Raises the error that an answer is, if it is one."""
        source = self._credentials.source if self._credentials else None
        login = refusals.login_page(req.url, answer)
        error: CIError | None = None
        if login or answer.status_code in (401, 403):
            error = refusals.denied(self.url, answer, source, self.user, self.hidden, login)
        elif answer.status_code in refusals.REDIRECTS:
            error = self._moved(req, answer)
        elif not answer.ok:
            error = refusals.failed(self.url, req, answer, self.hidden)
        if error:
            answer.close()
            raise error

    def _moved(self, req: requests.Request, answer: requests.Response) -> CIError | None:
        """An address that has changed asks for the same path elsewhere (http to https)."""
        target = urljoin(req.url, answer.headers.get("Location", ""))
        asked = urlsplit(req.url).path.removeprefix(urlsplit(self.url).path)
        place = urlsplit(target)
        if target == req.url or not place.path.endswith(asked):
            return None
        base = f"{place.scheme}://{place.netloc.rpartition('@')[2]}{place.path.removesuffix(asked)}"
        if base.rstrip("/") == self.url:
            return None
        return JenkinsError(
            f"Jenkins at {self.url} has moved to {self.hidden(base)}",
            "Use that address",
        )

    def _fetch_crumb(self) -> None:
        """A new one, with the web session that it is bound to."""
        with suppress(NotThere):  # no issuer: none is needed, and the refusal stands
            asked = requests.Request("GET", self.at("crumbIssuer/api/json"))
            answer = self._sent(asked, None)
            self._judge(asked, answer)
            told = self.decoded(answer, "crumbIssuer/api/json", dict[str, Any])
            if {"crumb", "crumbRequestField"} <= told.keys():
                self.crumb = told

    def _is_locked(self) -> bool:
        try:
            page = self._sent(requests.Request("GET", self.at("login")), None)
        except JenkinsError:
            return False
        return re.search(rb"initialAdminPassword|id=['\"]security-token", page.content) is not None

    def _patiently(
        self, once: Callable[[], requests.Response], *, repeatable: bool
    ) -> requests.Response:
        """once: Raises Away where the controller is. repeatable: it may be done twice."""

        def again(error: BaseException) -> bool:
            return isinstance(error, Away) and (repeatable or not error.maybe_done)

        def stop(state: tenacity.RetryCallState) -> bool:
            error = state.outcome.exception() if state.outcome else None
            known = self._answered or (isinstance(error, Away) and error.starting)
            patience = self._patience if known else min(self._patience, FIRST_PATIENCE)
            return (state.seconds_since_start or 0.0) >= patience

        def tell(state: tenacity.RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            if not self._away and isinstance(error, CIError):
                self._away = True
                self._told(f"{error.what}; it is asked again for up to {self._patience:.0f} s")

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(again),
            stop=stop,
            wait=tenacity.wait_exponential_jitter(
                multiplier=PAUSES[0], max=PAUSES[1], jitter=PAUSES[0]
            ),
            before_sleep=tell,
            reraise=True,
        )
        return retrying(once)


@contextmanager
def _without_extra_headers() -> Iterator[dict[str, str]]:
    """Those of python-jenkins' variable, which it would write into the log: they are
    how a proxy in front of Jenkins is given its token.
    """
    text = os.environ.pop(_EXTRA_HEADERS, None)
    headers: dict[str, str] = {}
    for line in (text or "").split("\n"):
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip()] = value.strip()
    try:
        yield headers
    finally:
        if text is not None:
            os.environ[_EXTRA_HEADERS] = text
