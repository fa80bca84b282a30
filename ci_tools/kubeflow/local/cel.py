"""The Common Expression Language, as far as kfp's compiler writes it.

Conditions (`int(inputs.parameter_values['n']) > 3 && !(...)`) and selectors
(`parseJson(string_value)["a"]`). The source is the backend's `expression` package:
values of different types are unequal, and to order them is an error. Nothing
is ever passed to Python's `eval`.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>\d+\.\d*(?:[eE][+-]?\d+)?|\.\d+|\d+(?:[eE][+-]?\d+)?)
    | (?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    | (?P<name>[A-Za-z_]\w*)
    | (?P<sign>&&|\|\||==|!=|<=|>=|[<>!()\[\].,+\-*/%])
    )""",
    re.VERBOSE | re.ASCII,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"'}
_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CONSTANTS = {"true": True, "false": False, "null": None}
_DEEPEST = 100  # brackets in brackets; kfp nests one level for each `Elif`


class ExpressionError(ValueError):
    """An expression that Kubeflow could not evaluate either; says why."""


def condition(expression: str, parameters: Mapping[str, Any]) -> bool:
    """Whether a task with these input parameters runs.

    Raises ExpressionError for a syntax error, an unknown parameter and for
    anything but true or false as the result.
    """
    value = _Evaluation(expression, {"inputs": {"parameter_values": dict(parameters)}}).value()
    if not isinstance(value, bool):
        raise ExpressionError(f"the condition {expression} is {value!r}, not true or false")
    return value


def select(expression: str, value: Any) -> Any:
    """A part of an input, as `loop_item.subvar` compiles to. Raises ExpressionError."""
    fields = {"string_value": text(value), "struct_value": value, "list_value": value}
    return _Evaluation(expression, fields).value()


def text(value: Any) -> str:
    """A parameter as Kubeflow's text of it (`PbValueToText`): numbers without an exponent."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _decimal(value)
    if isinstance(value, int):
        return str(value)
    return json.dumps(value, separators=(",", ":"))


def _decimal(value: float) -> str:
    plain = format(Decimal(repr(value)), "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


class _Evaluation:
    """Recursive descent over the tokens; every rule returns a value."""

    def __init__(self, expression: str, names: Mapping[str, Any]) -> None:
        self._expression, self._names = expression, names
        self._tokens = list(self._split(expression))
        self._at = self._depth = 0

    def value(self) -> Any:
        result = self._or()
        if self._at != len(self._tokens):
            raise self._wrong(f"unexpected {self._tokens[self._at][1]!r}")
        return result

    def _split(self, expression: str) -> Iterator[tuple[str, str]]:
        position, end = 0, len(expression.rstrip())
        while position < end:
            match = _TOKEN.match(expression, position)
            if match is None:
                raise self._wrong(f"cannot be read at {expression[position:][:20]!r}")
            yield str(match.lastgroup), match[match.lastgroup or 0]
            position = match.end()

    def _wrong(self, why: str) -> ExpressionError:
        return ExpressionError(f"the expression {self._expression} cannot be evaluated ({why})")

    def _next_is(self, *signs: str) -> str | None:
        if self._at < len(self._tokens) and self._tokens[self._at][1] in signs:
            kind, sign = self._tokens[self._at]
            if kind == "sign":
                self._at += 1
                return sign
        return None

    def _expect(self, sign: str) -> None:
        if not self._next_is(sign):
            raise self._wrong(f"'{sign}' is missing")

    def _or(self) -> Any:
        left = self._and()
        while self._next_is("||"):
            right = self._and()
            left = self._truth(left) or self._truth(right)
        return left

    def _and(self) -> Any:
        left = self._comparison()
        while self._next_is("&&"):
            right = self._comparison()
            left = self._truth(left) and self._truth(right)
        return left

    def _truth(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise self._wrong(f"{value!r} is not true or false")
        return value

    def _comparison(self) -> Any:
        left = self._unary()
        while sign := self._next_is("==", "!=", *_ORDER):
            right = self._unary()
            if sign in ("==", "!="):
                left = _equal(left, right) == (sign == "==")
            elif _kind(left) == _kind(right) and _kind(left) in ("number", "string", "bool"):
                left = _ORDER[sign](left, right)
            else:
                raise self._wrong(f"{left!r} and {right!r} have no order")
        return left

    def _unary(self) -> Any:
        if self._next_is("!"):
            return not self._truth(self._deeper(self._unary))
        if self._next_is("-"):
            value = self._deeper(self._unary)
            if _kind(value) != "number":
                raise self._wrong(f"-{value!r} is no number")
            return -value
        return self._member()

    def _member(self) -> Any:
        value = self._primary()
        while sign := self._next_is("[", "."):
            key = self._nested("]") if sign == "[" else self._token("name")
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError) as error:
                raise self._wrong(f"there is no {key!r}") from error
        return value

    def _token(self, kind: str) -> str:
        if self._at < len(self._tokens) and self._tokens[self._at][0] == kind:
            self._at += 1
            return str(self._tokens[self._at - 1][1])
        raise self._wrong(f"a {kind} is missing")

    def _primary(self) -> Any:
        if self._at == len(self._tokens):
            raise self._wrong("it ends too early")
        kind, token = self._tokens[self._at]
        if self._next_is("("):
            return self._nested(")")
        self._at += 1
        if kind == "number":
            return int(token) if token.isdigit() else float(token)
        if kind == "string":
            return re.sub(r"\\(.)", lambda it: _ESCAPES.get(it[1], it[0]), token[1:-1])
        if kind != "name":
            raise self._wrong(f"unexpected {token!r}")
        if self._next_is("("):
            return self._call(token, self._nested(")"))
        if token in _CONSTANTS:
            return _CONSTANTS[token]
        if token in self._names:
            return self._names[token]
        raise self._wrong(f"there is no {token!r}")

    def _nested(self, end: str) -> Any:
        value = self._deeper(self._or)
        self._expect(end)
        return value

    def _deeper(self, rule: Callable[[], Any]) -> Any:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._wrong("it is nested too deeply")
        value = rule()
        self._depth -= 1
        return value

    def _call(self, name: str, value: Any) -> Any:
        try:
            if name == "int":
                return int(value)
            if name == "double":
                return float(value)
            if name == "string":
                return text(value)
            if name == "size":
                return len(value)
            if name == "parseJson":
                return json.loads(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise self._wrong(f"{name}({value!r}): {error}") from error
        raise self._wrong(f"there is no function {name}")


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    return "string" if isinstance(value, str) else type(value).__name__


def _equal(left: Any, right: Any) -> bool:
    return _kind(left) == _kind(right) and bool(left == right)
