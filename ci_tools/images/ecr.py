"""Amazon ECR: what it wants beyond the registry protocol, a login and repositories."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, NamedTuple

from ci_tools import aws, config
from ci_tools.errors import CIError, RegistryError
from ci_tools.images import ecr_repository

if TYPE_CHECKING:
    from mypy_boto3_ecr import ECRClient
    from mypy_boto3_ecr.type_defs import RepositoryTypeDef

_IDS_A_CALL = 100  # BatchGetImage's own limit
_AT_ONCE = 32
_HOST = re.compile(
    r"^(?P<account>\d{12})\.dkr\.ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?$"
)
# A token lives for twelve hours. A push of a large image may take this long, and
# asks the registry with one token from its beginning to its end.
_LEFT = timedelta(minutes=30)
_FRESH = timedelta(minutes=1)  # a token refused at this age is not refused for its age


class _Token(NamedTuple):
    user: str
    password: str
    issued: datetime
    expires: datetime

    @property
    def known(self) -> tuple[str, str]:
        return self.user, self.password


def _now() -> datetime:
    return datetime.now(timezone.utc)


class Ecr:
    """One account's registry in one region. Safe to use from several threads.

    settings: how repositories are made. client, clock: replaced in tests.
    """

    def __init__(
        self,
        host: str,
        settings: config.Ecr | None = None,
        *,
        client: ECRClient | None = None,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        match = _HOST.match(host)
        if match is None:
            raise ValueError(f"{host} is no ECR host")
        self._host = host
        self._account, self._region = match["account"], match["region"]
        self._settings = settings or config.Ecr()
        self._client = client
        self._clock = clock
        self._lock = threading.Lock()  # boto3 makes clients in one thread at a time only
        self._token: _Token | None = None
        self._token_lock = threading.Lock()

    @staticmethod
    def is_host(host: str) -> bool:
        return _HOST.match(host) is not None

    def credentials(self) -> tuple[str, str]:
        """User and password, good for half an hour at least.

        Raises CredentialsError, RegistryError; not while the ones we have work.
        """
        with self._token_lock:
            now = self._clock()
            if self._token is None or self._token.expires - now < _LEFT:
                try:
                    self._token = self._new_token(now)
                except CIError:
                    if self._token is None or self._token.expires <= now:
                        raise
            return self._token.known

    def renew(self, refused: tuple[str, str]) -> tuple[str, str] | None:
        """What to try instead of credentials that the registry refused.

        None when those were new: then they are refused for another reason.
        Raises as `credentials`.
        """
        with self._token_lock:
            now = self._clock()
            if self._token is None or self._token.known == refused:
                if self._token is not None and now - self._token.issued < _FRESH:
                    return None
                self._token = self._new_token(now)
            return self._token.known  # another thread's, since the refusal

    def _new_token(self, now: datetime) -> _Token:
        with self._translated("ecr:GetAuthorizationToken"):
            answer = self._ecr.get_authorization_token()["authorizationData"][0]
        user, _, password = base64.b64decode(answer["authorizationToken"]).decode().partition(":")
        return _Token(user, password, now, answer["expiresAt"])

    def ensure_repository(self, name: str, *, mutable: bool = False) -> bool:
        """Make a repository that is not there yet; whether one was made.

        ECR, unlike other registries, takes no push to an unknown repository.
        mutable: for what is no image of a key, such as cached layers.

        Raises CredentialsError, RegistryError.
        """
        return self._made(name, mutable=mutable) is not None

    def prepare(self, name: str) -> list[str]:
        """Make a repository that is not there yet, and look at one that is.

        Returns sentences: that it was made, or what it is not that we would have
        made it. What is there is not changed.
        Raises CredentialsError, RegistryError.
        """
        found = self._described(name)
        if found is None:
            told = self._made(name)
            if told is not None:
                return told
            found = self._described(name)  # somebody else made it meanwhile
        return [] if found is None else ecr_repository.differences(found, self._settings)

    def may_push(self, repository: str) -> str:
        """What to do where a push is refused."""
        return (
            "Allow ecr:InitiateLayerUpload, ecr:UploadLayerPart, ecr:CompleteLayerUpload, "
            "ecr:BatchCheckLayerAvailability and ecr:PutImage on "
            f"repository/{repository} in {self._region} of account {self._account}"
        )

    def _described(self, name: str) -> RepositoryTypeDef | None:
        with self._translated("ecr:DescribeRepositories", name):
            try:
                answer = self._ecr.describe_repositories(
                    registryId=self._account, repositoryNames=[name]
                )
            except self._ecr.exceptions.RepositoryNotFoundException:
                return None
        return answer["repositories"][0]

    def _made(self, name: str, *, mutable: bool = False) -> list[str] | None:
        """What was made, in sentences; None when it was there."""
        with self._translated("ecr:CreateRepository", name):
            try:
                self._ecr.create_repository(
                    registryId=self._account,
                    repositoryName=name,
                    **ecr_repository.creation(self._settings, mutable=mutable),
                )
            except self._ecr.exceptions.RepositoryAlreadyExistsException:
                return None
        kind = "mutable" if mutable else "immutable"
        told = f"made the repository {self._host}/{name}, with {kind} tags"
        try:
            with self._translated("ecr:PutLifecyclePolicy", name):
                self._ecr.put_lifecycle_policy(
                    registryId=self._account,
                    repositoryName=name,
                    lifecyclePolicyText=ecr_repository.lifecycle_policy(self._settings),
                )
        except CIError as error:
            # It takes pushes, so nothing is to stop; but nobody else will notice.
            return [f"{told}, but without a lifecycle policy: {error.what}. {error.todo}"]
        return [told]

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
        with self._translated("ecr:BatchGetImage", repository):
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
                        connect_timeout=10,
                        read_timeout=30,
                    ),
                )
            return self._client

    def _translated(self, permission: str, repository: str = "") -> AbstractContextManager[None]:
        return aws.translated(f"{self._host}/{repository}".rstrip("/"), permission)
