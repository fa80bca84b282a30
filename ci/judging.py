"""Whether a run did what its test expects. Pure: a run, expectations and a baseline in, checks out.

What is decided here, where one could decide otherwise:

- a metric that was not reported, is no number or is infinite misses, whatever its bounds
- without a baseline nothing is compared: a first run on main could never pass else
- a baseline without the metric is not compared either, and that is said
- a share of nought is nought: against a baseline of nought only `absolute` allows anything
- a value that is behind by as much as is allowed, but for the last digits of a
  floating-point number, is not too far behind
- a size that cannot be known here is not looked at, and that is said
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from ci_tools.config_kubeflow import Bound, Tolerance
from ci_tools.config_training import Duration, Expect, Output
from ci_tools.documents import Baseline, JsonValue, Run

_EMPTY: tuple[JsonValue, ...] = (None, "", [], {})
_DIGITS = 1e-9  # relative
_NAMED = 10  # metrics in a sentence


class Check(NamedTuple):
    """name: stable, such as `metrics.accuracy.main`. missed: the sentence that says how;
    note: why it was not looked at. Both empty: it is met."""

    name: str
    missed: str = ""
    note: str = ""


def judge(run: Run, expect: Expect, baseline: Baseline | None, why: str = "") -> list[Check]:
    """Every expectation of a run that succeeded, in their order.

    why: why there is no baseline, if there is none.
    """
    why = why or "main has no passed run of this test yet"
    checks: list[Check] = []
    for name, bound in expect.metrics.items():
        checks.append(Check(f"metrics.{name}", _metric(run, name, bound)))
        if bound.main is not None:
            checks.append(_compared(run, name, bound, baseline, why))
    checks += [_output(run, name, output) for name, output in expect.outputs.items()]
    if expect.duration is not None:
        checks += _duration(run, expect.duration, baseline, why)
    return checks


def left_out(expect: Expect, why: str) -> list[Check]:
    """The checks that `judge` would have made of a run that did not succeed, each with
    why it was not: a report has the same names whatever became of the run."""
    names: list[str] = []
    for name, bound in expect.metrics.items():
        names += [f"metrics.{name}", *([f"metrics.{name}.main"] if bound.main is not None else [])]
    names += [f"outputs.{name}" for name in expect.outputs]
    if expect.duration is not None:
        names += ["duration"] if expect.duration.max is not None else []
        names += ["duration.main"] if expect.duration.main is not None else []
    return [Check(name, note=why) for name in names]


def compares(expect: Expect) -> bool:
    """Whether anything is compared with main's last run."""
    every = [bound.main for bound in expect.metrics.values()]
    return any(every) or bool(expect.duration and expect.duration.main)


def unmet(checks: list[Check]) -> list[str]:
    return [check.missed for check in checks if check.missed]


def notes(checks: list[Check]) -> list[str]:
    return [f"{check.name}: {check.note}" for check in checks if check.note]


def leave_out_non_finite(run: Run) -> None:
    """Take metrics that are no finite number out of a run, and say so in its message.

    JSON has neither NaN nor infinity: they would make train.json unreadable.
    """
    odd = sorted(name for name, value in run.metrics.items() if not math.isfinite(value))
    if odd:
        told = ", ".join(f"{name} is {run.metrics.pop(name)}" for name in odd)
        run.message = f"{run.message}; {told}" if run.message else told


def _metric(run: Run, name: str, bound: Bound) -> str:
    value = run.metrics.get(name)
    if value is None:
        return f"{name} was not reported{_because(run) or _instead(run)}"
    if not math.isfinite(value):
        return f"{name} is {value}"
    if bound.min is not None and value < bound.min:
        return f"{name} is {value:.4g}, below {bound.min:.4g}"
    if bound.max is not None and value > bound.max:
        return f"{name} is {value:.4g}, above {bound.max:.4g}"
    return ""


def _compared(run: Run, name: str, bound: Bound, baseline: Baseline | None, why: str) -> Check:
    check, value = f"metrics.{name}.main", run.metrics.get(name)
    if value is None or not math.isfinite(value):
        return Check(check, note=f"there is no {name} to compare")  # which misses by itself
    if baseline is None:
        return Check(check, note=why)
    theirs = baseline.metrics.get(name)
    if theirs is None or not math.isfinite(theirs):
        return Check(check, note=f"main's last run ({baseline.run_id}) reported no {name}")
    if bound.main is None:
        raise AssertionError("only what is compared with main's")
    sign = -1 if bound.main.better == "higher" else 1
    return Check(check, _behind(f"{name} is", "", value, theirs, bound.main, sign, _number))


def _duration(run: Run, duration: Duration, baseline: Baseline | None, why: str) -> list[Check]:
    checks = []
    if duration.max is not None:
        late = run.seconds > duration.max
        sentence = f"it took {run.seconds:.1f} s, longer than {duration.max} s" if late else ""
        checks.append(Check("duration", sentence))
    if duration.main is not None and baseline is None:
        checks.append(Check("duration.main", note=why))
    elif duration.main is not None and baseline is not None:
        sentence = _behind(
            "it took", " s", run.seconds, baseline.seconds, duration.main, 1, lambda x: f"{x:.1f}"
        )
        checks.append(Check("duration.main", sentence))
    return checks


def _behind(
    what: str,
    unit: str,
    value: float,
    theirs: float,
    allowed: Tolerance,
    sign: int,
    shown: Callable[[float], str],
) -> str:
    """The sentence that a value is further behind main's than is allowed, or "".

    sign: 1 where more is worse, -1 where less is.
    """
    room = allowed.relative * abs(theirs) + allowed.absolute
    behind = (value - theirs) * sign
    if behind <= room or math.isclose(behind, room, rel_tol=_DIGITS, abs_tol=_DIGITS * abs(theirs)):
        return ""
    return (
        f"{what} {shown(value)}{unit}, behind main's {shown(theirs)}{unit} by {shown(behind)}{unit}"
        f" where {shown(room)}{unit} is allowed"
    )


def _output(run: Run, name: str, output: Output) -> Check:
    check = f"outputs.{name}"
    artifact = run.artifacts.get(name)
    if artifact is None:
        if name not in run.outputs:
            return Check(check, f"output {name} is not there{_because(run)}")
        if any(run.outputs[name] == it for it in _EMPTY):
            return Check(check, f"output {name} is empty")
        if output.min_bytes is not None:
            return Check(check, note=f"{name} is a parameter, which has no size")
        return Check(check)
    here = artifact.uri.startswith("file:") and "Metrics" not in artifact.type  # who have no file
    if not artifact.uri or (here and artifact.size is None):
        return Check(check, f"output {name} was not written")
    if output.min_bytes is None:
        return Check(check)
    if artifact.size is None:
        return Check(check, note=f"the size of {artifact.uri} is not known here")
    if artifact.size < output.min_bytes:
        return Check(
            check, f"output {name} has {artifact.size} bytes, fewer than {output.min_bytes}"
        )
    return Check(check)


def _because(run: Run) -> str:
    return f" ({run.unknown})" if run.unknown else ""


def _instead(run: Run) -> str:
    """What else was, for a name that is mistyped or the pipeline's own (`Output`)."""
    if not run.metrics:
        return ""
    names = sorted(run.metrics)
    more = ", ..." if len(names) > _NAMED else ""
    return f" (reported: {', '.join(names[:_NAMED])}{more})"


def _number(value: float) -> str:
    return f"{value:.4g}"
