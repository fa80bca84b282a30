"""One promotion at a time: in a registry whose tags are immutable, in one whose are not, and
in a bucket (a FAKE of one object in S3)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pytest

from ci_tools import storage
from ci_tools.errors import PromotionUnderWayError
from ci_tools.images import moving
from ci_tools.images.registry import Registry
from ci_tools.promotion.bucket_claims import BucketClaims, Held
from ci_tools.promotion.claims import SUFFIX, TYPE, RegistryClaims
from ci_tools.promotion.lease import Claim, Claims, Lease, Timing
from tests.fakes.registry import FakeRegistry, serve
from tests.fakes.slot import FakeSlot

TIMING = Timing(ttl=60.0, beat=1000.0, settle=0.0, look=0.01)


class Immutable(FakeRegistry):
    """As ECR has it: the tags of a claim are, those of documents that move are not."""

    def _put(self, reference: str, kind: str, body: bytes) -> Any:
        self.immutable = "__" in reference and reference[-1].isdigit()
        return super()._put(reference, kind, body)


class Place(Protocol):
    """Where claims are: what each machine's lease is made of."""

    def claims(self, timing: Timing, now: Callable[[], float]) -> Claims:
        """Of a machine's own."""

    def left(self, claim: Claim) -> None:
        """What a machine that died leaves."""

    def seen(self) -> bytes:
        """The last sign of life, as it lies there."""


class InRegistry(Place):
    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def claims(self, timing: Timing, now: Callable[[], float]) -> Claims:
        return RegistryClaims(self.registry, "ml/promotions", "prod", timing, now=now)

    def left(self, claim: Claim) -> None:
        repository = "ml/promotions" + SUFFIX
        assert moving.claim(self.registry, repository, "prod__first-1", TYPE, storage.encode(claim))

    def seen(self) -> bytes:
        found = moving.get(self.registry, "ml/promotions", "prod__lease", TYPE)
        return found or b""


class InBucket(Place):
    def __init__(self) -> None:
        self.object = FakeSlot()

    def claims(self, timing: Timing, now: Callable[[], float]) -> Claims:
        self.object.now = now
        return BucketClaims(self.object, "s3://bucket/lock", timing)

    def left(self, claim: Claim) -> None:
        held = Held(**msgspec.structs.asdict(claim))
        self.object.content, self.object.written = storage.encode(held), claim.at

    def seen(self) -> bytes:
        return str(self.object.written).encode()


@pytest.fixture(params=["mutable", "immutable", "bucket"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "bucket":
        yield InBucket()
        return
    with serve(FakeRegistry() if request.param == "mutable" else Immutable()) as host:
        yield InRegistry(Registry(host))


def lease(
    place: Place,
    machine: Path,
    timing: Timing = TIMING,
    now: Callable[[], float] = time.time,
) -> Lease:
    return Lease(place.claims(timing, now), "prod", machine, timing=timing, now=now)


def held(one: Lease, head: str = "", **changes: Any) -> Any:
    return one.held(lambda: head, who="me", release="release-1", **changes)


def test_a_second_machine_is_turned_away_and_then_let_in(place: Place, tmp_path: Path) -> None:
    one, other = lease(place, tmp_path / "1"), lease(place, tmp_path / "2")
    with held(one) as alive:
        alive()
        with (
            pytest.raises(PromotionUnderWayError, match="me with release-1 is promoting"),
            held(other),
        ):
            pytest.fail("it was let in")
        alive()
    with held(other) as alive:
        alive()


def test_after_a_record_the_next_claim_is_another(tmp_path: Path) -> None:
    with serve(FakeRegistry()) as host:
        registry = Registry(host)
        place = InRegistry(registry)
        with held(lease(place, tmp_path / "1")):
            pass
        head = "sha256:" + "a" * 64
        with held(lease(place, tmp_path / "2"), head) as alive:
            alive()
        name = "ml/promotions" + SUFFIX
        assert moving.get(registry, name, "prod__aaaaaaaaaaaa-1", TYPE) is not None


def test_a_second_process_of_one_machine_is_turned_away(place: Place, tmp_path: Path) -> None:
    with (
        held(lease(place, tmp_path)),
        pytest.raises(PromotionUnderWayError, match="another process of this machine") as told,
        held(lease(place, tmp_path)),
    ):
        pytest.fail("it was let in")
    assert "--break-lock" not in told.value.todo  # which does nothing against one that lives


def left(place: Place, machine: str, at: float) -> None:
    place.left(Claim(nonce="dead", who="it", release="release-0", machine=machine, at=at))


def test_a_dead_machine_s_claim_runs_out(place: Place, tmp_path: Path) -> None:
    left(place, "elsewhere", at=1000.0)
    with pytest.raises(PromotionUnderWayError), held(lease(place, tmp_path, now=lambda: 1059.0)):
        pytest.fail("it was let in")
    with held(lease(place, tmp_path, now=lambda: 1061.0)) as alive:
        alive()


def test_a_dead_machine_s_claim_is_broken_on_demand(place: Place, tmp_path: Path) -> None:
    left(place, "elsewhere", at=1000.0)
    with held(lease(place, tmp_path, now=lambda: 1001.0), take=True) as alive:
        alive()


def test_what_died_on_this_machine_holds_nothing(place: Place, tmp_path: Path) -> None:
    (tmp_path / "machine").write_text("this")
    left(place, "this", at=1000.0)
    with held(lease(place, tmp_path, now=lambda: 1001.0)) as alive:
        alive()


def test_who_was_taken_over_from_stops(place: Place, tmp_path: Path) -> None:
    with held(lease(place, tmp_path / "1")) as alive:
        alive()
        taken = held(lease(place, tmp_path / "2"), take=True)
        with taken, pytest.raises(PromotionUnderWayError, match="took the lock over"):
            alive()


def test_a_sign_of_life_keeps_it(place: Place, tmp_path: Path) -> None:
    clock = [1000.0]
    beating = Timing(ttl=60.0, beat=0.01, settle=0.0, look=0.01)
    one = lease(place, tmp_path / "1", beating, now=lambda: clock[0])
    with held(one):
        clock[0] = 1100.0
        other = lease(place, tmp_path / "2", now=lambda: clock[0])
        for _ in range(30_000):
            if b"1100" in place.seen():
                break
            threading.Event().wait(0.01)
        with pytest.raises(PromotionUnderWayError), held(other):
            pytest.fail("it was let in")


def test_one_that_waits_gets_it(place: Place, tmp_path: Path) -> None:
    first = held(lease(place, tmp_path / "1"))
    first.__enter__()
    told: list[str] = []

    def wait(text: str) -> None:
        told.append(text)
        first.__exit__(None, None, None)

    with held(lease(place, tmp_path / "2"), wait=600.0, told=wait) as alive:
        alive()
    assert told == ["waiting for me with release-1, who promotes to 'prod'"]


def test_of_many_at_once_one_gets_it_where_tags_are_immutable(tmp_path: Path) -> None:
    with serve(Immutable()) as host:
        barrier, inside = threading.Barrier(6), []

        def attempt(number: int) -> None:
            one = lease(InRegistry(Registry(host)), tmp_path / str(number))
            barrier.wait()
            try:
                with held(one):
                    inside.append(number)
                    done.wait(300)
            except PromotionUnderWayError:
                turned_away.append(number)
                if len(turned_away) == 5:
                    done.set()

        done, turned_away = threading.Event(), list[int]()
        threads = [threading.Thread(target=attempt, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(inside) == 1


def test_who_only_looks_sees_who_lives_and_claims_nothing(place: Place, tmp_path: Path) -> None:
    one, other = lease(place, tmp_path / "1"), lease(place, tmp_path / "2")
    assert other.holder("") == ""
    with held(one) as alive:
        assert other.holder("") == "me with release-1"
        assert lease(place, tmp_path / "1").holder("") == "another process of this machine"
        alive()
    assert other.holder("") == ""
    with held(other) as alive:
        alive()


def test_who_only_looks_takes_the_dead_for_nobody(place: Place, tmp_path: Path) -> None:
    left(place, "elsewhere", at=1000.0)
    assert lease(place, tmp_path, now=lambda: 1059.0).holder("") == "it with release-0"
    assert lease(place, tmp_path, now=lambda: 1061.0).holder("") == ""
    (tmp_path / "machine").write_text("elsewhere")
    assert lease(place, tmp_path, now=lambda: 1001.0).holder("") == ""


def test_what_is_done_meanwhile_counts_as_waiting(tmp_path: Path) -> None:
    with serve(FakeRegistry()) as host:
        clock, slept = [1000.0], []
        timing = Timing(settle=0.3)
        claims = RegistryClaims(
            Registry(host), "ml/promotions", "prod", timing,
            now=lambda: clock[0], sleep=slept.append,
        )  # fmt: skip
        one = Lease(claims, "prod", tmp_path, timing=timing)

        def work() -> None:
            clock[0] += 0.2

        with held(one, meanwhile=work):
            assert slept == [pytest.approx(0.1)]
