"""Records in a registry: the last one, the one that counts, all of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ci_tools import documents as d
from ci_tools import storage
from ci_tools.errors import MissingInputError, RegistryError
from ci_tools.images import moving
from ci_tools.images.registry import Registry
from ci_tools.promotion import journal
from ci_tools.promotion.journal import Journals
from ci_tools.promotion.records import TYPE, Records
from tests.fakes.registry import FakeRegistry, error, serve
from tests.unit.test_promotion_engine import begun, record


@pytest.fixture
def fake() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def registry(fake: FakeRegistry) -> Iterator[Registry]:
    with serve(fake) as host:
        yield Registry(host)


def put(records: Records, release: str, **changes: Any) -> str:
    one = record(release, outcome=changes.pop("outcome", "done"))
    head = records.head()
    one.previous = head.digest if head else ""
    one.standing = changes.get("standing", "")
    return records.put(one).digest


def test_nothing_was_ever_promoted(registry: Registry) -> None:
    records = Records(registry, "ml/promotions", "prod")
    assert records.head() is None
    assert records.standing(None) is None
    assert records.known() == ([], "")


def test_the_last_record_and_all_before_it(registry: Registry) -> None:
    records = Records(registry, "ml/promotions", "prod")
    first = put(records, "a")
    second = put(records, "b")
    put(records, "c", outcome="undone", standing=second)
    head = records.head()
    assert head is not None
    assert head.record.release == "c"
    stands = records.standing(head)
    assert stands is not None
    assert (stands.digest, stands.record.release) == (second, "b")
    history, gone = records.known()
    assert ([one.record.release for one in history], gone) == (["c", "b", "a"], "")
    assert history[-1].digest == first


def test_what_can_be_read_is_known_though_an_older_one_is_gone(
    registry: Registry, fake: FakeRegistry
) -> None:
    records = Records(registry, "ml/promotions", "prod")
    first = put(records, "a")
    put(records, "b")
    put(records, "c")
    del fake.manifests[first]
    again = Records(registry, "ml/promotions", "prod")
    history, gone = again.known()
    assert [one.record.release for one in history] == ["c", "b"]
    assert first in gone
    assert "it is gone" in gone
    # Whoever looks for one that is there does not ask for older ones.
    assert next(one for one in again.walked() if one.record.release == "b").record.release == "b"


def test_where_the_last_one_is_gone_nothing_is_known(
    registry: Registry, fake: FakeRegistry
) -> None:
    moving.put(registry, "ml/promotions", "prod", "application/x", b"{}")
    with pytest.raises(RegistryError, match="it is gone"):
        Records(registry, "ml/promotions", "prod").known()


def test_each_record_has_a_tag_of_its_own(registry: Registry, fake: FakeRegistry) -> None:
    """Or what no tag names any more would be cleaned away."""
    records = Records(registry, "ml/promotions", "prod")
    digests = {put(records, "a"), put(records, "b")}
    own = {tag: it for tag, it in fake.tags.items() if tag.startswith("release-prod__")}
    assert set(own.values()) == digests


def test_a_record_is_there_before_the_tag_moves(registry: Registry, fake: FakeRegistry) -> None:
    records = Records(registry, "ml/promotions", "prod")
    first = put(records, "a")
    fake.before = lambda method, path: (
        error(500, "DOWN") if method == "PUT" and path.endswith("/manifests/prod") else None
    )
    with pytest.raises(RegistryError):
        put(records, "b")
    head = records.head()
    assert head is not None
    assert head.digest == first


@pytest.mark.parametrize("content", [b"{", b'{"schema": 1}'])
def test_a_damaged_record_is_told(registry: Registry, content: bytes) -> None:
    moving.put(registry, "ml/promotions", "prod", TYPE, content)
    with pytest.raises(RegistryError, match="cannot be read"):
        Records(registry, "ml/promotions", "prod").head()


def test_another_environment_s_record_is_not_ours(registry: Registry) -> None:
    one = record("a")
    one.environment = "dev"
    moving.put(registry, "ml/promotions", "prod", TYPE, storage.encode(one))
    with pytest.raises(RegistryError, match="another environment"):
        Records(registry, "ml/promotions", "prod").head()


def test_a_signature_is_there_before_the_tag_moves(registry: Registry, fake: FakeRegistry) -> None:
    records = Records(registry, "ml/promotions", "prod")
    signed: list[bytes] = []

    def sign(content: bytes) -> bytes:
        assert records.head() is None
        signed.append(content)
        return b"signed"

    kept = records.put(record("a"), sign)
    assert signed == [kept.content]
    assert records.signature(kept) == b"signed"
    head = records.head()
    assert head == kept
    assert records.signature(records.put(record("b"))) is None
    (tag,) = [one for one in fake.tags if one.endswith(".dsse")]
    assert re.fullmatch(r"release-prod__[0-9a-f]{16}\.dsse", tag)


def test_where_signing_fails_there_is_no_record(registry: Registry) -> None:
    records = Records(registry, "ml/promotions", "prod")

    def sign(_: bytes) -> bytes:
        raise RegistryError("the key is away", "Try again")

    with pytest.raises(RegistryError, match="the key is away"):
        records.put(record("a"), sign)
    assert records.head() is None


@pytest.mark.parametrize("environment", ["prod", "p" * 60, "prod/../x", "é" * 128])
def test_the_tags_are_ones_that_a_registry_takes(
    registry: Registry, fake: FakeRegistry, environment: str
) -> None:
    records = Records(registry, "ml/promotions", environment)
    one = record("a")
    one.environment = environment
    kept = records.put(one, lambda _: b"signed")
    assert records.signature(kept) == b"signed"
    for tag in fake.tags:  # https://github.com/opencontainers/distribution-spec/blob/main/spec.md
        assert re.fullmatch(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", tag)


# the journal ----------------------------------------------------------------------------------


def journals(registry: Registry, machine: Path) -> Journals:
    return Journals(machine / "prod.json", registry, "ml/promotions", "prod")


def test_another_machine_reads_the_journal(registry: Registry, tmp_path: Path) -> None:
    one: d.Journal = begun(2)
    journals(registry, tmp_path / "1").keep(one)
    found = journals(registry, tmp_path / "2").read()
    assert found == one
    assert found is not None
    assert found.serial == 1


def test_while_the_registry_is_away_ours_goes_on(
    registry: Registry, fake: FakeRegistry, tmp_path: Path
) -> None:
    kept, one = journals(registry, tmp_path), begun(1)
    kept.keep(one)
    fake.before = lambda method, _: error(500, "DOWN") if method == "PUT" else None
    one.undoing = True
    assert "DOWN" in kept.keep_if_possible(one) or "HTTP 500" in kept.keep_if_possible(one)
    fake.before = lambda *_: None
    found = kept.read()
    assert found is not None
    assert found.undoing


def test_a_damaged_journal_is_told(registry: Registry, tmp_path: Path) -> None:
    moving.put(registry, "ml/promotions", "prod__journal", journal.TYPE, b"{}")
    with pytest.raises(MissingInputError, match="damaged"):
        journals(registry, tmp_path).read()


def test_a_journal_that_is_about_to_be_closed_is_waited_for(
    registry: Registry, fake: FakeRegistry, tmp_path: Path
) -> None:
    one: d.Journal = begun(2)
    for step in one.steps:
        step.state = "done"
    first, other = journals(registry, tmp_path / "1"), journals(registry, tmp_path / "2")
    first.keep(one)
    looks: list[str] = []

    def closes(_: str, path: str) -> None:
        if path.endswith("/manifests/prod__journal"):
            looks.append(path)
            if len(looks) == 3:
                fake.before = lambda *_: None
                one.open = False
                first.keep(one)

    fake.before = closes
    found = other.read_closed(60.0)
    assert found is not None
    assert not found.open
    assert len(looks) == 3


@pytest.mark.parametrize(
    ("seconds", "changes", "state"),
    [(0.0, {}, "done"), (60.0, {"undoing": True}, "done"), (60.0, {}, "begun")],
    ids=["nobody waits", "it goes back", "it is within a step"],
)
def test_one_that_is_open_for_long_is_not(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    seconds: float, changes: dict[str, Any], state: Any,
) -> None:  # fmt: skip
    monkeypatch.setattr(journal, "_CLOSING", 0.2)
    one: d.Journal = begun(2)
    for step in one.steps:
        step.state = "done"
    one.steps[-1].state = state
    for name, value in changes.items():
        setattr(one, name, value)
    journals(registry, tmp_path / "1").keep(one)
    assert journals(registry, tmp_path / "2").read_closed(seconds) == one


def test_a_small_document_again_takes_three_requests(
    registry: Registry, fake: FakeRegistry
) -> None:
    moving.put(registry, "ml/promotions", "prod__journal", TYPE, b"1")
    fake.asked.clear()
    moving.put(registry, "ml/promotions", "prod__journal", TYPE, b"2")
    assert [method for method, _ in fake.asked] == ["POST", "PUT", "PUT"]
    assert moving.get(registry, "ml/promotions", "prod__journal", TYPE) == b"2"
    fake.asked.clear()
    moving.put(registry, "ml/promotions", "another", TYPE, b"2")
    assert [method for method, _ in fake.asked] == ["PUT"]


def test_a_record_is_read_once(registry: Registry, fake: FakeRegistry) -> None:
    put(Records(registry, "ml/promotions", "prod"), "a")
    records = Records(registry, "ml/promotions", "prod")
    first = records.head()
    fake.asked.clear()
    assert records.head() == first
    assert [method for method, _ in fake.asked] == ["HEAD"]
