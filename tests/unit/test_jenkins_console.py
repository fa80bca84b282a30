"""A console as it comes: bytes into lines that harm nobody, and the stages in them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_tools.errors import JenkinsError
from ci_tools.jenkins import builds, console
from ci_tools.jenkins.connection import Connection
from ci_tools.jenkins.credentials import Credentials
from ci_tools.jenkins.marks import Mark, Marks
from tests.fakes.jenkins import FakeJenkins, Play, Request, Response, page

TEXT = "Started\nclär 日本 🎉\n\nno end"


def followed(
    fake: FakeJenkins, pieces: list[bytes], *, to_the_end: bool = True, result: str = "SUCCESS"
) -> list[str]:
    job = fake.add("ml", Play(result, console=pieces))
    fake.leave(fake.put(job, "ci", {}))
    connection = Connection(fake.url, Credentials("ci", "11fake0token", "test"), lambda _: None)
    found = builds.find(connection, "ml", None)
    batches = console.follow(connection, found, 1, to_the_end=to_the_end)
    return [line for lines in batches for line in lines]


def test_characters_that_are_cut_in_two(jenkins: FakeJenkins) -> None:
    bytes_ = [bytes([it]) for it in TEXT.encode()]
    assert followed(jenkins, bytes_) == TEXT.split("\n")


def test_bytes_that_are_no_text(jenkins: FakeJenkins) -> None:
    assert followed(jenkins, [b"a\xff\n", b"b\xc3"]) == ["a\ufffd", "b\ufffd"]


def test_what_there_is_by_now(jenkins: FakeJenkins) -> None:
    assert followed(jenkins, [b"one\ntw", b"o\n"], to_the_end=False) == ["one", "tw"]


def test_a_restart_loses_and_repeats_nothing(jenkins: FakeJenkins) -> None:
    jenkins.restart_at = 2
    pieces = [b"one\n", b"two\n", b"three\n", b"four\n"]
    assert followed(jenkins, pieces) == ["one", "two", "three", "four"]
    assert jenkins.restarts == 1


def test_nothing_new_for_a_while(jenkins: FakeJenkins) -> None:
    assert followed(jenkins, [b"one\n", b"", b"", b"two\n"]) == ["one", "two"]


def scripted(jenkins: FakeJenkins, answers: dict[str, list[Response]]) -> None:
    """start -> its answers, one after the other."""

    def answer(request: Request, _: Any) -> Response:
        return answers[request.query["start"]].pop(0)

    jenkins.route("GET", r"/job/ml/1/logText/progressiveText", answer)


def test_where_it_goes_on_is_the_size_that_is_told(jenkins: FakeJenkins) -> None:
    """Notes are left out of the text, and counted in its size."""
    scripted(jenkins, {
        "0": [Response(200, {"X-Text-Size": "100", "X-More-Data": "true"}, b"one\n")],
        "100": [Response(200, {"X-Text-Size": "104"}, b"two\n")],
    })  # fmt: skip
    assert followed(jenkins, []) == ["one", "two"]


def test_a_console_that_became_shorter_starts_again(jenkins: FakeJenkins) -> None:
    scripted(jenkins, {
        "0": [Response(200, {"X-Text-Size": "9", "X-More-Data": "true"}, b"one\nhal")],
        "9": [Response(200, {"X-Text-Size": "4", "X-More-Data": "true"}, b"new\n")],
        "4": [Response(200, {"X-Text-Size": "8"}, b"end\n")],
    })  # fmt: skip
    assert followed(jenkins, []) == ["one", "hal", "new", "end"]


@pytest.mark.parametrize("size", [None, "", "-1", "\u0663", "9" * 5000])
def test_a_console_without_a_size(jenkins: FakeJenkins, size: str | None) -> None:
    told = {} if size is None else {"X-Text-Size": size.encode().decode("latin-1")}
    scripted(jenkins, {"0": [Response(200, {"X-More-Data": "true", **told}, b"one\n")]})
    with pytest.raises(JenkinsError, match="no size"):
        followed(jenkins, [])


def test_a_build_that_is_deleted_meanwhile(jenkins: FakeJenkins) -> None:
    scripted(jenkins, {
        "0": [Response(200, {"X-Text-Size": "4", "X-More-Data": "true"}, b"one\n")],
        "4": [page("a fake that has it no more", 404)],
    })  # fmt: skip
    with pytest.raises(JenkinsError, match="'ml' has no build 1, or we may not see it"):
        followed(jenkins, [])


def test_a_connection_that_breaks_in_the_middle(
    jenkins: FakeJenkins, monkeypatch: pytest.MonkeyPatch
) -> None:
    import requests

    real, broken = console._content, [3, 5]

    def breaking(answer: requests.Response) -> Any:
        text = b"".join(real(answer))
        if broken:
            yield text[: broken.pop(0)]
            raise console.Away("a fake hung up", "")
        yield text

    monkeypatch.setattr(console, "_content", breaking)
    assert followed(jenkins, ["eins\nzwölf\n".encode()]) == ["eins", "zwölf"]


def test_a_console_that_grew_after_the_connection_broke(jenkins: FakeJenkins) -> None:
    """What came with the second answer is not asked for again."""
    broken = Response(
        200, {"X-Text-Size": "8", "X-More-Data": "true", "Content-Length": "8"}, b"one\n"
    )
    more = Response(200, {"X-Text-Size": "12", "X-More-Data": "true"}, b"one\ntwo\nten\n")
    scripted(jenkins, {
        "0": [broken, more],
        "8": [Response(200, {"X-Text-Size": "16"}, b"ten\nend\n")],
        "12": [Response(200, {"X-Text-Size": "16"}, b"end\n")],
    })  # fmt: skip
    assert followed(jenkins, []) == ["one", "two", "ten", "end"]


def test_a_line_without_an_end_is_broken() -> None:
    lines = console.Lines()
    long = "x" * (2 * console.LONGEST + 5)
    assert [len(it) for it in lines.feed(long)] == [console.LONGEST] * 2
    assert lines.end() == ["xxxxx"]


# Harmless --------------------------------------------------------------------------

ESC = "\x1b"


@pytest.mark.parametrize(
    ("line", "plain", "coloured"),
    [
        ("plain\ttext", "plain\ttext", "plain\ttext"),
        (f"{ESC}[31mred{ESC}[0m", "red", f"{ESC}[31mred{ESC}[0m{ESC}[0m"),
        (f"{ESC}[1;38;5;8mgrey", "grey", f"{ESC}[1;38;5;8mgrey{ESC}[0m"),
        (f"{ESC}[8mhidden", "hidden", "hidden"),
        (f"{ESC}[0;08mhidden", "hidden", "hidden"),
        (f"{ESC}[2J{ESC}[H{ESC}]0;title\x07{ESC}]52;c;ZXZpbA=={ESC}\\x", "x", "x"),
        (f"{ESC}[8mha:////4Lm+x=={ESC}[0m[Pipeline] stage", "[Pipeline] stage", "[Pipeline] stage"),
        ("10%\r50%\r100%", "100%", "100%"),
        ("done\r", "done", "done"),
        ("a\x08\x00\x7f\u202eb", "a\\x08\\x00\\x7f\\u202eb", "a\\x08\\x00\\x7f\\u202eb"),
        (f"{ESC}Pq#0{ESC}\\", "q#0", "q#0"),
        (f"half {ESC}[", "half \\x1b[", "half \\x1b["),
        ("\x9b2J", "\\x9b2J", "\\x9b2J"),
    ],
)
def test_what_a_terminal_is_given(line: str, plain: str, coloured: str) -> None:
    assert console.harmless(line) == plain
    assert console.harmless(line, colours=True) == coloured


@given(st.text(alphabet=st.sampled_from("\x1b\x9b[]m;0123489JHab\r\x07\\\x08\t\u202e")))
@settings(max_examples=300)
def test_no_control_character_is_left(line: str) -> None:
    assert all(it.isprintable() or it == "\t" for it in console.harmless(line))
    left = console.harmless(line, colours=True)
    assert all(it.isprintable() or it == "\t" for it in console._COLOUR.sub("", left))


# Stages ----------------------------------------------------------------------------


def marks(text: str, *, now: list[float] | None = None) -> list[Mark]:
    made, found = Marks(), []
    for at, line in enumerate(text.strip().splitlines()):
        found += made.line(line.strip(), now[at] if now else None)
    return found


def test_stages_with_their_times() -> None:
    found = marks(
        """[Pipeline] stage
        [Pipeline] { (Plan)
        [Pipeline] node
        [Pipeline] {
        + echo '[Pipeline] // stage'
        [Pipeline] }
        [Pipeline] // node
        [Pipeline] }
        [Pipeline] // stage
        [Pipeline] stage
        [Pipeline] { (Build (2))""",
        now=[float(it) for it in range(11)],
    )
    assert found == [Mark("Plan", True), Mark("Plan", False, 7.0), Mark("Build (2)", True)]


def test_time_stamps_count_for_more_than_our_clock() -> None:
    found = marks(
        """[2026-11-26T08:00:00.000Z] [Pipeline] stage
        [2026-11-26T08:00:00.250Z] [Pipeline] { (Plan)
        [2026-11-26T08:01:00.250Z] [Pipeline] // stage""",
        now=[5.0, 5.0, 5.0],
    )
    assert found == [Mark("Plan", True), Mark("Plan", False, 60.0)]


def test_no_times_where_nobody_knows_them() -> None:
    found = marks("[Pipeline] stage\n[Pipeline] { (Plan)\n[Pipeline] // stage")
    assert found == [Mark("Plan", True), Mark("Plan", False, None)]


def test_a_stage_that_is_skipped() -> None:
    found = marks(
        """[Pipeline] stage
        [Pipeline] { (Deploy)
        Stage "Deploy" skipped due to when conditional
        [Pipeline] }
        [Pipeline] // stage"""
    )
    assert found[1] == Mark("Deploy", False, None, True)


def test_branches_that_write_as_they_come() -> None:
    found = marks(
        """[Pipeline] stage
        [Pipeline] { (Build)
        [Pipeline] parallel
        [Pipeline] { (Branch: shard 1/2)
        [Pipeline] { (Branch: shard 2/2)
        [Pipeline] stage
        [Pipeline] { (one)
        [Pipeline] stage
        [Pipeline] { (two)
        [Pipeline] // stage
        [Pipeline] // stage
        [Pipeline] // parallel
        [Pipeline] // stage""",
        now=[float(it) for it in range(13)],
    )
    began = [it.name for it in found if it.began]
    assert began == ["Build", "shard 1/2", "shard 2/2", "one", "two"]
    # Which of the two ended first, nobody can tell.
    ended = [it for it in found if not it.began]
    assert ended == [Mark("one", False), Mark("two", False), Mark("Build", False, 11.0)]


def test_one_stage_in_a_branch_ends_for_certain() -> None:
    found = marks(
        """[Pipeline] parallel
        [Pipeline] stage
        [Pipeline] { (one)
        [Pipeline] // stage
        [Pipeline] // parallel""",
        now=[0.0, 1.0, 2.0, 3.0, 4.0],
    )
    assert found == [Mark("one", True), Mark("one", False, 1.0)]


@given(
    st.lists(
        st.sampled_from(
            "[Pipeline] stage|[Pipeline] // stage|[Pipeline] { (x)|[Pipeline] parallel|"
            "[Pipeline] // parallel|[Pipeline] { (Branch: y)|[2026-99-99T1Z] [Pipeline] stage|"
            '[Pipeline] {|Stage "x" skipped due to when|noise'.split("|")
        ),
        max_size=40,
    )
)
def test_no_stage_ends_that_never_began(lines: list[str]) -> None:
    found = marks("\n".join(lines))
    began = sum(it.began and it.name in ("x", "Branch: y") for it in found)
    assert sum(not it.began for it in found) <= began
