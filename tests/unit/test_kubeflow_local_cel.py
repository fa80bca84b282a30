"""Conditions and selectors as the backend's CEL evaluates them, not as Python would."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_tools.kubeflow.local import cel

_VALUE = "inputs.parameter_values['x']"


@pytest.mark.parametrize(
    ("expression", "x", "expected"),
    [
        (f"{_VALUE} == 'q'", "q", True),
        (f"{_VALUE} != 'q'", "q", False),
        (f"int({_VALUE}) > 3", 4, True),
        (f"int({_VALUE}) >= 3", 2.0, False),
        (f"{_VALUE} > 0.5", 0.9, True),
        (f"{_VALUE} == true", True, True),
        (f"{_VALUE} == 1", True, False),  # True == 1 in Python
        (f"{_VALUE} == '1'", 1, False),
        (f"{_VALUE} == 1.0", 1, True),
        (f"!({_VALUE} == 'a') && {_VALUE} == 'b'", "b", True),
        (f"!({_VALUE} == 'a') && !({_VALUE} == 'b')", "b", False),
        (f"{_VALUE} == 'a' || {_VALUE} == 'b'", "b", True),
        (f"{_VALUE} == 'it\\'s'", "it's", True),
        (f"{_VALUE} == -1", -1, True),
        (f"{_VALUE} == ''", "", True),
        (f"{_VALUE} <= 'b'", "a", True),
        (f"{_VALUE} == '&&'", "&&", True),
        (f'{_VALUE} == "or"', "or", True),
        ("true", None, True),
    ],
)
def test_conditions(expression: str, x: Any, expected: bool) -> None:
    assert cel.condition(expression, {"x": x}) is expected


@pytest.mark.parametrize(
    "expression",
    [
        f"{_VALUE} != 'it's'",  # what kfp 2.17 compiles `!= "it's"` to
        f"{_VALUE} > 1",  # text and number have no order
        "inputs.parameter_values['absent'] == 1",
        f"{_VALUE} == ",
        f"({_VALUE} == 'a'",
        f"{_VALUE}",  # text is no truth
        f"int({_VALUE}) == 1",
        f"{_VALUE} && true",
        "__import__('os').system('true')",
        "inputs.__class__",
        "open('x')",
        "",
        "1 ==" * 10_000,
        "!" * 10_000 + "true",
        "(" * 10_000 + "true" + ")" * 10_000,
    ],
)
def test_what_cannot_be_evaluated_is_said_and_never_false(expression: str) -> None:
    with pytest.raises(cel.ExpressionError):
        cel.condition(expression, {"x": "text"})


@given(st.text())
def test_nothing_but_an_answer_or_a_sentence(expression: str) -> None:
    with contextlib.suppress(cel.ExpressionError):
        assert isinstance(cel.condition(expression, {"x": 1}), bool)


@given(st.text(), st.text())
def test_a_value_is_never_read_as_a_program(x: str, y: str) -> None:
    assert cel.condition(
        "inputs.parameter_values['x'] == inputs.parameter_values['y']", {"x": x, "y": y}
    ) == (x == y)


def test_selectors() -> None:
    assert cel.select('parseJson(string_value)["a"]', {"a": 1, "b": 2}) == 1
    assert cel.select('parseJson(string_value)["a"]', '{"a": [1, 2]}') == [1, 2]
    assert cel.select('struct_value["a"]["b"]', {"a": {"b": "c"}}) == "c"
    with pytest.raises(cel.ExpressionError, match="there is no 'b'"):
        cel.select('parseJson(string_value)["b"]', {"a": 1})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("as it is", "as it is"),
        (True, "true"),
        (3, "3"),
        (3.0, "3"),
        (0.1, "0.1"),
        (1e-7, "0.0000001"),  # Python would say 1e-07
        (1e21, "1000000000000000000000"),
        ([1, "a"], '[1,"a"]'),
        ({"a": None}, '{"a":null}'),
    ],
)
def test_text_of_a_value_is_go_s(value: Any, text: str) -> None:
    assert cel.text(value) == text
