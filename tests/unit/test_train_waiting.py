"""The waiter alone, on a clock of its own: every state, time-outs, a server that is away."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_tools.kubeflow import api
from ci_tools.kubeflow.waiting import ENDED, Halted, Seen, Waiter

AWAY = api.Away("nobody answers", "Wait")


class World:
    """A clock that only sleeping moves, and a server that answers what it is told to.

    A state that is an exception is raised; the last one stays.
    """

    def __init__(self, *answers: Any, cost: float = 0.0) -> None:
        self.now, self.answers, self.cost = 1000.0, list(answers), cost
        self.told: list[str] = []
        self.looks: list[float] = []
        self.halt_at: float | None = None

    def look(self) -> Any:
        self.now += self.cost
        self.looks.append(self.now)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if not isinstance(answer, str) else SimpleNamespace(state=answer)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def wait(
        self, timeout: float = 1e6, poll: tuple[float, float] = (1.0, 15.0), patience: float = 60
    ) -> Seen | None:
        waiter = Waiter(
            self.look, self.told.append, poll=poll, patience=patience, seen=lambda _: None,
            halted=lambda: self.halt_at is not None and self.now >= self.halt_at,
            clock=lambda: self.now, sleep=self.sleep,
        )  # fmt: skip
        return waiter.wait(self.now + timeout)


def end(world: World) -> str | None:
    seen = world.wait()
    return seen.state if seen else None


@pytest.mark.parametrize("state", sorted(ENDED))
def test_an_end_is_an_end_at_the_first_look(state: str) -> None:
    world = World(state)
    assert end(world) == state
    assert len(world.looks) == 1


@pytest.mark.parametrize(
    "state",
    ["PENDING", "RUNNING", "CANCELING", "PAUSED", "RUNTIME_STATE_UNSPECIFIED", "REPLAYING", None],
)
def test_all_others_go_on(state: str | None) -> None:
    world = World(SimpleNamespace(state=state), SimpleNamespace(state=state), "SUCCEEDED")
    assert end(world) == "SUCCEEDED"
    assert len(world.looks) == 3


def test_every_state_is_told_once_and_paused_with_what_it_waits_for() -> None:
    world = World("RUNNING", "PAUSED", "PAUSED", "RUNNING", "LATER_INVENTED", "SUCCEEDED")
    end(world)
    assert world.told == [
        "RUNNING",
        "PAUSED: it waits until somebody resumes it",
        "RUNNING",
        "LATER_INVENTED: a state that this tool does not know; it is waited for as if it were "
        "RUNNING",
        "SUCCEEDED",
    ]


def test_a_run_that_was_being_cancelled_and_failed_was_cancelled() -> None:
    assert end(World("RUNNING", "CANCELING", "FAILED")) == "CANCELED"
    history = [SimpleNamespace(state="RUNNING"), SimpleNamespace(state="CANCELING")]
    assert end(World(SimpleNamespace(state="FAILED", state_history=history))) == "CANCELED"
    assert end(World("CANCELING", "SUCCEEDED")) == "SUCCEEDED"  # it was too late
    assert end(World("RUNNING", "FAILED")) == "FAILED"


def test_a_run_that_ended_in_time_did_though_we_look_late() -> None:
    assert World("SUCCEEDED", cost=100).wait(timeout=1) == Seen(
        SimpleNamespace(state="SUCCEEDED"), "SUCCEEDED"
    )
    assert World("RUNNING", cost=100).wait(timeout=1) is None


@given(st.floats(0.1, 5000), st.floats(0.01, 5), st.floats(1, 30))
def test_the_time_out_is_kept_and_the_pauses_grow_to_the_longest(
    timeout: float, first: float, longest: float
) -> None:
    longest = max(first, longest)
    world = World("RUNNING")
    began = world.now
    assert world.wait(timeout, (first, longest)) is None
    assert timeout - 1e-6 <= world.now - began <= timeout + 1e-6
    pauses = [later - earlier for earlier, later in zip(world.looks, world.looks[1:])]  # noqa: B905
    assert all(pause <= longest * 1.2 + 1e-6 for pause in pauses)
    assert len(world.looks) <= timeout / (first * 0.8) + 2
    for number, pause in enumerate(pauses[:-1]):  # the last one is cut by the time-out
        grown = min(first * 1.5 ** min(number, 50), longest)
        assert grown * 0.8 - 1e-6 <= pause <= grown * 1.2 + 1e-6


def test_a_server_that_is_away_for_less_than_our_patience_is_waited_for() -> None:
    world = World("RUNNING", AWAY, AWAY, "RUNNING", AWAY, "SUCCEEDED")
    assert end(world) == "SUCCEEDED"
    assert world.told == [
        "RUNNING",
        "no answer, looking again: nobody answers",
        "no answer, looking again: nobody answers",
        "SUCCEEDED",
    ]


def test_a_server_that_stays_away_is_given_up_and_the_time_out_still_counts() -> None:
    world = World(AWAY)
    began = world.now
    with pytest.raises(api.Away):
        world.wait(patience=60)
    assert 60 <= world.now - began <= 60 + 15 * 1.2
    assert World(AWAY).wait(timeout=5, patience=60) is None


def test_other_errors_are_raised_at_once() -> None:
    world = World("RUNNING", api.NotFound("no such run", "Look"))
    with pytest.raises(api.NotFound):
        world.wait()
    assert len(world.looks) == 2


def test_an_interruption_is_noticed_within_a_pause() -> None:
    world = World("RUNNING")
    world.halt_at = world.now + 100.05
    with pytest.raises(Halted):
        world.wait(poll=(1.0, 1000.0))
    assert world.now <= world.halt_at + 0.2
