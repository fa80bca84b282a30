"""How a training run is judged. The arithmetic's second judge is Python's own fractions."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci import judging
from ci_tools import storage
from ci_tools.config_kubeflow import AgainstMain, Bound, Tolerance
from ci_tools.config_training import Duration, Expect, Output
from ci_tools.documents import Artifact, Baseline, Run, Training

FINITE = st.floats(-1e9, 1e9, allow_nan=False)
ODD = (math.nan, math.inf, -math.inf)


def run(state: str = "SUCCEEDED", **fields: Any) -> Run:
    return Run(pipeline="p", run_id="r", version_id="v", state=state, **fields)  # type: ignore[arg-type]


def baseline(**fields: Any) -> Baseline:
    return Baseline(
        environment="e", pipeline="p", test="t", run_id="main-run", sha256="s", created="now",
        **fields,
    )  # fmt: skip


def missed(one: Run, expect: Expect, before: Baseline | None = None) -> list[str]:
    return judging.unmet(judging.judge(one, expect, before))


def noted(one: Run, expect: Expect, before: Baseline | None = None) -> list[str]:
    return judging.notes(judging.judge(one, expect, before))


def bounded(value: float | None, bound: Bound, theirs: float | None = None) -> list[str]:
    metrics = {} if value is None else {"accuracy": value}
    before = None if theirs is None else baseline(metrics={"accuracy": theirs})
    return missed(run(metrics=metrics), Expect(metrics={"accuracy": bound}), before)


# bounds ------------------------------------------------------------------------------


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
            for odd in ODD
            for bound in (Bound(), Bound(min=0), Bound(max=0), Bound(min=-1, max=1))
        ],
    ],
)
def test_bounds(value: float, bound: Bound, met: bool) -> None:
    sentences = bounded(value, bound)
    assert (sentences == []) == met
    assert all(sentence.startswith("accuracy is ") for sentence in sentences)


@given(FINITE, FINITE, FINITE)
def test_bounds_are_inclusive_and_nothing_else(value: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert (bounded(value, Bound(min=low, max=high)) == []) == (low <= value <= high)


def test_a_missing_metric_misses_and_says_why_it_is_not_known() -> None:
    assert bounded(None, Bound()) == ["accuracy was not reported"]
    one = run(unknown="nobody tells")
    assert missed(one, Expect(metrics={"a": Bound()})) == ["a was not reported (nobody tells)"]
    assert missed(run(), Expect()) == []
    other = run(metrics={"Output": 0.9, "train.loss": 0.1})
    assert missed(other, Expect(metrics={"a": Bound()})) == [
        "a was not reported (reported: Output, train.loss)"
    ]


def test_every_miss_is_told_in_the_order_of_the_file() -> None:
    expect = Expect(metrics={"b": Bound(max=1), "a": Bound(min=1), "c": Bound(min=0)})
    assert missed(run(metrics={"a": 0.5, "b": 2, "c": 1}), expect) == [
        "b is 2, above 1",
        "a is 0.5, below 1",
    ]


# compared with main --------------------------------------------------------------------


def against(better: Any = "higher", relative: float = 0.0, absolute: float = 0.0) -> Bound:
    return Bound(main=AgainstMain(better=better, relative=relative, absolute=absolute))


@pytest.mark.parametrize(
    ("value", "theirs", "bound", "met"),
    [
        (0.95, 0.95, against(), True),
        (0.99, 0.95, against(), True),  # better is never too far
        (0.94, 0.95, against(), False),
        (0.931, 0.95, against(relative=0.02), True),  # exactly what is allowed
        (0.930, 0.95, against(relative=0.02), False),
        (10.0, 9.0, against("lower"), False),
        (8.0, 9.0, against("lower"), True),
        (9.9, 9.0, against("lower", relative=0.1), True),
        (9.91, 9.0, against("lower", relative=0.1), False),
        (-1.02, -1.0, against(relative=0.02), True),  # of a negative value: of its size
        (-1.03, -1.0, against(relative=0.02), False),
        (-0.01, 0.0, against(relative=0.5), False),  # of nought: nothing
        (0.0, 0.0, against(relative=0.5), True),
        (-0.01, 0.0, against(relative=0.5, absolute=0.01), True),
        (0.90, 0.95, against(absolute=0.05), True),
        *[(odd, 0.95, against(relative=1), False) for odd in ODD],
    ],
)
def test_main(value: float, theirs: float, bound: Bound, met: bool) -> None:
    assert (bounded(value, bound, theirs) == []) == met


def test_a_worse_value_is_told_with_both_and_what_is_allowed() -> None:
    assert bounded(0.9, against(relative=0.02), 0.95) == [
        "accuracy is 0.9, behind main's 0.95 by 0.05 where 0.019 is allowed"
    ]


@given(FINITE, FINITE, st.floats(0, 2), st.floats(0, 100), st.sampled_from(["higher", "lower"]))
def test_main_is_what_exact_arithmetic_says(
    value: float, theirs: float, relative: float, absolute: float, better: str
) -> None:
    room = Fraction(relative) * abs(Fraction(theirs)) + Fraction(absolute)
    behind = Fraction(theirs) - Fraction(value)
    if better == "lower":
        behind = -behind
    edge = Fraction(1, 10**8) * (abs(Fraction(theirs)) + room)
    met = bounded(value, against(better, relative, absolute), theirs) == []
    if behind <= room:
        assert met
    if behind > room + edge:
        assert not met


@given(FINITE, FINITE, st.floats(0, 2), st.floats(0, 2))
def test_more_tolerance_never_refuses_what_less_allowed(
    value: float, theirs: float, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    if bounded(value, against(relative=low), theirs) == []:
        assert bounded(value, against(relative=high), theirs) == []


@given(FINITE, st.floats(0, 2))
def test_nothing_is_behind_itself(value: float, relative: float) -> None:
    for better in ("higher", "lower"):
        assert bounded(value, against(better, relative), value) == []


def test_the_first_run_on_main_passes_and_says_that_there_is_no_baseline() -> None:
    one, expect = run(metrics={"accuracy": 0.5}), Expect(metrics={"accuracy": against()})
    assert missed(one, expect) == []
    assert noted(one, expect) == ["metrics.accuracy.main: main has no passed run of this test yet"]


def test_a_baseline_without_the_metric_is_said_and_not_a_silent_pass() -> None:
    one, expect = run(metrics={"accuracy": 0.5}), Expect(metrics={"accuracy": against()})
    before = baseline(metrics={"other": 1.0})
    checks = {check.name: check for check in judging.judge(one, expect, before)}
    assert checks["metrics.accuracy.main"].note == "main's last run (main-run) reported no accuracy"
    assert missed(one, expect, before) == []


def test_a_metric_that_is_not_there_misses_once() -> None:
    expect = Expect(metrics={"accuracy": against()})
    before = baseline(metrics={"accuracy": 1.0})
    assert missed(run(), expect, before) == ["accuracy was not reported"]
    assert [check.name for check in judging.judge(run(), expect, before)] == [
        "metrics.accuracy",
        "metrics.accuracy.main",
    ]


def test_names_of_checks_do_not_depend_on_what_they_find() -> None:
    expect = Expect(
        metrics={"a": against(), "b": Bound(min=1)},
        outputs={"model": Output(min_bytes=1)},
        duration=Duration(max=10, main=Tolerance(relative=0.1)),
    )
    good = run(
        metrics={"a": 1, "b": 2}, artifacts={"model": Artifact(uri="s3://m", size=9)}, seconds=1
    )
    names = [
        [check.name for check in judging.judge(one, expect, before)]
        for one in (run(seconds=99), good)
        for before in (None, baseline(), baseline(metrics={"a": 9.0}, seconds=0.5))
    ]
    assert names == [
        [
            "metrics.a",
            "metrics.a.main",
            "metrics.b",
            "outputs.model",
            "duration",
            "duration.main",
        ]
    ] * len(names)


# duration and outputs ------------------------------------------------------------------


def test_duration() -> None:
    expect = Expect(duration=Duration(max=10))
    assert missed(run(seconds=10), expect) == []
    assert missed(run(seconds=10.5), expect) == ["it took 10.5 s, longer than 10 s"]
    slower = Expect(duration=Duration(main=Tolerance(relative=0.5)))
    assert missed(run(seconds=15), slower, baseline(seconds=10)) == []
    assert missed(run(seconds=16), slower, baseline(seconds=10)) == [
        "it took 16.0 s, behind main's 10.0 s by 6.0 s where 5.0 s is allowed"
    ]
    assert noted(run(seconds=16), slower) == [
        "duration.main: main has no passed run of this test yet"
    ]


@pytest.mark.parametrize("value", [0, 0.0, False, "x", [0], {"a": None}])
def test_an_output_with_a_value_is_there(value: Any) -> None:
    assert missed(run(outputs={"it": value}), Expect(outputs={"it": Output()})) == []


@pytest.mark.parametrize("value", [None, "", [], {}])
def test_an_empty_output_is_not(value: Any) -> None:
    expect = Expect(outputs={"it": Output()})
    assert missed(run(outputs={"it": value}), expect) == ["output it is empty"]


@pytest.mark.parametrize(
    ("artifact", "output", "sentences", "notes"),
    [
        (Artifact(uri="s3://b/m"), Output(), [], 0),
        (Artifact(uri=""), Output(), ["output m was not written"], 0),
        (Artifact(uri="file:///gone"), Output(), ["output m was not written"], 0),
        (Artifact(uri="file:///none", type="system.Metrics"), Output(), [], 0),
        (Artifact(uri="file:///m", size=9), Output(min_bytes=9), [], 0),
        (Artifact(uri="file:///m", size=8), Output(min_bytes=9),
         ["output m has 8 bytes, fewer than 9"], 0),
        (Artifact(uri="s3://b/m"), Output(min_bytes=9), [], 1),
        (None, Output(), ["output m is not there"], 0),
    ],
)  # fmt: skip
def test_artefacts(
    artifact: Artifact | None, output: Output, sentences: list[str], notes: int
) -> None:
    one = run(artifacts={"m": artifact} if artifact else {})
    assert missed(one, Expect(outputs={"m": output})) == sentences
    assert len(noted(one, Expect(outputs={"m": output}))) == notes


def test_metrics_that_json_has_not_are_told_and_the_file_stays_readable(tmp_path: Path) -> None:
    one = run(metrics={"loss": math.nan, "top": math.inf, "ok": 1.0}, message="note")
    judging.leave_out_non_finite(one)
    assert one.metrics == {"ok": 1.0}
    assert one.message == "note; loss is nan, top is inf"
    training = Training(environment="local", runs=[one])
    storage.write(tmp_path / "train.json", training)
    assert storage.read(tmp_path / "train.json", Training, made_by="train") == training


TOLERANCE = AgainstMain(better="higher", relative=0.1)


@pytest.mark.parametrize("before", [None, baseline(metrics={"a": 1.0}, seconds=3.0)])
@pytest.mark.parametrize(
    "expect",
    [
        Expect(),
        Expect(metrics={"a": Bound(min=0), "b": Bound(main=TOLERANCE)}, outputs={"m": Output()}),
        Expect(duration=Duration(max=5)),
        Expect(duration=Duration(max=5, main=Tolerance(relative=0.5))),
        Expect(duration=Duration(main=Tolerance(relative=0.5))),
    ],
)
def test_a_run_that_failed_has_checks_of_the_same_names(
    expect: Expect, before: Baseline | None
) -> None:
    judged = [check.name for check in judging.judge(run(), expect, before)]
    left_out = judging.left_out(expect, "the run ended FAILED")
    assert [check.name for check in left_out] == judged
    assert all(check.note == "the run ended FAILED" and not check.missed for check in left_out)
