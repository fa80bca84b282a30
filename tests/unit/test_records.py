"""Scan records beside an image, against a stand-in of a registry."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_tools.documents.scan import Finding, Layer, ScanRecord
from ci_tools.errors import RegistryError
from ci_tools.images import artifacts, referrers, referrers_tag
from ci_tools.images.direct import Patience
from ci_tools.images.registry import Registry
from ci_tools.scanner import records
from tests.fakes.registry import FakeRegistry, serve

SBOM = b'{"bomFormat": "CycloneDX"}'
MONDAY = datetime(2026, 11, 23, 6, tzinfo=timezone.utc)
both = pytest.mark.parametrize("api", [True, False], ids=["api", "tag"])


@pytest.fixture(autouse=True)
def _swift(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(referrers_tag, "_SETTLED", (0.0, 0.01))


@contextlib.contextmanager
def running(**how: Any) -> Iterator[tuple[FakeRegistry, Registry, str]]:
    fake = FakeRegistry(**how)
    with serve(fake) as host:
        registry = Registry(host, patience=Patience(connect=2, read=5, retries=0))
        yield fake, registry, fake.image()


def record(day: int | None = 1, **more: Any) -> ScanRecord:
    fields: dict[str, Any] = {
        "image": "sha256:" + "c" * 64,
        "platform": "linux/amd64",
        "trivy": "0.76.0",
        "matched": "0.76.0",
        "kinds": ["vulnerability", "secret"],
        "database": None if day is None else f"2026-11-{day:02}T06:12:33.123456789Z",
        "layers": [Layer(diff_id="sha256:" + "1" * 64, created_by="COPY . .")],
        "findings": [Finding(kind="vulnerability", id="CVE-2026-1", severity="HIGH")],
    }
    return ScanRecord(**{**fields, **more})


def publish(
    registry: Registry, subject: str, one: ScanRecord, sbom: bytes = SBOM, hours: int = 0
) -> str:
    now = MONDAY + timedelta(hours=hours)
    return records.publish(registry, "p/train", subject, one, sbom, now=now)


def newest(registry: Registry, subject: str) -> records.Kept | None:
    return records.newest(registry, "p/train", subject)


@both
def test_any_agent_finds_it_by_the_digest(api: bool) -> None:
    with running(api=api) as (fake, registry, subject):
        assert newest(registry, subject) is None
        digest = publish(registry, subject, record())
        agent = Registry(registry.host)
        assert newest(agent, fake.image("another")) is None
        fake.asked.clear()
        kept = newest(agent, subject)
        assert kept is not None
        assert (kept.record, kept.digest, kept.created) == (record(), digest, MONDAY)
        assert len(fake.asked) == 3
        blobs = [path for _, path in fake.asked if "/blobs/" in path]
        assert len(blobs) == 1  # megabytes that nobody asked for are not fetched
        assert kept.sbom() == SBOM
        manifest = json.loads(fake.manifests[digest][1])
        assert manifest["artifactType"] == "application/vnd.kfp-ci.scan.v1+json"
        assert [one["mediaType"] for one in manifest["layers"]] == [
            "application/vnd.kfp-ci.scan.v1+json",
            "application/vnd.cyclonedx+json",
        ]
        assert manifest["annotations"] == {
            "org.opencontainers.image.created": "2026-11-23T06:00:00+00:00",
            "vnd.kfp-ci.scan.database": "2026-11-01T06:12:33.123456789Z",
            "vnd.kfp-ci.scan.matched": "0.76.0",
            "vnd.kfp-ci.scan.schema": "1",
            "vnd.kfp-ci.scan.trivy": "0.76.0",
        }


@both
def test_each_day_replaces_the_one_before(api: bool) -> None:
    with running(api=api) as (_, registry, subject):
        for day in range(1, 6):
            publish(registry, subject, record(day), hours=day)
        assert len(referrers.attached(registry, "p/train", subject, records.TYPE)) == 1
        kept = newest(registry, subject)
        assert kept is not None
        assert kept.record == record(5)


@both
def test_the_newest_is_that_of_the_newest_database(api: bool) -> None:
    """An agent with yesterday's database, or with none, comes later and hides nothing."""
    with running(api=api) as (_, registry, subject):
        publish(registry, subject, record(2), hours=0)
        publish(registry, subject, record(1), hours=1)
        publish(registry, subject, record(None, kinds=["secret"]), hours=2)
        kept = newest(registry, subject)
        assert kept is not None
        assert kept.record == record(2)
        # Of one database the last counts: another Trivy, other checks.
        publish(registry, subject, record(2, matched="0.77.0"), hours=3)
        kept = newest(registry, subject)
        assert kept is not None
        assert kept.record.matched == "0.77.0"
        left = referrers.attached(registry, "p/train", subject, records.TYPE)
        assert len(left) == 1


def test_dates_are_compared_as_times() -> None:
    with running(deletes=405) as (_, registry, subject):
        early = record(database="2026-11-01T23:30:00+02:00")
        late = record(database="2026-11-01T22:00:00Z")
        publish(registry, subject, late, hours=0)
        publish(registry, subject, early, hours=1)
        kept = newest(registry, subject)
        assert kept is not None
        assert kept.record == late


@both
def test_the_same_record_is_not_written_again(api: bool) -> None:
    """Two agents that scanned one image at once: their SBOMs differ in a time only."""
    with running(api=api) as (fake, registry, subject):
        digest = publish(registry, subject, record())
        fake.asked.clear()
        assert publish(registry, subject, record(), SBOM + b" ", hours=5) == digest
        assert {method for method, _ in fake.asked} == {"GET"}
        # Unless its SBOM cannot be read: what is damaged would stay so for ever.
        fake.blobs[artifacts.digest_of(SBOM)] = b"damaged"
        again = publish(registry, subject, record(), SBOM + b" ", hours=5)
        assert again != digest
        kept = newest(registry, subject)
        assert kept is not None
        assert kept.sbom() == SBOM + b" "


def attach(registry: Registry, subject: str, content: bytes, day: int, **more: str) -> str:
    """What an agent of another version, or a stranger, leaves there."""
    annotations = {
        records.DATABASE: record(day).database or "",
        artifacts.CREATED: MONDAY.isoformat(),
        **more,
    }
    return referrers.attach(
        registry,
        "p/train",
        subject,
        artifact_type=records.TYPE,
        files={records.TYPE: content},
        annotations=annotations,
    )


RUBBISH = {
    "no JSON": b"\x00",
    "empty": b"",
    "nested": b"[" * 100_000,
    "truncated": msgspec.json.encode(record())[:-5],
    "another schema": msgspec.json.encode(record(schema=2)),
    "a field too many": msgspec.json.encode(record()).replace(b'{"schema"', b'{"x":1,"schema"'),
    "a list": b"[1]",
}


@pytest.mark.parametrize("kind", sorted(RUBBISH))
def test_what_cannot_be_read_counts_as_none(kind: str) -> None:
    with running() as (_, registry, subject):
        attach(registry, subject, RUBBISH[kind], 9)
        assert newest(registry, subject) is None
        publish(registry, subject, record(1))
        kept = newest(registry, subject)
        assert kept is not None
        assert kept.record == record(1)
        assert kept.sbom() == SBOM


def test_rubbish_costs_a_few_requests() -> None:
    with running() as (fake, registry, subject):
        for day in range(1, 12):
            attach(registry, subject, b"x", day)
        fake.asked.clear()
        assert newest(registry, subject) is None
        assert len(fake.asked) <= 7


def test_a_record_of_a_later_version_is_left_to_it() -> None:
    with running() as (fake, registry, subject):
        later = msgspec.json.encode(record(schema=2))
        theirs = attach(registry, subject, later, 1, **{records.VERSION: "2"})
        ours = publish(registry, subject, record(2))
        assert {theirs, ours} <= set(fake.manifests)
        kept = newest(registry, subject)
        assert kept is not None
        assert kept.digest == ours


def test_a_record_of_another_image_is_refused() -> None:
    """A list that names it all the same."""
    with running(api=False) as (fake, registry, subject):
        other = fake.image("other")
        publish(registry, other, record())
        fake.put_index(subject, fake.index(other))
        assert newest(registry, subject) is None


def test_an_sbom_that_is_gone_is_none() -> None:
    with running() as (fake, registry, subject):
        digest = publish(registry, subject, record())
        kept = newest(registry, subject)
        assert kept is not None
        del fake.blobs[artifacts.digest_of(SBOM)]
        assert kept.sbom() is None
        del fake.manifests[digest]
        assert kept.sbom() is None


def test_a_registry_that_does_not_answer_is_no_missing_record() -> None:
    with pytest.raises(RegistryError, match="does not answer"):
        newest(Registry("127.0.0.1:1", patience=Patience(1, 1, 0)), "sha256:" + "0" * 64)


_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=25, deadline=None)
@given(
    api=st.booleans(),
    one=st.builds(
        record,
        st.integers(1, 28) | st.none(),
        image=_text,
        trivy=_text,
        findings=st.lists(st.builds(Finding, kind=st.just("secret"), id=_text, title=_text)),
    ),
    sbom=st.binary(max_size=200),
)
def test_a_record_comes_back_as_it_was(api: bool, one: ScanRecord, sbom: bytes) -> None:
    with running(api=api) as (_, registry, subject):
        publish(registry, subject, one, sbom)
        kept = newest(registry, subject)
        assert kept is not None
        assert kept.record == one
        assert kept.sbom() == sbom
