"""Which files of a repository define pipelines: found where ci.yaml says, or named there."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path, PurePosixPath

from ci_tools import config
from ci_tools.errors import ConfigError

_PATTERN = frozenset("*?[!")


def discover(files: Collection[str], places: str | list[str]) -> list[str]:
    """Python files that may hold pipelines, sorted.

    files:  of the repository, relative, with `/`, without those that git ignores.
    places: folders, or patterns as in .gitignore.

    Left out below a folder: files or folders named `_...` or `.…`. A pattern takes
    what it matches.
    """
    return sorted(_found([name for name in files if name.endswith(".py")], places))


def beside(files: Collection[str], places: str | list[str], endings: tuple[str, ...]) -> list[str]:
    """Files of other endings that belong to those pipelines, sorted: below the same
    folders, or beside a file that a pattern takes."""
    folders, patterns = _split(places)
    wanted = [name for name in files if name.endswith(endings)]
    near = {str(PurePosixPath(name).parent) for name in discover(files, patterns)}
    return sorted(
        _found(wanted, folders)
        | {name for name in wanted if str(PurePosixPath(name).parent) in near}
    )


def _found(names: list[str], places: str | list[str]) -> set[str]:
    folders, patterns = _split(places)
    found: set[str] = set()
    for folder in folders:
        parts = PurePosixPath(folder).parts
        for name in names:
            own = PurePosixPath(name).parts
            hidden = any(part[0] in "_." for part in own[len(parts) :])
            if own[: len(parts)] == parts and not hidden:
                found.add(name)
    if patterns:
        import pathspec

        matches = pathspec.GitIgnoreSpec.from_lines(patterns).match_file
        found.update(name for name in names if matches(name))
    return found


def _split(places: str | list[str]) -> tuple[list[str], list[str]]:
    """Folders, and patterns."""
    listed = [places] if isinstance(places, str) else places
    patterns = [place for place in listed if _PATTERN & set(place)]
    return [place for place in listed if place not in patterns], patterns


def asked(repository: Path, settings: config.Pipelines) -> dict[str, dict[str, str]]:
    """File -> function -> pipeline name, for the entries of ci.yaml that name a file.

    function: "" for the only one of the file. Raises ConfigError.
    """
    found: dict[str, dict[str, str]] = {}
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
        functions = found.setdefault(file, {})
        if other := functions.get(pipeline.function or ""):
            raise ConfigError(
                f"{where} names the same pipeline as '{other}'",
                "Give each its own 'function', or remove one",
            )
        functions[pipeline.function or ""] = name
    return found
