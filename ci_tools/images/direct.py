"""Plain HTTP to one registry, by urllib3 alone: light to import, safe in threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from ci_tools import typed
from ci_tools.errors import RegistryError

if TYPE_CHECKING:
    import urllib3

_importing = threading.Lock()
_CONNECTIONS = 32  # to one host, kept open; as many as ever ask at once


class Patience(NamedTuple):
    """How long to wait for a registry, in seconds, and how often to ask again."""

    connect: float = 5
    read: float = 30
    retries: int = 3


class Answer(NamedTuple):
    """What a registry answered. headers: found whatever the case of their names."""

    status_code: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def ok(self) -> bool:
        return self.status_code < 400

    def json(self) -> Any:
        """Raises msgspec.DecodeError, which is a ValueError."""
        return typed.decode(self.content, object)


class Direct:
    """Requests with the credentials given, or with none."""

    def __init__(self, scheme: str, host: str, patience: Patience) -> None:
        self._scheme, self._host, self._patience = scheme, host, patience

    @cached_property
    def proxied(self) -> bool:
        """Whether a proxy is between, as the environment says."""
        if not any(name.lower().endswith("_proxy") for name in os.environ):
            return False  # spares an import that is a tenth of a start
        from urllib.request import getproxies, proxy_bypass

        proxies = getproxies()
        if not ({self._scheme, "all"} & set(proxies)):
            return False
        return not proxy_bypass(self._host.rpartition(":")[0] or self._host)

    def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        data: bytes | None,
        known: tuple[str, str] | None,
        limit: int | None = None,
    ) -> Answer:
        """known: user and password, which go to no other host that an answer leads to.
        limit: as in Transport.ask.

        Raises RegistryError when there is no answer.
        """
        urllib3 = _urllib3()
        login = urllib3.make_headers(basic_auth=":".join(known)) if known else {}
        try:
            answer = self._pool.request(
                method,
                url,
                headers={**headers, **login},
                body=data,
                timeout=urllib3.Timeout(connect=self._patience.connect, read=self._patience.read),
                retries=retries(self._patience),
                preload_content=limit is None,
            )
            content = answer.data if limit is None else _beginning(answer, limit)
        except urllib3.exceptions.HTTPError as error:
            raise silent(self._host, error) from error
        return Answer(answer.status, answer.headers, content)

    @cached_property
    def _pool(self) -> urllib3.PoolManager:
        authorities = {} if self._scheme == "http" else {"ca_certs": _authorities()}
        pool: urllib3.PoolManager = _urllib3().PoolManager(maxsize=_CONNECTIONS, **authorities)
        return pool


def _urllib3() -> Any:
    """Imported by one thread alone: two that begin with different parts of it would
    wait for each other, which Python ends with an error in one of them."""
    with _importing:
        import urllib3
    return urllib3


def retries(patience: Patience) -> urllib3.Retry:
    """What is asked again: no answer, and those that pass."""
    made: urllib3.Retry = _urllib3().Retry(
        total=patience.retries,
        connect=min(2, patience.retries),
        backoff_factor=0.2,
        status_forcelist=(429, 502, 503, 504),
        allowed_methods=None,  # all that we send may be sent twice
        raise_on_status=False,
        respect_retry_after_header=False,  # it may say hours
    )
    return made


def _beginning(answer: urllib3.BaseHTTPResponse, limit: int) -> bytes:
    """At most one byte more than `limit`; a connection with more to come is not used again."""
    content = answer.read(limit + 1)
    if len(content) > limit:
        answer.close()
    else:
        answer.release_conn()
    return content


def silent(host: str, error: BaseException) -> RegistryError:
    """The error for a registry that does not answer."""
    return RegistryError(
        f"the registry {host} does not answer ({_reason(error)})",
        "Start it ('python -m ci local up' for the embedded one) or check the network",
    )


def _authorities() -> str:
    """Whom to trust, as requests would: one company's CA is in these variables."""
    import certifi

    named = (os.environ.get(name) for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"))
    return next(filter(None, named), None) or certifi.where()


def _reason(error: BaseException) -> str:
    """The innermost cause: what a person wants to read of nested errors."""
    inner = error.__cause__ or error.__context__ or getattr(error, "reason", None)
    if isinstance(inner, BaseException):
        return _reason(inner)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
