"""A run's task details, as the API server tells them, as tasks of its pipeline. Pure.

v2beta1's `run_details.task_details` are Argo's nodes, one each, under their display
names and without their places in the graph (backend/src/apiserver/server/
api_converter.go, `toModelTasks`; `parent_task_id`, `pod_name` and `error` stay empty
there). What they are is decided by the compiler, backend/src/v2/compiler/
argocompiler/dag.go and container.go, for a task X of the pipeline:

- `X-driver` prepares it, and is the first that there is of it
- `X` is the task, whose state counts; a step's own pod is an `executor` below it
- a loop's X is there once an iteration, beside `iteration-driver`, `iteration-item(0:0)`
- `root`, `root-driver` and a node of the workflow's name are the pipeline itself

So names come from the IR, and a task is what its nodes come to together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from graphlib import CycleError, TopologicalSorter
from typing import Any

from ci_tools.kubeflow.ir import Ir
from ci_tools.kubeflow.progress import Task

_DRIVER = "-driver"
_ROOT_DRIVER = "root-driver"
_WORST_FIRST = (
    "FAILED",
    "CANCELED",
    "CANCELING",
    "PAUSED",
    "RUNNING",
    "PENDING",
    "SUCCEEDED",
    "SKIPPED",
)
_FIRST_YEAR = 1971  # Go's and Unix' zero times are below it: not yet


def tasks(one: Ir, details: Iterable[Any] | None, *, over: bool, now: datetime) -> list[Task]:
    """Every task of the pipeline in the order that they run in, as it is now.

    details: the run's task details; None where there are none yet.
    over:    the run has ended: what never began was skipped.
    """
    by_name: dict[str, list[Any]] = {}
    for detail in details or ():
        by_name.setdefault(str(detail.display_name or ""), []).append(detail)
    found = [_task(path, by_name, over, now) for path in paths(one)]
    root = _state([str(it.state) for it in by_name.get(_ROOT_DRIVER, [])])
    if root == "FAILED":  # then there are no tasks, and somebody has to say why
        found.insert(0, Task(_ROOT_DRIVER, root))
    return found


def paths(one: Ir) -> list[str]:
    """The tasks of a pipeline in an order that they can run in, nested ones as `dag/task`.

    Argo tells no places, so a name that is in several dags is there once, alone.
    """
    seen: dict[str, list[str]] = {}
    _walk(one.spec.get("root"), one.spec.get("components") or {}, "", seen, 0)
    return [places[0] if len(places) == 1 else name for name, places in seen.items()]


_DEEPEST = 50  # dags within dags; kfp compiles none that is its own


def _walk(
    component: Any, components: dict[str, Any], where: str, seen: dict[str, list[str]], depth: int
) -> None:
    dag = component.get("dag") if isinstance(component, dict) else None
    members = dag.get("tasks") if isinstance(dag, dict) else None
    if not isinstance(members, dict) or depth > _DEEPEST:
        return
    for name in _ordered(members):
        body = members[name]
        reference = (body.get("componentRef") or {}) if isinstance(body, dict) else {}
        below = components.get(str(reference.get("name")))
        if isinstance(below, dict) and "dag" in below:
            _walk(below, components, f"{where}{name}/", seen, depth + 1)
        else:
            seen.setdefault(name, []).append(f"{where}{name}")


def _ordered(members: dict[str, Any]) -> Sequence[str]:
    after = {
        name: [it for it in (body.get("dependentTasks") or ()) if it in members]
        for name, body in members.items()
        if isinstance(body, dict)
    }
    try:
        return list(TopologicalSorter(after).static_order())
    except CycleError:  # no pipeline that Kubeflow takes
        return list(after)


def _task(path: str, by_name: dict[str, list[Any]], over: bool, now: datetime) -> Task:
    name = path.rpartition("/")[2]
    own = by_name.get(name, [])
    drivers = by_name.get(f"{name}{_DRIVER}", [])
    state = _state([str(it.state) for it in own])
    if state is None or state == "SKIPPED":  # without its driver it is left out
        state = "FAILED" if _state([str(it.state) for it in drivers]) == "FAILED" else state
    if state is None:
        state = "SKIPPED" if over else "PENDING"
    return Task(name=path, state=state, seconds=_seconds(own, now))


def _state(states: list[str]) -> str | None:
    """What several nodes come to; None where nothing is known of any.

    Argo's phase Omitted has no name in v2beta1 and comes as unspecified.
    """
    known = {it for it in states if it in _WORST_FIRST}
    return next((state for state in _WORST_FIRST if state in known), None)


def _seconds(details: list[Any], now: datetime) -> float | None:
    began = [it.start_time for it in details if _real(it.start_time)]
    if not began:
        return None
    ends = [it.end_time if _real(it.end_time) else now for it in details if _real(it.start_time)]
    return round(max(0.0, (max(map(_aware, ends)) - min(map(_aware, began))).total_seconds()), 1)


def _real(moment: datetime | None) -> bool:
    return moment is not None and moment.year >= _FIRST_YEAR


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
