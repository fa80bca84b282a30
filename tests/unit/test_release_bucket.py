"""Releases in S3, as moto has it: one object each, never replaced, found by commit."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from ci_tools import documents as d
from ci_tools.errors import CIError, ReleaseError, ReleaseNotFoundError, ReleaseSignatureError
from ci_tools.release import bundle, signing
from ci_tools.release.bucket import Bucket
from tests.fakes.releases import COMMIT, Pen, made


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import boto3
    from moto import mock_aws

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with mock_aws():
        client = boto3.client("s3")
        where = {"LocationConstraint": "eu-west-1"}
        client.create_bucket(Bucket="bucket", CreateBucketConfiguration=where)
        yield client


def keys(s3: Any) -> dict[str, str]:
    listed = s3.list_objects_v2(Bucket="bucket").get("Contents", [])
    return {one["Key"]: one["ETag"] for one in listed}


@pytest.mark.parametrize("uri", ["s3://bucket/some/prefix", "s3://bucket", "s3://bucket/x/"])
def test_a_release_is_found_by_name_and_commit(s3: Any, uri: str) -> None:
    pen = Pen()
    one = signing.sign(made(), pen)
    address = Bucket(uri).publish(one)
    assert address == f"{uri.rstrip('/')}/releases/{one.release.name}.tar"
    for what in (one.release.name, COMMIT):
        found = Bucket(uri).find(what)
        assert found.release == one.release
        assert signing.verify(found, [pen.key])


def test_the_same_again_changes_nothing_and_another_signature_does_not_matter(s3: Any) -> None:
    Bucket("s3://bucket").publish(signing.sign(made(), Pen()))
    before = keys(s3)
    Bucket("s3://bucket").publish(signing.sign(made(), Pen()))
    assert keys(s3) == before


def test_a_name_that_is_taken_is_never_replaced(s3: Any) -> None:
    key = f"releases/{made().release.name}.tar"
    for odd, error in (
        (bundle.packed(made(project="x")), ReleaseError),
        (b"no tar", ReleaseNotFoundError),
    ):
        s3.put_object(Bucket="bucket", Key=key, Body=odd)
        with pytest.raises(error):
            Bucket("s3://bucket").publish(made())
        assert s3.get_object(Bucket="bucket", Key=key)["Body"].read() == odd


def test_the_commit_names_the_newest(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from moto.s3 import models

    old, new = made(), made(build="https://ci.example/2")
    for day, one in ((1, old), (2, new), (3, old)):
        monkeypatch.setattr(models, "utcnow", lambda day=day: datetime(2026, 1, day))
        Bucket("s3://bucket").publish(one)
    assert Bucket("s3://bucket").find(COMMIT).release == new.release


def test_two_in_one_second_are_in_order(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from moto.s3 import models

    monkeypatch.setattr(models, "utcnow", lambda: datetime(2026, 1, 1))
    for one in (made(), made(build="https://ci.example/2")):
        Bucket("s3://bucket").publish(one)
        assert Bucket("s3://bucket").find(COMMIT).release == one.release


def test_what_is_not_of_a_commit_is_not_found_by_one(s3: Any) -> None:
    one = made(source=d.Source(commit=COMMIT, dirty=True))
    Bucket("s3://bucket").publish(one)
    assert list(keys(s3)) == [f"releases/{one.release.name}.tar"]


def test_killed_before_the_commit_is_named_it_is_named_the_next_time(
    s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Bucket._put

    def killed(self: Bucket, key: str, content: bytes, **more: Any) -> bool:
        if "commits" in key:
            raise KeyboardInterrupt
        return real(self, key, content, **more)

    monkeypatch.setattr(Bucket, "_put", killed)
    with pytest.raises(KeyboardInterrupt):
        Bucket("s3://bucket").publish(made())
    with pytest.raises(ReleaseNotFoundError):
        Bucket("s3://bucket").find(COMMIT)
    monkeypatch.setattr(Bucket, "_put", real)
    Bucket("s3://bucket").publish(made())
    assert Bucket("s3://bucket").find(COMMIT).release == made().release


@pytest.mark.parametrize("what", [COMMIT, f"release-{'0' * 64}", "../x", "", "release-1"])
def test_what_is_not_there_is_told(s3: Any, what: str) -> None:
    with pytest.raises(ReleaseNotFoundError):
        Bucket("s3://bucket").find(what)


def test_another_release_under_a_commit_is_not_taken_for_it(s3: Any) -> None:
    Bucket("s3://bucket").publish(made())
    s3.put_object(Bucket="bucket", Key=f"commits/{'d' * 40}", Body=made().release.name.encode())
    with pytest.raises(ReleaseSignatureError, match="in the place of"):
        _ = Bucket("s3://bucket").find("d" * 40).release


def test_a_bucket_that_is_not_there_is_told(s3: Any) -> None:
    with pytest.raises(CIError, match="NoSuchBucket"):
        Bucket("s3://other").publish(made())
