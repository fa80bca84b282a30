"""In the child process: import pipeline files and compile what they define.

Importing kfp costs more than compiling a pipeline (1.4 s of processor time, most
of it the Kubernetes client), so one process imports it and forks for each file:
every file still has an interpreter of its own.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from ci_tools.kubeflow import archives
from ci_tools.kubeflow.reads import Places, Watch
from ci_tools.output import write_everything_to

# kfp turns these into parts of the IR or of its own behaviour; a build must not
# depend on who runs it.
_LEAKING_VARIABLES = ("KFP_DISABLE_EXECUTION_CACHING_BY_DEFAULT",)
_LOOK_SECONDS = 0.01


def compile_files(
    files: list[dict[str, Any]],
    repository: str,
    templates: str,
    specs: str,
    salt: str,
    jobs: int,
    timeout: float,
) -> dict[str, Any]:
    """Compile the pipelines of many files, `jobs` at once.

    files:     of {"file": absolute path of a Python file, "log": its log,
               "functions": {function: pipeline name}}; without functions every
               pipeline is compiled under its own name.
    templates: directory whose templates are replaced by their pinned copies in
               directory `specs`.
    salt:      see `reads.Places`.
    timeout:   seconds for one file.

    Returns {file: one of {"pipelines": [{"function", "ir"}], "reads": of `reads.Read`,
    "why_not": why it must be compiled every time, "" where it need not},
    {"error": sentence, "line": int | None} with the traceback in the log, or
    {"died": exit code, negative for a signal, None when the time ran out}}.
    """
    for variable in _LEAKING_VARIABLES:
        os.environ.pop(variable, None)
    from kfp import compiler  # noqa: F401 - so that the forks have it

    redirect_templates(Path(templates), Path(specs))
    archives.make_equal()
    os.chdir(repository)
    waiting = list(enumerate(files))
    running: dict[int, tuple[str, Path, float]] = {}
    answers: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as directory:
        while waiting or running:
            while waiting and len(running) < max(1, jobs):
                number, it = waiting.pop(0)
                answer = Path(directory, f"{number}.json")
                places = Places(Path(repository), Path(specs), salt)
                pid = _forked(it["file"], it["functions"], it["log"], places, answer)
                running[pid] = (it["file"], answer, time.monotonic() + timeout)
            for pid, (file, answer, deadline) in list(running.items()):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if not ended and time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                    answers[file] = {"died": None}
                elif not ended:
                    continue
                elif status == 0 and answer.is_file():
                    answers[file] = json.loads(answer.read_bytes())
                else:
                    answers[file] = {"died": os.waitstatus_to_exitcode(status)}
                del running[pid]
            if running:
                time.sleep(_LOOK_SECONDS)
    return answers


def _forked(file: str, functions: dict[str, str], log: str, places: Places, answer: Path) -> int:
    """Compile one file in a fork, whose process id is returned."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        write_everything_to(log)
        watch = Watch(places)
        watch.start()
        sys.path[:0] = [str(Path(file).parent), str(places.repository)]
        result = _compile_file(Path(file), functions, places.repository)
        result |= {"reads": watch.stop(), "why_not": watch.why_not}
        if watch.why_not:
            print(f"compiled every time, for {watch.why_not}")
        answer.write_text(json.dumps(result), encoding="utf-8")
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # the rest of the program belongs to the process forked from


def _compile_file(file: Path, functions: dict[str, str], repository: Path) -> dict[str, Any]:
    try:
        return {"pipelines": _compiled(_imported(file, repository), functions)}
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        return {"error": _sentence(error), "line": _line(error, str(file))}


def redirect_templates(templates: Path, specs: Path) -> None:
    """Let kfp read the pinned copy of any template below `templates`.

    Must run before the pipeline is imported, so that
    `from kfp.components import load_component_from_file` finds it too.
    """
    from kfp import components
    from kfp.components import load_yaml_utilities

    original: Callable[..., Any] = load_yaml_utilities.load_component_from_file
    root = templates.resolve()

    @functools.wraps(original)
    def load_component_from_file(file_path: str | os.PathLike[str]) -> Any:
        path = Path(file_path).resolve()
        if path.is_relative_to(root):
            copy = specs / path.relative_to(root)
            if path.is_file() and not copy.is_file():
                raise FileNotFoundError(
                    f"template {path.relative_to(root)} has no pinned copy in {specs}: "
                    "run the 'pin' stage"
                )
            path = copy if copy.is_file() else path
        return original(str(path))

    # So that `ci_tools.components.load` asks nobody which images there are.
    load_component_from_file.reads_pinned_copies = True  # type: ignore[attr-defined]
    components.load_component_from_file = load_component_from_file
    load_yaml_utilities.load_component_from_file = load_component_from_file


def _imported(file: Path, repository: Path) -> ModuleType:
    """The module of a file: within its package, where it is part of one."""
    package = file.parent
    while package != repository and (package / "__init__.py").is_file():
        package = package.parent
    name = ".".join(file.relative_to(package).with_suffix("").parts)
    words = name.split(".")
    if len(words) > 1 and all(map(str.isidentifier, words)) and words[0] not in sys.modules:
        sys.path.insert(0, str(package))
        return importlib.import_module(name)
    # The file's own name, as Python would give it, unless that would hide a
    # library that kfp already loaded (a pipeline called yaml.py).
    name = file.stem if file.stem not in sys.modules else f"pipeline_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file.name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _compiled(module: ModuleType, functions: dict[str, str]) -> list[dict[str, str]]:
    from kfp import compiler
    from kfp.dsl import graph_component

    found_as = {
        variable: value
        for variable, value in vars(module).items()
        if isinstance(value, graph_component.GraphComponent)
        and value.pipeline_func.__module__ == module.__name__
    }
    own = _named(found_as)
    wanted: list[tuple[str, str | None]] = [(name, None) for name in own if name not in functions]
    for function, renamed in functions.items():
        if function == "" and len(own) == 1:
            wanted = [(next(iter(own)), renamed)]
        elif function == "":
            raise LookupError(f"ci.yaml must say which 'function' is meant: {_listed(own)}")
        elif function not in own:
            raise LookupError(f"no @dsl.pipeline function '{function}': {_listed(own)}")
        else:
            wanted.append((function, renamed))
    found = []
    with tempfile.TemporaryDirectory() as directory:
        for function, name in sorted(wanted, key=lambda pair: pair[0]):
            target = Path(directory, "pipeline.yaml")
            compiler.Compiler().compile(own[function], str(target), pipeline_name=name)
            found.append({"function": function, "ir": target.read_text(encoding="utf-8")})
    return found


def _named(found_as: dict[str, Any]) -> dict[str, Any]:
    """Pipelines by their function's name; by their variable's where a function that makes
    pipelines gave several the same. found_as: variable -> pipeline, in order.
    """
    variables = {id(value): variable for variable, value in reversed(found_as.items())}
    rivals: dict[str, set[int]] = {}
    for value in found_as.values():
        rivals.setdefault(value.pipeline_func.__name__, set()).add(id(value))
    return {
        name if len(rivals[name]) == 1 else variables[id(value)]: value
        for value in found_as.values()
        for name in [value.pipeline_func.__name__]
    }


def _listed(own: dict[str, Any]) -> str:
    return f"the file defines {', '.join(sorted(own)) or 'no pipeline'}"


def _sentence(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it exits while it is imported (sys.exit({error.code!r}))"
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _line(error: BaseException, file: str) -> int | None:
    """The line of the pipeline file that the error came through last."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return error.lineno
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == file
    ]
    return lines[-1] if lines else None
