"""In the child process: import one pipeline file and compile what it defines."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

# kfp turns these into parts of the IR or of its own behaviour; a build must not
# depend on who runs it.
_LEAKING_VARIABLES = ("KFP_DISABLE_EXECUTION_CACHING_BY_DEFAULT",)


def compile_file(
    file: str, repository: str, templates: str, specs: str, functions: dict[str, str]
) -> dict[str, Any]:
    """Compile the pipelines of one file.

    file:       path of the Python file.
    templates:  directory whose templates are replaced by their pinned copies
                in directory `specs`.
    functions:  function -> pipeline name; empty: every pipeline under its own.

    Returns {"pipelines": [{"function", "ir"}]} or
    {"error": sentence, "line": int | None} (traceback on stderr).
    """
    for variable in _LEAKING_VARIABLES:
        os.environ.pop(variable, None)
    redirect_templates(Path(templates), Path(specs))
    os.chdir(repository)
    sys.path[:0] = [str(Path(file).parent), repository]
    try:
        return {"pipelines": _compiled(_imported(Path(file)), functions)}
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        return {"error": _sentence(error), "line": _line(error, file)}


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

    components.load_component_from_file = load_component_from_file
    load_yaml_utilities.load_component_from_file = load_component_from_file


def _imported(file: Path) -> ModuleType:
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

    own = {
        value.pipeline_func.__name__: value
        for value in vars(module).values()
        if isinstance(value, graph_component.GraphComponent)
        and value.pipeline_func.__module__ == module.__name__
    }
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
