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
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urljoin, urlsplit

from ci_tools import config
from ci_tools.errors import CIError, CredentialsError, KubeflowError
from ci_tools.kubeflow import tls
from ci_tools.kubeflow.auth import Credentials

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

_CONNECT, _READ = 10, 60  # seconds to connect, and to wait for bytes
_AWAY = frozenset({429, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
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
        self._timeout = urllib3.Timeout(connect=_CONNECT, read=_READ)
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
        if _origin(urlsplit(url)) != _origin(urlsplit(self._endpoint)):
            raise ValueError(f"{_shown(url)} is not at {self._endpoint}")
        shown = self._credentials.headers()
        answer = self._send(method, url, headers, shown, keywords)
        if _asks_for_login(url, answer) and self._credentials.renew(shown):
            answer = self._send(method, url, headers, self._credentials.headers(), keywords)
        if error := self._refusal(url, answer):
            raise error
        return answer

    def said(self, body: bytes | str | None, reason: str | None) -> str:
        """The server's own words, from either form of its error bodies, without secrets."""
        try:
            found = json.loads(body or "")
            text = found.get("error_message") or found.get("message") or found.get("error_details")
        except (ValueError, AttributeError):
            text = reason
        return self._credentials.hidden(" ".join(str(text or "").split()))[:_LONGEST]

    def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        credentials: Mapping[str, str],
        keywords: Mapping[str, Any],
    ) -> BaseHTTPResponse:
        import urllib3

        kept = {name: value for name, value in (headers or {}).items() if name not in credentials}
        given: dict[str, Any] = {**keywords, "timeout": keywords.get("timeout") or self._timeout}
        try:
            # No retries: whoever may ask again does so, with pauses (`Api.ask`).
            return self._pool.request(
                method, url, headers={**kept, **credentials}, redirect=False, retries=False, **given
            )
        except urllib3.exceptions.SSLError as error:
            raise tls.explained(self._settings, error) from error
        except urllib3.exceptions.HTTPError as error:
            raise self._no_answer(error) from error

    def _no_answer(self, error: Exception) -> KubeflowError:
        text = " ".join(str(error).split())
        return Away(
            f"Kubeflow at {self._endpoint} does not answer ({text})",
            "Check 'kubeflow.endpoint' in ci.yaml and that this machine reaches it",
        )

    def _refusal(self, url: str, answer: BaseHTTPResponse) -> CIError | None:
        """The error that an answer is, if it is one for any kind of request."""
        words = self.said(answer.data, answer.reason)
        if answer.status in _REDIRECTS and (moved := self._moved(url, answer)):
            return KubeflowError(
                f"Kubeflow at {self._endpoint} redirects to {moved}",
                "Write that address as 'kubeflow.endpoint' in ci.yaml",
            )
        if answer.status in _AWAY:
            return Away(
                f"Kubeflow at {self._endpoint} answered {answer.status} ({words})",
                "Mend what it says, or ask who runs it",
            )
        if answer.status == 403 and _is(answer, "json"):
            where = self._settings.namespace
            return CredentialsError(
                f"Kubeflow at {self._endpoint} forbids it (403: {words})",
                f"Give {self._credentials.what} access"
                + (f" to namespace '{where}'" if where else "")
                + ", or use others",
            )
        if answer.status in _REDIRECTS or (
            _is(answer, "html") and answer.status in (200, 401, 403)
        ):
            place = _location(url, answer)
            return CredentialsError(
                f"{self._endpoint} shows a login page"
                + (f" ({_shown(place)})" if place else "")
                + f" instead of Kubeflow's API: {self._credentials.trouble}",
                self._credentials.remedy,
            )
        if answer.status in (401, 403):
            return CredentialsError(
                f"Kubeflow at {self._endpoint} answers {answer.status} ({words}): "
                f"{self._credentials.trouble}",
                self._credentials.remedy,
            )
        return None

    def _moved(self, url: str, answer: BaseHTTPResponse) -> str:
        """The endpoint that a redirect leads to; "" where it leads to a login instead.

        A server that has moved asks for the same path elsewhere (http to https,
        mostly); a login form has a path of its own.
        """
        path = urlsplit(url).path
        asked = path.removeprefix(urlsplit(self._endpoint).path)
        target = urlsplit(_location(url, answer))
        if not asked or not target.path.endswith(asked):
            return ""
        return _shown(target._replace(path=target.path.removesuffix(asked)).geturl())


def _asks_for_login(url: str, answer: BaseHTTPResponse) -> bool:
    """Whether other credentials might get another answer."""
    if answer.status in _REDIRECTS:
        return bool(_location(url, answer))
    if answer.status == 403:
        return not _is(answer, "json")  # Kubeflow itself says in JSON what is not allowed
    return answer.status == 401 or (answer.status == 200 and _is(answer, "html"))


def _is(answer: BaseHTTPResponse, kind: str) -> bool:
    return kind in answer.headers.get("Content-Type", "").lower()


def _location(url: str, answer: BaseHTTPResponse) -> str:
    location = answer.headers.get("Location", "")
    return urljoin(url, location) if location else ""


def _shown(url: str) -> str:
    """An address for a sentence: a query and a user's part may hold secrets."""
    place = urlsplit(url)
    netloc = place.netloc.rpartition("@")[2]
    text = f"{place.scheme}://{netloc}{place.path}"
    return "".join(it for it in text if it.isprintable())[:200]


def _origin(place: SplitResult) -> tuple[str, str | None, int | None]:
    port = place.port or {"http": 80, "https": 443}.get(place.scheme)
    return place.scheme, place.hostname, port
