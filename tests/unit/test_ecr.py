"""What ECR wants beyond the registry protocol; botocore checks every request."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
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


def keys_wanted(repository: str, tags: list[str]) -> dict[str, object]:
    return {
        "registryId": "111111111111",
        "repositoryName": repository,
        "imageIds": [{"imageTag": tag} for tag in tags],
    }


def held(tag: str) -> dict[str, object]:
    return {"imageId": {"imageTag": tag, "imageDigest": f"sha256:{tag}"}}


def absent(tag: str, code: str = "ImageNotFound") -> dict[str, object]:
    return {"imageId": {"imageTag": tag}, "failureCode": code, "failureReason": "because"}


def test_keys_of_one_repository_are_asked_a_hundred_at_once(stub: Stubber) -> None:
    tags = [f"{number:064x}" for number in range(100)]
    stub.add_response(
        "batch_get_image",
        {"images": [held(tag) for tag in tags[1:]], "failures": [absent(tags[0])]},
        keys_wanted("p/train", tags),
    )
    found = Ecr(HOST, stub.client).digests([("p/train", tag) for tag in tags])
    assert len(found) == 100
    assert found["p/train", tags[0]] is None
    assert found["p/train", tags[7]] == f"sha256:{tags[7]}"


def test_an_unknown_repository_holds_nothing(stub: Stubber) -> None:
    stub.add_client_error("batch_get_image", "RepositoryNotFoundException")
    assert Ecr(HOST, stub.client).digests([("p/new", "k")]) == {("p/new", "k"): None}


def test_an_answer_that_is_neither_yes_nor_no_is_an_error(stub: Stubber) -> None:
    stub.add_response("batch_get_image", {"images": [], "failures": [absent("k", "KmsError")]})
    with pytest.raises(RegistryError, match="KmsError"):
        Ecr(HOST, stub.client).digests([("p/a", "k")])


def test_a_refused_look_up_names_the_permission(stub: Stubber) -> None:
    stub.add_client_error("batch_get_image", "AccessDeniedException")
    with pytest.raises(CredentialsError, match="ecr:BatchGetImage"):
        Ecr(HOST, stub.client).digests([("p/a", "k")])


def test_many_repositories_are_as_many_calls_and_no_more() -> None:
    """botocore's own serialiser and parser, an answer in place of the network."""
    client = boto3.client(
        "ecr", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    calls: list[tuple[str, int]] = []

    def answer(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        asked = json.loads(request.body)
        tags = [one["imageTag"] for one in asked["imageIds"]]
        calls.append((asked["repositoryName"], len(tags)))
        content = {"images": [held(tag) for tag in tags], "failures": []}
        raw = io.BytesIO(json.dumps(content).encode())
        raw.stream = lambda *_, **__: iter([raw.getvalue()])  # type: ignore[attr-defined]
        return AWSResponse(request.url, 200, {}, raw)

    client.meta.events.register("before-send.ecr.BatchGetImage", answer)
    wanted = [(f"p/{name}", f"{name}k") for name in range(40)]
    wanted += [("p/many", f"{number}") for number in range(150)]
    found = Ecr(HOST, client).digests(wanted)
    assert found == {(repository, tag): f"sha256:{tag}" for repository, tag in wanted}
    assert len(calls) == 42
    assert sorted(n for repository, n in calls if repository == "p/many") == [50, 100]
