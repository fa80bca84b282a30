"""JSON as bytes, in one way only.

It is RFC 8785 ("JSON Canonicalization Scheme"): no spaces, UTF-8, keys in the order
of their UTF-16 code units, numbers as ECMAScript writes them. One thing is other:
a whole number is written with all its digits, also beyond 2**53, where RFC 8785
wants none, for a seed of a training run must not become another one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

# Number::toString of ECMA-262, which RFC 8785 refers to: digits without an exponent
# between those powers of ten.
_LARGEST, _SMALLEST = 21, -6


def encode(value: Any) -> bytes:
    """Plain JSON data as its canonical bytes.

    Raises ValueError for what JSON has not (NaN, infinities, halves of surrogate
    pairs), TypeError for what is no JSON data.
    """
    try:
        return "".join(_pieces(value)).encode()
    except UnicodeEncodeError as error:
        raise ValueError("there is half a surrogate pair in a text") from error


def _pieces(value: Any) -> Iterator[str]:
    if value is None or isinstance(value, bool | str):
        # json escapes what RFC 8785 escapes, and the same way, but for DEL, which
        # neither of them does.
        yield json.dumps(value, ensure_ascii=False)
    elif isinstance(value, int):
        yield str(value)
    elif isinstance(value, float):
        yield number(value)
    elif isinstance(value, list | tuple):
        mark = "["
        for item in value:
            yield mark
            yield from _pieces(item)
            mark = ","
        yield "]" if value else "[]"
    elif isinstance(value, dict):
        mark = "{"
        for key in sorted(value, key=_units):
            yield f"{mark}{json.dumps(key, ensure_ascii=False)}:"
            yield from _pieces(value[key])
            mark = ","
        yield "}" if value else "{}"
    else:
        raise TypeError(f"{type(value).__name__} is no JSON data")


def _units(key: Any) -> bytes:
    if not isinstance(key, str):
        raise TypeError(f"the key {key!r} is no text")
    return key.encode("utf-16-be")


def number(value: float) -> str:
    """A float as ECMAScript writes it: the shortest digits that give it back."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is no number that JSON has")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    # Python finds the same digits, and only sets them otherwise.
    mantissa, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0)  # the decimal point stands after so many digits
    if whole == "0":
        point -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0")
    if len(digits) <= point <= _LARGEST:
        return sign + digits + "0" * (point - len(digits))
    if 0 < point <= _LARGEST:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if _SMALLEST < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    power = f"{point - 1:+d}"
    rest = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{rest}e{power}"
