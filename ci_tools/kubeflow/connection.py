"""One HTTP request to a Kubeflow server: who asks, for how long, and who answers.

Below `api.py`. The API classes of `kfp.Client` send through it, too (it takes the
place of their pool), so that credentials, time-outs, TLS, redirects and login
pages are dealt with in one place.

What stands before Kubeflow asks for a login in many ways: 401, a redirect to the
provider, a form with status 200 (Dex, oauth2-proxy) or 403 (oauth2-proxy's sign-in
page, Istio's "RBAC: access denied"). Redirects are not followed: an API has no
need of them, and credentials would go wherever they lead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from ci_tools import config
from ci_tools.errors import CIError, CredentialsError, KubeflowError
from ci_tools.kubeflow import tls
from ci_tools.kubeflow.auth import Credentials

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

TIMEOUT = (10, 60)  # seconds to connect, and to wait for bytes
AWAY = frozenset({429, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TITLE = re.compile(r"<title>([^<]*)", re.I)
_LONGEST = 500  # characters of a server's own words


class Away(KubeflowError):
    """Nobody answered, or only a proxy that says the server is away."""


class Connection:
    """Requests to one endpoint, from any number of threads."""

    def __init__(self, settings: config.KubeflowServer, credentials: Credentials) -> None:
        """Raises ConfigError for certificates that cannot be used. Asks nobody."""
        import urllib3

        self._settings, self._credentials = settings, credentials
        self._endpoint = settings.endpoint.rstrip("/")
        self._timeout = urllib3.Timeout(connect=TIMEOUT[0], read=TIMEOUT[1])
        self._pool = urllib3.PoolManager(maxsize=16, ssl_context=tls.context(settings))

    def url(self, path: str, *, origin: bool) -> str:
        """Of a path, which starts with a slash, below the endpoint or its scheme://host."""
        if not path.startswith("/"):
            raise ValueError(f"'{path}' is not an absolute path")
        place = urlsplit(self._endpoint)
        return (f"{place.scheme}://{place.netloc}" if origin else self._endpoint) + path

    def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, **keywords: Any
    ) -> BaseHTTPResponse:
        """The answer to one request, read whole; of the form of urllib3's pool.

        With credentials that are refused it is sent once more with new ones, if
        there are any: who refuses has done nothing.

        Raises CredentialsError (401, 403, a login page), Away, and KubeflowError
        where there is no TLS connection or the server has moved. All other
        answers are returned.
        """
        if origin(url) != origin(self._endpoint):
            raise ValueError(f"{shown(url)} is not at {self._endpoint}")
        used = self._credentials.headers()
        answer = self._send(method, url, headers, used, keywords)
        if self._asks_for_login(url, answer) and self._credentials.renew(used):
            answer = self._send(method, url, headers, self._credentials.headers(), keywords)
        if error := self._refusal(url, answer):
            raise error
        return answer

    def said(self, body: bytes | str | None, reason: str | None) -> str:
        """The server's own words, from either form of its error bodies, without secrets.

        A proxy's are a line of text ("RBAC: access denied") or a page, of which its
        title tells ("400 No required SSL certificate was sent"), or else the status.
        """
        text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body or ""
        try:
            found = json.loads(text)
            text = found.get("error_message") or found.get("message") or found.get("error_details")
        except (ValueError, AttributeError, RecursionError):
            if "<" in text:
                title = _TITLE.search(text)
                text = title[1] if title else ""
        return self.hidden(text or reason or "")

    def hidden(self, text: object) -> str:
        """Words of somebody else's, short, on one line and without our secrets."""
        return " ".join(self._credentials.hidden(str(text)).split())[:_LONGEST]

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        credentials: Mapping[str, str],
        keywords: Mapping[str, Any],
    ) -> BaseHTTPResponse:
        import urllib3

        kept = {name: it for name, it in (headers or {}).items() if name.lower() not in credentials}
        given: dict[str, Any] = {**keywords, "timeout": keywords.get("timeout") or self._timeout}
        try:
            # No retries: whoever may ask again does so, with pauses (`Api.ask`).
            return self._pool.request(
                method, url, headers={**kept, **credentials}, redirect=False, retries=False, **given
            )
        except urllib3.exceptions.HTTPError as error:
            raise no_answer(self._settings, error, self.hidden(error)) from error

    def _refusal(self, url: str, answer: BaseHTTPResponse) -> CIError | None:
        """The error that an answer is, if it is one for any kind of request."""
        if moved := self._moved(url, answer):
            return KubeflowError(
                f"Kubeflow at {self._endpoint} redirects to {self.hidden(moved)}",
                "Write that address as 'kubeflow.endpoint' in ci.yaml",
            )
        words = self.said(answer.data, answer.reason)
        if answer.status in AWAY:
            return Away(
                f"Kubeflow at {self._endpoint} answered {answer.status} ({words})",
                "Mend what it says, or ask who runs it",
            )
        if not self._asks_for_login(url, answer):
            return self._forbidden(words) if answer.status == 403 else None
        if page := _page(url, answer):
            return CredentialsError(
                f"{self._endpoint} shows {self.hidden(page)} instead of Kubeflow's API: "
                f"{self._credentials.trouble}",
                self._credentials.remedy + self._maybe_a_path(answer),
            )
        return CredentialsError(
            f"Kubeflow at {self._endpoint} refuses it ({answer.status} {words}): "
            f"{self._credentials.trouble}",
            self._credentials.remedy,
        )

    def _forbidden(self, words: str) -> CIError:
        """Kubeflow knows who asks, and says no."""
        where = self._settings.namespace
        return CredentialsError(
            f"Kubeflow at {self._endpoint} forbids it (403 {words})",
            f"Ask for access {f'to namespace {where!r} ' if where else ''}for "
            f"{self._credentials.what}, or use other credentials",
        )

    def _maybe_a_path(self, answer: BaseHTTPResponse) -> str:
        """Kubeflow's dashboard answers every unknown path with its own page."""
        if answer.status != 200 or _has_form(answer) or urlsplit(self._endpoint).path:
            return ""
        return (
            "; if that is Kubeflow's dashboard, add '/pipeline' to 'kubeflow.endpoint' in ci.yaml"
        )

    def _asks_for_login(self, url: str, answer: BaseHTTPResponse) -> bool:
        """Whether other credentials might get another answer."""
        if answer.status in _REDIRECTS:
            return not self._moved(url, answer)
        if answer.status == 403:
            return not _is(answer, "json")  # Kubeflow itself says in JSON what it forbids
        return answer.status == 401 or (answer.status == 200 and _is(answer, "html"))

    def _moved(self, url: str, answer: BaseHTTPResponse) -> str:
        """The endpoint that a redirect leads to; "" where it leads to a login instead.

        A server that has moved asks for the same path elsewhere (http to https,
        mostly); a login form has a path of its own.
        """
        if answer.status not in _REDIRECTS:
            return ""
        asked = urlsplit(url).path.removeprefix(urlsplit(self._endpoint).path)
        target = _location(url, answer)
        path = target.partition("?")[0].partition("#")[0]
        place = shown(path.removesuffix(asked)) if asked and path.endswith(asked) else ""
        return "" if place == self._endpoint else place  # to itself, with a cookie to set


def no_answer(settings: config.KubeflowServer, error: Exception, words: str) -> KubeflowError:
    """The error for a request that urllib3 or requests could not send. words: of `error`.

    Away, but for certificates, which do not get better by waiting.
    """
    hung_up = tls.ended(settings, error)
    if not hung_up and (explained := tls.explained(settings, error)):
        return explained
    return Away(
        f"Kubeflow at {settings.endpoint} does not answer ({hung_up or words})",
        "Check 'kubeflow.endpoint'"
        + (" and 'kubeflow.client_certificate'" if hung_up else "")
        + " in ci.yaml and that this machine reaches it",
    )


def _page(url: str, answer: BaseHTTPResponse) -> str:
    """What a page is called that came instead of an answer; "" where none came."""
    if answer.status in _REDIRECTS:
        return f"a login page ({shown(_location(url, answer))})"
    if not _is(answer, "html"):
        return ""
    if answer.status == 200:
        return "a login page" if _has_form(answer) else "a page of HTML (a login, mostly)"
    return f"a page with status {answer.status} (a sign-in page, or a firewall's)"


def _has_form(answer: BaseHTTPResponse) -> bool:
    return b"<form" in answer.data.lower()


def _is(answer: BaseHTTPResponse, kind: str) -> bool:
    return kind in answer.headers.get("Content-Type", "").lower()


def _location(url: str, answer: BaseHTTPResponse) -> str:
    return joined(url, answer.headers.get("Location", ""))


def joined(page: str, reference: str) -> str:
    """The address that a page refers to; "" for what no browser could follow, either."""
    try:
        return urljoin(page, reference)
    except ValueError:  # such as "http://["
        return ""


def shown(url: str) -> str:
    """An address for a sentence: a query and a user's part may hold secrets."""
    try:
        place = urlsplit(url)
    except ValueError:
        return "an address that is none"
    text = f"{place.scheme}://{place.netloc.rpartition('@')[2]}{place.path}"
    return "".join(it for it in text if it.isprintable())[:200]


def origin(url: str) -> tuple[str, str | None, int | None]:
    """What has to be the same for a request to go to the same server."""
    try:
        place = urlsplit(url)
        port = place.port or {"http": 80, "https": 443}.get(place.scheme)
    except ValueError:
        return "", None, None
    return place.scheme, place.hostname, port
