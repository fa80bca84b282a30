"""Repositories against moto's ECR, which checks requests and lifecycle policies by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import moto
import pytest

from ci_tools import config
from ci_tools.images import ecr_repository
from ci_tools.images.ecr import Ecr

HOST = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"  # moto's own account


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "x")
    with moto.mock_aws():
        yield boto3.client("ecr", region_name="eu-west-1")


@pytest.mark.parametrize("settings", [config.Ecr(), config.Ecr(untagged_days=1, expire_days=90)])
def test_a_repository_is_made_once_and_then_as_it_should_be(
    client: Any, settings: config.Ecr
) -> None:
    ecr = Ecr(HOST, settings)
    assert len(ecr.prepare("p/train")) == 1
    assert ecr.prepare("p/train") == []
    assert ecr.ensure_repository("p/train") is False
    (made,) = client.describe_repositories()["repositories"]
    assert made["imageTagMutability"] == "IMMUTABLE"
    assert made["imageScanningConfiguration"] == {"scanOnPush": True}
    assert made["encryptionConfiguration"] == {"encryptionType": "AES256"}
    policy = json.loads(
        client.get_lifecycle_policy(repositoryName="p/train")["lifecyclePolicyText"]
    )
    chosen = [rule["selection"] for rule in policy["rules"]]
    assert [one["countNumber"] for one in chosen if one["countType"] == "sinceImagePushed"] == [
        days for days in (settings.untagged_days, settings.expire_days) if days
    ]


def test_a_repository_that_somebody_made_otherwise(client: Any) -> None:
    client.create_repository(repositoryName="p/theirs")
    before = client.describe_repositories()["repositories"]
    assert len(Ecr(HOST).prepare("p/theirs")) == 2
    assert client.describe_repositories()["repositories"] == before


def test_keys_and_the_login(client: Any) -> None:
    ecr = Ecr(HOST)
    ecr.prepare("p/a")
    image = client.put_image(repositoryName="p/a", imageManifest=MANIFEST, imageTag="k")["image"]
    wanted = [("p/a", "k"), ("p/a", "other"), ("p/none", "k")]
    digest = image["imageId"]["imageDigest"]
    assert ecr.digests(wanted) == dict(zip(wanted, [digest, None, None], strict=True))
    assert ecr.credentials()[0] == "AWS"


def test_moto_refuses_a_policy_that_is_none(client: Any) -> None:
    """Else its silence about ours would say nothing."""
    client.create_repository(repositoryName="p/a")
    wrong = ecr_repository.lifecycle_policy(config.Ecr()).replace("untagged", "tagless")
    with pytest.raises(client.exceptions.InvalidParameterException):
        client.put_lifecycle_policy(repositoryName="p/a", lifecyclePolicyText=wrong)


MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "size": 1,
            "digest": "sha256:" + "c" * 64,
        },
        "layers": [],
    }
)
