"""Canonical JSON: RFC 8785's own examples, and what must hold of any content."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_tools.release import canonical

# RFC 8785, appendix B: the bits of a double -> how it is written.
NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=20,
)  # fmt: skip


@pytest.mark.parametrize("bits", NUMBERS)
def test_numbers_are_written_as_the_rfc_has_them(bits: str) -> None:
    value = struct.unpack(">d", bytes.fromhex(bits))[0]
    assert canonical.number(value) == NUMBERS[bits]


def test_the_example_of_the_rfc() -> None:
    text = r"""{
      "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
      "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
      "literals": [null, true, false]
    }"""
    wanted = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonical.encode(json.loads(text)).decode() == wanted


def test_keys_are_in_the_order_of_their_utf_16() -> None:
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    written = json.loads(canonical.encode(dict.fromkeys(keys)))
    assert list(written) == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_itself_again(value: float) -> None:
    assert float(canonical.number(value)) == value


@given(st.integers())
def test_no_digit_of_a_whole_number_is_lost(value: int) -> None:
    assert json.loads(canonical.encode(value)) == value


def _same(value: Any, read: Any) -> bool:
    """A float without a fraction is read as a whole number, whose nearest float it is."""
    if isinstance(value, float):
        return bool(float(read) == value)
    if isinstance(value, list):
        return len(value) == len(read) and all(map(_same, value, read))
    if isinstance(value, dict):
        return value.keys() == read.keys() and all(_same(value[key], read[key]) for key in value)
    return bool(value == read and type(value) is type(read))


@given(JSON)
def test_what_is_read_again_is_equal_and_written_alike(value: Any) -> None:
    content = canonical.encode(value)
    assert _same(value, json.loads(content))
    assert canonical.encode(json.loads(content)) == content


@given(st.dictionaries(TEXTS, JSON))
def test_the_order_of_keys_is_not_content(value: dict[str, Any]) -> None:
    turned = dict(reversed(list(value.items())))
    assert canonical.encode(turned) == canonical.encode(value)


@pytest.mark.parametrize(
    "content",
    [b'{"a": 1}', b'{"b":1,"a":1}', b'{"a":1,"a":1}', b"1.0", b"1e2", b'"\\u0041"', b"1\n"],
)
def test_other_bytes_of_the_same_are_not_canonical(content: bytes) -> None:
    assert canonical.encode(json.loads(content)) != content


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "\ud800", {"\ud800": 1}])
def test_what_json_has_not_is_refused(value: Any) -> None:
    with pytest.raises(ValueError):
        canonical.encode(value)


@pytest.mark.parametrize("value", [b"x", {1: 2}, object(), {1, 2}])
def test_what_is_no_json_data_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        canonical.encode(value)
