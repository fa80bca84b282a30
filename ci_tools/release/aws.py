"""boto3 clients for releases, and AWS' refusals as our own errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ci_tools.aws_codes import REFUSED
from ci_tools.errors import CredentialsError, ReleaseError


def client(service: str, region: str | None = None) -> Any:
    """A client with bounded waiting. region: None for what AWS_REGION and the like say."""
    import boto3
    from botocore.config import Config

    with translated(service):
        session: Any = boto3.Session(region_name=region)
        return session.client(
            service,
            config=Config(
                connect_timeout=5,
                read_timeout=60,
                retries={"mode": "standard", "max_attempts": 5},
                user_agent_extra="kfp-ci",
            ),
        )


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn botocore's exceptions into CredentialsError or ReleaseError. what: who was asked."""
    from botocore import exceptions

    try:
        yield
    except exceptions.ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        said = error.response.get("Error", {}).get("Message", "")[:500]
        if code in REFUSED:
            raise CredentialsError(
                f"AWS refuses {error.operation_name} ({code}: {said})",
                f"Renew the credentials, or allow them this action on {what}",
            ) from error
        raise ReleaseError(
            f"AWS refuses {error.operation_name} ({code}: {said})", f"Mend {what} in ci.yaml"
        ) from error
    except (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.CredentialRetrievalError,
        exceptions.TokenRetrievalError,
        exceptions.ProfileNotFound,
    ) as error:
        raise CredentialsError(
            f"there are no AWS credentials for {what} ({error})",
            "Give the agent a role, or set AWS_PROFILE or AWS_ACCESS_KEY_ID",
        ) from error
    except exceptions.BotoCoreError as error:
        raise ReleaseError(
            f"AWS does not answer for {what} ({error})",
            "See that it is right in ci.yaml and that AWS_REGION names its region",
        ) from error
