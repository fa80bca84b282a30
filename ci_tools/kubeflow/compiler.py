"""Find and compile a repository's pipelines, each file in a process of its own.

A process a file, because a pipeline is a program: what it imports, registers or
prints must not reach another pipeline or this tool.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ci_tools import config, process, storage
from ci_tools.documents import CompiledPipeline
from ci_tools.errors import CIError, CompileError, ConfigError, ToolError
from ci_tools.kubeflow import PIPELINE_NAME_LIMIT, child, ir

_START_SECONDS = 60.0  # importing kfp on a busy machine
TIMEOUT_SECONDS = 300.0
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


class _Compilation(NamedTuple):
    """One IR, not yet written."""

    file: str
    function: str
    text: str


def compile_all(
    repository: Path, settings: config.Pipelines, specs: Path, out: Path, jobs: int
) -> dict[str, CompiledPipeline]:
    """Compile every pipeline of a repository to `out/NAME.yaml`.

    specs: directory with the pinned copies of `settings.templates`.
    out:   a directory that this function owns: IR files of an earlier build go
           first, logs are under `out/logs`.
    jobs:  processes at once.

    Returns pipeline name -> what was compiled, by name; `path` is relative to
    out's parent, `components` is left to who knows the lock. The same sources
    give the same bytes.

    Raises ConfigError for a pipeline that ci.yaml names and nobody defines, and
    one CompileError for all files that do not compile; the others are written.
    """
    asked = _asked(repository, settings)
    files = sorted({*discover(repository, settings.directory), *asked})
    for stale in out.glob("*.yaml"):
        stale.unlink()
    outcomes = _compile_files(repository, settings, specs, out, files, asked, jobs)
    failures = {file: it for file, it in outcomes.items() if isinstance(it, CIError)}
    compilations = [it for one in outcomes.values() if not isinstance(one, CIError) for it in one]
    compiled = _written(out, compilations, failures)
    if failures:
        raise _all_of(failures)
    if lost := sorted(set(settings.named) - set(compiled)):
        raise ConfigError(
            f"ci.yaml names pipeline '{lost[0]}', which no file defines",
            f"Defined are: {', '.join(compiled) or 'none'}; "
            f"give 'file' and 'function' under 'pipelines.named.{lost[0]}'",
        )
    return compiled


def discover(repository: Path, directory: str) -> list[str]:
    """Python files below `directory` that may hold pipelines, relative, with `/`.

    Left out: what git ignores, and files or directories named `_...` or `.…`.
    Outside git nothing is ignored. Raises ToolError when git fails.
    """
    root = repository / directory
    if not root.is_dir():
        return []
    names: Iterable[str]
    if _in_git(repository):
        listing = process.run(
            [
                "git",
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
                "--",
                directory,
            ],
            cwd=repository,
            env={"GIT_LITERAL_PATHSPECS": "1"},
        )
        if not listing.ok:
            raise ToolError(
                f"git cannot list the files of {directory} ({listing.tail(1)})",
                "Run 'git status' in the repository and mend what it says",
            )
        names = (name for name in listing.output.split("\0") if name.endswith(".py"))
    else:
        names = (path.relative_to(repository).as_posix() for path in root.rglob("*.py"))
    below = len(PurePosixPath(directory).parts)
    return sorted(
        {
            name
            for name in names
            if not any(part[0] in "_." for part in PurePosixPath(name).parts[below:])
            and (repository / name).is_file()
        }
    )


def _in_git(repository: Path) -> bool:
    return any((parent / ".git").exists() for parent in (repository, *repository.parents))


def _asked(repository: Path, settings: config.Pipelines) -> dict[str, dict[str, str]]:
    """File -> function -> pipeline name, for the entries of ci.yaml that name a file."""
    asked: dict[str, dict[str, str]] = {}
    for name, pipeline in settings.named.items():
        where = f"pipelines.named.{name}"
        if pipeline.file is None:
            if pipeline.function is not None:
                raise ConfigError(
                    f"{where} names a function but no file", f"Add 'file' to '{where}' in ci.yaml"
                )
            continue
        path = (repository / pipeline.file).resolve()
        if not path.is_file() or not path.is_relative_to(repository.resolve()):
            raise ConfigError(
                f"{where}.file '{pipeline.file}' is not a file of this repository",
                "Give its path relative to the repository in ci.yaml",
            )
        file = path.relative_to(repository.resolve()).as_posix()
        functions = asked.setdefault(file, {})
        if other := functions.get(pipeline.function or ""):
            raise ConfigError(
                f"{where} names the same pipeline as '{other}'",
                "Give each its own 'function', or remove one",
            )
        functions[pipeline.function or ""] = name
    return asked


def _compile_files(
    repository: Path,
    settings: config.Pipelines,
    specs: Path,
    out: Path,
    files: list[str],
    asked: dict[str, dict[str, str]],
    jobs: int,
) -> dict[str, list[_Compilation] | CIError]:
    """File -> its pipelines, or why there are none. Raises CompileError without kfp."""
    root = repository.resolve()
    outcomes: dict[str, list[_Compilation] | CIError] = {}
    logs: dict[str, Path] = {}
    for file in files:
        log = out.absolute() / "logs" / (file.replace("/", "__") + ".log")
        if (root / file).resolve().is_relative_to(root):
            storage.write_bytes(log, b"")
            logs[file] = log
        else:
            outcomes[file] = CompileError(
                f"{file} is a link out of the repository", "Replace it by the file"
            )
    if not logs:
        return outcomes
    request = {
        "files": [
            {"file": str(root / file), "log": str(log), "functions": asked.get(file, {})}
            for file, log in logs.items()
        ],
        "repository": str(root),
        "templates": str(root / settings.templates),
        "specs": str(specs.resolve()),
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
    for file, log in logs.items():
        outcomes[file] = _outcome(file, answers[str(root / file)], log)
    return outcomes


def _outcome(file: str, answer: dict[str, Any], log: Path) -> list[_Compilation] | CIError:
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
    return [_Compilation(file, it["function"], it["ir"]) for it in answer["pipelines"]]


def _written(
    out: Path, compilations: list[_Compilation], failures: dict[str, CIError]
) -> dict[str, CompiledPipeline]:
    """Write the IR files; adds pipelines whose name is unusable to `failures`."""
    owners: dict[str, list[_Compilation]] = {}
    parsed: dict[str, ir.Ir] = {}
    for compilation in compilations:
        one = ir.parse(compilation.text, compilation.file)
        name = ir.pipeline_name(one)
        if not _NAME.fullmatch(name) or len(name) > PIPELINE_NAME_LIMIT:
            failures[compilation.file] = CompileError(
                f"{compilation.file}: '{name}' is not a pipeline name",
                "Use at most 128 lower-case letters, digits and inner '-'",
            )
            continue
        owners.setdefault(name, []).append(compilation)
        parsed[name] = one
    compiled = {}
    for name, rivals in sorted(owners.items()):
        if len(rivals) > 1:
            places = " and ".join(f"{it.function} in {it.file}" for it in rivals)
            failures[rivals[-1].file] = CompileError(
                f"two pipelines are called '{name}': {places}", "Give one of them another name"
            )
            continue
        path = out / f"{name}.yaml"
        storage.write_bytes(path, rivals[0].text.encode())
        one = parsed[name]
        compiled[name] = CompiledPipeline(
            path=path.relative_to(out.parent).as_posix(),
            source=rivals[0].file,
            function=rivals[0].function,
            sha256=ir.canonical_sha256(one),
            images=sorted({found.image for found in ir.executor_images(one)}),
            components=[],
            parameters={key: it.default for key, it in ir.parameters(one).items()},
            description=ir.description(one),
        )
    return compiled


def _all_of(failures: dict[str, CIError]) -> CIError:
    errors = [failures[file] for file in sorted(failures)]
    if len(errors) == 1:
        return errors[0]
    logs = [error.log for error in errors if error.log]
    return CompileError(
        f"{len(errors)} pipeline files do not compile: " + "; ".join(e.what for e in errors),
        "Mend them" + (f"; the logs are in {logs[0].parent}" if logs else ""),
    )
