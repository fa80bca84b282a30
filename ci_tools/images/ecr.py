"""Amazon ECR: what it wants beyond the registry protocol, a login and repositories."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ci_tools.errors import CredentialsError, RegistryError

if TYPE_CHECKING:
    from mypy_boto3_ecr import ECRClient

_HOST = re.compile(
    r"^(?P<account>\d{12})\.dkr\.ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?$"
)


class Ecr:
    """One account's registry in one region. client: replaced in tests."""

    def __init__(self, host: str, client: ECRClient | None = None) -> None:
        match = _HOST.match(host)
        if match is None:
            raise ValueError(f"{host} is no ECR host")
        self._host = host
        self._account, self._region = match["account"], match["region"]
        self._client = client

    @staticmethod
    def is_host(host: str) -> bool:
        return _HOST.match(host) is not None

    def credentials(self) -> tuple[str, str]:
        """User and password, valid for twelve hours. Raises CredentialsError."""
        with self._translated("ecr:GetAuthorizationToken"):
            answer = self._ecr.get_authorization_token()
        token = base64.b64decode(answer["authorizationData"][0]["authorizationToken"]).decode()
        user, _, password = token.partition(":")
        return user, password

    def ensure_repository(self, name: str) -> bool:
        """Make a repository that is not there yet; whether one was made.

        ECR, unlike other registries, takes no push to an unknown repository. Its
        tags are immutable, so that no later build can replace what a key names.

        Raises CredentialsError, RegistryError.
        """
        with self._translated("ecr:CreateRepository"):
            try:
                self._ecr.create_repository(
                    registryId=self._account,
                    repositoryName=name,
                    imageTagMutability="IMMUTABLE",
                )
            except self._ecr.exceptions.RepositoryAlreadyExistsException:
                return False
        return True

    @property
    def _ecr(self) -> ECRClient:
        if self._client is None:
            import boto3

            self._client = boto3.client("ecr", region_name=self._region)
        return self._client

    @contextmanager
    def _translated(self, permission: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        try:
            yield
        except NoCredentialsError as error:
            raise CredentialsError(
                f"there are no AWS credentials for {self._host}",
                "Set AWS_PROFILE or run where a role gives them",
            ) from error
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            kind = CredentialsError if "Access" in code or "Token" in code else RegistryError
            raise kind(
                f"{self._host} refuses ({error})", f"Check that you may call {permission}"
            ) from error
        except BotoCoreError as error:
            raise RegistryError(f"{self._host} does not answer ({error})", "Try again") from error
