"""What the runs of a training stage mean for its exit code."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ci import models, train
from ci.workspace import Workspace
from ci_tools import storage
from ci_tools.documents import Artifact, Attempt, Run, Training
from ci_tools.errors import (
    ConfigError,
    ExpectationError,
    KubeflowError,
    MissingInputError,
    RunFailedError,
    RunInfrastructureError,
    RunTimeoutError,
)


def run(state: str = "SUCCEEDED", **fields: Any) -> Run:
    fields = {"pipeline": "p", "run_id": "r", "version_id": "v", **fields}
    return Run(state=state, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "error"),
    [
        (run("TIMEOUT", message="it may still go on", url="http://here"), RunTimeoutError),
        (run("FAILED", message="no memory", url="http://here"), RunFailedError),
        (run("CANCELED", message="somebody else cancelled it"), RunFailedError),
        (run("SKIPPED"), RunFailedError),
        (run(unmet=["a is 0"]), ExpectationError),
        (run("FAILED", message="x", infrastructure="its pod was deleted"), RunInfrastructureError),
        (run("ERROR", message="no such parameter", exit_code=3, todo="Mend it"), ConfigError),
        (run("ERROR", message="it is away", exit_code=32, todo="Wait"), KubeflowError),
    ],
)
def test_what_a_run_means(one: Run, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        train.raise_failures(Training(environment="e", runs=[run(), one]))
    assert type(caught.value) is error
    told = ("'p'", one.message, *one.unmet, one.url)
    assert all(said in str(caught.value) for said in told)


def test_success_raises_nothing() -> None:
    train.raise_failures(Training(environment="e", runs=[run(), run()]))


def test_the_earliest_kind_is_raised_and_the_others_are_named() -> None:
    runs = [
        run(test="b", unmet=["a is 0"]),
        run("TIMEOUT", test="c"),
        run("FAILED", test="d"),
        run("FAILED", pipeline="q"),
    ]
    with pytest.raises(RunFailedError, match=r"'p/d'.*3 more failed: p/b, p/c, q"):
        train.raise_failures(Training(environment="e", runs=runs))


def test_a_failure_of_the_infrastructure_tells_how_often_it_was_tried() -> None:
    one = run(
        "FAILED", infrastructure="task 'x': its pod was deleted",
        attempts=[Attempt(run_id="1", state="FAILED", reason="r")],
    )  # fmt: skip
    with pytest.raises(RunInfrastructureError, match=r"2 times.*its pod was deleted"):
        train.raise_failures(Training(environment="e", runs=[one]))


def test_of_several_tests_the_default_ones_model_is_deployed(tmp_path: Path) -> None:
    def made(test: str, **fields: Any) -> Run:
        uri = f"s3://models/{test}"
        return run(test=test, artifacts={"model": Artifact(uri=uri, sha256="0" * 64)}, **fields)

    def model(*runs: Run) -> str:
        storage.write(tmp_path / "train.json", Training(environment="local", runs=list(runs)))
        workspace = Workspace(repository=tmp_path, build=tmp_path)
        source = SimpleNamespace(uri=None, sha256=None, pipeline="p", artifact="model")
        servable: Any = SimpleNamespace(service="s", model=source)
        found = models.of(workspace, servable)
        assert found is not None
        return found.uri

    assert model(made("default"), made("smoke")) == "s3://models/default"
    assert model(made("a"), made("b")) == "s3://models/b"
    with pytest.raises(MissingInputError, match="no successful run"):
        model(made("default", unmet=["a is 0"]), made("smoke"))
    other = run(artifacts={"fit.model": Artifact(uri="s3://m", sha256="0" * 64)})
    with pytest.raises(ConfigError, match=r"'model' of 'p', .* it made: fit\.model"):
        model(other)
    unhashed = run(artifacts={"model": Artifact(uri="s3://m")})
    with pytest.raises(MissingInputError, match="no hash is known"):
        model(unhashed)
