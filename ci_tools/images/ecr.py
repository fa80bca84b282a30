"""Amazon ECR: what it wants beyond the registry protocol, a login and repositories."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ci_tools.errors import CredentialsError, RegistryError

if TYPE_CHECKING:
    from mypy_boto3_ecr import ECRClient

_IDS_A_CALL = 100  # BatchGetImage's own limit
_AT_ONCE = 16
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
        self._lock = threading.Lock()  # boto3 makes clients in one thread at a time only

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

    def digests(self, wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], str | None]:
        """The digest of each (repository, tag), or None where there is no image.

        BatchGetImage takes a hundred tags but one repository, so the calls are as
        many as the repositories; they run side by side, and botocore slows them
        down where ECR says so. An unknown repository has no image.

        Raises CredentialsError, RegistryError.
        """
        by_repository: dict[str, list[str]] = {}
        for repository, tag in wanted:
            by_repository.setdefault(repository, []).append(tag)
        calls = [
            (repository, tags[start : start + _IDS_A_CALL])
            for repository, tags in by_repository.items()
            for start in range(0, len(tags), _IDS_A_CALL)
        ]
        found: dict[tuple[str, str], str | None] = dict.fromkeys(wanted)
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
            for answer in pool.map(lambda call: self._batch(*call), calls):
                found |= answer
        return found

    def _batch(self, repository: str, tags: list[str]) -> dict[tuple[str, str], str | None]:
        """One call: the digests of those tags that are there."""
        with self._translated("ecr:BatchGetImage"):
            try:
                answer = self._ecr.batch_get_image(
                    registryId=self._account,
                    repositoryName=repository,
                    imageIds=[{"imageTag": tag} for tag in tags],
                )
            except self._ecr.exceptions.RepositoryNotFoundException:
                return {}
        for failure in answer["failures"]:
            if failure["failureCode"] != "ImageNotFound":
                raise RegistryError(
                    f"{self._host} does not say what {repository} holds "
                    f"({failure['failureCode']}: {failure.get('failureReason', '')})",
                    "Look into the repository's settings in ECR",
                )
        return {
            (repository, image["imageId"]["imageTag"]): image["imageId"]["imageDigest"]
            for image in answer["images"]
        }

    @property
    def _ecr(self) -> ECRClient:
        with self._lock:
            if self._client is None:
                import boto3
                from botocore.config import Config

                self._client = boto3.client(
                    "ecr",
                    region_name=self._region,
                    config=Config(
                        retries={"mode": "adaptive", "max_attempts": 8},
                        max_pool_connections=_AT_ONCE,
                    ),
                )
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
