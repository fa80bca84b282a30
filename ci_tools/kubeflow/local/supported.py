"""What is refused before anything starts: an IR that cannot be run here as on a cluster."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ci_tools.kubeflow.local import limits, platform
from ci_tools.kubeflow.local.dag import upstream

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # becomes a directory


def problems(
    spec: Mapping[str, Any], platforms: Mapping[str, Any], machine: limits.Machine
) -> list[str]:
    """A sentence for each reason; none for a pipeline that can be run."""
    return list(dict.fromkeys([*_graph(spec), *_steps(spec, platforms, machine)]))


def _graph(spec: Mapping[str, Any]) -> Iterator[str]:
    components = spec.get("components", {})

    def walk(component: Mapping[str, Any], around: frozenset[str]) -> Iterator[str]:
        tasks = component.get("dag", {}).get("tasks", {})
        for name, task in tasks.items():
            reference = task.get("componentRef", {}).get("name")
            if not _NAME.fullmatch(name):
                yield f"{name!r} is not a name of a task"
            if reference not in components:
                yield f"task '{name}' refers to a component that is not there"
            elif reference in around:
                yield f"task '{name}' contains itself"
            else:
                yield from walk(components[reference], around | {reference})
            for other in upstream(task):
                if other not in tasks:
                    yield f"task '{name}' waits for '{other}', which is not there"
            if "artifactIterator" in task:
                yield f"task '{name}' loops over artefacts, which Kubeflow cannot do either"
        if circle := _circle(tasks):
            yield f"tasks wait for each other: {', '.join(circle)}"

    yield from walk(spec["root"], frozenset())


def _circle(tasks: Mapping[str, Any]) -> list[str]:
    """The tasks that are on a circle or wait for one."""
    waiting = {name: set(upstream(task)) & set(tasks) for name, task in tasks.items()}
    while free := [name for name, others in waiting.items() if not others & set(waiting)]:
        for name in free:
            del waiting[name]
    return sorted(waiting)


def _steps(
    spec: Mapping[str, Any], platforms: Mapping[str, Any], machine: limits.Machine
) -> Iterator[str]:
    executors = spec.get("deploymentSpec", {}).get("executors", {})
    for name, component in spec.get("components", {}).items():
        if "dag" in component:
            continue
        step, label = name.removeprefix("comp-"), component.get("executorLabel")
        executor = executors.get(label, {})
        if "container" not in executor and "importer" not in executor:
            yield f"step '{step}' is neither a container nor an importer"
            continue
        for feature in platform.unknown(platform.executor(platforms, str(label))):
            yield f"step '{step}' uses Kubernetes' {feature}, which this machine does not have"
        for kind in component.get("inputDefinitions", {}).get("parameters", {}).values():
            if kind.get("parameterType") == "TASK_CONFIG":
                yield f"step '{step}' takes a dsl.TaskConfig, which only a cluster has"
        try:
            limits.of(executor.get("container", {}).get("resources", {}), _literal, machine)
        except limits.QuantityError as error:
            yield f"step '{step}': {error}"


def _literal(text: str) -> str:
    """A placeholder is only known when the step runs; until then it asks for nothing."""
    return "" if "{{" in text else text
