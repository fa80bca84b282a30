"""Releases in a registry: whole or not at all, never replaced, found by name, commit, digest."""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ci_tools import documents as d
from ci_tools.errors import (
    CredentialsError,
    RegistryError,
    ReleaseNotFoundError,
    ReleaseSignatureError,
)
from ci_tools.images import ecr_repository
from ci_tools.images.registry import Registry
from ci_tools.release import bundle, signing, store
from ci_tools.release.bundle import Bundle
from tests.fakes.registry import FakeRegistry, Reply, digest_of, error, serve
from tests.fakes.releases import COMMIT, IR, Pen, made

PATH = "ml/releases"


@pytest.fixture(params=[True, False], ids=["api", "tag"])
def fake(request: pytest.FixtureRequest) -> FakeRegistry:
    return FakeRegistry(api=request.param)


@pytest.fixture
def registry(fake: FakeRegistry) -> Iterator[Registry]:
    with serve(fake) as host:
        yield Registry(host)


@pytest.fixture
def pen() -> Pen:
    return Pen()


def test_a_release_is_found_by_name_commit_and_digest(registry: Registry, pen: Pen) -> None:
    one = signing.sign(made(), pen)
    digest = store.publish(registry, PATH, one)
    for what in (one.release.name, COMMIT, digest, one.release.name[:15], COMMIT[:7]):
        found = store.find(registry, PATH, what)
        assert (found.content, found.files) == (one.content, one.files)
        assert found.release == one.release
        assert signing.verify(found, [pen.key]) == [pen.key.id]
    assert store.names(registry, PATH) == [one.release.name]


def test_the_same_again_changes_nothing(fake: FakeRegistry, registry: Registry, pen: Pen) -> None:
    one = signing.sign(made(), pen)
    first = store.publish(registry, PATH, one)
    held = (dict(fake.manifests), dict(fake.tags), dict(fake.blobs))
    fake.asked.clear()
    assert store.publish(registry, PATH, one) == first
    assert (fake.manifests, fake.tags, fake.blobs) == held
    assert {method for method, _ in fake.asked} <= {"GET", "HEAD"}


def test_a_signature_has_a_tag_that_never_expires(
    fake: FakeRegistry, registry: Registry, pen: Pen
) -> None:
    """`release-*` is what our rules for ECR spare; a signature without a tag they might not."""
    one = signing.sign(made(), pen)
    digest = store.publish(registry, PATH, one)
    signature = next(
        key for key, (_, content) in fake.manifests.items()
        if json.loads(content).get("subject", {}).get("digest") == digest
    )  # fmt: skip
    names = [tag for tag, held in fake.tags.items() if held == signature]
    assert [tag.partition(".")[0] for tag in names] == [one.release.name]
    assert fnmatch.fnmatch(names[0], ecr_repository.RELEASES)
    assert store.names(registry, PATH) == [one.release.name]


def test_the_manifest_is_the_same_whoever_signed_it(registry: Registry) -> None:
    one = made()
    digests = {store.publish(registry, PATH, signing.sign(one, Pen(kind)))
               for kind in ("ed25519", "ecdsa")}  # fmt: skip
    assert digests == {digest_of(store.manifest(one))}
    assert len(store.find(registry, PATH, one.release.name).envelopes) == 2


def test_any_tool_can_read_the_manifest(fake: FakeRegistry, registry: Registry) -> None:
    digest = store.publish(registry, PATH, made())
    kind, content = fake.manifests[digest]
    manifest = json.loads(content)
    assert kind == manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert manifest["artifactType"] == "application/vnd.kfp-ci.release.v1+json"
    assert manifest["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
    titles = [one["annotations"]["org.opencontainers.image.title"] for one in manifest["layers"]]
    assert titles == ["release.json", "pipelines/training.yaml", "servables/train.yaml"]
    assert fake.blobs[manifest["layers"][1]["digest"]] == IR


def test_the_commit_names_the_newest_and_each_keeps_its_name(registry: Registry) -> None:
    old, new = made(), made(build="https://ci.example/2")
    store.publish(registry, PATH, old)
    store.publish(registry, PATH, new)
    store.publish(registry, PATH, old)  # again, by a build that is run once more
    assert store.find(registry, PATH, COMMIT).release == new.release
    for one in (old, new):
        assert store.find(registry, PATH, one.release.name).release == one.release


@pytest.mark.parametrize("source", [d.Source(commit=COMMIT, dirty=True), d.Source()])
def test_what_is_not_of_a_commit_is_not_found_by_one(
    fake: FakeRegistry, registry: Registry, source: d.Source
) -> None:
    one = made(source=source)
    store.publish(registry, PATH, one)
    assert store.names(registry, PATH) == [one.release.name]
    assert COMMIT not in fake.tags


def test_a_name_that_is_taken_is_never_replaced(fake: FakeRegistry, registry: Registry) -> None:
    one = made()
    fake.tags[one.release.name] = fake.image()
    before = dict(fake.tags)
    with pytest.raises(RegistryError, match="is something else already"):
        store.publish(registry, PATH, one)
    assert fake.tags == before


@pytest.mark.parametrize("what", ["main", COMMIT, f"release-{'0' * 64}", "release-0000000", "abc",
                                  f"sha256:{'0' * 64}", "../../x", ""])  # fmt: skip
def test_what_is_not_there_is_told(registry: Registry, what: str) -> None:
    with pytest.raises(ReleaseNotFoundError) as caught:
        store.find(registry, PATH, what)
    assert caught.value.exit_code == 52


def test_an_abbreviation_of_two_is_refused(fake: FakeRegistry, registry: Registry) -> None:
    fake.page = 1  # and the list has pages
    digest = store.publish(registry, PATH, made())
    fake.tags[COMMIT[:-1] + "d"] = digest
    with pytest.raises(ReleaseNotFoundError, match="may be any of"):
        store.find(registry, PATH, COMMIT[:10])
    assert store.find(registry, PATH, COMMIT).release == made().release


def test_a_branch_or_key_of_that_beginning_is_no_release(
    fake: FakeRegistry, registry: Registry
) -> None:
    digest = store.publish(registry, PATH, made())
    fake.tags["release-candidate"] = digest
    with pytest.raises(ReleaseNotFoundError):
        store.find(registry, PATH, "release-candidate")


# -- what a registry, or who may push there, can do ------------------------------------


def _swap(fake: FakeRegistry, other: Bundle, digest: str) -> None:
    for content in (other.content, *other.files.values()):
        fake.blobs[digest_of(content)] = content
    manifest = store.manifest(other)
    fake.manifests[digest_of(manifest)] = (store.artifacts.MANIFEST, manifest)
    fake.tags[made().release.name] = fake.tags[COMMIT] = digest_of(manifest)


def test_another_release_under_its_name_is_not_taken_for_it(
    fake: FakeRegistry, registry: Registry
) -> None:
    digest = store.publish(registry, PATH, made())
    _swap(fake, made(source=d.Source(commit="d" * 40)), digest)
    for what in (made().release.name, COMMIT):
        with pytest.raises(ReleaseSignatureError, match="in the place of"):
            _ = store.find(registry, PATH, what).release
    assert store.find(registry, PATH, digest).release == made().release


def _blob(fake: FakeRegistry, _: str) -> None:
    fake.blobs[digest_of(IR)] = IR + b" "


def _gone(fake: FakeRegistry, _: str) -> None:
    del fake.blobs[digest_of(IR)]


def _manifest(fake: FakeRegistry, digest: str) -> None:
    kind, content = fake.manifests[digest]
    fake.manifests[digest] = (kind, content.replace(b"training", b"Training"))


def _rubbish(fake: FakeRegistry, digest: str) -> None:
    fake.manifests[digest] = ("x", b"[" * 9999)


def _image(fake: FakeRegistry, digest: str) -> None:
    fake.manifests[digest] = fake.manifests[fake.image()]


@pytest.mark.parametrize("harm", [_blob, _gone, _manifest, _rubbish, _image])
def test_damage_is_found(
    fake: FakeRegistry, registry: Registry, harm: Callable[[FakeRegistry, str], None]
) -> None:
    digest = store.publish(registry, PATH, made())
    harm(fake, digest)
    for what in (digest, made().release.name):
        with pytest.raises(ReleaseSignatureError) as caught:
            _ = store.find(registry, PATH, what).release
        assert caught.value.exit_code == 51


def test_who_floods_the_signatures_does_not_stop_the_reader(registry: Registry, pen: Pen) -> None:
    one = signing.sign(made(), pen)
    store.publish(registry, PATH, one)
    store.publish(registry, PATH, one.signed(*(b"rubbish %d" % n for n in range(20))))
    assert signing.verify(store.find(registry, PATH, COMMIT), [pen.key]) == [pen.key.id]


def test_a_registry_that_refuses_leaves_nothing_to_find(
    fake: FakeRegistry, registry: Registry
) -> None:
    fake.before = lambda method, path: error(403, "DENIED") if method == "PUT" else None
    with pytest.raises(CredentialsError):
        store.publish(registry, PATH, made())
    assert not fake.tags


# -- killed on the way -----------------------------------------------------------------

PUBLISH = """
import sys
from pathlib import Path
from ci_tools.images.registry import Registry
from ci_tools.release import bundle, store
store.publish(Registry(sys.argv[1]), sys.argv[2], bundle.read(Path(sys.argv[3])))
"""


def _publish(host: str, path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PUBLISH, host, PATH, os.fspath(path)])


@pytest.mark.parametrize("api", [True, False])
def test_killed_anywhere_leaves_no_half_release_and_again_makes_it_whole(
    tmp_path: Path, pen: Pen, api: bool
) -> None:
    """kill -9 before each request that writes: what can be found then is whole and signed,
    and publishing again ends as if nothing had been."""
    old, new = signing.sign(made(), pen), signing.sign(made(build="https://ci.example/2"), pen)
    bundle.write(new, tmp_path / "new.tar")

    def world(kill_at: int | None) -> tuple[FakeRegistry, int]:
        fake, writes = FakeRegistry(api=api), [0]
        child: list[subprocess.Popen[bytes]] = []

        def before(method: str, _: str) -> Reply | None:
            if method in ("GET", "HEAD") or not child:
                return None
            writes[0] += 1
            if writes[0] - 1 != kill_at:
                return None
            child[0].send_signal(signal.SIGKILL)
            child[0].wait()
            return error(503, "KILLED")

        fake.before = before
        with serve(fake) as host:
            registry = Registry(host)
            store.publish(registry, PATH, old)
            child.append(_publish(host, tmp_path / "new.tar"))
            assert (child[0].wait() == 0) == (kill_at is None)
            child.clear()
            assert store.find(registry, PATH, old.release.name).release == old.release
            for what in (COMMIT, new.release.name):
                try:
                    found = store.find(registry, PATH, what)
                except ReleaseNotFoundError:
                    assert what != COMMIT
                    continue
                assert found.release in (old.release, new.release)
                assert signing.verify(found, [pen.key])
            store.publish(registry, PATH, new)
            for what in (COMMIT, new.release.name):
                assert store.find(registry, PATH, what).release == new.release
            assert store.find(registry, PATH, old.release.name).release == old.release
        return fake, writes[0]

    whole, writes = world(None)
    assert writes > 6  # blobs in two steps each, manifest, signature, two tags
    for number in range(writes):
        fake, _ = world(number)
        assert {COMMIT, old.release.name, new.release.name} <= {*fake.tags}
        assert fake.tags[COMMIT] == whole.tags[COMMIT] == fake.tags[new.release.name]


def test_the_bundle_of_a_store_is_as_the_one_on_disk(
    registry: Registry, pen: Pen, tmp_path: Path
) -> None:
    store.publish(registry, PATH, signing.sign(made(), pen))
    bundle.write(store.find(registry, PATH, COMMIT), tmp_path / "release")
    again = dataclasses.replace(bundle.read(tmp_path / "release"), wanted=COMMIT)
    assert again == store.find(registry, PATH, COMMIT)


def test_nothing_is_read_before_it_is_asked_for(
    fake: FakeRegistry, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.publish(registry, PATH, made())

    def read(_: Any) -> Any:
        raise AssertionError("the content was read before it was verified")

    monkeypatch.setattr(bundle, "_read", read)
    found = store.find(registry, PATH, COMMIT)
    with pytest.raises(ReleaseSignatureError, match="not signed"):
        signing.verify(found, [Pen().key])
