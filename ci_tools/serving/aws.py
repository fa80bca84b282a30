"""boto3 clients with bounded waiting, and AWS' refusals as our own errors."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from ci_tools.aws import no_credentials
from ci_tools.aws_codes import REFUSED, code_of
from ci_tools.config import PredictionService
from ci_tools.errors import CredentialsError, ServiceError


class Clients:
    """The clients of an environment, by boto3's names for the services.

    Each is made when it is first asked for, all of one session: to read the
    models of the services anew for each costs most of a second. Safe to use from
    several threads, which making clients of one session is not.

    A stand-in on loopback gets made-up credentials and no proxy; anything else
    takes both from where boto3 looks for them.
    """

    def __init__(self, settings: PredictionService) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._session: Any = None
        self._made: dict[str, Any] = {}

    def __call__(self, service: str) -> Any:
        """Raises CredentialsError or ServiceError."""
        with self._lock:
            if service not in self._made:
                with translated(self._settings):
                    self._made[service] = self._make(service)
            return self._made[service]

    def _make(self, service: str) -> Any:
        import boto3
        from botocore.config import Config

        local = is_loopback(self._settings.endpoint_url)
        if self._session is None:
            self._session = boto3.Session(
                region_name=self._settings.region,
                aws_access_key_id="test" if local else None,
                aws_secret_access_key="test" if local else None,
            )
        return self._session.client(
            service,
            endpoint_url=self._settings.endpoint_url,
            config=Config(
                connect_timeout=5,
                read_timeout=30,
                retries={"mode": "standard", "max_attempts": 5},
                proxies={} if local else None,
                user_agent_extra="kfp-ci",
            ),
        )


@contextmanager
def translated(settings: PredictionService, service: str = "ECS") -> Iterator[None]:
    """Turn botocore's exceptions into CredentialsError or ServiceError.

    service: which of AWS' is asked, for the message.
    """
    from botocore import exceptions

    try:
        yield
    except exceptions.ClientError as error:
        code = code_of(error)
        said = error.response.get("Error", {}).get("Message", "")[:500]
        if code in REFUSED:
            raise CredentialsError(
                f"AWS refuses {error.operation_name} ({code}: {said})",
                "Renew the credentials, or allow them this action",
            ) from error
        raise ServiceError(
            f"{service} refuses {error.operation_name} on cluster '{settings.cluster}' "
            f"({code}: {said})",
            "Mend servable.yaml or the environment's service in ci.yaml",
        ) from error
    except no_credentials() as error:
        raise CredentialsError(
            f"no AWS credentials for region {settings.region} ({error})",
            "Give the agent a role, or set AWS_PROFILE or AWS_ACCESS_KEY_ID",
        ) from error
    except exceptions.BotoCoreError as error:
        raise ServiceError(
            f"{service} in {settings.region} does not answer ({error})",
            "See that the region and endpoint in ci.yaml are right and reachable",
        ) from error


def is_loopback(url: str | None) -> bool:
    """Whether `url` is on this machine."""
    host = urlsplit(url).hostname if url else None
    if not host:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
