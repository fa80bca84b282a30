"""Order, width and failures of a schedule, on tasks that only write down their names."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci import schedule
from ci.schedule import Name, Task

Edges = Mapping[int, Collection[int]]


def name(number: int) -> Name:
    return Name(f"{number}", "build")


class Trial:
    """A schedule of `edges`, of which `failing` fail."""

    def __init__(self, edges: Edges, failing: Collection[int] = ()) -> None:
        self._edges, self._failing = edges, failing
        self._lock = threading.Lock()
        self._now: set[int] = set()
        self.started: list[int] = []
        self.ended: list[int] = []
        self.blocked: dict[int, list[int]] = {}
        self.widest = 0
        self.early: list[int] = []

    def run(
        self, jobs: int, ranks: Mapping[int, int] | None = None, stop_after: int = 10**6
    ) -> None:
        schedule.run(
            {
                name(one): Task(
                    run=lambda one=one: self._do(one),
                    after=[name(before) for before in self._edges[one]],
                    rank=((ranks or {}).get(one, one),),
                )
                for one in self._edges
            },
            jobs=jobs,
            blocked=lambda it, causes: self.blocked.__setitem__(
                int(it.image), [int(cause.image) for cause in causes]
            ),
            halted=lambda: len(self.ended) >= stop_after,
        )

    def _do(self, one: int) -> bool:
        with self._lock:
            self.started.append(one)
            self._now.add(one)
            self.widest = max(self.widest, len(self._now))
            if any(before not in self.ended for before in self._edges[one]):
                self.early.append(one)
        with self._lock:
            self._now.remove(one)
            self.ended.append(one)
        return one not in self._failing


@st.composite
def graphs(draw: st.DrawFn) -> Edges:
    size = draw(st.integers(0, 12))
    return {
        one: draw(st.sets(st.integers(0, one - 1), max_size=3)) if one else set()
        for one in range(size)
    }


@settings(deadline=None)
@given(graphs(), st.sets(st.integers(0, 11), max_size=3), st.integers(1, 4))
def test_everything_runs_once_after_what_it_waits_for_or_is_blocked(
    edges: Edges, failing: set[int], jobs: int
) -> None:
    trial = Trial(edges, failing)
    trial.run(jobs)
    spoiled: set[int] = set()
    for one in sorted(edges):
        if any(before in spoiled or before in failing for before in edges[one]):
            spoiled.add(one)
    assert sorted(trial.started) == sorted(set(edges) - spoiled)
    assert set(trial.blocked) == spoiled
    for one, causes in trial.blocked.items():
        assert causes
        assert set(causes) == {b for b in edges[one] if b in failing or b in spoiled}
    assert trial.early == []
    assert trial.widest <= jobs


def test_the_smallest_rank_that_may_start_is_next() -> None:
    trial = Trial({0: [], 1: [], 2: [1], 3: [], 4: [0]})
    trial.run(1, ranks={0: 5, 1: 3, 2: 9, 3: 4, 4: 1})
    assert trial.started == [1, 3, 0, 4, 2]


def test_as_many_at_once_as_there_are_jobs() -> None:
    meeting = threading.Barrier(3, timeout=300)  # passes only when three are in it
    tasks = {name(one): Task(run=lambda: meeting.wait() >= 0) for one in range(3)}
    schedule.run(tasks, jobs=3, blocked=lambda *_: pytest.fail("nothing fails"))


def test_a_halt_starts_nothing_more() -> None:
    trial = Trial({one: [] for one in range(9)})
    trial.run(1, stop_after=4)
    assert trial.ended == [0, 1, 2, 3]
    assert trial.blocked == {}


def test_an_exception_is_raised_and_starts_nothing_more() -> None:
    done: list[int] = []

    def bad() -> bool:
        raise RuntimeError("a defect")

    tasks = {
        name(0): Task(run=bad, rank=(0,)),
        name(1): Task(run=lambda: not done.append(1), rank=(1,)),
    }
    stopped = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule.process, "stop_all", lambda: stopped.append(True))
        with pytest.raises(RuntimeError, match="a defect"):
            schedule.run(tasks, jobs=1, blocked=lambda *_: None)
    assert done == []
    assert stopped == [True]
