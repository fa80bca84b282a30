"""Names, tags and descriptions of pipelines: pure, whatever branches are called."""

from __future__ import annotations

import re
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_tools.documents import Source
from ci_tools.errors import ConfigError, UploadConflictError
from ci_tools.kubeflow import branches, names, wanted
from ci_tools.kubeflow.branches import Mark

PIPELINES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", fullmatch=True)
# As git gives them: anything, undecodable bytes as surrogates, but no NUL.
BRANCHES = st.text(st.characters(exclude_characters="\0"))


def mark(pipeline: str = "training", **keywords: Any) -> Mark:
    return Mark(project="ml", origin="host/team/ml", pipeline=pipeline, **keywords)


@given(PIPELINES, BRANCHES, st.none() | st.text())
def test_a_branchs_name_is_taken_by_the_server(
    pipeline: str, branch: str, change: str | None
) -> None:
    name = branches.name_of(mark(pipeline, branch=branch, change=change))
    names.check_names(name, "v")
    assert re.search(r"--[a-z0-9]+(-[a-z0-9]+)*$", name)
    if len(name) < names.PIPELINE_NAME_LIMIT:
        assert name.startswith(f"{pipeline}--")


KINDS = st.tuples(st.just("branch"), BRANCHES) | st.tuples(st.just("change"), st.text())


@given(PIPELINES, KINDS, KINDS)
def test_no_two_branches_share_a_name(
    pipeline: str, one: tuple[str, str], two: tuple[str, str]
) -> None:
    found = {branches.name_of(mark(pipeline, **{kind: value})) for kind, value in (one, two)}
    assert len(found) == len({one, two})
    assert pipeline not in found


def test_names_that_can_be_read() -> None:
    assert branches.name_of(mark()) == "training"
    assert branches.name_of(mark(change="12", branch="x")) == "training--pr-12"
    name = branches.name_of(mark(branch="feature/Größe x"))
    assert re.fullmatch(r"training--feature-gr-e-x-[0-9a-f]{8}", name)


@pytest.mark.parametrize("like", ["pr-12", "PR-12", "main", "", "-", "../..", "$(id)", "a" * 300])
def test_a_branch_is_not_the_pull_request_it_is_called_like(like: str) -> None:
    taken = {branches.name_of(mark()), branches.name_of(mark(change="12"))}
    assert branches.name_of(mark(branch=like)) not in taken


@given(st.text(), BRANCHES, st.none() | st.text(), st.booleans())
def test_the_mark_comes_back(description: str, branch: str, change: str | None, fork: bool) -> None:
    one = mark(branch=branch, change=change, fork=fork)
    text = branches.written(description, one)
    assert branches.read(text) == one
    assert text.rpartition("\n")[2].isascii()


def test_only_the_last_line_is_a_mark() -> None:
    """The rest of a description is whoever's wrote the pipeline."""
    forged = branches.written("", mark(branch="gone"))
    assert branches.read(forged) is not None
    assert branches.read(branches.written(forged, mark())) == mark()
    assert branches.read(f"{forged}\nand more") is None


@given(st.text() | st.text().map(lambda text: f"kfp-ci: {text}"))
def test_what_is_no_mark_is_none(text: str) -> None:
    assert branches.read(text) is None


@pytest.mark.parametrize(
    "text",
    ["kfp-ci: " + "[" * 100_000, 'kfp-ci: {"project": 1}', "kfp-ci: {}", "kfp-ci: null", None, ""],
)
def test_a_damaged_mark_is_none(text: str | None) -> None:
    assert branches.read(text) is None


@pytest.mark.parametrize(
    ("origin", "place"),
    [
        ("https://user:secret@host/team/ml.git", "host/team/ml"),
        ("https://host/team/ml", "host/team/ml"),
        ("ssh://git@host/team/ml.git/", "host/team/ml"),
        ("git@host:team/ml.git", "host/team/ml"),
        ("host:team/ml", "host/team/ml"),
        ("/srv/ml.git", "/srv/ml"),
        ("https://user:secret@[host/team/ml.git", "[host/team/ml"),
        (None, ""),
    ],
)
def test_one_repository_has_one_place(origin: str | None, place: str) -> None:
    assert branches.place(origin) == place


@pytest.mark.parametrize(
    ("found", "asked", "fits"),
    [
        (None, None, True),
        (None, mark(), True),
        (mark(), None, True),
        (mark(), Mark(project="renamed", origin="", pipeline="training"), True),
        (mark(branch="a"), mark(branch="a"), True),
        (mark(change="1", branch="a"), mark(change="1", branch="b", fork=True), True),
        (mark(branch="a"), mark(), False),
        (mark(branch="a"), None, False),
        (None, mark(branch="a"), False),
        (mark(), mark(branch="a"), False),
        (mark(branch="a"), mark(branch="b"), False),
        (mark("one", branch="a"), mark("two", branch="a"), False),
    ],
)
def test_whose_pipeline_it_is(found: Mark | None, asked: Mark | None, fits: bool) -> None:
    if fits:
        branches.check("p", found, asked)
    else:
        with pytest.raises(UploadConflictError, match="'p'"):
            branches.check("p", found, asked)


@pytest.mark.parametrize(
    ("one", "gone"),
    [
        (mark(branch="there"), False),
        (mark(branch="away"), True),
        (mark(branch=""), False),
        (mark(), False),
        (mark(change="1", branch="there"), False),
        (mark(change="1", branch="away"), True),
        (mark(change="1", branch="away", fork=True), False),
        (mark(change="1"), False),
        (mark(change="7", branch="there"), True),
        (mark(change="7", branch="main", fork=True), True),
    ],
)
def test_which_branches_are_gone(one: Mark, gone: bool) -> None:
    why = branches.gone(one, {"main", "there"}, {"7"})
    assert (why is not None) == gone
    assert branches.kept(one)


SOURCES = st.builds(
    Source,
    commit=st.none() | st.text(string.hexdigits, min_size=40, max_size=64),
    branch=st.none() | BRANCHES,
    dirty=st.booleans(),
)
SHA256 = st.text("0123456789abcdef", min_size=64, max_size=64)


@given(SOURCES, SHA256, st.text(), st.text(), st.dictionaries(st.sampled_from("abc"), st.text()))
def test_tags_are_taken_by_the_server(
    source: Source, sha256: str, project: str, build: str, marks: dict[str, str]
) -> None:
    tags = wanted.tags_of(project, source, sha256, lock=sha256, build=build, marks=marks)
    wanted.check_tags(tags)
    assert all(re.fullmatch(r"[ -~]{1,63}", value) for value in tags.values())
    assert tags["ir"] == tags["lock"] == sha256[:32]


@given(BRANCHES, BRANCHES)
def test_tags_of_two_values_are_two(one: str, two: str) -> None:
    assert (wanted.fitted(one) == wanted.fitted(two)) == (one == two)


def test_what_the_tags_say() -> None:
    source = Source(commit="c" * 40, branch="main", dirty=True)
    url = "https://jenkins.example.org/job/" + "folder/job/" * 10
    tags = wanted.tags_of("ml", source, "a" * 64, lock="b" * 64, build=url, marks={"unpinned": "x"})
    assert tags == {
        "project": "ml",
        "commit": "c" * 40,
        "branch": "main",
        "dirty": "true",
        "ir": "a" * 32,
        "lock": "b" * 32,
        "unpinned": "x",
    }
    told = wanted.described("Trains.\n", source, "a" * 64, lock="b" * 64, build=url)
    assert told.startswith("Trains.\n\ncommit " + "c" * 40 + " of main with changes")
    assert {url, "a" * 64, "b" * 64} <= set(told.split())
    assert wanted.tags_of("ml", source, "a" * 64, lock="", build="https://j/1", marks={})["build"]


def test_a_long_docstring_does_not_make_a_long_url() -> None:
    told = wanted.described("é" * 10_000, Source(), "a" * 64, lock="", build="")
    assert len(told) < 800
    assert "a" * 64 in told


@pytest.mark.parametrize(
    "tags",
    [{"a.b": "x"}, {"": "x"}, {"k" * 64: "x"}, {"k": "x" * 64}, {str(n): "x" for n in range(21)}],
)
def test_tags_that_the_server_refuses(tags: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="tags"):
        wanted.check_tags(tags)


@given(SOURCES, SHA256)
def test_a_versions_name_ends_with_its_hash(source: Source, sha256: str) -> None:
    name = names.version_name(source, sha256)
    names.check_names("p", name)
    assert name.endswith(names.ending(sha256))
    assert len(wanted.display_name_of(source)) <= 127
