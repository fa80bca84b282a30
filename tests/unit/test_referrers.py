"""What is attached to an image, against a stand-in with the referrers API and one without."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_tools.errors import CredentialsError, RegistryError
from ci_tools.images import artifacts, attempts, referrers, referrers_tag
from ci_tools.images.direct import Patience
from ci_tools.images.ecr import Ecr
from ci_tools.images.referrers import Attached, attach, attached, fetch
from ci_tools.images.registry import Registry
from tests.fakes.registry import INDEX, FakeRegistry, Reply, digest_of, error, serve

TYPE = "application/vnd.test.one.v1+json"
OTHER = "application/vnd.test.other.v1+json"
FILES = {TYPE: b'{"a": 1}', "text/plain": b"words"}
SWIFT = Patience(connect=2, read=5, retries=0)


@pytest.fixture(autouse=True)
def _swift(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(referrers_tag, "_SETTLED", (0.0, 0.01))
    monkeypatch.setattr(attempts, "_FIRST_SECONDS", 0.01)
    monkeypatch.setattr(attempts, "_LONGEST_SECONDS", 0.05)


@contextlib.contextmanager
def running(**how: Any) -> Iterator[tuple[FakeRegistry, Registry]]:
    fake = FakeRegistry(**how)
    with serve(fake) as host:
        yield fake, Registry(host, patience=SWIFT)


both = pytest.mark.parametrize("api", [True, False], ids=["api", "tag"])


def made(day: int, **more: str) -> dict[str, str]:
    return {artifacts.CREATED: f"2026-11-{day:02}T00:00:00Z", **more}


def put(registry: Registry, subject: str, day: int = 1, **more: Any) -> str:
    how = {"artifact_type": TYPE, "files": FILES, "annotations": made(day), **more}
    return attach(registry, "p/train", subject, **how)


@both
def test_the_newest_comes_first_and_its_files_come_back(api: bool) -> None:
    with running(api=api) as (fake, registry):
        subject = fake.image()
        assert attached(registry, "p/train", subject, TYPE) == []
        second, first, third = (put(registry, subject, day) for day in (2, 1, 3))
        put(registry, subject, 4, artifact_type=OTHER)
        put(registry, fake.image("another"), 5)
        found = attached(registry, "p/train", subject, TYPE)
        assert [one.digest for one in found] == [third, second, first]
        assert found[0].annotations == made(3)
        assert found[0].created == artifacts.moment("2026-11-03T00:00:00Z")
        files = fetch(registry, "p/train", subject, found[0])
        assert files is not None
        assert list(files.items()) == list(FILES.items())
        only = fetch(registry, "p/train", subject, found[0], only=["text/plain"])
        assert only == {"text/plain": b"words"}
        # Where the registry lists them by itself, no tag litters the repository.
        assert len(fake.tags) == (0 if api else 2)


@both
def test_the_manifest_is_what_the_specification_says(api: bool) -> None:
    with running(api=api) as (fake, registry):
        subject = fake.image()
        digest = put(registry, subject)
        kind, content = fake.manifests[digest]
        manifest = json.loads(content)
        empty = {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            "size": 2,
        }
        assert kind == manifest["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
        assert manifest["config"] == empty
        assert manifest["artifactType"] == TYPE
        assert manifest["annotations"] == made(1)
        held_kind, held = fake.manifests[subject]
        assert manifest["subject"] == {
            "mediaType": held_kind,
            "digest": subject,
            "size": len(held),
        }
        assert [fake.blobs[one["digest"]] for one in manifest["layers"]] == list(FILES.values())
        bare = put(registry, subject, 2, files={})
        assert json.loads(fake.manifests[bare][1])["layers"] == [empty]
        found = attached(registry, "p/train", subject, TYPE)
        assert fetch(registry, "p/train", subject, found[0]) == {}
        if not api:
            ours = fake.index(subject)["manifests"][0]
            assert ours == {
                "mediaType": kind,
                "digest": digest,
                "size": len(content),
                "artifactType": TYPE,
                "annotations": made(1),
            }


@both
def test_the_same_again_writes_nothing(api: bool) -> None:
    with running(api=api) as (fake, registry):
        subject = fake.image()
        digest = put(registry, subject, annotations={"b": "2", "a": "1"})
        fake.asked.clear()
        assert put(registry, subject, annotations={"a": "1", "b": "2"}) == digest
        assert {method for method, _ in fake.asked} <= {"GET", "HEAD"}
        assert len(fake.asked) == 3


@both
def test_a_look_up_is_three_requests(api: bool) -> None:
    with running(api=api) as (fake, registry):
        subjects = [fake.image(str(number)) for number in range(3)]
        for subject in subjects:
            put(registry, subject, files={TYPE: b"x"})
        fresh = Registry(registry.host)
        for number, subject in enumerate(subjects):
            fake.asked.clear()
            (one,) = attached(fresh, "p/train", subject, TYPE)
            assert fetch(fresh, "p/train", subject, one) == {TYPE: b"x"}
            # That there is no API is found out once.
            assert len(fake.asked) == (4 if not api and number == 0 else 3)


def test_a_list_has_pages_and_need_not_be_filtered() -> None:
    with running(page=2, filters=False) as (fake, registry):
        subject = fake.image()
        digests = [put(registry, subject, day) for day in range(1, 8)]
        put(registry, subject, 9, artifact_type=OTHER)
        found = attached(registry, "p/train", subject, TYPE)
        assert [one.digest for one in found] == digests[::-1]


def test_pages_that_never_end_do() -> None:
    page = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}).encode()

    def forever(_: str, path: str) -> Reply | None:
        number = int(path.partition("from=")[2] or 0)
        return 200, {"Link": f'<?from={number + 1}>; rel="next"'}, page

    def circle(_: str, path: str) -> Reply | None:
        return 200, {"Link": f'<{path}>; rel="next"'}, page

    for before, most in ((forever, 100), (circle, 1)):
        with running(before=before) as (fake, registry):
            assert attached(registry, "p/train", fake.image(), TYPE) == []
            assert len(fake.asked) == most


@pytest.mark.parametrize("place", ["http://localhost:1/v2/x", "http://[localhost/v2/x"])
def test_a_page_elsewhere_is_not_asked_for(place: str) -> None:
    page = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    link = {"Link": f'<{place}>; rel="next"'}
    with (
        running(before=lambda *_: (200, link, page)) as (fake, registry),
        pytest.raises(RegistryError, match="sends us elsewhere"),
    ):
        attached(registry, "p/train", fake.image(), TYPE)


@both
def test_what_is_out_of_date_goes(api: bool) -> None:
    with running(api=api) as (fake, registry):
        subject = fake.image()
        old = [put(registry, subject, day) for day in (1, 2)]
        kept = put(registry, subject, 3, annotations=made(3, keep="yes"))
        other = put(registry, subject, 1, artifact_type=OTHER)
        new = put(registry, subject, 4, replaces=lambda one: "keep" not in one.annotations)
        found = attached(registry, "p/train", subject, TYPE)
        assert [one.digest for one in found] == [new, kept]
        assert [one.digest for one in attached(registry, "p/train", subject, OTHER)] == [other]
        assert not set(old) & set(fake.manifests)
        assert subject in fake.manifests


@both
@pytest.mark.parametrize("status", [403, 405])
def test_a_registry_that_deletes_nothing_is_no_worse(api: bool, status: int) -> None:
    with running(api=api, deletes=status) as (fake, registry):
        registry.credentials = lambda: ("u", "p")  # type: ignore[method-assign]
        subject = fake.image()
        for day in range(1, 5):
            put(registry, subject, day)
        fake.asked.clear()
        new = put(registry, subject, 5, replaces=lambda _: True)
        assert attached(registry, "p/train", subject, TYPE)[0].digest == new
        assert sum(method == "DELETE" for method, _ in fake.asked) == 1
        if not api:
            assert len(fake.index(subject)["manifests"]) == 1


def test_a_list_that_lies_deletes_no_image() -> None:
    with running(api=False) as (fake, registry):
        subject, victim = fake.image(), fake.image("victim")
        put(registry, victim, 1)
        foreign = attached(registry, "p/train", victim, TYPE)[0].digest
        newer = put(registry, subject, 9)
        lies = [
            {"mediaType": artifacts.MANIFEST, "digest": digest, "size": 1, "artifactType": TYPE}
            for digest in (victim, subject, foreign, newer)
        ]
        fake.put_index(subject, {"schemaVersion": 2, "mediaType": INDEX, "manifests": lies})
        before = set(fake.manifests)
        # The list tells no date; the manifest of the newer one does, and that counts.
        put(registry, subject, 2, replaces=lambda one: (one.created or one.age[0]).day < 9)
        assert before <= set(fake.manifests)


def test_entries_of_others_stay_as_they_are() -> None:
    with running(api=False) as (fake, registry):
        subject = fake.image()
        others = [
            {"mediaType": INDEX, "digest": fake.image("a"), "size": 3, "x": {"y": [1, None]}},
            {"mediaType": "m/m", "digest": fake.image("b"), "size": 1.5, "artifactType": TYPE},
        ]
        index = {"schemaVersion": 2, "manifests": others, "annotations": {"k": "v"}}
        fake.put_index(subject, index)
        ours = put(registry, subject, replaces=lambda _: True)
        now = fake.index(subject)
        assert now["manifests"][:2] == others
        assert now["annotations"] == {"k": "v"}
        assert [one["digest"] for one in now["manifests"][2:]] == [ours]


def test_an_entry_of_what_is_gone_is_dropped_where_the_registry_wants_it() -> None:
    with running(api=False) as (fake, registry):
        subject = fake.image()
        gone, kept = put(registry, subject, 1), put(registry, subject, 2, artifact_type=OTHER)
        del fake.manifests[gone]
        new = put(registry, subject, 3)
        assert [one["digest"] for one in fake.index(subject)["manifests"]] == [kept, new]


def test_what_was_lost_from_the_list_comes_back() -> None:
    with running(api=False) as (fake, registry):
        subject = fake.image()
        digest = put(registry, subject)
        fake.put_index(subject, {"schemaVersion": 2, "mediaType": INDEX, "manifests": []})
        assert put(registry, subject) == digest
        assert [one.digest for one in attached(registry, "p/train", subject, TYPE)] == [digest]


def test_an_entry_that_another_overwrites_is_written_again() -> None:
    """Twice somebody who read the list before us writes it after us."""
    with running(api=False) as (fake, registry):
        subject = fake.image()
        stale: list[bytes] = []
        tag = artifacts.tag(subject)
        other = {"mediaType": "m/m", "digest": fake.image("x"), "size": 1}

        def before(method: str, path: str) -> Reply | None:
            if method == "GET" and path.endswith(tag) and len(stale) < 2 and writes():
                stale.append(b"")
                fake.put_index(subject, {"schemaVersion": 2, "manifests": [other]})
            return None

        def writes() -> bool:
            puts = [path for method, path in fake.asked if method == "PUT" and path.endswith(tag)]
            return len(puts) == len(stale) + 1

        fake.before = before
        ours = put(registry, subject)
        assert len(stale) == 2
        listed = [one["digest"] for one in fake.index(subject)["manifests"]]
        assert listed == [other["digest"], ours]


def test_who_is_always_overwritten_is_told() -> None:
    with running(api=False) as (fake, registry):
        subject = fake.image()
        empty = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
        tag = artifacts.tag(subject)
        fake.before = lambda method, path: (
            (200, {}, empty) if method == "GET" and path.endswith(tag) else None
        )
        with pytest.raises(RegistryError, match="being written by others"):
            put(registry, subject)


@both
def test_eight_at_once_and_none_is_lost(api: bool) -> None:
    with running(api=api) as (fake, registry):
        subject = fake.image()
        tag = artifacts.tag(subject)

        def slowly(method: str, path: str) -> None:
            if method == "GET" and path.endswith(tag):
                time.sleep(0.02)  # between reading the list and writing it

        fake.before = slowly
        with ThreadPoolExecutor(max_workers=8) as pool:
            # A Registry each, as threads of different stages would have.
            digests = set(
                pool.map(lambda day: put(Registry(registry.host), subject, day), range(1, 9))
            )
        found = attached(registry, "p/train", subject, TYPE)
        assert {one.digest for one in found} == digests
        assert len(digests) == 8
        # Nobody had to write again what another one's stale list took out.
        writes = sum(method == "PUT" and path.endswith(tag) for method, path in fake.asked)
        assert writes == (0 if api else 8)


@pytest.mark.parametrize(
    "content",
    [
        b"<html>login</html>",
        b"",
        b"[]",
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"manifests": ' + b"[" * 200_000,
        b'{"manifests": {}}',
        b'{"mediaType": "text/html", "manifests": []}',
        b'{"schemaVersion": 2, "config": {}, "layers": []}',
        b'{"manifests": [' + b" " * (9 << 20) + b"]}",
    ],
    ids=lambda content: content[:20].decode(errors="replace"),
)
def test_a_list_that_is_none(content: bytes) -> None:
    with running(api=False) as (fake, registry):
        subject = fake.image()
        fake.put_index(subject, content)
        tag = fake.tags[artifacts.tag(subject)]
        # "… SHOULD assume there are no referrers", but SHOULD NOT replace what it is.
        assert attached(registry, "p/train", subject, TYPE) == []
        with pytest.raises(RegistryError, match="is not the list"):
            put(registry, subject)
        assert fake.tags[artifacts.tag(subject)] == tag
    with (
        running(before=lambda *_: (200, {}, content)) as (_, registry),
        pytest.raises(RegistryError, match="with no list"),
    ):
        attached(registry, "p/train", subject, TYPE)


def test_entries_that_make_no_sense_are_passed_over() -> None:
    with running(api=False) as (fake, registry):
        subject = fake.image()
        good = put(registry, subject)
        index = fake.index(subject)
        entry = index["manifests"][0]
        index["manifests"] = [
            None,
            17,
            {},
            {**entry, "digest": "sha256:../../../other/manifests/latest"},
            {**entry, "digest": "md5:0"},
            {**entry, "digest": good + "\n"},
            {**entry, "annotations": {"a": 1}},
            {**entry, "size": "big"},
            {**entry, "artifactType": None},
            entry,
            {**entry, "annotations": {artifacts.CREATED: "yesterday"}},
        ]
        fake.put_index(subject, index)
        (one,) = attached(registry, "p/train", subject, TYPE)
        assert one.digest == good
        assert one.created is None


def _changed(fake: FakeRegistry, digest: str, **change: Any) -> Attached:
    """An artifact like that one, but for something; as a list that lies would name it."""
    manifest = {**json.loads(fake.manifests[digest][1]), **change}
    content = json.dumps(manifest).encode()
    fake.manifests[digest_of(content)] = (artifacts.MANIFEST, content)
    return Attached(digest=digest_of(content), artifact_type=TYPE, annotations={}, created=None)


def test_what_is_not_what_it_says_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(referrers, "LARGEST_BLOB", 1000)
    with running() as (fake, registry):
        subject = fake.image()
        digest = put(registry, subject)
        manifest = json.loads(fake.manifests[digest][1])
        layer = manifest["layers"][0]

        def believed(one: Attached) -> bool:
            return fetch(registry, "p/train", subject, one) is not None

        def layers(*found: Any) -> bool:
            return believed(_changed(fake, digest, layers=list(found)))

        assert believed(_changed(fake, digest, x=1))
        assert layers(layer)
        assert not believed(_changed(fake, digest, subject={**layer, "digest": fake.image("b")}))
        assert not believed(_changed(fake, digest, subject=None))
        assert not believed(_changed(fake, digest, artifactType=OTHER))
        assert not believed(_changed(fake, digest, artifactType=7))
        assert not believed(_changed(fake, digest, layers="x"))
        for name in (subject, "sha256:" + "0" * 64, "../../x"):  # an image; nothing; a path
            one = Attached(digest=name, artifact_type=TYPE, annotations={}, created=None)
            assert not believed(one)
        assert not layers(layer, layer)  # which of them?
        assert not layers(*({**layer, "mediaType": f"a/{number}"} for number in range(17)))
        assert not layers({**layer, "size": layer["size"] - 1})
        assert not layers({**layer, "size": -1})
        assert not layers({**layer, "digest": "sha256:" + "0" * 64})
        assert not layers({**layer, "digest": "../../manifests/x"})
        large = b"x" * 1001
        fake.blobs[digest_of(large)] = large
        asked = len(fake.asked)
        assert not layers({**layer, "digest": digest_of(large), "size": 1001})
        assert len(fake.asked) == asked + 1  # its manifest, not the blob
        kind, content = fake.manifests[digest]
        one = Attached(digest=digest, artifact_type=TYPE, annotations={}, created=None)
        fake.manifests[digest] = (kind, content + b" ")
        assert not believed(one)
        fake.manifests[digest] = (kind, content)
        assert believed(one)
        fake.blobs[layer["digest"]] = FILES[TYPE].upper()  # of the same length
        assert not believed(one)


def test_what_is_too_long_is_not_read_to_its_end() -> None:
    with running() as (fake, registry):
        fake.blobs["sha256:" + "1" * 64] = b"x" * 5_000_000
        path = f"/v2/a/blobs/sha256:{'1' * 64}"
        for limit, length in ((10, 11), (5_000_000, 5_000_000), (4_999_999, 5_000_000)):
            assert len(registry.http.ask("GET", path, limit=limit).content) == length
            slow = Registry(registry.host)
            slow.http._direct = None  # as behind a proxy, or with docker's login
            assert len(slow.http.ask("GET", path, limit=limit).content) == length
        assert len(registry.http.ask("GET", path).content) == 5_000_000


def test_nothing_too_large_is_attached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(referrers, "LARGEST_BLOB", 4)
    with running() as (fake, registry):
        with pytest.raises(RegistryError, match="too large"):
            put(registry, fake.image())
        assert fake.asked == []


@pytest.mark.parametrize("subject", ["latest", "sha256:abc", "../x", "sha512:" + "0" * 128, ""])
def test_a_subject_is_a_digest(subject: str) -> None:
    registry = Registry("127.0.0.1:1", patience=SWIFT)  # nobody is asked
    with pytest.raises(RegistryError, match="no sha256 digest"):
        put(registry, subject)
    with pytest.raises(RegistryError, match="no sha256 digest"):
        attached(registry, "p/train", subject, TYPE)


def test_an_image_that_is_not_there_takes_nothing() -> None:
    with running() as (fake, registry), pytest.raises(RegistryError, match="to attach anything to"):
        put(registry, "sha256:" + "0" * 64)
    assert {method for method, _ in fake.asked} == {"GET"}


@pytest.mark.parametrize(
    ("status", "code", "failure", "words"),
    [
        (405, "UNSUPPORTED", RegistryError, "takes no artifact that refers to an image"),
        (400, "MANIFEST_INVALID", RegistryError, "with 'subject' and 'artifactType'"),
        (403, "DENIED", CredentialsError, "refuses our push"),
    ],
)
def test_a_registry_that_takes_no_artifacts(
    status: int, code: str, failure: type[Exception], words: str
) -> None:
    """As ECR answered before June 2024 (docker/compose#11239)."""

    def before(method: str, path: str) -> Reply | None:
        return error(status, code) if method == "PUT" and "/manifests/" in path else None

    with running(api=False, before=before) as (fake, registry):
        registry.credentials = lambda: ("u", "p")  # type: ignore[method-assign]
        with pytest.raises(failure) as caught:
            put(registry, fake.image())
        assert words in str(caught.value)
        assert code in str(caught.value)
        # What does not pass by itself is not tried again.
        assert sum(method == "PUT" and "/manifests/" in path for method, path in fake.asked) == 1


@both
def test_throttling_passes(api: bool) -> None:
    """ECR's answer to too many requests is HTTP 429, TOOMANYREQUESTS: Rate exceeded."""
    seen: dict[tuple[str, str], int] = {}

    def before(method: str, path: str) -> Reply | None:
        key = (method, path.partition("?")[0])
        seen[key] = seen.get(key, 0) + 1
        return error(429, "TOOMANYREQUESTS") if seen[key] == 1 else None

    with running(api=api, before=before) as (fake, registry):
        digest = put(Registry(registry.host), fake.image())  # patient, as in a build
        assert fake.manifests[digest]


def test_a_push_is_tried_longer_than_the_transport_does() -> None:
    refusals = iter([error(429, "TOOMANYREQUESTS")] * 3)

    def before(method: str, path: str) -> Reply | None:
        return next(refusals, None) if method == "PUT" and "/manifests/" in path else None

    with running(before=before) as (fake, registry):
        assert put(registry, fake.image()) in fake.manifests
        assert next(refusals, None) is None


def test_an_immutable_tag_is_told() -> None:
    with running(api=False, immutable=True) as (fake, registry):
        subject = fake.image()
        put(registry, subject, 1)
        with pytest.raises(RegistryError, match=r"sha256-\w{64} cannot be replaced"):
            put(registry, subject, 2)
    with running(api=True, immutable=True) as (fake, registry):
        subject = fake.image()
        for day in (1, 2):
            put(registry, subject, day)
        assert fake.tags == {}


def test_a_repository_that_is_not_there_yet_says_nothing_of_the_api() -> None:
    with running(before=lambda *_: error(404, "NAME_UNKNOWN")) as (fake, registry):
        subject = fake.image()
        assert attached(registry, "p/train", subject, TYPE) == []
        assert registry.lists_referrers is None
        fake.before = lambda *_: None
        put(registry, subject)
        assert registry.lists_referrers is True
        assert fake.tags == {}


@pytest.mark.parametrize("status", [401, 403])
def test_who_may_not_read_is_told(status: int) -> None:
    with running(before=lambda *_: error(status, "DENIED")) as (fake, registry):
        registry.credentials = lambda: ("u", "p")  # type: ignore[method-assign]
        with pytest.raises(CredentialsError, match="DENIED") as caught:
            attached(registry, "p/train", fake.image(), TYPE)
        assert "docker login" in caught.value.todo
        registry.renew = lambda _: None  # type: ignore[method-assign]
        registry.ecr = Ecr("111111111111.dkr.ecr.eu-west-1.amazonaws.com")
        with pytest.raises(CredentialsError, match="ecr:BatchGetImage"):
            attached(registry, "p/train", fake.image(), TYPE)


class AmazonEcr(Ecr):
    """A FAKE of what ECR does beyond the protocol: logins and repositories."""

    def credentials(self) -> tuple[str, str]:
        return "AWS", "token"

    def ensure_repository(self, name: str, *, mutable: bool = False) -> bool:
        return False


def test_on_ecr_it_has_a_tag_that_no_rule_takes_away() -> None:
    with running(immutable=True) as (fake, registry):
        registry.ecr = AmazonEcr("111111111111.dkr.ecr.eu-west-1.amazonaws.com")
        subject = fake.image()
        own = put(registry, subject)
        assert fake.tags == {f"attached-{own.removeprefix('sha256:')}": own}
        assert fnmatch.fnmatch(next(iter(fake.tags)), "attached-*")
        assert [one.digest for one in attached(registry, "p/train", subject, TYPE)] == [own]
        puts = [path for method, path in fake.asked if method == "PUT" and "/manifests/" in path]
        assert len(puts) == 1


def test_on_ecr_one_that_somebody_else_put_meanwhile() -> None:
    """Both found none; the other's is there, under the same immutable tag."""
    with running(immutable=True) as (fake, registry):
        registry.ecr = AmazonEcr("111111111111.dkr.ecr.eu-west-1.amazonaws.com")
        subject = fake.image()
        own = put(registry, subject)
        fake.before = lambda method, path: (
            (200, {"Content-Type": INDEX}, b'{"manifests": []}') if "/referrers/" in path else None
        )
        assert put(registry, subject) == own


def test_on_ecr_one_that_is_not_taken_is_told() -> None:
    def before(method: str, path: str) -> Reply | None:
        return error(400, "MANIFEST_INVALID") if "/manifests/attached-" in path else None

    with running(before=before) as (fake, registry):
        registry.ecr = AmazonEcr("111111111111.dkr.ecr.eu-west-1.amazonaws.com")
        with pytest.raises(RegistryError, match=r"takes no artifact.*MANIFEST_INVALID"):
            put(registry, fake.image())
        assert len(fake.manifests) == 1


def test_an_upload_that_was_done_after_all() -> None:
    """The answer to a PUT is lost, the transport sends it again, the upload is over."""

    def before(method: str, path: str) -> Reply | None:
        if method == "PUT" and "/uploads/" in path:
            fake.blobs[digest_of(FILES[TYPE])] = FILES[TYPE]
            fake.before = lambda *_: None
            return error(404, "BLOB_UPLOAD_UNKNOWN")
        return None

    with running(before=before) as (fake, registry):
        assert put(registry, fake.image()) in fake.manifests


_types = st.from_regex(r"[a-z]{1,8}/[a-z0-9.+-]{1,20}", fullmatch=True)
_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=25, deadline=None)
@given(
    api=st.booleans(),
    page=st.integers(1, 3),
    all_of_them=st.lists(
        st.tuples(
            _types,
            st.dictionaries(_types, st.binary(max_size=64), min_size=1, max_size=4),
            st.dictionaries(_texts, _texts, max_size=3),
        ),
        max_size=4,
    ),
)
def test_what_is_attached_comes_back(
    api: bool,
    page: int,
    all_of_them: list[tuple[str, dict[str, bytes], dict[str, str]]],
) -> None:
    with running(api=api, page=page) as (fake, registry):
        subject = fake.image()
        expected: dict[str, dict[str, tuple[dict[str, bytes], dict[str, str]]]] = {}
        for kind, files, annotations in all_of_them:
            digest = put(
                registry, subject, artifact_type=kind, files=files, annotations=annotations
            )
            expected.setdefault(kind, {})[digest] = files, annotations
        for kind, those in expected.items():
            found = attached(registry, "p/train", subject, kind)
            assert {one.digest for one in found} == set(those)
            for one in found:
                files, annotations = those[one.digest]
                assert one.annotations == annotations
                assert fetch(registry, "p/train", subject, one) == files
