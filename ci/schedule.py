"""Tasks in the order of what they wait for, at bounded width. Knows no images.

A failed task blocks what waits for it and nothing else, so that whatever can
succeed does.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any, NamedTuple

from ci_tools import process

_LAST_WORDS_SECONDS = 1.0


class Name(NamedTuple):
    """A task: one phase of one image."""

    image: str
    phase: str


@dataclass(frozen=True)
class Task:
    """What to do, what must have succeeded before, and how early to do it.

    run:   returns whether it succeeded; an exception ends the whole schedule.
    after: tasks of the same schedule.
    rank:  of the tasks that may start, the smallest does.
    """

    run: Callable[[], bool]
    after: Collection[Name] = ()
    rank: tuple[Any, ...] = ()


def run(
    tasks: Mapping[Name, Task],
    *,
    jobs: int,
    blocked: Callable[[Name, list[Name]], None],
    halted: Callable[[], bool] = lambda: False,
) -> None:
    """Run all tasks, `jobs` at once.

    blocked: told of a task that never runs, with those before it that failed or
             were blocked themselves.
    halted:  once it holds nothing more is started; what runs is waited for.

    An interrupt stops the children of this process and is raised again.
    """
    order = TopologicalSorter({name: task.after for name, task in tasks.items()})
    order.prepare()
    lost: set[Name] = set()
    ready: list[tuple[tuple[Any, ...], Name]] = []
    running: dict[Future[bool], Name] = {}
    pool = ThreadPoolExecutor(max_workers=jobs)
    try:
        while order.is_active():
            for name in order.get_ready():
                heapq.heappush(ready, (tasks[name].rank, name))
            while ready and len(running) < jobs and not halted():
                _, name = heapq.heappop(ready)
                causes = sorted(lost.intersection(tasks[name].after))
                if not causes:
                    running[pool.submit(tasks[name].run)] = name
                    continue
                lost.add(name)
                blocked(name, causes)
                order.done(name)
                for more in order.get_ready():
                    heapq.heappush(ready, (tasks[more].rank, more))
            if not running:
                if halted() or not order.is_active():
                    break
                continue
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                name = running.pop(future)
                if not future.result():
                    lost.add(name)
                order.done(name)
    except BaseException:
        # Threads that are stuck in a socket are not waited for: `main` leaves without them.
        pool.shutdown(wait=False, cancel_futures=True)
        process.stop_all()
        wait(running, timeout=_LAST_WORDS_SECONDS)
        raise
    pool.shutdown()
