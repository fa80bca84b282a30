"""One call to a Kubeflow API server: time-out, retry, and errors as sentences.

Below `server.py`, which knows the rules, and above `kfp.Client`, whose
generated API classes do the talking.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ci_tools import config
from ci_tools.errors import CredentialsError, KubeflowError

_TIMEOUT = (10, 60)  # seconds to connect, and to wait for bytes
_PAGE_SIZE = 100
_AWAY = frozenset({429, 502, 503, 504})


class Conflict(KubeflowError):
    """409: something of that name is there."""


class NotFound(KubeflowError):
    """404: nothing of that name is there."""


class Away(KubeflowError):
    """Nobody answered, or only a proxy that says the server is away."""


class Api:
    """An authenticated connection. Made by `connect`, never by `__init__` alone."""

    def __init__(self, client: Any, settings: config.KubeflowServer, patience: float) -> None:
        self._settings, self._patience = settings, patience
        self.pipelines = client._pipelines_api
        self.uploads = client._upload_api
        self.runs = client._run_api
        self.experiments = client._experiment_api
        self.schedules = client._recurring_run_api

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
        return call(self._settings, method, *given, **keywords)

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


def connect(settings: config.KubeflowServer, token: str, patience: float) -> Api:
    """Log in and see that an API server answers. Raises as `Api.call`."""
    import kfp_server_api  # type: ignore[import-untyped]
    from kfp import Client

    # First with a time-out: Client's own health check has none, and tries for
    # 25 seconds before it says why.
    health = kfp_server_api.Configuration()
    health.host = settings.endpoint.rstrip("/")
    health.ssl_ca_cert = settings.ca_bundle
    if token:
        health.api_key = {"authorization": token}
        health.api_key_prefix = {"authorization": "Bearer"}
    with kfp_server_api.ApiClient(health) as probe:
        service = kfp_server_api.HealthzServiceApi(probe)
        call(settings, service.healthz_service_get_healthz_with_http_info)
    with tempfile.TemporaryDirectory() as private, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # "works with v2 only": so do we
        # ~/.config/kfp/context.json would bring another build's namespace and cookies.
        Client._LOCAL_KFP_CONTEXT = str(Path(private, "kfp", "context.json"))
        client = Client(
            host=settings.endpoint,
            existing_token=token or None,
            namespace=settings.namespace or "kubeflow",
            ssl_ca_cert=settings.ca_bundle,
        )
    return Api(client, settings, patience)


def call(
    settings: config.KubeflowServer, method: Callable[..., Any], *given: Any, **keywords: Any
) -> Any:
    """See `Api.call`."""
    import urllib3
    from kfp_server_api.exceptions import ApiException  # type: ignore[import-untyped]

    try:
        answer, _, headers = method(
            *given, **keywords, _request_timeout=_TIMEOUT, _return_http_data_only=False
        )
    except ApiException as error:
        raise _refused(settings, error) from error
    except urllib3.exceptions.HTTPError as error:
        raise _away(settings, error) from error
    except ValueError as error:  # the generated classes' own check of what came
        raise KubeflowError(
            f"Kubeflow at {settings.endpoint} answered with something unknown ({error})",
            "Compare its version with the kfp version in setup.cfg",
        ) from error
    # A login page is a 200 that the generated classes read as an empty answer.
    if "json" not in headers.get("Content-Type", ""):
        raise CredentialsError(
            f"{settings.endpoint} answered with a page instead of Kubeflow's API "
            "(a login form, or a proxy's)",
            _how_to_log_in(settings),
        )
    return answer


def _refused(settings: config.KubeflowServer, error: Any) -> KubeflowError | CredentialsError:
    said = _message(error)
    if error.status in (401, 403):
        return CredentialsError(
            f"Kubeflow at {settings.endpoint} refuses these credentials "
            f"({error.status}{': ' + said if said else ''})",
            _how_to_log_in(settings),
        )
    if error.status == 0:  # how the generated client reports a TLS failure
        return KubeflowError(
            f"no TLS connection to Kubeflow at {settings.endpoint} ({said})",
            "Give the certificate authority's bundle as 'kubeflow.ca_bundle' in ci.yaml",
        )
    kind = {409: Conflict, 404: NotFound}.get(error.status, KubeflowError)
    if error.status in _AWAY:
        kind = Away
    return kind(
        f"Kubeflow at {settings.endpoint} answered {error.status} ({said})",
        "Mend what it says, or ask who runs it",
    )


def _away(settings: config.KubeflowServer, error: Exception) -> KubeflowError:
    reason = getattr(error, "reason", None) or error
    text = " ".join(str(reason).split())
    if "SSL" in type(reason).__name__ or "CERTIFICATE" in text:
        return KubeflowError(
            f"no TLS connection to Kubeflow at {settings.endpoint} ({text})",
            "Give the certificate authority's bundle as 'kubeflow.ca_bundle' in ci.yaml",
        )
    return Away(
        f"Kubeflow at {settings.endpoint} does not answer ({text})",
        "Check 'kubeflow.endpoint' in ci.yaml and that this machine reaches it",
    )


def _message(error: Any) -> str:
    """The server's own words, from either form of its error bodies."""
    try:
        body = json.loads(error.body)
        text = body.get("error_message") or body.get("message") or body.get("error_details") or ""
    except (TypeError, ValueError, AttributeError):
        text = error.reason or ""
    return " ".join(str(text).split())[:500]


def _how_to_log_in(settings: config.KubeflowServer) -> str:
    return f"Set the environment variable {settings.token_env} to a valid token" + (
        f" for namespace '{settings.namespace}'" if settings.namespace else ""
    )


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
