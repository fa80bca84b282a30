"""Which training tests run: those that are named, or all that are for the environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ci.workspace import LOCAL, Workspace
from ci_tools import config_training
from ci_tools.config import Pipeline
from ci_tools.config_errors import did_you_mean
from ci_tools.config_training import DEFAULT, Declared
from ci_tools.errors import ConfigError


class Choice(NamedTuple):
    """tests: to run, in order. left_out: label and reason of those that are not."""

    tests: list[Declared]
    left_out: list[tuple[str, str]]


def declared(workspace: Workspace) -> list[Declared]:
    """Every test of the repository. Raises ConfigError."""
    return config_training.declared(
        workspace.repository,
        workspace.files,
        workspace.config.pipelines,
        {LOCAL, *workspace.config.environments},
    )


def tested(workspace: Workspace) -> list[str]:
    """The labels of all tests for this environment. Raises ConfigError."""
    return [
        it.label
        for it in declared(workspace)
        if it.chosen and _is_for(it, workspace.environment_name)
    ]


def choose(
    tests: Sequence[Declared], names: Sequence[str], available: Sequence[str], environment: str
) -> Choice:
    """The tests to run. Pure.

    names:     PIPELINE, which is all its tests, or PIPELINE/TEST, in any
               environment; without names all tests.
    available: the pipelines that there are.

    Raises ConfigError for a pipeline or a test that is not there.
    """
    if not names:
        wanted = [it for it in tests if it.chosen]
        for it in wanted:
            _check(it.pipeline, available, f"that {it.file} tests")
        return _for(wanted, environment)
    chosen: dict[tuple[str, str], Declared] = {}
    left_out: list[tuple[str, str]] = []
    for name in names:
        pipeline, slash, test = name.partition("/")
        _check(pipeline, available, "to run")
        own = {it.name: it for it in tests if it.pipeline == pipeline}
        own.setdefault(DEFAULT, config_training.of_config(pipeline, Pipeline()))
        if slash:
            if test not in own:
                raise ConfigError(f"pipeline '{pipeline}' has no test '{test}'", _near(test, own))
            found = Choice([own[test]], [])
        else:
            every = [it for it in own.values() if it.chosen] or [own[DEFAULT]]
            found = _for(every, environment)
            if not found.tests:
                raise ConfigError(
                    f"no test of '{pipeline}' is for environment '{environment}'",
                    f"Name one: {', '.join(f'{pipeline}/{it.name}' for it in every)}",
                )
        chosen |= {(it.pipeline, it.name): it for it in found.tests}
        left_out += found.left_out
    return Choice(list(chosen.values()), left_out)


def _for(tests: Sequence[Declared], environment: str) -> Choice:
    return Choice(
        [it for it in tests if _is_for(it, environment)],
        [
            (it.label, f"it is for {', '.join(it.test.environments or ())} only")
            for it in tests
            if not _is_for(it, environment)
        ],
    )


def _is_for(it: Declared, environment: str) -> bool:
    return it.test.environments is None or environment in it.test.environments


def _check(pipeline: str, available: Sequence[str], why: str) -> None:
    if pipeline not in available:
        raise ConfigError(f"there is no pipeline '{pipeline}' {why}", _near(pipeline, available))


def _near(word: str, valid: Sequence[str] | dict[str, Declared]) -> str:
    return did_you_mean(word, list(valid)) or (
        f"Name one of: {', '.join(valid) or '(none was compiled)'}"
    )
