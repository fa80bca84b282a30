"""Claims in a bucket: a model of many machines, odd objects, and S3 as moto has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ci_tools import storage
from ci_tools.errors import CredentialsError, RegistryError
from ci_tools.promotion.bucket_claims import BucketClaims, Held
from ci_tools.promotion.lease import Claim, Timing
from ci_tools.promotion.s3_slot import S3Slot
from tests.fakes.slot import FakeSlot

TTL = 10.0
TIMING = Timing(ttl=TTL, beat=1000.0, settle=0.0, look=0.0)
MACHINES = ("a", "b", "c")


def claim_of(machine: str, nonce: str = "") -> Claim:
    nonce = nonce or f"nonce of {machine}"
    return Claim(nonce=nonce, who=machine, release=f"release-{machine}", machine=machine, at=0.0)


def claims_in(slot: Any) -> BucketClaims:
    return BucketClaims(slot, "s3://bucket/locks/ml/prod.json", TIMING)


def no_head() -> str:
    raise AssertionError("a bucket's lock asks for no record")


def claimed(claims: BucketClaims, claim: Claim, *, take: bool = False) -> str:
    return claims.claim(claim, no_head, take=take, meanwhile=lambda: None)


# the model ----------------------------------------------------------------------------------


class Machines(RuleBasedStateMachine):
    """Machines that claim, live, look, leave, die and break the lock, each within the others'
    requests, with answers that get lost and a clock that moves.

    The model knows who was let in last, and when that one was last told that it is his. It
    does not know what the object holds.
    """

    @initialize()
    def nobody(self) -> None:
        self.time = 0.0
        self.slot = FakeSlot(lambda: self.time, self._meanwhile, self._written)
        self.number = 0
        self.inside: dict[str, tuple[BucketClaims, Claim]] = {}  # who believes to be inside
        self.owner = ""  # let in last
        self.told = 0.0  # when the owner was told last that it is his
        self.others: list[tuple[str, str]] = []  # what happens before the requests to come
        self.busy: set[str] = set()

    def _meanwhile(self, _: str) -> None:
        if self.others:
            self._act(*self.others.pop(0))

    def _act(self, what: str, machine: str) -> None:
        """One thread of a machine; within its own request it does nothing else."""
        if machine not in self.busy:
            self.busy.add(machine)
            getattr(self, f"_{what}")(machine)
            self.busy.remove(machine)

    def _written(self) -> None:
        self.others = []  # what follows is another request's, and told in another rule

    def _wait(self, _: str) -> None:
        self.time += TTL / 2

    def _claim(self, machine: str, *, take: bool = False) -> None:
        if machine in self.inside:
            return  # its file lock is held
        self.number += 1
        claims, claim = claims_in(self.slot), claim_of(machine, f"nonce {self.number}")
        who = claimed(claims, claim, take=take)
        if who:
            return
        if self.owner and not take:
            # Somebody lived who was told that it is his for `ttl`, and no conflict is ours.
            assert self.owner == machine or self.time > self.told + TTL, self.owner
        self.inside[machine] = (claims, claim)
        self.owner, self.told = machine, self.time

    def _break(self, machine: str) -> None:
        self._claim(machine, take=True)

    def _check(self, machine: str) -> None:
        if machine not in self.inside:
            return
        claims, claim = self.inside[machine]
        who = claims.check(claim)
        if machine not in self.inside:
            return  # it died or left within its own request
        if self.owner == machine:
            assert not who, f"{machine} was turned out by {who}, and nobody came after it"
            self.told = self.time
        else:
            assert who, f"{machine} goes on, though {self.owner} was let in after it"
            del self.inside[machine]

    def _live(self, machine: str) -> None:
        if machine in self.inside:
            claims, claim = self.inside[machine]
            claims.live(claim)

    def _leave(self, machine: str) -> None:
        if machine not in self.inside:
            return
        claims, claim = self.inside.pop(machine)
        claims.leave(claim)
        if self.owner == machine:
            self.owner = ""

    def _die(self, machine: str) -> None:
        self.inside.pop(machine, None)

    one = st.sampled_from(MACHINES)
    other = st.tuples(st.sampled_from(["claim", "break", "check", "live", "wait", "die"]), one)

    @rule(machine=one, others=st.lists(other, max_size=3), lose=st.integers(0, 1))
    def claims(self, machine: str, others: list[tuple[str, str]], lose: int) -> None:
        self._do("claim", machine, others, lose)

    @rule(machine=one, others=st.lists(other, max_size=3), lose=st.integers(0, 1))
    def checks(self, machine: str, others: list[tuple[str, str]], lose: int) -> None:
        self._do("check", machine, others, lose)

    @rule(machine=one, what=st.sampled_from(["break", "live", "leave", "die", "wait"]))
    def does(self, machine: str, what: str) -> None:
        self._do(what, machine, [], 0)

    @precondition(lambda self: not self.owner)
    @rule(machine=one)
    def is_let_in_where_nobody_is(self, machine: str) -> None:
        self.inside.pop(machine, None)
        self._claim(machine)
        assert self.owner == machine

    @rule(machine=one)
    def is_let_in_after_the_lapse(self, machine: str) -> None:
        self.inside.pop(machine, None)
        self.time += TTL + 1
        self._claim(machine)
        assert self.owner == machine

    @invariant()
    def the_object_is_the_owner_s(self) -> None:
        if self.owner:
            held = msgspec.json.decode(self.slot.content or b"", type=Held)
            assert (held.machine, held.over) == (self.owner, False)

    def _do(self, what: str, machine: str, others: list[tuple[str, str]], lose: int) -> None:
        self.others, self.slot.lose = others, lose
        self._act(what, machine)
        self.others, self.slot.lose = [], 0


def test_of_many_machines_one_is_inside() -> None:
    many = settings(max_examples=100, stateful_step_count=25)
    run_state_machine_as_test(Machines, settings=many)  # type: ignore[no-untyped-call]


# single cases -------------------------------------------------------------------------------


def test_the_object_tells_who_has_it_and_that_it_was_given_back() -> None:
    slot = FakeSlot()
    claims, claim = claims_in(slot), claim_of("a")
    assert claimed(claims, claim) == ""
    held = msgspec.json.decode(slot.content or b"", type=Held)
    assert (held.who, held.release, held.over) == ("a", "release-a", False)
    assert claimed(claims_in(slot), claim_of("b")) == "a with release-a"
    claims.leave(claim)
    assert msgspec.json.decode(slot.content or b"", type=Held).over
    assert claimed(claims_in(slot), claim_of("b")) == ""


def test_a_sign_of_life_between_the_look_and_the_take_over_counts() -> None:
    """The very race that a condition on the ETag decides: its content must differ."""
    clock = [0.0]
    slot = FakeSlot(now=lambda: clock[0])
    first, claim = claims_in(slot), claim_of("a")
    claimed(first, claim)
    first.live(claim)
    clock[0] = TTL + 1

    def lives(request: str) -> None:
        if request == "put":
            slot.before = lambda _: None
            first.live(claim)

    slot.before = lives
    assert claimed(claims_in(slot), claim_of("b")) == "a with release-a"
    assert first.check(claim) == ""


def test_a_writing_whose_answer_was_lost_is_ours() -> None:
    slot = FakeSlot(lose=1)
    claims, claim = claims_in(slot), claim_of("a")
    assert claimed(claims, claim) == ""
    slot.lose = 1
    assert claims.check(claim) == ""
    assert claims.check(claim) == ""


def test_where_the_object_is_gone_it_is_nobody_s() -> None:
    slot = FakeSlot()
    claims, claim = claims_in(slot), claim_of("a")
    claimed(claims, claim)
    slot.content = None
    assert claims.check(claim) == "somebody"
    claims.leave(claim)
    assert slot.content is None


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b'{"nonce": 1}', b"\xff\x00"])
def test_what_is_no_claim_is_passed_over_when_it_is_old(content: bytes) -> None:
    clock = [0.0]
    slot = FakeSlot(now=lambda: clock[0], content=content)
    assert claimed(claims_in(slot), claim_of("a")) == "somebody"
    clock[0] = TTL + 1
    assert claimed(claims_in(slot), claim_of("a")) == ""


def test_a_store_that_knows_no_conditions_is_refused() -> None:
    with pytest.raises(RegistryError, match="no lock: its store replaces objects"):
        claimed(claims_in(FakeSlot(conditions=False)), claim_of("a"))


def test_who_is_always_outrun_is_turned_away() -> None:
    slot = FakeSlot()
    number = [0]

    def another(request: str) -> None:
        if request == "put":
            number[0] += 1
            held = Held(**msgspec.structs.asdict(claim_of(f"x{number[0]}")), over=True)
            slot.content = storage.encode(held)

    slot.before = another
    assert claimed(claims_in(slot), claim_of("a")).startswith("x")


# S3, as moto has it -------------------------------------------------------------------------


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


def test_an_object_is_replaced_by_condition(s3: Any) -> None:
    slot = S3Slot("s3://bucket/some/", "locks/ml/prod.json")
    assert str(slot) == "s3://bucket/some/locks/ml/prod.json"
    assert slot.read() is None
    assert slot.put(b"no", '"0123"') == ""  # there is none that could be replaced
    first = slot.put(b"1", "")
    assert first
    assert slot.put(b"2", "") == ""
    second = slot.put(b"2", first)
    assert second
    assert slot.put(b"3", first) == ""
    seen = slot.read()
    assert seen is not None
    assert (seen.content, seen.etag) == (b"2", second)
    body = s3.get_object(Bucket="bucket", Key="some/locks/ml/prod.json")["Body"].read()
    assert body == b"2"


def test_its_age_is_by_the_clock_of_the_store(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    slot = S3Slot("s3://bucket", "lock")
    slot.put(b"1", "")
    answer = slot._client.get_object(Bucket="bucket", Key="lock")
    written = answer["LastModified"].timestamp()
    told = "Thu, 01 Jan 2099 00:00:00 GMT"
    answer["ResponseMetadata"]["HTTPHeaders"]["date"] = told
    monkeypatch.setattr(slot, "_client", type("", (), {"get_object": lambda *_, **__: answer})())
    seen = slot.read()
    assert seen is not None
    assert seen.age == pytest.approx(4070908800 - written)


def test_a_lock_in_s3_is_held_and_taken_over(s3: Any) -> None:
    first, other = (claims_in(S3Slot("s3://bucket/x", "lock")) for _ in range(2))
    assert claimed(first, claim_of("a")) == ""
    assert first.check(claim_of("a")) == ""
    assert claimed(other, claim_of("b")) == "a with release-a"
    assert claimed(other, claim_of("b"), take=True) == ""
    assert first.check(claim_of("a")) == "b, who took the lock over,"
    assert other.check(claim_of("b")) == ""


def test_a_bucket_that_is_not_there_is_told(s3: Any) -> None:
    with pytest.raises(RegistryError, match=r"s3://nothing/lock refuses .*NoSuchBucket"):
        claimed(claims_in(S3Slot("s3://nothing", "lock")), claim_of("a"))


def test_without_credentials_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with pytest.raises(CredentialsError, match="no AWS credentials"):
        S3Slot("s3://bucket", "lock").read()
