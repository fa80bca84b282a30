"""`*.test.yaml`: a pipeline's training tests, beside it or below its directory.

The types are the schema: `ci_tools/schemas/training-test.schema.json` is generated
from them (`python -m ci schema training.test.yaml`), and a test keeps the two equal.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from ci_tools import config
from ci_tools.config_base import Name, Parameter, Seconds, Section
from ci_tools.config_errors import did_you_mean
from ci_tools.config_kubeflow import Bound, Pipeline, Retries, Tolerance
from ci_tools.errors import ConfigError
from ci_tools.kubeflow import pipeline_files

SUFFIXES = (".test.yaml", ".test.yml")
SCHEMA = "training.test.yaml"  # what `python -m ci schema` calls it
DEFAULT = "default"


class Output(Section):
    """An output that a run must have: a parameter that is not empty, or an artefact.

    min_bytes: of an artefact, where its size can be known.
    """

    min_bytes: Annotated[int, Meta(ge=0)] | None = None


class Duration(Section):
    """max: seconds that a run may take. main: how much longer than main's last one."""

    max: Seconds | None = None
    main: Tolerance | None = None


class Expect(Section):
    """What a run must come to, beside succeeding. Names are those of the pipeline's outputs."""

    metrics: dict[str, Bound] = {}
    outputs: dict[str, Output] = {}
    duration: Duration | None = None


class TrainingTest(Section):
    """One run and what is expected of it.

    environments: it runs in those only; without them in all.
    timeout: seconds for a run, which is then cancelled.
    retries: runs more, after one that failed for reasons of the infrastructure.
    """

    parameters: dict[str, Parameter] = {}
    environments: Annotated[tuple[Name, ...], Meta(min_length=1)] | None = None
    expect: Expect = msgspec.field(default_factory=Expect)
    timeout: Seconds = 3600
    retries: Retries = 1


class TrainingTests(Section):
    """The tests of one pipeline. Every file of a pipeline adds some."""

    pipeline: Name
    tests: Annotated[dict[Name, TrainingTest], Meta(min_length=1)]


class Declared(NamedTuple):
    """A test, and where it stands. chosen: whether it runs unless others are named."""

    pipeline: str
    name: str
    test: TrainingTest
    file: str
    chosen: bool = True

    @property
    def label(self) -> str:
        """`training` of its default test, `training/smoke` of another."""
        return self.pipeline if self.name == DEFAULT else f"{self.pipeline}/{self.name}"


def of_config(name: str, pipeline: Pipeline) -> Declared:
    """The test that `pipelines.named` of ci.yaml describes."""
    test = TrainingTest(
        parameters=pipeline.parameters,
        expect=Expect(metrics=pipeline.expect),
        timeout=pipeline.timeout,
        retries=pipeline.retries,
    )
    return Declared(name, DEFAULT, test, config.FILE, pipeline.train)


def declared(
    repository: Path,
    files: Iterable[str],
    settings: config.Pipelines,
    environments: Collection[str],
) -> list[Declared]:
    """Every test: those of ci.yaml, then those of the files, by name.

    files: of the repository, relative to it. environments: those that there are.

    Raises ConfigError for a file that is not valid, a test that is there twice,
    and an environment that there is not.
    """
    found = {(name, DEFAULT): of_config(name, it) for name, it in settings.named.items()}
    for path in pipeline_files.beside(list(files), settings.directory, SUFFIXES):
        one = config.parse(repository / path, TrainingTests, name=path, schema=SCHEMA)
        for name, test in one.tests.items():
            if name == DEFAULT:
                raise ConfigError(
                    f"{path}: the test '{DEFAULT}' is the one of pipelines.named.{one.pipeline} "
                    f"in {config.FILE}",
                    "Give it another name",
                )
            there = found.get((one.pipeline, name))
            if there is not None:
                raise ConfigError(
                    f"the test '{there.label}' is in {there.file} and in {path}",
                    "Rename one of them",
                )
            for environment in test.environments or ():
                if environment not in environments:
                    raise ConfigError(
                        f"{path}: environment '{environment}' of test '{name}' is not declared "
                        f"in {config.FILE}",
                        did_you_mean(environment, sorted(environments))
                        or f"Use one of: {', '.join(sorted(environments))}",
                    )
            found[one.pipeline, name] = Declared(one.pipeline, name, test, path)
    return list(found.values())
