"""How a training run is judged."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from ci import train
from ci_tools import storage
from ci_tools.config import Bound
from ci_tools.documents import Run, Training
from ci_tools.errors import ExpectationError, RunFailedError, RunTimeoutError


def run(state: str = "SUCCEEDED", **fields: object) -> Run:
    return Run(pipeline="p", run_id="r", version_id="v", state=state, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "bound", "met"),
    [
        (0.5, Bound(), True),
        (0.5, Bound(min=0.5), True),  # inclusive
        (0.5, Bound(max=0.5), True),
        (0.5, Bound(min=0.5, max=0.5), True),
        (0.4999, Bound(min=0.5), False),
        (0.5001, Bound(max=0.5), False),
        (0, Bound(min=0), True),
        (-1, Bound(min=0), False),
        (1, Bound(max=0), False),
        *[
            (odd, bound, False)
            for odd in (math.nan, math.inf, -math.inf)
            for bound in (Bound(), Bound(min=0), Bound(max=0), Bound(min=-1, max=1))
        ],
    ],
)
def test_bounds(value: float, bound: Bound, met: bool) -> None:
    missed = train.unmet({"accuracy": value}, {"accuracy": bound})
    assert (missed == []) == met
    assert all(sentence.startswith("accuracy is ") for sentence in missed)


def test_a_missing_metric_misses() -> None:
    assert train.unmet({"other": 1.0}, {"accuracy": Bound()}) == ["accuracy was not reported"]
    assert train.unmet({}, {}) == []


def test_every_miss_is_told() -> None:
    expected = {"a": Bound(min=1), "b": Bound(max=1), "c": Bound(min=0)}
    assert train.unmet({"a": 0.5, "b": 2, "c": 1}, expected) == [
        "a is 0.5, below 1",
        "b is 2, above 1",
    ]


def test_metrics_that_json_has_not_are_told_and_the_file_stays_readable(tmp_path: Path) -> None:
    one = run(metrics={"loss": math.nan, "top": math.inf, "ok": 1.0}, message="note")
    train.leave_out_non_finite(one)
    assert one.metrics == {"ok": 1.0}
    assert one.message == "note; loss is nan, top is inf"
    training = Training(environment="local", runs=[one])
    storage.write(tmp_path / "train.json", training)
    assert storage.read(tmp_path / "train.json", Training, made_by="train") == training


@pytest.mark.parametrize(
    ("one", "error"),
    [
        (run("TIMEOUT"), RunTimeoutError),
        (run("FAILED", message="no memory"), RunFailedError),
        (run("CANCELED"), RunFailedError),
        (run("SKIPPED"), RunFailedError),
        (run(unmet=["a is 0"]), ExpectationError),
    ],
)
def test_what_a_run_means(one: Run, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        train.raise_failures(Training(environment="e", runs=[run(), one]))
    assert all(said in str(caught.value) for said in ("'p'", one.message, *one.unmet))


def test_success_raises_nothing() -> None:
    train.raise_failures(Training(environment="e", runs=[run(), run()]))
