"""JSON of others: one kind of error for all that can be wrong with it."""

from __future__ import annotations

import msgspec
import pytest

from ci_tools import typed
from ci_tools.components import directives
from ci_tools.images.direct import Answer
from ci_tools.images.transport import said

NESTED = "[" * 100_000


class Kind(msgspec.Struct):
    name: str = ""


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"name": 1}',
        b'{"name": "\xff"}',
        f'{{"other": {NESTED}'.encode(),
        '{"name": "\udcff"}',
    ],
)
def test_whatever_is_wrong_is_one_kind_of_error(content: bytes | str) -> None:
    with pytest.raises(msgspec.MsgspecError):
        typed.decode(content, Kind)


def test_what_is_right_is_read() -> None:
    assert typed.decode(b'{"name": "a", "more": 1}', Kind).name == "a"
    assert typed.decode('["a"]', list[str]) == ["a"]


@pytest.mark.parametrize("content", [NESTED.encode(), b'{"errors": "\xff"}', b"<html>", b"{}"])
def test_a_refusal_that_is_no_json_is_told_by_its_status(content: bytes) -> None:
    assert said(Answer(403, {}, content)) == "HTTP 403"


def test_a_dockerfile_that_begins_as_json_without_end_names_no_frontend() -> None:
    assert directives.syntax(f'{{"syntax": {NESTED}') is None
