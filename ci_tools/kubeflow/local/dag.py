"""Which task runs when: Kubeflow's compiler to Argo (`argocompiler/dag.go`) as coroutines.

Every task is a coroutine that waits for those before it; only steps take a
thread, and there are as many threads as steps may run at once. So a loop of a
thousand iterations costs a thousand coroutines, and branches, nested pipelines
and loops run side by side without knowing of each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

from ci_tools.kubeflow.local import cel, resolve
from ci_tools.kubeflow.local.resolve import FAILED, SKIPPED, SUCCEEDED, Outcome, Scope, Values
from ci_tools.kubeflow.local.step import Job, StepError

_AFTER_ALL = "ALL_UPSTREAM_TASKS_COMPLETED"
_GROUP = re.compile(r"(condition|condition-branches|for-loop|exit-handler)-\d+")
_PRODUCERS = ("taskOutputParameter", "taskOutputArtifact", "taskFinalStatus")


class Observer(Protocol):
    """Is told of every step and loop by its label. Called from several threads."""

    def pending(self, label: str) -> None: ...

    def running(self, label: str) -> None: ...

    def skipped(self, label: str) -> None: ...

    def succeeded(self, label: str, job: Job | None, outputs: Values) -> None: ...

    def failed(self, label: str, reason: str) -> None: ...

    def note(self, label: str, text: str) -> None: ...


class Place(NamedTuple):
    """Where a task stands in the run.

    path:       names and iteration numbers from the root down, unique.
    names:      the same for people: without the groups that the compiler makes.
    iterations: of the loops around it, from the outermost.
    order:      by which tasks are sorted, whichever ends first.
    """

    path: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    iterations: tuple[int, ...] = ()
    order: tuple[int, ...] = ()

    def task(self, name: str, index: int) -> Place:
        names = self.names if _GROUP.fullmatch(name) else (*self.names, name)
        return self._replace(path=(*self.path, name), names=names, order=(*self.order, index))

    def iteration(self, number: int) -> Place:
        return self._replace(
            path=(*self.path, str(number)),
            iterations=(*self.iterations, number),
            order=(*self.order, number),
        )

    @property
    def label(self) -> str:
        """`nested/task`, and `#2` or `#2.0` for iterations; a group goes by its own name."""
        group = self.path[-1:] if _GROUP.fullmatch(self.path[-1]) else ()
        numbers = "#" + ".".join(map(str, self.iterations)) if self.iterations else ""
        return "/".join((*self.names, *group)) + numbers


class Graph:
    """Runs a pipeline's graph.

    attempt:    runs one attempt of one step, in a thread; raises StepError.
    constants:  see `Scope`.
    slots:      steps that run at once.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        attempt: Callable[[Job], Values],
        observer: Observer,
        constants: Mapping[str, str],
        slots: int,
    ) -> None:
        self._root, self._components = spec["root"], spec.get("components", {})
        self._attempt, self._observer, self._constants = attempt, observer, constants
        self._pool = ThreadPoolExecutor(slots, thread_name_prefix="step")

    def run(self, arguments: Mapping[str, Any]) -> Outcome:
        """Run it to its end; how the pipeline ended, and its own outputs."""
        for label in self._rows(self._root, Place()):
            self._observer.pending(label)
        with self._pool:
            inputs = resolve.root_inputs(self._root, arguments)
            return asyncio.run(self._dag(self._root, inputs, Place()))

    async def _dag(self, component: Mapping[str, Any], inputs: Values, place: Place) -> Outcome:
        tasks = component["dag"]["tasks"]
        produced: dict[str, Outcome] = {}
        ended = {name: asyncio.Event() for name in tasks}
        scope = Scope(inputs, produced, self._constants)

        async def one(index: int, name: str) -> None:
            before = upstream(tasks[name])
            for other in before:
                await ended[other].wait()
            states = [produced[other].state for other in before]
            produced[name] = await self._task(
                name, tasks[name], states, scope, place.task(name, index)
            )
            ended[name].set()

        await asyncio.gather(*(one(*it) for it in enumerate(tasks)))
        if any(outcome.state == FAILED for outcome in produced.values()):
            return Outcome(FAILED)
        return Outcome(SUCCEEDED, resolve.graph_outputs(component["dag"], produced))

    async def _task(
        self, name: str, task: Mapping[str, Any], states: list[str], scope: Scope, place: Place
    ) -> Outcome:
        component = self._components[task["componentRef"]["name"]]
        policy = task.get("triggerPolicy", {})
        if policy.get("strategy") == _AFTER_ALL:
            # An exit hook hangs on a task that ran; Argo has none for one that did not.
            runs = not states or any(state != SKIPPED for state in states)
        else:
            runs = all(state == SUCCEEDED for state in states)
        try:
            if runs:
                inputs = resolve.task_inputs(name, task, component, scope)
                if condition := policy.get("condition"):
                    runs = cel.condition(condition, inputs.parameters)
            if not runs:
                for label in self._rows_of(task, component, place):
                    self._observer.skipped(label)
                return Outcome(SKIPPED)
            if "parameterIterator" in task:
                return await self._loop(name, task, component, inputs, scope, place)
            return await self._body(name, task, component, inputs, scope, place)
        except (resolve.InputError, cel.ExpressionError) as error:
            reason = str(error)
        except Exception as error:  # a defect: this task's failure, so that exit tasks still run
            traceback.print_exc()
            reason = f"{type(error).__name__}: {error}"
        for label in self._rows_of(task, component, place):
            if label != place.label:
                self._observer.skipped(label)
        self._observer.failed(place.label, reason)
        return Outcome(FAILED)

    async def _body(
        self,
        name: str,
        task: Mapping[str, Any],
        component: Mapping[str, Any],
        inputs: Values,
        scope: Scope,
        place: Place,
    ) -> Outcome:
        if "dag" in component:
            return await self._dag(component, inputs, place)
        job = Job(name, place.path, place.label, component, inputs, scope, place.order)
        return await self._step(job, Retries.of(task))

    async def _loop(
        self,
        name: str,
        task: Mapping[str, Any],
        component: Mapping[str, Any],
        inputs: Values,
        scope: Scope,
        place: Place,
    ) -> Outcome:
        """All iterations, at most `parallelismLimit` at once; each runs whatever the others do."""
        each = resolve.iterations(task, component, inputs)
        self._observer.running(place.label)
        limit = int(task.get("iteratorPolicy", {}).get("parallelismLimit", 0))
        gate = asyncio.Semaphore(limit) if limit > 0 else contextlib.nullcontext()

        async def one(number: int, values: Values) -> Outcome:
            async with gate:
                own = place.iteration(number)
                for label in self._rows(component, own):
                    self._observer.pending(label)
                return await self._body(name, task, component, values, scope, own)

        outcomes = await asyncio.gather(*(one(*it) for it in enumerate(each)))
        failed = sum(outcome.state == FAILED for outcome in outcomes)
        if failed:
            self._observer.failed(place.label, "")
            return Outcome(FAILED)
        outputs = resolve.collected(component, [outcome.outputs for outcome in outcomes])
        self._observer.succeeded(place.label, None, outputs)
        return Outcome(SUCCEEDED, outputs)

    async def _step(self, job: Job, retries: Retries) -> Outcome:
        """A step and its further attempts, spaced as Argo does."""
        started, attempt = time.monotonic(), 0
        while True:
            try:
                outputs = await asyncio.get_running_loop().run_in_executor(
                    self._pool, self._try, job
                )
            except StepError as error:
                wait = retries.wait(attempt, time.monotonic() - started) if error.again else None
                if wait is None:
                    self._observer.failed(job.label, str(error))
                    return Outcome(FAILED)
                attempt += 1
                self._observer.note(
                    job.label,
                    f"attempt {attempt} of {retries.times + 1} failed: "
                    f"{str(error).splitlines()[0]}; the next one in {wait:.0f} s",
                )
                await asyncio.sleep(wait)
            else:
                self._observer.succeeded(job.label, job, outputs)
                return Outcome(SUCCEEDED, outputs)

    def _try(self, job: Job) -> Values:
        self._observer.running(job.label)
        return self._attempt(job)

    def _rows(self, component: Mapping[str, Any], place: Place) -> Iterator[str]:
        """Labels of the steps and loops of a graph, as far as they are known beforehand."""
        for index, (name, task) in enumerate(component.get("dag", {}).get("tasks", {}).items()):
            below = self._components[task["componentRef"]["name"]]
            yield from self._rows_of(task, below, place.task(name, index))

    def _rows_of(
        self, task: Mapping[str, Any], component: Mapping[str, Any], place: Place
    ) -> Iterator[str]:
        if "dag" in component and "parameterIterator" not in task:
            yield from self._rows(component, place)
        else:
            yield place.label


class Retries(NamedTuple):
    """`set_retry`. Durations in seconds."""

    times: int = 0
    duration: float = 0.0
    factor: float = 2.0
    longest: float = 3600.0

    @classmethod
    def of(cls, task: Mapping[str, Any]) -> Retries:
        policy = task.get("retryPolicy", {})
        return cls(
            int(policy.get("maxRetryCount", 0)),
            _seconds(policy.get("backoffDuration", "0s")),
            float(policy.get("backoffFactor") or 2.0),
            _seconds(policy.get("backoffMaxDuration", "3600s")),
        )

    def wait(self, attempt: int, elapsed: float) -> float | None:
        """Seconds before the next attempt, None for no more.

        attempt: of those that failed, the last one's number, from 0.
        elapsed: seconds since the first began. As in Argo, a pause that would end
                 after `longest` is not made.
        """
        pause = self.duration * self.factor**attempt
        if attempt >= self.times or elapsed + pause > self.longest:
            return None
        return pause


def upstream(task: Mapping[str, Any]) -> list[str]:
    """The tasks that a task waits for: named ones, and those whose outputs it takes."""
    found = set(task.get("dependentTasks", []))
    for kind in ("parameters", "artifacts"):
        for spec in task.get("inputs", {}).get(kind, {}).values():
            found |= {spec[key]["producerTask"] for key in _PRODUCERS if key in spec}
    return sorted(found)


def _seconds(duration: str) -> float:
    """A protobuf Duration as JSON: `3s`, `0.5s`."""
    return float(str(duration).removesuffix("s"))
