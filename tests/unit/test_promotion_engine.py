"""Steps forward and back, with a process that may end anywhere."""

from __future__ import annotations

import contextlib
import copy
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_tools import documents as d
from ci_tools.errors import CIError, MissingInputError, PromotionUnderWayError
from ci_tools.promotion import engine, journal, records


class Killed(BaseException):
    """The process is no more."""


@dataclass
class World:
    """What steps change. lives: actions until the process is killed, -1 for never."""

    values: dict[str, str] = field(default_factory=lambda: {"s0": "old", "s1": "old"})
    kept: d.Journal | None = None
    lives: int = -1
    broken: str = ""

    def act(self) -> None:
        if self.lives == 0:
            raise Killed
        self.lives -= 1

    def keep(self, one: d.Journal) -> None:
        self.act()
        self.kept = copy.deepcopy(one)
        self.act()


@dataclass
class Step:
    world: World
    name: str
    kind: str = "images"

    def look(self) -> d.Json:
        return {"was": self.world.values.get(self.name, "")}

    def do(self) -> d.Json:
        if self.world.broken == self.name:
            raise CIError("it broke", "Mend it")
        self.world.act()
        self.world.values[self.name] = "new"
        self.world.act()
        return {"is": "new"}

    def undo(self, step: d.JournalStep, /) -> str:
        self.world.act()
        self.world.values[step.name] = step.before["was"]
        self.world.act()
        return "put back"


class Way:
    def __init__(self, world: World) -> None:
        self.world = world

    def undo(self, step: d.JournalStep, /) -> str:
        return Step(self.world, step.name).undo(step)


def begun(count: int) -> d.Journal:
    return d.Journal(
        id="1", action="promote", environment="prod", project="ml", release="r", bundle="b",
        commit=None, previous="", by="me", approvals=[], began="now",
        steps=[d.JournalStep(kind="images", name=f"s{number}") for number in range(count)],
    )  # fmt: skip


def run(world: World, one: d.Journal, *, alive: Any = lambda: None) -> None:
    steps = [Step(world, entry.name) for entry in one.steps]
    engine.forward(one, steps, world.keep, alive=alive)


def back(world: World, one: d.Journal) -> list[str]:
    way = {"images": Way(world)}
    return engine.backward(
        one, way, world.keep, reason="why", alive=lambda: None, told=lambda _: None
    )


def latest(world: World, count: int) -> d.Journal:
    return copy.deepcopy(world.kept) if world.kept else begun(count)


@given(st.integers(1, 4), st.lists(st.integers(0, 30), max_size=4))
def test_killed_anywhere_and_gone_on_with_it_ends_as_undisturbed(
    count: int, lives: list[int]
) -> None:
    undisturbed = World()
    run(undisturbed, begun(count))
    world = World()
    for several in lives:
        world.lives = several
        try:
            run(world, latest(world, count))
        except Killed:
            continue
    world.lives = -1
    run(world, latest(world, count))
    assert world.values == undisturbed.values
    assert world.kept is not None
    assert undisturbed.kept is not None
    assert world.kept.steps == undisturbed.kept.steps


@given(st.integers(1, 4), st.integers(0, 30), st.lists(st.integers(0, 30), max_size=3))
def test_killed_anywhere_and_undone_ends_as_before(
    count: int, lives: int, undoing: list[int]
) -> None:
    before = World().values
    before |= {f"s{number}": before.get(f"s{number}", "") for number in range(count)}
    world = World(lives=lives)
    with contextlib.suppress(Killed):
        run(world, begun(count))
    for several in undoing:
        world.lives = several
        try:
            back(world, latest(world, count))
        except Killed:
            continue
    world.lives = -1
    assert back(world, latest(world, count)) == []
    assert {**before, **world.values} == before


def test_what_was_there_before_is_looked_at_once() -> None:
    world = World(lives=3)  # dies right after the change, before that is written
    with pytest.raises(Killed):
        run(world, begun(1))
    assert world.values["s0"] == "new"
    world.lives = -1
    run(world, latest(world, 1))
    assert world.kept is not None
    assert world.kept.steps[0].before == {"was": "old"}


def test_what_is_said_to_be_done_is_done_again() -> None:
    """Others may have been there meanwhile, or have written what is not so."""
    world = World()
    one = begun(2)
    one.steps[0].state, one.steps[0].result = "done", {"is": "what somebody wrote"}
    one.steps[0].before = {"was": "older"}
    run(world, one)
    assert world.values == {"s0": "new", "s1": "new"}
    assert [step.result for step in one.steps] == [{"is": "new"}] * 2
    assert one.steps[0].before == {"was": "older"}


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_journal_of_other_steps_is_told(count: int) -> None:
    world = World()
    steps = [Step(world, "s0"), Step(world, "s1")]
    with pytest.raises(MissingInputError, match="other steps"):
        engine.forward(begun(count), steps, world.keep, alive=lambda: None)
    assert world.values == {"s0": "old", "s1": "old"}


def test_the_journal_is_written_once_a_step() -> None:
    """Each writing is three requests to a registry, and as many more where it is slow."""
    world, states = World(), []

    def keep(one: d.Journal) -> None:
        states.append([step.state for step in one.steps])

    engine.forward(
        begun(2), [Step(world, "s0"), Step(world, "s1")], keep,
        alive=lambda: None,
    )  # fmt: skip
    assert states == [["begun", "pending"], ["done", "begun"]]


def test_one_that_cannot_be_undone_stops_no_other() -> None:
    world = World()
    one = begun(2)
    run(world, one)

    class Stuck:
        def undo(self, step: d.JournalStep, /) -> str:
            if step.name == "s1":
                raise CIError("nobody answers", "Ask")
            return Step(world, step.name).undo(step)

    problems = engine.backward(
        one, {"images": Stuck()}, world.keep, reason="why", alive=lambda: None,
        told=lambda _: None,
    )  # fmt: skip
    assert problems == ["s1: nobody answers"]
    assert world.values == {"s0": "old", "s1": "new"}
    assert [step.state for step in one.steps] == ["undone", "stuck"]
    assert back(world, one) == []  # and it is tried again
    assert world.values["s1"] == "old"


def test_who_lost_the_lock_does_nothing_more() -> None:
    world, looks = World(), []

    def alive() -> None:
        looks.append(1)
        if len(looks) == 2:
            raise PromotionUnderWayError("another", "Wait")

    with pytest.raises(PromotionUnderWayError):
        run(world, begun(2), alive=alive)
    assert world.values == {"s0": "new", "s1": "old"}


@pytest.mark.parametrize("looks", [0, 1, 2])
def test_who_lost_the_lock_undoes_nothing_more(looks: int) -> None:
    """Whoever has it now goes on with it."""
    world, one = World(), begun(2)
    run(world, one)
    left = iter([None] * looks)

    def alive() -> None:
        if next(left, "over") == "over":
            raise PromotionUnderWayError("another", "Wait")

    with pytest.raises(PromotionUnderWayError):
        engine.backward(
            one, {"images": Way(world)}, world.keep, reason="why", alive=alive,
            told=lambda _: None,
        )  # fmt: skip
    assert one.undoing is (looks > 0)
    assert world.values == {"s0": "new", "s1": "old" if looks == 2 else "new"}


def test_nothing_is_done_of_what_cannot_be_written_down() -> None:
    world = World()

    def keep(_: d.Journal) -> None:
        raise CIError("the registry is away", "Wait")

    with pytest.raises(CIError):
        engine.forward(begun(1), [Step(world, "s0")], keep, alive=lambda: None)
    assert world.values["s0"] == "old"


# which journal counts -------------------------------------------------------------------------


def written(id: str, serial: int, *, open: bool = True) -> d.Journal:
    one = begun(0)
    one.id, one.serial, one.open = id, serial, open
    return one


@given(st.integers(0, 9), st.integers(0, 9))
def test_of_one_promotion_the_journal_written_last_counts(here: int, there: int) -> None:
    found = journal.newest(written("a", here), written("a", there))
    assert found is not None
    assert found.serial == max(here, there)


def test_of_two_promotions_the_registry_s_journal_counts() -> None:
    found = journal.newest(written("a", 9), written("b", 1))
    assert found is not None
    assert found.id == "b"
    assert journal.newest(written("a", 9), None) is not None
    assert journal.newest(written("a", 9, open=False), None) is None
    assert journal.newest(None, None) is None


# what a roll-back goes to ---------------------------------------------------------------------


def record(release: str, action: d.Action = "promote", outcome: Any = "done") -> d.Promotion:
    return d.Promotion(
        id="1", action=action, outcome=outcome, environment="prod", project="ml",
        release=release, bundle="", commit=None, by="", approvals=[], began="", ended="",
    )  # fmt: skip


def earlier(*oldest_first: d.Promotion) -> str | None:
    found = records.before(list(reversed(oldest_first)))
    return found.release if found else None


def test_a_roll_back_goes_to_the_one_before() -> None:
    assert earlier() is None
    assert earlier(record("a")) is None
    assert earlier(record("a"), record("b")) == "a"


def test_two_roll_backs_go_back_two_releases() -> None:
    done = [record("a"), record("b"), record("c"), record("b", "rollback")]
    assert earlier(*done) == "a"
    assert earlier(*done, record("a", "rollback")) is None
    assert earlier(*done, record("d")) == "b"


def test_the_same_one_again_and_failures_do_not_count() -> None:
    assert earlier(record("a"), record("b"), record("b")) == "a"
    assert earlier(record("a"), record("b"), record("c", outcome="undone")) == "a"


@given(st.lists(st.sampled_from("abcde"), min_size=1, unique=True))
def test_rolling_back_again_and_again_ends_at_the_first(releases: list[str]) -> None:
    done = [record(release) for release in releases]
    gone_back = []
    while (to := earlier(*done)) is not None:
        gone_back.append(to)
        done.append(record(to, "rollback"))
    assert gone_back == releases[-2::-1]
