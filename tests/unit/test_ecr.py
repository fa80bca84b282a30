"""What ECR wants beyond the registry protocol; botocore checks every request."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import boto3
import pytest
from botocore.stub import Stubber

from ci_tools.errors import CredentialsError, RegistryError
from ci_tools.images.ecr import Ecr
from ci_tools.images.registry import Registry

HOST = "111111111111.dkr.ecr.eu-west-1.amazonaws.com"


@pytest.fixture
def stub() -> Iterator[Stubber]:
    client = boto3.client(
        "ecr", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def wanted(name: str) -> dict[str, str]:
    return {
        "registryId": "111111111111",
        "repositoryName": name,
        "imageTagMutability": "IMMUTABLE",
    }


@pytest.mark.parametrize(
    ("host", "is_ecr"),
    [
        (HOST, True),
        ("111111111111.dkr.ecr-fips.us-gov-west-1.amazonaws.com", True),
        ("111111111111.dkr.ecr.cn-north-1.amazonaws.com.cn", True),
        ("127.0.0.1:5100", False),
        (f"{HOST}.evil.example", False),
        (f"evil.example/{HOST}", False),
    ],
)
def test_only_ecr_is_asked_as_ecr(host: str, is_ecr: bool) -> None:
    assert Ecr.is_host(host) is is_ecr


def test_the_login_is_taken_from_the_token(stub: Stubber) -> None:
    token = base64.b64encode(b"AWS:pass:word").decode()
    stub.add_response(
        "get_authorization_token", {"authorizationData": [{"authorizationToken": token}]}
    )
    assert Ecr(HOST, stub.client).credentials() == ("AWS", "pass:word")


def test_a_new_repository_is_made_with_immutable_tags(stub: Stubber) -> None:
    stub.add_response("create_repository", {"repository": {}}, wanted("clinical-ml/train"))
    assert Ecr(HOST, stub.client).ensure_repository("clinical-ml/train") is True


def test_a_repository_that_is_there_stays_as_it_is(stub: Stubber) -> None:
    stub.add_client_error(
        "create_repository", "RepositoryAlreadyExistsException", expected_params=wanted("a/b")
    )
    assert Ecr(HOST, stub.client).ensure_repository("a/b") is False


@pytest.mark.parametrize(
    ("code", "error"),
    [("AccessDeniedException", CredentialsError), ("LimitExceededException", RegistryError)],
)
def test_a_refusal_names_the_permission(stub: Stubber, code: str, error: type[Exception]) -> None:
    stub.add_client_error("create_repository", code)
    with pytest.raises(error, match="ecr:CreateRepository"):
        Ecr(HOST, stub.client).ensure_repository("a/b")


def test_other_registries_make_repositories_by_themselves() -> None:
    registry = Registry("127.0.0.1:1")
    registry.ensure_repository("a/b")  # would fail if it asked anybody
    assert registry.credentials() is None
