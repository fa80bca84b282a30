"""HTTP to one registry: who we are, how long we wait, what is tried again.

Most requests need nothing but HTTP: they go through `direct`. Where a registry
wants a token or docker's own login, or a proxy is between, oras-py and requests
come in, whose import alone takes longer than all that an unchanged repository asks.

How a token is had and where docker keeps a login is oras-py's; the requests are
made here, since its own loop keeps a token of another scope, has no answer to a
basic challenge, and tries an HTTP 500 again for two minutes.
"""

from __future__ import annotations

import ipaddress
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from ci_tools.errors import CredentialsError, RegistryError
from ci_tools.images.direct import Answer, Direct, Patience, retries, silent

if TYPE_CHECKING:
    import requests

Known = tuple[str, str]  # user and password
_REFUSED = (401, 403)
_PIECE = 1 << 16
DEFAULT = Patience()


class Transport:
    """Requests to one registry, from several threads.

    credentials: user and password, asked for each request; None means that
    docker's own configuration counts. renew: is given what was refused, and
    returns what to try instead, or None.
    """

    def __init__(
        self,
        host: str,
        *,
        plain_http: bool,
        patience: Patience,
        credentials: Callable[[], Known | None],
        renew: Callable[[Known], Known | None],
    ) -> None:
        self.host = host
        self._scheme = "http" if plain_http or loopback(host) else "https"
        self._patience = patience
        self._credentials = credentials
        self._renew = renew
        self._thread = threading.local()
        self._direct: Direct | None = Direct(self._scheme, host, patience)

    def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
        limit: int | None = None,
    ) -> Answer:
        """The registry's answer, whatever it is.

        path: below the host, or an address that the registry named; one that
        leads elsewhere is not followed, since our credentials go with it.
        limit: so many bytes of its content are read and one more, which tells
        who asked that it is too long; None for all of it.

        Raises RegistryError when it does not answer, CredentialsError when it
        wants credentials that we know no way to give.
        """
        url, where = self._address(path)
        if where != (self._scheme, self.host):
            raise RegistryError(
                f"the registry {self.host} sends us elsewhere ({where[1]})",
                "Mend the address that it, or the proxy before it, is told to have",
            )
        if self._direct is not None:
            answer = self._asked_directly(
                self._direct, method, url, dict(headers or {}), data, limit
            )
            if answer is not None:
                return answer
        return self._asked(method, url, dict(headers or {}), data, limit)

    def _address(self, path: str) -> tuple[str, tuple[str, str]]:
        """Where a path leads, and the scheme and host of that."""
        try:
            url = urljoin(f"{self._scheme}://{self.host}/", path)
            parts = urlsplit(url)
        except ValueError:  # such as "http://["
            return "", ("", "an address that is none")
        return url, (parts.scheme, parts.netloc)

    def get(
        self, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> Answer | None:
        """What is there, or None for 404.

        Raises RegistryError, CredentialsError.
        """
        response = self.ask(method, path, headers=headers)
        if response.status_code == 404:
            return None
        if response.status_code in _REFUSED:
            raise self.refused(f"HTTP {response.status_code}")
        if not response.ok:
            raise RegistryError(
                f"the registry {self.host} answers HTTP {response.status_code} to {path}",
                "Look into the registry's log",
            )
        return response

    def refused(self, why: str) -> CredentialsError:
        """The error for a registry that wants other credentials."""
        return CredentialsError(
            f"the registry {self.host} refuses us ({why})", f"Log in: docker login {self.host}"
        )

    def _asked_directly(
        self,
        direct: Direct,
        method: str,
        url: str,
        headers: dict[str, str],
        data: bytes | None,
        limit: int | None,
    ) -> Answer | None:
        """The answer, or None where it takes more than HTTP, from now on."""
        if direct.proxied:
            self._direct = None
            return None
        known = self._credentials()
        answer = direct.ask(method, url, headers, data, known, limit)
        if answer.status_code in _REFUSED:
            if known is None:
                self._direct = None
                return None
            fresh = self._renew(known)
            if fresh is not None:
                answer = direct.ask(method, url, headers, data, fresh, limit)
        return answer

    def _asked(
        self, method: str, url: str, headers: dict[str, str], data: bytes | None, limit: int | None
    ) -> Answer:
        import requests
        from oras.auth import AuthenticationException

        try:
            response = self._answer(method, url, headers, data, limit is not None)
            content = response.content if limit is None else _beginning(response, limit)
        # oras-py's words for a challenge that it has no answer to. First, since
        # an answer that is no JSON is both this and a RequestException.
        except (ValueError, AuthenticationException) as error:
            raise self.refused("without credentials we know of") from error
        except requests.RequestException as error:
            raise silent(self.host, error) from error
        return Answer(response.status_code, response.headers, content)

    def _answer(
        self, method: str, url: str, headers: dict[str, str], data: bytes | None, stream: bool
    ) -> requests.Response:
        client = self._client()
        known = self._credentials()
        what: dict[str, Any] = {"data": data, "stream": stream}
        if known is None:
            return _with_dockers_login(client, method, url, headers, what)
        # `auth`, not a header: it keeps .netrc out, and is dropped when a blob's
        # answer leads to another host.
        response = client.session.request(method, url, headers=headers, auth=known, **what)
        if response.status_code in _REFUSED:
            fresh = self._renew(known)
            if fresh is not None:
                response = client.session.request(method, url, headers=headers, auth=fresh, **what)
        return response  # type: ignore[no-any-return]

    def _client(self) -> Any:
        """oras-py's session is not made for threads: each gets its own."""
        client = getattr(self._thread, "client", None)
        if client is None:
            from oras.provider import Registry as Oras
            from requests.adapters import HTTPAdapter

            client = Oras(hostname=self.host, insecure=self._scheme == "http", tls_verify=True)
            # It reads ~/.docker by itself, but does not know docker's variable.
            own = os.environ.get("DOCKER_CONFIG")
            client.auth.load_configs(
                client.get_container(f"{self.host}/any"),
                [str(Path(own) / "config.json")] if own else None,
            )
            for scheme in ("http://", "https://"):
                client.session.mount(scheme, HTTPAdapter(max_retries=retries(self._patience)))
            client.session.request = _with_timeout(client.session.request, self._patience)
            self._thread.client = client
        return client


def loopback(host: str) -> bool:
    """Docker's rule: registries on 127.0.0.0/8, ::1 and localhost speak plain HTTP."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    try:
        return name == "localhost" or ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def said(response: Answer) -> str:
    """What the registry says is wrong, in its own words; else the status.

    Source: the distribution specification's error body, {"errors": [{"code", "message"}]}.
    """
    status = f"HTTP {response.status_code}"
    try:
        first = response.json()["errors"][0]
        words = f"{first.get('code', '')} {first.get('message', '')}".strip()
    except (ValueError, LookupError, TypeError, AttributeError):
        return status
    return f"{status}: {words[:300]}" if words else status


def _with_dockers_login(
    client: Any, method: str, url: str, headers: dict[str, str], what: dict[str, Any]
) -> requests.Response:
    """Ask with what docker's configuration holds for this host, or with nothing."""
    login = getattr(client.auth, "_basic_auth", None)
    basic = getattr(client, "basic", False)  # what it wanted last time
    known = {"Authorization": f"Basic {login}"} if basic else client.auth.get_auth_header()
    response = client.session.request(method, url, headers={**headers, **known}, **what)
    challenge = response.headers.get("Www-Authenticate", "").lower()
    if response.status_code not in _REFUSED or "realm=" not in challenge:
        return response  # type: ignore[no-any-return]
    if challenge.startswith("basic"):
        if login is None or basic:
            return response  # type: ignore[no-any-return]
        client.basic, headers = True, {**headers, "Authorization": f"Basic {login}"}
    else:
        # A token is for one repository and one verb, and lives for minutes:
        # the one we have was for another, or is over.
        client.auth.token = None
        headers, changed = client.auth.authenticate_request(response, headers)
        if not changed:
            return response  # type: ignore[no-any-return]
    return client.session.request(  # type: ignore[no-any-return]
        method, url, headers=headers, **what
    )


def _beginning(response: requests.Response, limit: int) -> bytes:
    """At most one byte more than `limit`."""
    content = bytearray()
    with response:
        for piece in response.iter_content(_PIECE):
            content += piece
            if len(content) > limit:
                break
    return bytes(content[: limit + 1])


def _with_timeout(request: Any, patience: Patience) -> Any:
    def timed(method: str, url: str, **options: Any) -> Any:
        options.setdefault("timeout", (patience.connect, patience.read))
        return request(method, url, **options)

    return timed
