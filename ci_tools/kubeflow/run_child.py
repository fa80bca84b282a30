"""In the child process: run a compiled pipeline on this machine's engine.

kfp.local walks the graph and fills in the placeholders; how a step's container
is run, and what its outputs are, is ours, because there kfp.local 2.17 differs
from a cluster in ways that let a broken pipeline pass (kubeflow/pipelines
#13332). The model is Kubeflow's own launcher, `backend/src/v2/component/
launcher_v2.go`, of which each difference below names the behaviour.

kfp's functions are replaced in this process only; one that is gone, or takes
other arguments, stops the run with a sentence instead of being left as it is.
"""

from __future__ import annotations

import inspect
import logging
import os
import signal
import sys
import traceback
import urllib.parse
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from ci_tools.kubeflow import containers
from ci_tools.kubeflow.recorder import Recorder
from ci_tools.kubeflow.runlog import write_everything_to

_TAIL_LINES = 12
_LINE_LIMIT = 500  # characters of a line that reach a message; the log has it whole


def run_pipeline(
    ir: str, run_id: str, root: str, arguments: dict[str, Any], user: str, log: str
) -> dict[str, Any]:
    """Run one IR file to its end.

    root:  directory for the artefacts, on this machine and in the containers.
    user:  `uid:gid` that the containers run as.
    log:   file that receives everything, as it happens.

    Returns {"state", "message", "outputs", "artifacts", "metrics"},
    {"engine": sentence} when no engine answers or {"broken": sentence} when
    this kfp cannot be mended as described above.
    """
    write_everything_to(log)
    signal.signal(signal.SIGTERM, _stopper(run_id))
    signal.signal(signal.SIGINT, _stopper(run_id))
    if problem := containers.unreachable():
        return {"engine": problem}
    recorder = Recorder()
    try:
        _mend(recorder, root)
    except (ImportError, AttributeError, TypeError) as error:
        traceback.print_exc()
        return {"broken": str(error)}
    try:
        outputs = _run(ir, run_id, root, arguments, user)
    except Exception as error:  # a step's failure and kfp's own: both fail the run
        traceback.print_exc()
        return {"state": "FAILED", "message": recorder.message(error)} | recorder.results({})
    if recorder.doubts:
        # kfp.local only warns here and goes on as if the branch were not there.
        return {
            "state": "FAILED",
            "message": "kfp.local cannot run this as Kubeflow would: " + recorder.doubts[0],
        } | recorder.results({})
    return {"state": "SUCCEEDED", "message": ""} | recorder.results(outputs)


def _run(ir: str, run_id: str, root: str, arguments: dict[str, Any], user: str) -> dict[str, Any]:
    from google.protobuf import json_format  # type: ignore[import-untyped]
    from kfp import local
    from kfp.local import pipeline_orchestrator
    from kfp.pipeline_spec import pipeline_spec_pb2

    from ci_tools import yaml_safe

    documents = yaml_safe.load_all(Path(ir).read_text(encoding="utf-8"))
    spec = json_format.ParseDict(documents[0], pipeline_spec_pb2.PipelineSpec())
    workspace = Path(root, ".workspace")
    workspace.mkdir(parents=True, exist_ok=True)
    local.init(
        runner=local.DockerRunner(labels={containers.LABEL: run_id}, user=user),
        pipeline_root=root,
        workspace_root=str(workspace),
        raise_on_error=True,
        enable_caching=False,  # a run here is a test: it must really run
    )
    outputs: dict[str, Any] = pipeline_orchestrator.run_local_pipeline(
        pipeline_spec=spec, arguments=arguments
    )
    return outputs


def _mend(recorder: Recorder, root: str) -> None:
    """Replace the parts of kfp.local that differ from a cluster."""
    from kfp import dsl
    from kfp.local import (
        docker_task_handler,
        executor_input_utils,
        executor_output_utils,
        importer_handler,
        status,
        task_dispatcher,
    )
    from kfp.local.orchestrator import enhanced_dag_orchestrator, task_executor

    # The callers must reach these functions through their modules, or replacing
    # them would silently do nothing.
    for caller, module in (
        (task_dispatcher, docker_task_handler),
        (task_dispatcher, executor_input_utils),
        (task_dispatcher, executor_output_utils),
        (task_executor, importer_handler),
        (enhanced_dag_orchestrator, task_executor),
    ):
        if getattr(caller, module.__name__.rpartition(".")[2], None) is not module:
            raise AttributeError(f"{caller.__name__} does not use {module.__name__} any more")

    def run_docker_container(
        client: Any, image: str, command: list[str], volumes: dict[str, Any], **arguments: Any
    ) -> int:
        tail: deque[str] = deque(maxlen=_TAIL_LINES)

        def line(text: str) -> None:
            tail.append(text[:_LINE_LIMIT])
            sys.stdout.write(f"[{recorder.task}] {text}\n")

        own = volumes[root]
        # Earlier runs' artefacts can be read, so that an importer can name them.
        others = {"bind": str(Path(root).parent), "mode": own["mode"].replace("rw", "ro")}
        volumes = {**volumes, others["bind"]: others}
        ended = containers.run(client, image, command, volumes, line, **arguments)
        recorder.because("\n".join([ended.reason, *(text for text in tail if text.strip())]))
        return ended.code

    def construct_executor_input(original: Callable[..., Any], **given: Any) -> Any:
        # An optional input without a value is absent, where kfp.local breaks on None.
        given["arguments"] = {k: v for k, v in given["arguments"].items() if v is not None}
        made = original(**given)
        values = made.inputs.parameter_values
        for name in [name for name, value in values.items() if value.WhichOneof("kind") is None]:
            del values[name]
        # The launcher makes the directories of outputs before the step runs.
        for output in made.outputs.parameters.values():
            Path(output.output_file).parent.mkdir(parents=True, exist_ok=True)
        for listed in made.outputs.artifacts.values():
            for artifact in listed.artifacts:
                Path(artifact.uri).parent.mkdir(parents=True, exist_ok=True)
        return made

    def get_outputs_for_task(original: Callable[..., Any], **given: Any) -> dict[str, Any]:
        found: dict[str, Any] = original(**given)
        outputs = given["executor_input"].outputs
        # The launcher fails a step that declares a parameter and does not write it ...
        for name, output in outputs.parameters.items():
            if name not in found:
                raise FileNotFoundError(
                    f"it ended without writing its output parameter '{name}' ({output.output_file})"
                )
        # ... and records every declared artefact, not only those that the step lists.
        for name, listed in outputs.artifacts.items():
            if name not in found:
                definition = given["component_spec"].output_definitions.artifacts[name]
                found[name] = executor_output_utils.artifact_list_to_dsl_artifact(
                    listed, is_artifact_list=definition.is_artifact_list
                )
            elif isinstance(found[name], dsl.Artifact) and not found[name].uri:
                found[name].uri = listed.artifacts[0].uri  # a step need only give metadata
        return found

    def get_importer_uri(original: Callable[..., Any], **given: Any) -> str:
        # A run's artefacts are file:// URIs, which kfp would take for a path.
        uri: str = original(**given)
        local = urllib.parse.urlsplit(uri)
        path = urllib.parse.unquote(local.path) if local.scheme == "file" else uri
        if path.startswith("/") and not Path(path).exists():
            raise FileNotFoundError(f"there is no {path} to import")
        return path

    def execute_single_task(original: Callable[..., Any], **given: Any) -> Any:
        recorder.begin(given["task_name"])
        try:
            outputs, ended = original(**given)
        except Exception as error:
            # As a failure of this task, so that exit handlers still run.
            traceback.print_exc()
            recorder.because(str(error))
            outputs, ended = {}, status.Status.FAILURE
        if ended == status.Status.SUCCESS:
            recorder.succeeded(outputs)
        else:
            recorder.failed()
        return outputs, ended

    _replace(
        docker_task_handler,
        "run_docker_container",
        {"client", "image", "command", "volumes", "container_run_args"},
        lambda _: run_docker_container,
    )
    _replace(
        executor_input_utils,
        "construct_executor_input",
        {"component_spec", "arguments", "task_root", "block_input_artifact"},
        _around(construct_executor_input),
    )
    _replace(
        executor_output_utils,
        "get_outputs_for_task",
        {"executor_input", "component_spec"},
        _around(get_outputs_for_task),
    )
    _replace(
        importer_handler,
        "get_importer_uri",
        {"importer_spec", "executor_input"},
        _around(get_importer_uri),
    )
    _replace(
        task_executor,
        "execute_single_task",
        {"task_name", "task_spec", "components", "executors", "io_store"},
        _around(execute_single_task),
    )
    _listen_for_doubts(recorder)


def _around(wrapper: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda **given: wrapper(original, **given)

    return make


def _replace(
    module: ModuleType,
    name: str,
    parameters: set[str],
    make: Callable[[Callable[..., Any]], Callable[..., Any]],
) -> None:
    original = getattr(module, name, None)
    if original is None or not parameters <= set(inspect.signature(original).parameters):
        raise AttributeError(f"{module.__name__}.{name} is not what kfp 2.17 has")
    setattr(module, name, make(original))


def _listen_for_doubts(recorder: Recorder) -> None:
    """Note every warning of kfp's orchestrators: they skip what they cannot evaluate."""
    factory = logging.getLogRecordFactory()

    def noting(*arguments: Any, **keywords: Any) -> logging.LogRecord:
        record = factory(*arguments, **keywords)
        path = Path(record.pathname)
        if record.levelno >= logging.WARNING and path.parts[-4:-1] == (
            "kfp",
            "local",
            "orchestrator",
        ):
            recorder.doubts.append(record.getMessage())
        return record

    logging.setLogRecordFactory(noting)


def _stopper(run_id: str) -> Callable[[int, FrameType | None], None]:
    def stop(number: int, _frame: FrameType | None) -> None:
        sys.stdout.write("stopped from outside: removing this run's containers\n")
        sys.stdout.flush()
        containers.remove_all(run_id)
        os._exit(128 + number)  # other threads may still wait for their containers

    return stop
