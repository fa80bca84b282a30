"""What a Dockerfile builds on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ci_tools.components import dockerfile, stages
from ci_tools.components.stages import Reached
from ci_tools.errors import DockerfileError

DIGEST = "python@sha256:" + "a" * 64
COMMIT = "0123456789" * 4


def reached(
    text: str,
    arguments: dict[str, str] | None = None,
    *targets: str | None,
    platform: str = "linux/amd64",
) -> Reached:
    parsed = dockerfile.parse(text, arguments or {}, shown="train/Dockerfile", platform=platform)
    return stages.reach(parsed.stages, targets or [None], shown="train/Dockerfile")


def build(path: Path) -> None:
    for one in dockerfile.read(path, {}, shown="train/Dockerfile"):
        stages.reach(one.stages, [None], shown="train/Dockerfile")


def images(text: str, *arguments: Any, **options: Any) -> list[str]:
    return list(reached(text, *arguments, **options).images)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("FROM python:3.11", ["python:3.11"]),
        ("from python:3.11 as Build\nFROM build", ["python:3.11"]),
        ("FROM a AS one\nFROM b\nCOPY --from=One /x /x", ["a", "b"]),
        ("FROM a\nFROM b\nCOPY --from=0 /x /x", ["a", "b"]),
        ("FROM a\nCOPY --link --from=tools:1 /x /x", ["a", "tools:1"]),
        ("FROM a\nCOPY --from=scratch /x /x", ["a"]),
        ("FROM a\nADD --from=tools:1 /x /x", ["a", "tools:1"]),
        ("FROM a\nRUN --mount=type=bind,from=tools:1,target=/x ls", ["a", "tools:1"]),
        ('FROM a\nRUN --mount=type=bind,"From=tools:1",target=/x ls', ["a", "tools:1"]),
        ("FROM a\nRUN --mount=from=b --mount=from=c,target=/x ls", ["a", "b", "c"]),
        ("FROM a AS one\nFROM b\nRUN --mount=from=one ls", ["a", "b"]),
        ("FROM a\nRUN --mount=type=cache,target=/x ls", ["a"]),
        ("FROM a\nRUN <<EOF\nFROM b\nCOPY --from=c x y\nEOF\n", ["a"]),
        ("FROM a\nCOPY --from=b <<ONE <<TWO /x/\nFROM c\nONE\nFROM d\nTWO\n", ["a", "b"]),
        ("# escape=`\nFROM a\nRUN x `\n FROM b\n", ["a"]),
        ("FROM a\r\nRUN x \\\r\n FROM b\r\n", ["a"]),
        ("\ufeffFROM a\n", ["a"]),
        ("\ufeff# escape=`\nARG A=x\nFROM `$A$A\n", ["$Ax"]),
        ("FROM scratch\nCOPY x /", []),
        ("FROM --platform=$BUILDPLATFORM a AS x\nFROM scratch\nCOPY --from=x / /", ["a"]),
        ("FROM a-${TARGETARCH}", ["a-amd64"]),
        (f"FROM {DIGEST}", [DIGEST]),
        ("FROM a AS x\n# FROM b\nFROM x", ["a"]),
        ('FROM "a:1"', ["a:1"]),
        # A stage is built on the nearest of that name, and copies from the last.
        ("FROM a AS x\nFROM x AS x\nFROM x", ["a"]),
        ("FROM a AS x\nFROM b AS x\nFROM scratch\nCOPY --from=x / /", ["b"]),
        # ONBUILD happens where the stage is built on, not where it is written.
        ("FROM a AS x\nONBUILD COPY --from=b / /\nFROM x", ["a", "b"]),
        ("FROM a AS x\nONBUILD RUN --mount=from=b x\nFROM x", ["a", "b"]),
        ("FROM a AS x\nONBUILD RUN <<EOF\nFROM b\nEOF\nFROM x", ["a"]),
        ("FROM a\nONBUILD COPY --from=b / /", ["a"]),
        ("# escape=`\nFROM a AS x\nONBUILD COPY `\r\n --from=b / /\r\nFROM x", ["a", "b"]),
        ("FROM a AS x\nONBUILD COPY --from=b / /\nFROM x AS y\nFROM y", ["a", "b"]),
    ],
)  # fmt: skip
def test_images_it_reads_from(text: str, wanted: list[str]) -> None:
    assert images(text) == wanted


UNREACHED = "FROM a AS one\nFROM b AS two\nCOPY --from=c / /\nFROM one AS test\nFROM {}\n"


def test_what_is_not_reached_does_not_count() -> None:
    assert images(UNREACHED.format("scratch")) == []
    assert images(UNREACHED.format("one")) == ["a"]
    assert images(UNREACHED.format("two")) == ["b", "c"]
    assert images(UNREACHED.format("scratch"), {}, "TWO") == ["b", "c"]
    assert images(UNREACHED.format("scratch"), {}, None, "test") == ["a"]
    assert images(UNREACHED.format("two"), {}, None, "test") == ["a", "b", "c"]


def test_what_is_not_reached_may_be_wrong() -> None:
    text = "FROM a AS one\nCOPY --from=last / /\nRUN --mount=from=7 x\nFROM b AS last\n"
    assert images(text) == ["b"]
    with pytest.raises(DockerfileError, match="line 2: the stage 'last' is read before"):
        images(text, {}, "one")


@pytest.mark.parametrize(
    ("platform", "wanted"),
    [
        ("linux/amd64", ["b:amd64-", "x:amd64"]),
        ("linux/arm64", ["only:arm", "x:amd64"]),
        ("linux/arm/v7", ["b:arm-v7", "x:amd64"]),
    ],
)
def test_each_platform_reads_its_own(platform: str, wanted: list[str]) -> None:
    text = (
        "FROM b:$TARGETARCH-$TARGETVARIANT AS on-amd64\n"
        "FROM b:$TARGETARCH-$TARGETVARIANT AS on-arm\n"
        "FROM only:arm AS on-arm64\nFROM --platform=$BUILDPLATFORM x:$BUILDARCH AS tool\n"
        "FROM on-$TARGETARCH\nCOPY --from=tool / /\n"
    )  # fmt: skip
    assert images(text, platform=platform) == wanted


def test_arguments_that_are_declared() -> None:
    text = (
        "ARG A\nARG B=1 C\nFROM a AS one\nARG D\n"
        "FROM b AS two\nARG E=$D F\nONBUILD ARG G\nFROM two\n"
    )
    assert dockerfile.parse(text, {}).arguments == {"A", "B", "C"}
    assert reached(text).arguments == {"E", "F", "G"}
    assert reached(text, {}, "one").arguments == {"D"}
    assert reached("FROM a\nRUN <<EOF\nARG X\nEOF\n").arguments == set()


@pytest.mark.parametrize(
    ("add", "told"),
    [
        ("https://h/x.tgz /", ["https://h/x.tgz"]),
        ('["http://h/x y", "https://h/z", "/d/"]', ["http://h/x y", "https://h/z"]),
        ("--checksum=sha256:ab https://h/x.tgz /", []),
        ("https://h/$V.tgz /", ["https://h/$V.tgz"]),
        ("git@h:o/r.git#main /", ["git@h:o/r.git#main"]),
        ("https://h/o/r.git#v1:sub /", ["https://h/o/r.git#v1:sub"]),
        (f"https://h/o/r.git#{COMMIT}:sub /", []),
        (f"git://h/o/r?commit={COMMIT} /", []),
        (f"https://h/{COMMIT}/x.tgz /", [f"https://h/{COMMIT}/x.tgz"]),
        ("local.tgz /", []),
    ],
)
def test_content_that_nothing_fixes(add: str, told: list[str]) -> None:
    assert list(reached(f"FROM a\nADD {add}\n").remotes) == told
    assert reached(f"FROM a AS x\nADD {add}\nFROM scratch\n").remotes == ()


@pytest.mark.parametrize(
    ("text", "image"),
    [
        ("# syntax=docker/dockerfile:1\nFROM a", "docker/dockerfile:1"),
        ("#SYNTAX = x\nFROM a", "x"),
        ("#syntax=x more words  \r\nFROM a", "x"),
        ("# escape=`\n# syntax=x\nFROM a", "x"),
        ("# check=skip=all\n# syntax=x\nFROM a", "x"),
        ("\ufeff# syntax=x\nFROM a", "x"),
        ("#!/usr/bin/env x\n# syntax=x\nFROM a", "x"),
        ("# a comment\n# syntax=x\nFROM a", None),
        ("\n# syntax=x\nFROM a", None),
        (" # syntax=x\nFROM a", None),
        ("# other=1\n# syntax=x\nFROM a", None),
        ("# syntax=\nFROM a", None),
        ("FROM a\n# syntax=x", None),
        ("FROM a", None),
    ],
)
def test_the_frontend(text: str, image: str | None) -> None:
    assert dockerfile.parse(text, {}).syntax == image


@pytest.mark.parametrize(
    "text", ["// syntax=x\nm()", "//Syntax = x y\n", '{"syntax": "x", "y": {}}', ' {"syntax": "x"}']
)
def test_a_frontend_of_another_language_is_told(text: str) -> None:
    with pytest.raises(DockerfileError, match="whatever its frontend x reads too"):
        dockerfile.parse(text, {})


@pytest.mark.parametrize(
    ("text", "arguments", "image"),
    [
        ("ARG V=3.11\nFROM python:$V", {}, "python:3.11"),
        ("ARG V=3.11\nFROM python:${V}-slim", {"V": "3.12"}, "python:3.12-slim"),
        ("ARG V\nFROM python:${V:-3.10}", {}, "python:3.10"),
        ("ARG V\nFROM python:${V:-3.10}", {"V": "3.9"}, "python:3.9"),
        ("ARG V=\nFROM python${V:-:3.10}", {}, "python:3.10"),
        ("ARG V=\nFROM python${V-:3.10}", {}, "python"),
        ("FROM python${V-:3.10}", {"V": "1"}, "python:3.10"),  # not declared
        ("ARG V=1\nFROM python${V:+:slim}", {}, "python:slim"),
        ("FROM python${V:+:slim}", {}, "python"),
        ('ARG V="3.11"\nFROM python:$V', {}, "python:3.11"),
        ("ARG A=3 B=$A.11\nFROM python:$B", {}, "python:3.11"),
        ("ARG A=3\nARG B=${A}.11\nFROM python:$B", {"A": "2"}, "python:2.11"),
        ("ARG A=3\nFROM ${B:-python:${A:-2}}-x", {}, "python:3-x"),
        ("ARG A=python\nFROM ${A:-${B}}", {}, "python"),
        ("ARG A='$B' B=1\nFROM x:a$B", {}, "x:a1"),
        ("ARG A=1\nARG A\nFROM x:$A", {}, "x:1"),
        ("ARG A=1\nARG A=${A}2\nFROM x:$A", {}, "x:12"),
        ("ARG A=1\nARG A=${A}2\nFROM x:$A", {"A": "3"}, "x:3"),
        ("FROM x:${TARGETARCH}", {"TARGETARCH": "s390x"}, "x:s390x"),
        ("ARG A=$TARGETARCH\nFROM x:$A", {}, "x:amd64"),
        ("ARG V=reg/path/x:1\nFROM ${V#*/}", {}, "path/x:1"),
        ("ARG V=reg/path/x:1\nFROM ${V##*/}", {}, "x:1"),
        ("ARG V=x:1.2.3\nFROM ${V%.*}", {}, "x:1.2"),
        ("ARG V=x:1.2.3\nFROM ${V%%.?*}", {}, "x:1"),
        ("ARG V=x:1.2.3\nFROM ${V#nothing}", {}, "x:1.2.3"),
        ("ARG V=x:1.2.3\nFROM ${V/./-}", {}, "x:1-2.3"),
        ("ARG V=x:1.2.3\nFROM ${V//./-}", {}, "x:1-2-3"),
        ("ARG V=a/b:1\nFROM ${V/\\//-}", {}, "a-b:1"),
    ],
)
def test_arguments_before_from(text: str, arguments: dict[str, str], image: str) -> None:
    assert images(text, arguments) == [image]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no instructions"),
        ("# only\n", "no instructions"),
        ("ARG X=1\n", "has no FROM"),
        ("FRO a\n", "line 1: unknown instruction"),
        ("FROM a\nRUN x\nBIND y\n", "line 3: unknown instruction"),
        ("RUN x\nFROM a\n", "line 1: 'RUN' comes before any FROM"),
        ("ARG EMPTY\n\nFROM ${EMPTY}\n", "line 3: 'FROM"),
        ("FROM\n", "line 1: 'FROM' names no image"),
        ("FROM a b c d\n", "line 1"),
        ("FROM a b\n", "line 1"),
        ("FROM --platform=$X a\n", "line 1: 'FROM --platform=$X a' names no platform"),
        ("ARG X=ab\nFROM ${X^b}\n", "line 2: '${X^b}' holds an unknown modifier '^'"),
        ("FROM ${X:?say}\n", "line 1: '${X:?say}' holds X: say"),
        ("FROM ${X\n", "line 1: '${X' holds a ${ that"),
        ("FROM 'x\n", "line 1: ''x' holds a quote that is never closed"),
        ("FROM a\nONBUILD RUN <<EOF\n", "unterminated heredoc"),
        ("FROM a AS two\nFROM two AS x\nFROM two\nCOPY --from=two:latest / /", "stage 'two' has"),
        ("FROM python AS python\nFROM python", "line 1: the stage 'python' has the name"),
        ("FROM library/a AS b\nFROM b AS a", "line 2: the stage 'a' has the name"),
        ("FROM a\nRUN <<EOF\nls\n", "unterminated heredoc"),
        ("FROM a\nCOPY --from=$X a b\n", "line 2: the variable in"),
        ("FROM a\nFROM b AS One\nCOPY --from=ONE x x\n", "line 3: the stage 'ONE' is read"),
        ("FROM a\nCOPY --from=0 x x\n", "line 2: there is no stage 0"),
        ("FROM a\nFROM b\nRUN --mount=from=7 x\n", "line 3: a mount does not know the stage 7"),
    ],
)
def test_what_no_engine_builds_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(text)
    with pytest.raises(DockerfileError) as caught:
        build(path)
    assert said in str(caught.value)
    assert "train/Dockerfile" in caught.value.what


@pytest.mark.parametrize("content", [b"FROM \xff\xfe\n", None])
def test_what_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "Dockerfile"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DockerfileError, match="Dockerfile cannot be read"):
        dockerfile.read(path, {})


def test_stages_are_known_by_their_lower_case_name() -> None:
    parsed = dockerfile.parse("FROM a AS Test\nFROM b", {})
    assert [stage.name for stage in parsed.stages] == ["test", None]
    assert parsed.has_stage("test")
    assert not parsed.has_stage("b")
