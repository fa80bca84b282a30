"""What a child says arrives whole, without secrets, and memory stays bounded."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_tools import output
from ci_tools.errors import WriteError
from ci_tools.output import Kept, Log, Output


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(edges)]


def told(data: list[bytes], *secrets: str) -> list[str]:
    lines: list[str] = []
    with Output(None, lines.append, secrets) as one:
        for piece in data:
            one.feed(piece)
        one.end()
    return lines


@given(st.text(), st.lists(st.integers(0, 200)))
def test_cut_anywhere_it_is_the_same(text: str, cuts: list[int]) -> None:
    data = text.encode()
    lines: list[str] = []
    with Output(None, lines.append, []) as one:
        for piece in pieces(data, cuts):
            one.feed(piece)
        one.end()
    assert one.text == text
    expected = text.split("\n")
    last = expected.pop()
    assert lines == [line.removesuffix("\r") for line in expected] + ([last] if last else [])


@given(
    st.lists(st.sampled_from(["hunter2", "hunter22", "x", "\n", "hunt", "\r", "é"]), max_size=30),
    st.lists(st.integers(0, 200)),
)
def test_a_secret_is_blanked_wherever_it_is_cut(words: list[str], cuts: list[int]) -> None:
    text = "".join(words)
    lines = told(pieces(text.encode(), cuts), "hunter2", "hunter22")
    assert not any("hunter2" in line for line in lines)
    assert "\n".join(lines).count("***") == text.count("hunter2")


def test_the_longer_of_two_secrets_leaves_no_end() -> None:
    assert told([b"ab abcd\n"], "ab", "abcd") == ["*** ***"]


def test_each_line_of_a_secret_with_several() -> None:
    secret = "-----BEGIN KEY-----\nc2VjcmV0LXNlY3JldA==\n"
    assert told([f"a\n{secret}b\n".encode()], secret) == ["a", "***", "***", "b"]


@pytest.mark.parametrize("before", [0, 1, output.LINE - 3, output.LINE, output.LINE + 5])
def test_a_secret_where_a_long_line_is_broken(before: int) -> None:
    data = b"x" * before + b"hunter2" + b"y" * output.LINE * 3
    for size in (4096, len(data)):
        lines = told([data[at : at + size] for at in range(0, len(data), size)], "hunter2")
        assert len(lines) > 2
        assert max(map(len, lines)) <= output.LINE + 7
        assert "".join(lines) == "x" * before + "***" + "y" * output.LINE * 3


def test_a_progress_bar_does_not_grow() -> None:
    lines = output.Lines(str, 0)
    for number in range(100_000):
        assert list(lines.feed(f"\r{number:>7} of many")) == []
        assert len(lines._pending) <= output.REDRAWN + 20
    assert list(lines.feed("\r\n"))[-1].endswith("  99999 of many")


def test_memory_keeps_both_ends_and_the_log_has_all(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Output(log, None, []) as one:
        for number in range(400_000):
            one.feed(b"%d\n" % number)
        one.end()
    assert log.read_text() == "".join(f"{number}\n" for number in range(400_000))
    assert one.text.startswith("0\n1\n2\n")
    assert one.text.endswith("399998\n399999\n")
    assert "characters are left out here" in one.text
    assert output.HEAD + output.TAIL < len(one.text) < output.HEAD + output.TAIL + 100


@given(st.lists(st.text(max_size=50)), st.integers(1, 40), st.integers(1, 40))
def test_head_and_tail(texts: list[str], head: int, tail: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "HEAD", head)
        patch.setattr(output, "TAIL", tail)
        kept, whole = Kept(), "".join(texts)
        for text in texts:
            kept.add(text)
        if len(whole) <= head + tail:
            assert kept.text == whole
        else:
            assert kept.text == (
                whole[:head]
                + f"\n[{len(whole) - head - tail} characters are left out here; "
                + "the log has them]\n"
                + whole[-tail:]
            )


def test_a_log_shows_a_name_that_is_no_text(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    log.write("a\udcffb")
    log.close()
    assert (tmp_path / "log").read_bytes() == rb"a\udcffb"


def test_a_log_on_a_full_disk(tmp_path: Path) -> None:
    log = Log(Path("/dev/full"))
    with pytest.raises(WriteError, match="No space left"):
        log.write("x")
    log.close()
