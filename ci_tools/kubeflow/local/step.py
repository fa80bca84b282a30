"""One attempt of one step: a container, or an import of something that is there."""

from __future__ import annotations

import re
import shutil
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ci_tools.file_uri import path_of
from ci_tools.kubeflow.containers import Ended
from ci_tools.kubeflow.local import limits, messages, placeholders, platform
from ci_tools.kubeflow.local.resolve import (
    InputError,
    Scope,
    Values,
    integral,
    parameter,
)

WORKSPACE = "/kfp-workspace"  # kfp.dsl.constants.WORKSPACE_MOUNT_PATH
_REFERENCE = re.compile(r"\$(?:\$|\(([^()]*)\))")
_TAIL_LINES = 12
_LINE_LIMIT = 500  # characters of a line that reach a message; the log has it whole


class StepError(Exception):
    """Why a step failed. again: another attempt could help, as for a pod that ran and failed."""

    def __init__(self, reason: str, *, again: bool) -> None:
        super().__init__(reason)
        self.again = again


class Job(NamedTuple):
    """One step to run.

    name:   of its task.
    path:   of its artefacts below the run's root, no two alike.
    label:  how logs and messages name it.
    inputs: what it was given, without its own defaults.
    scope:  for what kfp-kubernetes refers to.
    order:  by which results are sorted, whichever task ends first.
    """

    name: str
    path: tuple[str, ...]
    label: str
    component: Mapping[str, Any]
    inputs: Values
    scope: Scope
    order: tuple[int, ...] = ()


class Engine(Protocol):
    """Runs containers. `ci_tools.kubeflow.containers.DockerEngine` is one."""

    machine: limits.Machine

    def run(
        self,
        image: str,
        command: list[str],
        *,
        task: str,
        environment: Mapping[str, str],
        volumes: Mapping[str, Mapping[str, str]],
        limits: limits.Limits,
        surroundings: platform.Surroundings,
        line: Callable[[str], None],
    ) -> Ended:
        """Run to its end, and remove it."""


class Steps:
    """Runs the steps of one run.

    executors: of the IR's deployment. platforms: the IR's second document.
    root:      directory of the run's artefacts. cluster: see `platform`.
    tell:      receives (label, line) of all that a step says, and of what differs here.
    """

    def __init__(
        self,
        engine: Engine,
        executors: Mapping[str, Any],
        platforms: Mapping[str, Any],
        *,
        root: Path,
        cluster: Path,
        tell: Callable[[str, str], None],
    ) -> None:
        self._engine, self._executors, self._platforms = engine, executors, platforms
        self._root, self._cluster, self._tell = root, cluster, tell
        self._told: set[tuple[str, str]] = set()
        self._workspace = root / ".workspace"
        self._workspace.mkdir(parents=True, exist_ok=True)

    def attempt(self, job: Job) -> Values:
        """Run it once; its outputs. Raises StepError. Called from many threads at once."""
        try:
            label = job.component["executorLabel"]
            if "importer" in self._executors[label]:
                return self._import(job, self._executors[label]["importer"])
            return self._contain(job, self._executors[label]["container"], label)
        except (InputError, limits.QuantityError) as error:
            raise StepError(str(error), again=False) from error
        except messages.OutputError as error:
            raise StepError(str(error), again=True) from error

    def _contain(self, job: Job, container: Mapping[str, Any], label: str) -> Values:
        directory = self._root.joinpath(*job.path)
        # A pod that is tried again starts with nothing of the one before.
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        message = messages.executor_input(job.component, job.inputs, directory)
        constants = self._constants(job)

        def fill(text: str) -> str:
            return placeholders.fill(text, message, constants)

        around = platform.surroundings(
            platform.executor(self._platforms, label),
            self._cluster,
            lambda spec, name: parameter(spec, job.scope, name=name),
        )
        allowed = limits.of(container.get("resources", {}), fill, self._engine.machine)
        for note in (*allowed.notes, *around.notes):
            self._note(job.label, label, note)
        environment = variables(container.get("env", []))
        parts = [*container.get("command", []), *container.get("args", [])]
        for name in around.secrets:
            if any(f"$({name})" in part for part in parts):
                raise InputError(
                    f"its command line has the secret $({name}) in it; let its program read "
                    "the variable instead"
                )
        command = placeholders.command(
            [expanded(part, environment | around.environment) for part in parts],
            message,
            frozenset(name for name, it in job.inputs.parameters.items() if it is not None)
            | frozenset(job.inputs.artifacts),
            constants,
        )
        tail: deque[str] = deque(maxlen=_TAIL_LINES)

        def line(text: str) -> None:
            tail.append(text[:_LINE_LIMIT])
            self._tell(job.label, text)

        ended = self._engine.run(
            fill(container["image"]),
            command,
            task=job.label,
            environment={**environment, **around.environment},
            volumes={
                # Earlier runs' artefacts can be read, so that an importer can name them.
                str(self._root.parent): {"bind": str(self._root.parent), "mode": "ro"},
                str(self._root): {"bind": str(self._root), "mode": "rw"},
                str(self._workspace): {"bind": WORKSPACE, "mode": "rw"},
                **around.volumes,
            },
            limits=allowed,
            surroundings=around,
            line=line,
        )
        if ended.code:
            said = [text for text in tail if text.strip()]
            raise StepError("\n".join([ended.reason, *said]), again=ended.started)
        return messages.outputs(job.component, message)

    def _import(self, job: Job, importer: Mapping[str, Any]) -> Values:
        """An artefact that is there already: a file here, or a remote address as it is."""
        address = importer["artifactUri"]
        message = messages.executor_input(job.component, job.inputs, self._root)
        constants = self._constants(job)
        uri = placeholders.fill(
            str(
                address["constant"]
                if "constant" in address
                else job.inputs.parameters[address["runtimeParameter"]]
            ),
            message,
            constants,
        )
        path = str(path_of(uri) or uri)
        if path.startswith("/") and not Path(path).exists():
            raise InputError(f"there is no {path} to import")
        if importer.get("downloadToWorkspace"):
            path = str(self._copied(path, job))
        artifact = {
            "name": "artifact",
            "type": importer["typeSchema"],
            "uri": path,
            "metadata": _filled(importer.get("metadata", {}), message, constants),
        }
        (output,) = job.component["outputDefinitions"]["artifacts"]
        return Values({}, {output: [artifact]})

    def _copied(self, path: str, job: Job) -> Path:
        """A copy in the run's workspace, which its steps may change."""
        if not path.startswith("/"):
            raise InputError(f"only files of this machine can be put in a workspace, not {path}")
        copy = self._workspace.joinpath(".artifacts", *job.path, Path(path).name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if Path(path).is_dir():
            shutil.copytree(path, copy, dirs_exist_ok=True)
        else:
            shutil.copy2(path, copy)
        return copy

    def _constants(self, job: Job) -> dict[str, str]:
        return {
            **job.scope.constants,
            "{{$.pipeline_task_name}}": job.name,
            "{{$.pipeline_task_uuid}}": "/".join(job.path),
        }

    def _note(self, label: str, executor: str, note: str) -> None:
        """Once for an executor: a loop would say it with every iteration."""
        if (executor, note) not in self._told:
            self._told.add((executor, note))
            self._tell(label, f"note: {note}")


def variables(env: list[Mapping[str, str]]) -> dict[str, str]:
    """A container's variables; one can refer to those before it as `$(NAME)`."""
    found: dict[str, str] = {}
    for item in env:
        found[item["name"]] = expanded(str(item.get("value", "")), found)
    return found


def expanded(text: str, environment: Mapping[str, str]) -> str:
    """`$(NAME)` and `$$`, as Kubernetes does in commands; an unknown name is left alone."""

    def one(match: re.Match[str]) -> str:
        if match[1] is None:
            return "$"
        return environment.get(match[1], match[0])

    return _REFERENCE.sub(one, text)


def _filled(node: Any, message: Mapping[str, Any], constants: Mapping[str, str]) -> Any:
    if isinstance(node, str):
        return placeholders.fill(node, message, constants)
    if isinstance(node, list):
        return [_filled(item, message, constants) for item in node]
    if isinstance(node, dict):
        return {
            _filled(key, message, constants): _filled(item, message, constants)
            for key, item in node.items()
        }
    return integral(node)
