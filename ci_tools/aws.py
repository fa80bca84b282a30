"""Clients of AWS, and its refusals as our own errors.

The prediction services have their own (`serving.aws`): theirs may be a stand-in, whose
logins are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ci_tools.aws_codes import REFUSED, code_of
from ci_tools.errors import CIError, CredentialsError, RegistryError


def client(service: str, region: str | None = None) -> Any:
    """A client with bounded waiting. region: None for what AWS_REGION and the like say.

    Raises CredentialsError where it cannot be made. What its calls raise is for `translated`.
    """
    import boto3
    from botocore.config import Config

    with translated(f"AWS' {service}", "it"):
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
def translated(
    whom: str, permission: str, otherwise: type[CIError] = RegistryError
) -> Iterator[None]:
    """Turn botocore's exceptions into CredentialsError or `otherwise`.

    whom: what was asked for what, as a sentence names it.
    permission: the IAM action that the call needs.
    """
    from botocore import exceptions

    try:
        yield
    except exceptions.ClientError as error:
        code = code_of(error)
        kind = CredentialsError if code in REFUSED else otherwise
        raise kind(f"{whom} refuses ({error})", f"Check that you may call {permission}") from error
    except no_credentials() as error:
        raise CredentialsError(
            f"there are no AWS credentials for {whom} ({error})",
            f"Set AWS_PROFILE, or run where a role that may call {permission} gives them",
        ) from error
    except exceptions.NoRegionError as error:
        raise CredentialsError(
            f"no AWS region is set for {whom}", "Set AWS_REGION, or name it by its ARN"
        ) from error
    except exceptions.BotoCoreError as error:
        raise otherwise(f"{whom} does not answer ({error})", "Try again") from error


def no_credentials() -> tuple[type[Exception], ...]:
    """What botocore raises where there is nobody to ask as."""
    from botocore import exceptions

    return (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.CredentialRetrievalError,
        exceptions.TokenRetrievalError,
        exceptions.ProfileNotFound,
    )
