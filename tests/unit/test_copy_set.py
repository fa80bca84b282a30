"""Sets of images between stand-ins of registries with and without the referrers API, and
of Amazon's, whose own interface is moto's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import boto3
import moto
import pytest

from ci_tools import config
from ci_tools.errors import PushError
from ci_tools.images import artifacts
from ci_tools.images.copy_set import Copied, Event, Wanted, copy_all
from ci_tools.images.ecr import Ecr
from ci_tools.images.registry import Registry
from tests.fakes.registry import INDEX, FakeRegistry, Reply, digest_of, serve

ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"  # moto's own account
MANIFEST = artifacts.MANIFEST


def blob(fake: FakeRegistry, kind: str, content: bytes) -> dict[str, Any]:
    fake.blobs[digest_of(content)] = content
    return {"mediaType": kind, "digest": digest_of(content), "size": len(content)}


def put(fake: FakeRegistry, content: dict[str, Any], tag: str = "") -> dict[str, Any]:
    raw = json.dumps({"schemaVersion": 2, **content}).encode()
    fake.manifests[digest_of(raw)] = (content["mediaType"], raw)
    if tag:
        fake.tags[tag] = digest_of(raw)
    return {"mediaType": content["mediaType"], "digest": digest_of(raw), "size": len(raw)}


def image(fake: FakeRegistry, *layers: bytes) -> dict[str, Any]:
    return put(fake, {
        "mediaType": MANIFEST,
        "config": blob(fake, "application/vnd.oci.image.config.v1+json", b"{}"),
        "layers": [blob(fake, "application/layer", layer) for layer in layers],
    })  # fmt: skip


def attachment(fake: FakeRegistry, subject: dict[str, Any], kind: str = "a/b") -> dict[str, Any]:
    made = put(fake, {
        "mediaType": MANIFEST,
        "artifactType": kind,
        "config": blob(fake, artifacts.EMPTY, b"{}"),
        "layers": [blob(fake, kind, f"{kind} of {subject['digest']}".encode())],
        "subject": subject,
    })  # fmt: skip
    return {**made, "artifactType": kind}


def listing(fake: FakeRegistry, subject: dict[str, Any], *entries: dict[str, Any]) -> None:
    content = {"mediaType": INDEX, "manifests": list(entries)}
    put(fake, content, tag=subject["digest"].replace(":", "-"))


def copied(
    source: FakeRegistry, target: FakeRegistry, *digests: str, events: list[Event] | None = None
) -> Copied:
    with serve(source) as here, serve(target) as there:
        return copy_all(
            [Wanted("team/x", "prod/x", digest) for digest in digests],
            Registry(here),
            Registry(there),
            on_event=(events if events is not None else []).append,
        )


def writes(fake: FakeRegistry) -> list[str]:
    return [path for method, path in fake.asked if method not in ("GET", "HEAD")]


def test_from_a_list_of_clients_to_a_registry_that_lists() -> None:
    source, target = FakeRegistry(api=False), FakeRegistry()
    one = image(source, b"layer")
    sbom = attachment(source, one)
    signature = attachment(source, sbom, "a/signature")
    listing(source, one, sbom)
    listing(source, sbom, signature)
    copied(source, target, one["digest"])
    assert (
        target.manifests.items()
        >= {
            digest: source.manifests[digest]
            for digest in (one["digest"], sbom["digest"], signature["digest"])
        }.items()
    )
    assert target.tags == {}  # it needs no list of ours
    target.asked.clear()
    assert copied(source, target, one["digest"]).skipped == 1
    assert writes(target) == []


def test_from_a_registry_that_lists_page_by_page_to_one_that_does_not() -> None:
    source, target = FakeRegistry(page=1), FakeRegistry(api=False)
    one = image(source, b"layer")
    attached = [attachment(source, one, f"a/{number}") for number in range(3)]
    copied(source, target, one["digest"])
    entries = target.index(one["digest"])["manifests"]
    assert {(entry["digest"], entry["artifactType"]) for entry in entries} == {
        (made["digest"], made["artifactType"]) for made in attached
    }
    target.asked.clear()
    copied(source, target, one["digest"])
    assert writes(target) == []


def test_a_type_that_only_the_config_tells() -> None:
    source, target = FakeRegistry(api=False), FakeRegistry(api=False)
    one = image(source, b"layer")
    old = put(source, {
        "mediaType": MANIFEST,
        "config": blob(source, "application/vnd.old.config", b"{}"),
        "layers": [blob(source, "a/b", b"old")],
        "subject": one,
    })  # fmt: skip
    listing(source, one, old)
    copied(source, target, one["digest"])
    (entry,) = target.index(one["digest"])["manifests"]
    assert (entry["digest"], entry["artifactType"]) == (old["digest"], "application/vnd.old.config")


def test_cosigns_tags_travel_and_follow_their_source() -> None:
    source, target = FakeRegistry(), FakeRegistry()
    one = image(source, b"layer")
    name = one["digest"].replace(":", "-")
    first = image(source, b"a signature")["digest"]
    source.tags[f"{name}.sig"] = first
    source.tags[f"{name}.other"] = one["digest"]
    copied(source, target, one["digest"])
    assert target.tags == {f"{name}.sig": first}
    second = image(source, b"a signature", b"another")["digest"]
    source.tags[f"{name}.sig"] = second
    copied(source, target, one["digest"])
    assert target.tags == {f"{name}.sig": second}
    # Where tags are immutable, both are named, and what was there stays.
    source.tags[f"{name}.sig"] = first
    target.immutable = True
    with pytest.raises(PushError, match=f"names {second}, and not {first}"):
        copied(source, target, one["digest"])
    assert target.tags == {f"{name}.sig": second}


def test_a_registry_that_takes_attachments_and_lists_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ci_tools.images.attempts._FIRST_SECONDS", 0.01)
    empty = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).encode()
    hidden = [3]

    def none_yet(_: str, path: str) -> Reply | None:
        if "/referrers/" not in path:
            return None
        hidden[0] -= 1
        return (200, {"Content-Type": INDEX}, empty) if hidden[0] >= 0 else None

    source, target = FakeRegistry(), FakeRegistry(before=none_yet)
    one = image(source, b"layer")
    attachment(source, one)
    copied(source, target, one["digest"])  # it only took a moment
    hidden[0] = 1000
    with pytest.raises(PushError, match="does not list"):
        copied(source, target, one["digest"])


def test_children_that_the_destination_lost_come_again() -> None:
    source, target = FakeRegistry(), FakeRegistry()
    children = [image(source, name) for name in (b"amd", b"arm")]
    both = put(source, {"mediaType": INDEX, "manifests": children})
    copied(source, target, both["digest"], children[0]["digest"])
    before = dict(target.manifests)
    del target.manifests[children[1]["digest"]]
    assert copied(source, target, both["digest"]).manifests == 1
    assert target.manifests == before


def test_a_registry_that_answers_with_other_bytes_after_a_push() -> None:
    pushed = set[str]()

    def other(method: str, path: str) -> Reply | None:
        if method == "PUT" and "/manifests/" in path:
            pushed.add(path)
        if method == "HEAD" and path in pushed:
            return (
                200,
                {"Content-Type": MANIFEST, "Docker-Content-Digest": "sha256:" + "0" * 64},
                b"",
            )
        return None

    source, target = FakeRegistry(), FakeRegistry(before=other)
    one = image(source, b"layer")
    with pytest.raises(PushError, match=f"holds sha256:0000.* where {one['digest']} was pushed"):
        copied(source, target, one["digest"])


# Amazon's


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "x")
    with moto.mock_aws():
        yield boto3.client("ecr", region_name="eu-west-1")


def calls(client: Any) -> list[str]:
    """The names of what is asked of AWS from now on."""
    asked: list[str] = []
    client.meta.events.register("before-call.ecr", lambda model, **_: asked.append(model.name))
    return asked


def test_repositories_are_made_at_the_destination_as_ci_yaml_says(client: Any) -> None:
    source, target = FakeRegistry(), FakeRegistry()
    digests = [image(source, name)["digest"] for name in (b"a", b"b")]
    wanted = [Wanted("team/x", f"prod/{digest[7:12]}", digest) for digest in digests]
    with serve(source) as here, serve(target) as there:
        for _ in range(2):
            destination = Registry(there)
            destination.ecr = Ecr(ECR, config.Ecr(scan_on_push=False), client=client)
            asked = calls(client)
            done = copy_all(wanted, Registry(here), destination)
    assert done.skipped == 2
    assert set(asked) <= {"GetAuthorizationToken"}  # nothing is made again
    made = client.describe_repositories()["repositories"]
    assert {one["repositoryName"] for one in made} == {one.destination for one in wanted}
    for one in made:
        assert one["imageTagMutability"] == "IMMUTABLE"
        assert one["imageScanningConfiguration"] == {"scanOnPush": False}
        policy = client.get_lifecycle_policy(repositoryName=one["repositoryName"])
        assert "release-*" in policy["lifecyclePolicyText"]


def test_what_is_attached_gets_a_tag_of_its_own(client: Any) -> None:
    """Whose rule never fires. What hangs on that is attached too; an image gets none."""
    source, target = FakeRegistry(), FakeRegistry(immutable=True)
    one = image(source, b"layer")
    sbom = attachment(source, one)
    signature = attachment(source, sbom, "a/signature")
    with serve(source) as here, serve(target) as there:
        for _ in range(2):
            destination = Registry(there)
            destination.ecr = Ecr(ECR, client=client)
            copy_all([Wanted("team/x", "prod/x", one["digest"])], Registry(here), destination)
    assert target.tags == {
        f"attached-{made['digest'].partition(':')[2]}": made["digest"] for made in (sbom, signature)
    }
    assert target.manifests == source.manifests


def test_a_token_that_runs_out_on_the_way_is_renewed(client: Any) -> None:
    hours = [0]

    def clock() -> datetime:
        return datetime.now(timezone.utc) + timedelta(hours=hours[0])

    def later(method: str, path: str) -> Reply | None:
        if method == "PUT" and "digest=" in path:
            hours[0] = 12  # a token's life
        return None

    source, target = FakeRegistry(), FakeRegistry(before=later)
    digest = image(source, b"layer")["digest"]
    asked = calls(client)
    with serve(source) as here, serve(target) as there:
        destination = Registry(there)
        destination.ecr = Ecr(ECR, client=client, clock=clock)
        copy_all([Wanted("team/x", "prod/x", digest)], Registry(here), destination)
    assert asked.count("GetAuthorizationToken") >= 2
    assert digest in target.manifests
