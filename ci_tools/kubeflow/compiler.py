"""Compile a repository's pipelines, each file in a process of its own.

A process a file, because a pipeline is a program: what it imports, registers or
prints must not reach another pipeline or this tool. What is as it was is not
compiled again (`kept`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ci_tools import config, storage
from ci_tools.documents import CompiledPipeline
from ci_tools.errors import CIError, CompileError, ConfigError
from ci_tools.kubeflow import PIPELINE_NAME_LIMIT, child, ir, pipeline_files
from ci_tools.kubeflow.ir import TaskImage
from ci_tools.kubeflow.kept import Kept, Pipeline

_START_SECONDS = 60.0  # importing kfp on a busy machine
TIMEOUT_SECONDS = 300.0
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")

Functions = Mapping[str, str]


class Compilation(NamedTuple):
    """One pipeline as it was compiled. images: of all its executors."""

    pipeline: CompiledPipeline
    images: Sequence[TaskImage]


def compile_all(
    repository: Path,
    files: Sequence[str],
    settings: config.Pipelines,
    specs: Path,
    out: Path,
    jobs: int,
    kept: Kept | None = None,
    only: str | None = None,
) -> dict[str, Compilation]:
    """Compile every pipeline of a repository to `out/NAME.yaml`.

    files: of the repository, relative, with `/`.
    specs: directory with the pinned copies of `settings.templates`.
    out:   a directory that this function owns: IR files of an earlier build go,
           logs are under `out/logs`.
    jobs:  processes at once.
    kept:  earlier compilations, which are not done again.
    only:  the one pipeline that is wanted; what is wrong with others is then no error.

    Returns pipeline name -> what was compiled, by name; `path` is relative to
    out's parent, `components` is left to who knows the lock. The same sources
    give the same bytes.

    Raises ConfigError for a pipeline that ci.yaml names and nobody defines, and
    one CompileError for all files that do not compile; the others are written.
    """
    root = repository.resolve()
    kept = kept or Kept(None, root, specs.resolve(), write=False)
    asked = pipeline_files.asked(repository, settings)
    outcomes: dict[str, list[Pipeline] | CIError] = {}
    wanted: dict[str, Functions] = {}
    for file in sorted({*pipeline_files.discover(files, settings.directory), *asked}):
        if not (root / file).resolve().is_relative_to(root):
            outcomes[file] = CompileError(
                f"{file} is a link out of the repository", "Replace it by the file"
            )
        elif (root / file).is_file():
            known = kept.find(file, asked.get(file, {}))
            if known is None:
                wanted[file] = asked.get(file, {})
            else:  # of a module that only helps it is none
                outcomes[file] = known
    outcomes |= _compile_files(root, settings, out, wanted, jobs, kept)
    failures = {file: it for file, it in outcomes.items() if isinstance(it, CIError)}
    found = [
        (file, pipeline)
        for file, it in sorted(outcomes.items())
        if not isinstance(it, CIError)
        for pipeline in it
    ]
    compiled = _written(out, found, failures)
    if only is not None and only in compiled:
        return {only: compiled[only]}
    if failures:
        raise _all_of(failures)
    if lost := sorted(set(settings.named) - set(compiled)):
        raise ConfigError(
            f"ci.yaml names pipeline '{lost[0]}', which no file defines",
            f"Defined are: {', '.join(compiled) or 'none'}; "
            f"give 'file' and 'function' under 'pipelines.named.{lost[0]}'",
        )
    return compiled


def _compile_files(
    root: Path,
    settings: config.Pipelines,
    out: Path,
    wanted: Mapping[str, Functions],
    jobs: int,
    kept: Kept,
) -> dict[str, list[Pipeline] | CIError]:
    """File -> its pipelines, or why there are none. Raises CompileError without kfp."""
    if not wanted:
        return {}
    logs = {file: out.absolute() / "logs" / (file.replace("/", "__") + ".log") for file in wanted}
    for log in logs.values():
        storage.write_bytes(log, b"")
    places = kept.places
    request = {
        "files": [
            {"file": str(root / file), "log": str(log), "functions": dict(wanted[file])}
            for file, log in logs.items()
        ],
        "repository": str(root),
        "templates": str(root / settings.templates),
        "specs": str(places.specs),
        "salt": places.salt,
        "jobs": jobs,
        "timeout": TIMEOUT_SECONDS,
    }
    # Its own time-out is only a net under the one for each file.
    finished, answers = child.ask(
        "compile",
        request,
        timeout=_START_SECONDS + TIMEOUT_SECONDS * (len(logs) + 1),
        private_home=True,
    )
    if answers is None:
        raise CompileError(
            f"the pipelines could not be compiled ({finished.tail(1) or 'stopped from outside'})",
            "See that 'python -c \"import kfp\"' works with this Python",
        )
    outcomes: dict[str, list[Pipeline] | CIError] = {}
    for file, log in logs.items():
        answer = answers[str(root / file)]
        outcomes[file] = pipelines = _outcome(file, answer, log)
        if not isinstance(pipelines, CIError) and not answer["why_not"]:
            kept.keep(file, wanted[file], answer["reads"], pipelines)
    return outcomes


def _outcome(file: str, answer: dict[str, Any], log: Path) -> list[Pipeline] | CIError:
    if "died" in answer:
        why = (
            f"took more than {TIMEOUT_SECONDS:.0f} seconds"
            if answer["died"] is None
            else f"ended its own process (exit code {answer['died']})"
        )
        return CompileError(f"{file} {why} while it was compiled", "Mend the pipeline", log=log)
    if "error" in answer:
        where = f"{file} line {answer['line']}" if answer["line"] else file
        return CompileError(f"{where}: {answer['error']}", "Mend the pipeline", log=log)
    return [_pipeline(file, it["function"], it["ir"]) for it in answer["pipelines"]]


def _pipeline(file: str, function: str, text: str) -> Pipeline:
    one = ir.parse(text, file)
    return Pipeline(
        function=function,
        name=ir.pipeline_name(one),
        text=text,
        sha256=ir.canonical_sha256(one),
        images=ir.executor_images(one),
        parameters={key: it.default for key, it in ir.parameters(one).items()},
        description=ir.description(one),
    )


def _written(
    out: Path, found: Sequence[tuple[str, Pipeline]], failures: dict[str, CIError]
) -> dict[str, Compilation]:
    """Write the IR files; adds pipelines whose name is unusable to `failures`."""
    owners: dict[str, list[tuple[str, Pipeline]]] = {}
    for file, one in found:
        if not _NAME.fullmatch(one.name) or len(one.name) > PIPELINE_NAME_LIMIT:
            failures[file] = CompileError(
                f"{file}: '{one.name}' is not a pipeline name",
                "Use at most 128 lower-case letters, digits and inner '-'",
            )
            continue
        owners.setdefault(one.name, []).append((file, one))
    compiled = {}
    for name, rivals in sorted(owners.items()):
        if len(rivals) > 1:
            places = " and ".join(f"{it.function} in {file}" for file, it in rivals)
            failures[rivals[-1][0]] = CompileError(
                f"two pipelines are called '{name}': {places}", "Give one of them another name"
            )
            continue
        compiled[name] = _compilation(out, *rivals[0])
    for stale in set(out.glob("*.yaml")) - {
        out.parent / it.pipeline.path for it in compiled.values()
    }:
        stale.unlink()
    return compiled


def _compilation(out: Path, file: str, one: Pipeline) -> Compilation:
    path = out / f"{one.name}.yaml"
    text = one.text.encode()
    if not path.is_file() or path.read_bytes() != text:
        storage.write_bytes(path, text)
    document = CompiledPipeline(
        path=path.relative_to(out.parent).as_posix(),
        source=file,
        function=one.function,
        sha256=one.sha256,
        images=sorted({found.image for found in one.images}),
        components=[],
        parameters=one.parameters,
        description=one.description,
    )
    return Compilation(document, one.images)


def _all_of(failures: dict[str, CIError]) -> CIError:
    errors = [failures[file] for file in sorted(failures)]
    if len(errors) == 1:
        return errors[0]
    logs = [error.log for error in errors if error.log]
    return CompileError(
        f"{len(errors)} pipeline files do not compile: " + "; ".join(e.what for e in errors),
        "Mend them" + (f"; the logs are in {logs[0].parent}" if logs else ""),
    )
