"""What a run on a server gave: outputs, metrics, artefacts, by the names of an embedded run.

The store knows what each task gave, but not what the pipeline itself returned:
a run's root is recorded without its outputs (kubeflow/pipelines
`backend/src/v2/driver/root_dag.go`). Those are followed from the compiled
pipeline to the tasks that they come from, by the rules of the driver's own
`resolve.go`: through nested pipelines, to the branch of a `dsl.OneOf` that ran,
and over all rounds of a loop for `dsl.Collected`, as one flat list.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from ci_tools.documents import Artifact, Json, JsonValue
from ci_tools.kubeflow import metadata_record, metadata_store, results
from ci_tools.kubeflow.ir import Ir
from ci_tools.kubeflow.metadata_record import DAG, Execution, Produced, Record
from ci_tools.kubeflow.metadata_store import NoMetadata
from ci_tools.kubeflow.raw import Connection

_METRICS = "system.Metrics"
_CURVES = ("system.ClassificationMetrics", "system.SlicedClassificationMetrics")
_LOG = "executor-logs"  # the launcher's copy of a step's log, no output of the step
_DEEPEST = 50  # pipelines in pipelines


class Pod(NamedTuple):
    """Where a task that did not succeed ran.

    task:    its name; `train (iteration 2)` in a loop.
    name:    of the pod, "" when the task's container never started.
    created: YYYY-MM-DD, UTC.
    log:     URI of the copy of its log, "" without one.
    """

    task: str
    name: str
    namespace: str
    created: str
    log: str


class Outcome(NamedTuple):
    """What a run gave.

    outputs:   the pipeline's own output parameters.
    metrics:   numbers of `system.Metrics` by `name`, or `task.name` where
               several tasks report it, and the pipeline's numeric outputs.
    artifacts: by `task.output`, and the pipeline's own by their names.
    left_out:  a sentence for each thing that is in none of these, and why.
    pods:      of the tasks that did not succeed, for their logs.
    """

    outputs: Json
    metrics: dict[str, float]
    artifacts: dict[str, Artifact]
    left_out: list[str]
    pods: list[Pod]


def outcome(connection: Connection, run_id: str, one: Ir, *, patience: float = 30.0) -> Outcome:
    """Read what a run that has ended gave.

    one:      the pipeline that it ran.
    patience: seconds that the store may be away before it is given up.

    Raises NoMetadata with the reason and what to do; bounds are unmet then.
    """
    record = metadata_store.read(connection, run_id, patience=patience)
    return _outcome(_Tree(record, run_id), one)


def _outcome(tree: _Tree, one: Ir) -> Outcome:
    named: list[tuple[str, Produced]] = []
    numbers: list[tuple[str, str, float]] = []
    left_out: list[str] = []
    for step, _ in tree.steps():
        left_out += [f"{step.task}.{name}: the store holds it no more" for name in tree.lost(step)]
        for it in tree.produced(step) if step.succeeded else ():
            if it.name == _LOG:
                continue
            name = f"{step.task}.{it.name}"
            named.append((name, it))
            if it.type == _METRICS:
                for key, value in sorted(it.properties.items()):
                    if isinstance(value, float) and results.is_number(value):
                        numbers.append((step.task, key, value))
                    elif isinstance(value, (int, float)):
                        shown = metadata_record.as_json(value)
                        left_out.append(f"{name}: {key} is {shown}, {_no_bound(value)}")
            elif it.type in _CURVES:
                left_out.append(f"{name}: {it.type} holds curves and tables, no single numbers")
            elif not it.type:
                left_out.append(f"{name}: the store does not say whether these are metrics")
    outputs: Json = {}
    returned = _Returned(tree, one)
    for name, kind in returned.names("parameters"):
        try:
            value = returned.parameter(name)
        except _Missing as error:
            left_out.append(f"output '{name}': {error}")
            continue
        if isinstance(value, float) and not results.is_number(value):
            left_out.append(f"output '{name}' is {metadata_record.as_json(value)}, no number")
        whole = kind != "NUMBER_DOUBLE" or not results.is_number(value)
        outputs[name] = metadata_record.as_json(value) if whole else value
    for name, _ in returned.names("artifacts"):
        try:
            found = returned.artifacts(name)
        except _Missing as error:
            left_out.append(f"output '{name}': {error}")
            continue
        named += [(name, it) for it in found]
    return Outcome(
        outputs=outputs,
        metrics=results.metrics(numbers)
        | {name: float(value) for name, value in outputs.items() if results.is_number(value)},
        artifacts={
            name: Artifact(uri=it.uri, type=it.type) for name, it in results.numbered(named)
        },
        left_out=left_out,
        pods=list(_pods(tree)),
    )


def _no_bound(value: JsonValue) -> str:
    # The driver writes a step's numbers as doubles and its truth values as integers
    # (`backend/src/v2/metadata/converter.go`).
    return "no number" if isinstance(value, float) else "a truth value and no number"


def _pods(tree: _Tree) -> Iterator[Pod]:
    for step, iteration in tree.steps():
        if step.succeeded or step.state == "CANCELED" or step.kind != "system.ContainerExecution":
            continue
        logs = [it.uri for it in tree.produced(step) if it.name == _LOG]
        yield Pod(
            task=step.task if iteration is None else f"{step.task} (iteration {iteration})",
            name=step.pod,
            namespace=step.namespace,
            created=step.created,
            log=logs[-1] if logs else "",
        )


class _Tree:
    """A run's executions below its root. Raises NoMetadata when there is no root."""

    def __init__(self, record: Record, run_id: str) -> None:
        roots = [it for it in record.executions if it.kind == DAG and not it.parent]
        if not roots:
            raise NoMetadata(
                f"Kubeflow's metadata store does not know the root of run {run_id}",
                "See on the run's page whether its first task, 'root-driver', succeeded",
            )
        # A retried run's driver may have made another of the same name: the last one counts.
        self.root = max(roots, key=lambda it: it.id)
        latest: dict[tuple[int, str, int | None], Execution] = {}
        for it in sorted(record.executions, key=lambda it: it.id):
            latest[(it.parent, it.task, it.iteration)] = it
        self._children: dict[int, list[Execution]] = {}
        for it in latest.values():
            if it.parent:
                self._children.setdefault(it.parent, []).append(it)
        self._lost = record.lost
        self._produced: dict[int, list[Produced]] = {}
        for output in record.produced:
            self._produced.setdefault(output.execution, []).append(output)

    def steps(self) -> Iterator[tuple[Execution, int | None]]:
        """What is no dag, with the innermost loop's iteration; loops in their order."""
        waiting: list[tuple[Execution, int | None]] = [(self.root, None)]
        while waiting:  # no recursion: how deep it goes is what the store says
            one, outer = waiting.pop()
            iteration = outer if one.iteration is None else one.iteration
            if one.kind != DAG:
                yield one, iteration
                continue
            children = sorted(
                self._children.get(one.id, ()),
                key=lambda it: (-1 if it.iteration is None else it.iteration, it.id),
            )
            waiting += [(it, iteration) for it in reversed(children)]

    def child(
        self, dag: Execution, names: Collection[str], iteration: int | None = None
    ) -> Execution | None:
        """The task of one of these names in a dag; `iteration` for a round of a loop."""
        return next(
            (
                it
                for it in self._children.get(dag.id, ())
                if it.task in names and (iteration is None or it.iteration == iteration)
            ),
            None,
        )

    def produced(self, step: Execution) -> list[Produced]:
        return self._produced.get(step.id, [])

    def lost(self, step: Execution) -> list[str]:
        return [name for execution, name in self._lost if execution == step.id]


class _Missing(Exception):
    """Why an output of the pipeline has no value."""


class _Returned:
    """What the pipeline itself returned."""

    def __init__(self, tree: _Tree, one: Ir) -> None:
        self._tree = tree
        self._components = _mapping(one.spec.get("components"))
        self._root = _mapping(one.spec.get("root"))

    def names(self, kind: str) -> list[tuple[str, str]]:
        """Every output with its type. kind: `parameters` or `artifacts`."""
        declared = _mapping(_mapping(self._root.get("outputDefinitions")).get(kind))
        return [(str(name), _mapping(it).get("parameterType", "")) for name, it in declared.items()]

    def parameter(self, name: str) -> JsonValue:
        """Its value, a list over a loop's rounds. Raises _Missing."""
        values, looped = self._of_dag(self._tree.root, self._root, name, "parameters", 0)
        return values if looped else values[0]

    def artifacts(self, name: str) -> list[Produced]:
        """All that it stands for: several of a loop. Raises _Missing."""
        return self._of_dag(self._tree.root, self._root, name, "artifacts", 0)[0]

    def _of_dag(
        self, dag: Execution, component: Json, name: str, kind: str, depth: int
    ) -> tuple[list[Any], bool]:
        body = _mapping(component.get("dag"))
        output = _mapping(_mapping(_mapping(body.get("outputs")).get(kind)).get(name))
        tasks = _mapping(body.get("tasks"))
        problem = _Missing("the pipeline does not say which task gives it")
        for task, key in _selectors(output):  # of `dsl.OneOf` the first that ran
            try:
                return self._of_task(dag, task, _mapping(tasks.get(task)), key, kind, depth)
            except _Missing as error:
                problem = error
        raise problem

    def _of_task(
        self, dag: Execution, task: str, spec: Json, key: str, kind: str, depth: int
    ) -> tuple[list[Any], bool]:
        names = {task, _mapping(spec.get("taskInfo")).get("name", task)}
        found = self._tree.child(dag, names)
        if found is None or found.state == "CANCELED":
            raise _Missing(f"task '{task}' did not run")
        if found.kind != DAG:
            return self._of_step(found, key, kind), False
        component = _mapping(
            self._components.get(_mapping(spec.get("componentRef")).get("name", ""))
        )
        if depth >= _DEEPEST:
            raise _Missing("its task is in too many pipelines, each in another one")
        if found.iterations is None:
            return self._of_dag(found, component, key, kind, depth + 1)
        values: list[Any] = []
        for iteration in range(found.iterations):
            one = self._tree.child(found, {found.task}, iteration)
            if one is None:
                raise _Missing(f"iteration {iteration} of '{task}' did not run")
            values += self._of_dag(one, component, key, kind, depth + 1)[0]
        return values, True

    def _of_step(self, step: Execution, key: str, kind: str) -> list[Any]:
        if not step.succeeded:
            raise _Missing(f"task '{step.task}' did not succeed")
        if kind == "artifacts":
            found: list[Any] = [it for it in self._tree.produced(step) if it.name == key]
        else:
            found = [step.outputs[key]] if key in step.outputs else []
        if not found:
            raise _Missing(f"task '{step.task}' gave no '{key}'")
        return found


def _selectors(output: Json) -> Iterator[tuple[str, str]]:
    """(task, its output) that an output of a dag is taken from, in the order of choice."""
    choices = [
        output.get("valueFromParameter"),
        *(_mapping(output.get("valueFromOneof")).get("parameterSelectors") or ()),
        *(output.get("artifactSelectors") or ()),
    ]
    for it in map(_mapping, choices):
        if task := it.get("producerSubtask"):
            yield str(task), str(it.get("outputParameterKey") or it.get("outputArtifactKey") or "")


def _mapping(value: object) -> Json:
    return value if isinstance(value, dict) else {}
