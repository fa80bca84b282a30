"""One call to a Kubeflow API server: retry, and errors as sentences.

Below `server.py`, which knows the rules, and above `kfp.Client`, whose
generated API classes know the API, and `connection`, which does the talking.
"""

from __future__ import annotations

import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ci_tools import config
from ci_tools.errors import KubeflowError
from ci_tools.kubeflow.auth import Credentials
from ci_tools.kubeflow.connection import Away as Away
from ci_tools.kubeflow.connection import Connection

_PAGE_SIZE = 100
_CLASS_LOCK = threading.Lock()  # around what kfp keeps in its class
_NO_HEADERS: Mapping[str, str] = {}


class Conflict(KubeflowError):
    """409: something of that name is there."""


class NotFound(KubeflowError):
    """404: nothing of that name is there."""


@dataclass(frozen=True)
class Answer:
    """What a server said to a raw request. headers: with names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Api:
    """An authenticated connection, for any number of threads. Made by `connect`."""

    def __init__(
        self, connection: Connection, settings: config.KubeflowServer, patience: float
    ) -> None:
        self._connection, self._settings, self._patience = connection, settings, patience
        client = _client(settings, connection)
        self.pipelines = client._pipelines_api
        self.uploads = client._upload_api
        self.runs = client._run_api
        self.experiments = client._experiment_api
        self.schedules = client._recurring_run_api
        self.health = client._healthz_api

    def ask(self, method: Callable[..., Any], *given: Any, **keywords: Any) -> Any:
        """`call`, again with growing pauses while the server is away.

        For calls that may happen twice. Raises as `call`, Away after `patience`.
        """
        from tenacity import (
            Retrying,
            retry_if_exception_type,
            stop_after_delay,
            wait_random_exponential,
        )

        retrying = Retrying(
            retry=retry_if_exception_type(Away),
            stop=stop_after_delay(self._patience),
            wait=wait_random_exponential(multiplier=0.5, max=10),
            reraise=True,
        )
        return retrying(self.call, method, *given, **keywords)

    def call(self, method: Callable[..., Any], *given: Any, **keywords: Any) -> Any:
        """One request through a generated `..._with_http_info` method; its parsed answer.

        Raises CredentialsError (401, 403, a login page), Conflict, NotFound,
        Away, and KubeflowError for everything else.
        """
        from kfp_server_api.exceptions import ApiException  # type: ignore[import-untyped]

        try:
            answer, _, headers = method(*given, **keywords, _return_http_data_only=False)
        except ApiException as error:
            raise self._refused(error) from error
        except ValueError as error:  # the generated classes' own check of what came
            raise self._unknown(
                f"with something unknown ({self._connection.hidden(error)})"
            ) from error
        if "json" not in headers.get("Content-Type", ""):  # they read it as an empty answer
            raise self._unknown("with something else than JSON")
        return answer

    def raw(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] = _NO_HEADERS,
        body: bytes = b"",
        origin: bool = False,
    ) -> Answer:
        """One request to a service that the generated classes have no method for.

        path: starts with a slash; below the endpoint, or below its scheme://host
        with `origin`.

        Raises CredentialsError (401, 403; a page of HTML with status 200, which is
        a login's) and Away as `call` does, KubeflowError without a TLS connection
        or for a redirect. All other statuses are returned.
        """
        answer = self._connection.request(
            method, self._connection.url(path, origin=origin), headers=headers, body=body or None
        )
        found = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(answer.status, found, answer.data)

    def pages(
        self, method: Callable[..., Any], field: str, *given: Any, **keywords: Any
    ) -> Iterator[Any]:
        """Every item of a listing, over all its pages."""
        token = ""
        while True:
            page = self.ask(method, *given, page_token=token, page_size=_PAGE_SIZE, **keywords)
            yield from getattr(page, field) or []
            token = page.next_page_token or ""
            if not token:
                return

    def _refused(self, error: Any) -> KubeflowError:
        said = self._connection.said(error.body, error.reason)
        ours = "json" in (error.headers or {}).get("Content-Type", "")
        if error.status == 404 and not ours:  # a proxy's: it says nothing of any name
            return KubeflowError(
                f"there is no Kubeflow API at {self._settings.endpoint} (404 {said})",
                "Check 'kubeflow.endpoint' in ci.yaml: it may lack a path, such as '/pipeline'",
            )
        kind = {409: Conflict, 404: NotFound}.get(error.status, KubeflowError)
        return kind(
            f"Kubeflow at {self._settings.endpoint} answered {error.status} ({said})",
            "Mend what it says, or ask who runs it",
        )

    def _unknown(self, how: str) -> KubeflowError:
        return KubeflowError(
            f"Kubeflow at {self._settings.endpoint} answered {how}",
            "Compare its version with the kfp version in setup.cfg",
        )


def connect(settings: config.KubeflowServer, credentials: Credentials, patience: float) -> Api:
    """Log in and see that an API server answers. Raises as `Api.call`, and ConfigError."""
    api = Api(Connection(settings, credentials), settings, patience)
    api.call(api.health.healthz_service_get_healthz_with_http_info)
    return api


def _client(settings: config.KubeflowServer, connection: Connection) -> Any:
    """A `kfp.Client` that depends on nothing but these two, and asks nobody yet.

    Left to itself it takes credentials from IAP's environment variables and from
    gcloud, a namespace and cookies from ~/.config/kfp/context.json, and without a
    namespace it tries the server's health for 25 seconds, without a time-out.
    """
    from kfp import Client

    with _CLASS_LOCK, tempfile.TemporaryDirectory() as private, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # "works with v2 only": so do we
        Client._LOCAL_KFP_CONTEXT = str(Path(private, "kfp", "context.json"))
        client = Client(
            host=settings.endpoint,
            existing_token="-",  # noqa: S106 - so that it looks for none; `connection` has ours
            namespace="-",  # none, and its default "kubeflow", make it ask for the health
        )
    client._existing_config.api_key.clear()
    client._context_setting["namespace"] = settings.namespace or ""
    # All its API objects send through the pool of one api_client.
    client._run_api.api_client.rest_client.pool_manager = connection
    return client


def page(settings: config.KubeflowServer, path: str) -> str:
    """The address of a page of the user interface."""
    return f"{settings.endpoint.rstrip('/')}/#/{path}"


def identity(answer: Any, field: str) -> str:
    """An id out of an answer. Raises KubeflowError for an answer without one."""
    value = getattr(answer, field, None)
    if not value:
        raise KubeflowError(
            f"Kubeflow's answer holds no {field}",
            "Compare its version with the kfp version in setup.cfg",
        )
    return str(value)
