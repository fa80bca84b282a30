"""What ECR wants beyond the registry protocol; botocore checks every request."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from fnmatch import fnmatch
from typing import NamedTuple

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st

from ci_tools import config
from ci_tools.errors import CredentialsError, RegistryError
from ci_tools.images import ecr_repository
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


def wanted(name: str) -> dict[str, object]:
    return {
        "registryId": "111111111111",
        "repositoryName": name,
        "imageTagMutability": "IMMUTABLE",
        "imageScanningConfiguration": {"scanOnPush": True},
        "encryptionConfiguration": {"encryptionType": "AES256"},
    }


def token(text: str, expires: datetime) -> dict[str, object]:
    encoded = base64.b64encode(text.encode()).decode()
    return {"authorizationData": [{"authorizationToken": encoded, "expiresAt": expires}]}


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=timezone.utc)

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)

    def in_twelve_hours(self) -> datetime:
        return self.now + timedelta(hours=12)


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
    clock = Clock()
    stub.add_response("get_authorization_token", token("AWS:pass:word", clock.in_twelve_hours()))
    assert Ecr(HOST, client=stub.client, clock=clock).credentials() == ("AWS", "pass:word")


def test_a_token_is_kept_until_half_an_hour_before_its_end(stub: Stubber) -> None:
    clock = Clock()
    stub.add_response("get_authorization_token", token("AWS:one", clock.in_twelve_hours()))
    ecr = Ecr(HOST, client=stub.client, clock=clock)
    for moved in (0, 11, 0.5):
        clock.move(hours=moved)
        assert ecr.credentials() == ("AWS", "one")
    clock.move(seconds=1)
    stub.add_response("get_authorization_token", token("AWS:two", clock.in_twelve_hours()))
    assert ecr.credentials() == ("AWS", "two")


def test_a_token_that_works_is_used_while_there_is_no_other(stub: Stubber) -> None:
    clock = Clock()
    stub.add_response("get_authorization_token", token("AWS:one", clock.in_twelve_hours()))
    ecr = Ecr(HOST, client=stub.client, clock=clock)
    ecr.credentials()
    for _ in range(2):
        stub.add_client_error("get_authorization_token", "ServerException")
    clock.move(hours=11, minutes=59)
    assert ecr.credentials() == ("AWS", "one")
    clock.move(minutes=1)
    with pytest.raises(RegistryError, match="ServerException"):
        ecr.credentials()


def test_a_refused_token_is_renewed_once_for_all_threads(stub: Stubber) -> None:
    clock = Clock()
    stub.add_response("get_authorization_token", token("AWS:one", clock.in_twelve_hours()))
    ecr = Ecr(HOST, client=stub.client, clock=clock)
    first = ecr.credentials()
    assert ecr.renew(first) is None  # it is seconds old: a new one would be refused too
    clock.move(hours=1)
    stub.add_response("get_authorization_token", token("AWS:two", clock.in_twelve_hours()))
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: ecr.renew(first), range(8))) == {("AWS", "two")}
    assert ecr.credentials() == ("AWS", "two")


@pytest.fixture
def no_policy(stub: Stubber) -> None:
    """Nothing but the repository is asked for."""
    stub.client.put_lifecycle_policy = lambda **_: {}  # type: ignore[method-assign]


def test_a_new_repository_is_made_with_immutable_tags(stub: Stubber, no_policy: None) -> None:
    stub.add_response("create_repository", {"repository": {}}, wanted("clinical-ml/train"))
    assert Ecr(HOST, client=stub.client).ensure_repository("clinical-ml/train") is True


def test_a_new_repository_is_as_ci_yaml_says(stub: Stubber) -> None:
    key = "arn:aws:kms:eu-west-1:111111111111:key/1234"
    settings = config.Ecr(scan_on_push=False, encryption=key, untagged_days=3)
    stub.add_client_error("describe_repositories", "RepositoryNotFoundException")
    stub.add_response(
        "create_repository",
        {"repository": {}},
        wanted("p/train")
        | {
            "imageScanningConfiguration": {"scanOnPush": False},
            "encryptionConfiguration": {"encryptionType": "KMS", "kmsKey": key},
        },
    )
    stub.add_response(
        "put_lifecycle_policy",
        {},
        {
            "registryId": "111111111111",
            "repositoryName": "p/train",
            "lifecyclePolicyText": ecr_repository.lifecycle_policy(settings),
        },
    )
    told = Ecr(HOST, settings, client=stub.client).prepare("p/train")
    assert told == [f"made the repository {HOST}/p/train, with immutable tags"]


def test_a_lifecycle_policy_that_we_may_not_set_is_told(stub: Stubber) -> None:
    stub.add_client_error("describe_repositories", "RepositoryNotFoundException")
    stub.add_response("create_repository", {"repository": {}})
    stub.add_client_error("put_lifecycle_policy", "AccessDeniedException")
    (told,) = Ecr(HOST, client=stub.client).prepare("p/train")
    assert "p/train" in told
    assert "ecr:PutLifecyclePolicy" in told


def described(**more: object) -> dict[str, object]:
    one = {"repositoryName": "p/a", "repositoryUri": f"{HOST}/p/a", **more}
    return {"repositories": [one]}


SCANS = {"imageScanningConfiguration": {"scanOnPush": True}}


@pytest.mark.parametrize(
    ("answer", "settings", "words"),
    [
        (described(imageTagMutability="IMMUTABLE", **SCANS), config.Ecr(), []),
        (described(imageTagMutability="MUTABLE", **SCANS), config.Ecr(), ["MUTABLE"]),
        (
            described(imageTagMutability="IMMUTABLE_WITH_EXCLUSION", **SCANS),
            config.Ecr(),
            ["IMMUTABLE_WITH_EXCLUSION"],
        ),
        (described(imageTagMutability="IMMUTABLE"), config.Ecr(), ["scan on push"]),
        (described(imageTagMutability="IMMUTABLE"), config.Ecr(scan_on_push=False), []),
        (described(), config.Ecr(), ["MUTABLE", "scan on push"]),
    ],
)
def test_a_repository_that_is_less_is_told_and_left(
    stub: Stubber, answer: dict[str, object], settings: config.Ecr, words: list[str]
) -> None:
    stub.add_response("describe_repositories", answer)
    told = Ecr(HOST, settings, client=stub.client).prepare("p/a")
    assert len(told) == len(words)
    for sentence, word in zip(told, words, strict=True):
        assert f"{HOST}/p/a" in sentence
        assert word in sentence


def test_a_repository_that_another_run_makes_meanwhile(stub: Stubber) -> None:
    stub.add_client_error("describe_repositories", "RepositoryNotFoundException")
    stub.add_client_error("create_repository", "RepositoryAlreadyExistsException")
    stub.add_response("describe_repositories", described(imageTagMutability="IMMUTABLE", **SCANS))
    assert Ecr(HOST, client=stub.client).prepare("p/a") == []


@pytest.mark.parametrize("call", ["describe_repositories", "create_repository"])
def test_a_refused_preparation_names_permission_and_repository(stub: Stubber, call: str) -> None:
    if call == "create_repository":
        stub.add_client_error("describe_repositories", "RepositoryNotFoundException")
    stub.add_client_error(call, "AccessDeniedException")
    with pytest.raises(CredentialsError) as caught:
        Ecr(HOST, client=stub.client).prepare("p/train")
    assert f"{HOST}/p/train" in caught.value.what
    assert f"ecr:{call.title().replace('_', '')}" in caught.value.todo


class Held(NamedTuple):
    tags: list[str]
    days: int


def expired(policy: str, images: list[Held]) -> list[Held]:
    """What ECR would delete, by the evaluation rules of its user guide."""
    gone: list[Held] = []
    left = list(images)
    for rule in sorted(json.loads(policy)["rules"], key=lambda rule: rule["rulePriority"]):
        chosen = rule["selection"]
        patterns = chosen.get("tagPatternList", [])
        claimed = [
            image
            for image in left
            if (
                not image.tags
                if chosen["tagStatus"] == "untagged"
                else image.tags
                and all(any(fnmatch(tag, one) for tag in image.tags) for one in patterns)
            )
        ]
        left = [image for image in left if image not in claimed]
        if chosen["countType"] == "sinceImagePushed":
            gone += [image for image in claimed if image.days > chosen["countNumber"]]
        else:
            gone += sorted(claimed, key=lambda image: image.days)[chosen["countNumber"] :]
    return gone


TAGS = st.lists(
    st.sampled_from(
        [
            "release-1",
            "release-2026.01",
            "0" * 64,
            "f" * 64,
            "latest",
            "a-release-1",
            "attached-" + "0" * 64,
            "sha256-" + "0" * 64 + ".sig",
            "unattached-1",
        ]
    ),
    max_size=3,
    unique=True,
)


@given(
    images=st.lists(st.builds(Held, TAGS, st.integers(0, 4000)), max_size=30),
    untagged=st.integers(1, 400),
    others=st.none() | st.integers(1, 400),
)
def test_what_expires_and_that_releases_never_do(
    images: list[Held], untagged: int, others: int | None
) -> None:
    settings = config.Ecr(untagged_days=untagged, expire_days=others)
    gone = expired(ecr_repository.lifecycle_policy(settings), images)
    for image in images:
        if any(tag.startswith(("release-", "attached-", "sha256-")) for tag in image.tags):
            assert image not in gone
        elif image.tags:
            assert (image in gone) == (others is not None and image.days > others)
        else:
            assert (image in gone) == (image.days > untagged)


@pytest.mark.parametrize("expire_days", [None, 1])
def test_the_policy_is_one_that_ecr_takes(expire_days: int | None) -> None:
    """Source: Amazon ECR user guide, lifecycle_policy_parameters.html and LifecyclePolicies.html:
    priorities and patterns are unique, one rule is about untagged images."""
    policy = ecr_repository.lifecycle_policy(config.Ecr(untagged_days=3, expire_days=expire_days))
    rules = json.loads(policy)["rules"]
    assert [rule["rulePriority"] for rule in rules] == [*range(1, len(rules) + 1)]
    chosen = [rule["selection"] for rule in rules]
    patterns = [one for each in chosen for one in each.get("tagPatternList", [])]
    assert patterns == ["release-*", "attached-*", "sha256-*", *(["*"] if expire_days else [])]
    untagged = [one for one in chosen if one["tagStatus"] == "untagged"]
    assert [one["countNumber"] for one in untagged] == [3]
    assert all("tagPatternList" not in one for one in untagged)
    assert {rule["action"]["type"] for rule in rules} == {"expire"}
    assert 100 <= len(policy) <= 30_720


def test_a_repository_that_is_there_stays_as_it_is(stub: Stubber) -> None:
    stub.add_client_error(
        "create_repository", "RepositoryAlreadyExistsException", expected_params=wanted("a/b")
    )
    assert Ecr(HOST, client=stub.client).ensure_repository("a/b") is False


@pytest.mark.parametrize(
    ("code", "error"),
    [("AccessDeniedException", CredentialsError), ("LimitExceededException", RegistryError)],
)
def test_a_refusal_names_the_permission(stub: Stubber, code: str, error: type[Exception]) -> None:
    stub.add_client_error("create_repository", code)
    with pytest.raises(error, match="ecr:CreateRepository"):
        Ecr(HOST, client=stub.client).ensure_repository("a/b")


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
    found = Ecr(HOST, client=stub.client).digests([("p/train", tag) for tag in tags])
    assert len(found) == 100
    assert found["p/train", tags[0]] is None
    assert found["p/train", tags[7]] == f"sha256:{tags[7]}"


def test_an_unknown_repository_holds_nothing(stub: Stubber) -> None:
    stub.add_client_error("batch_get_image", "RepositoryNotFoundException")
    assert Ecr(HOST, client=stub.client).digests([("p/new", "k")]) == {("p/new", "k"): None}


def test_an_answer_that_is_neither_yes_nor_no_is_an_error(stub: Stubber) -> None:
    stub.add_response("batch_get_image", {"images": [], "failures": [absent("k", "KmsError")]})
    with pytest.raises(RegistryError, match="KmsError"):
        Ecr(HOST, client=stub.client).digests([("p/a", "k")])


def test_a_refused_look_up_names_the_permission(stub: Stubber) -> None:
    stub.add_client_error("batch_get_image", "AccessDeniedException")
    with pytest.raises(CredentialsError, match="ecr:BatchGetImage"):
        Ecr(HOST, client=stub.client).digests([("p/a", "k")])


Answer = Callable[[AWSPreparedRequest], AWSResponse]


def answered(content: object, status: int = 200) -> AWSResponse:
    raw = io.BytesIO(json.dumps(content).encode())
    raw.stream = lambda *_, **__: iter([raw.getvalue()])  # type: ignore[attr-defined]
    return AWSResponse("https://ecr", status, {}, raw)


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], Ecr]:
    """Our own client: botocore's serialiser, parser and retries, an answer in
    place of the network."""

    def made(answer: Answer) -> Ecr:
        for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(variable, "x")
        ecr = Ecr(HOST)
        events = ecr._ecr.meta.events
        events.register("before-send.ecr.*", lambda request, **_: answer(request))
        return ecr

    return made


def test_many_repositories_are_as_many_calls_and_no_more(own: Callable[[Answer], Ecr]) -> None:
    calls: list[tuple[str, int]] = []

    def answer(request: AWSPreparedRequest) -> AWSResponse:
        asked = json.loads(request.body)
        tags = [one["imageTag"] for one in asked["imageIds"]]
        calls.append((asked["repositoryName"], len(tags)))
        return answered({"images": [held(tag) for tag in tags], "failures": []})

    wanted = [(f"p/{name}", f"{name}k{tag}") for name in range(200) for tag in range(3)]
    wanted += [("p/many", f"{number}") for number in range(150)]
    found = own(answer).digests(wanted)
    assert found == {(repository, tag): f"sha256:{tag}" for repository, tag in wanted}
    assert len(calls) == 202  # tags of one repository share a call
    assert sorted(n for repository, n in calls if repository == "p/many") == [50, 100]


def test_repositories_are_asked_side_by_side(own: Callable[[Answer], Ecr]) -> None:
    together = threading.Barrier(16)  # broken, and an error, unless so many calls are under way

    def answer(request: AWSPreparedRequest) -> AWSResponse:
        together.wait(timeout=300)
        tags = [one["imageTag"] for one in json.loads(request.body)["imageIds"]]
        return answered({"images": [held(tag) for tag in tags], "failures": []})

    wanted = [(f"p/{name}", "k") for name in range(208)]
    assert own(answer).digests(wanted) == dict.fromkeys(wanted, "sha256:k")


def test_a_throttled_look_up_is_asked_again(own: Callable[[Answer], Ecr]) -> None:
    calls: list[str] = []

    def answer(request: AWSPreparedRequest) -> AWSResponse:
        repository = json.loads(request.body)["repositoryName"]
        calls.append(repository)
        if calls.count(repository) == 1 and repository in ("p/1", "p/2"):
            return answered({"__type": "ThrottlingException", "message": "Rate exceeded"}, 400)
        return answered({"images": [held("k")], "failures": []})

    wanted = [(f"p/{name}", "k") for name in range(4)]
    assert own(answer).digests(wanted) == dict.fromkeys(wanted, "sha256:k")
    assert sorted(calls) == ["p/0", "p/1", "p/1", "p/2", "p/2", "p/3"]
