"""What a Dockerfile builds on."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci_tools.components import dockerfile
from ci_tools.errors import DockerfileError

DIGEST = "python@sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "images"),
    [
        ("FROM python:3.11", ["python:3.11"]),
        ("from python:3.11 as Build\nFROM build", ["python:3.11"]),
        ("FROM a AS one\nFROM ONE AS two\nCOPY --from=Two /x /x", None),
        ("FROM a AS one\nFROM b\nCOPY --from=One /x /x", ["a", "b"]),
        ("FROM a\nFROM b\nCOPY --from=0 /x /x", ["a", "b"]),
        ("FROM a\nCOPY --from=tools:1 /x /x", ["a", "tools:1"]),
        ("FROM a\nADD --from=tools:1 /x /x", ["a", "tools:1"]),
        ("FROM a\nRUN --mount=type=bind,from=tools:1,target=/x ls", ["a", "tools:1"]),
        ("FROM a\nRUN --mount=type=cache,target=/x ls", ["a"]),
        ("FROM a\nRUN <<EOF\nFROM b\nCOPY --from=c x y\nEOF\n", ["a"]),
        ("FROM a\nCOPY --from=b <<ONE <<TWO /x/\nFROM c\nONE\nFROM d\nTWO\n", ["a", "b"]),
        ("# escape=`\nFROM a\nRUN x `\n FROM b\n", ["a"]),
        ("FROM a\r\nRUN x \\\r\n FROM b\r\n", ["a"]),
        ("\ufeffFROM a\n", ["a"]),
        ("FROM scratch\nCOPY x /", []),
        ("FROM --platform=$BUILDPLATFORM a AS x\nFROM scratch\nCOPY --from=x / /", ["a"]),
        ("FROM a-${TARGETARCH}", ["a-amd64"]),
        (f"FROM {DIGEST}", [DIGEST]),
        ("FROM python AS python\nFROM python", ["python"]),
        ("FROM a\n# FROM b\nFROM a", ["a"]),
        ('FROM "a:1"', ["a:1"]),
    ],
)  # fmt: skip
def test_images_it_reads_from(text: str, images: list[str] | None) -> None:
    if images is None:  # a stage may not read from itself
        with pytest.raises(DockerfileError, match="line 3: the stage 'Two' is read before"):
            dockerfile.parse(text, {})
        return
    assert list(dockerfile.parse(text, {}).images) == images


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
    ],
)
def test_arguments_before_from(text: str, arguments: dict[str, str], image: str) -> None:
    assert dockerfile.parse(text, arguments).images == (image,)


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
        ("FROM a\nRUN <<EOF\nls\n", "unterminated heredoc"),
        ("FROM a\nCOPY --from=$X a b\n", "line 2: the variable in"),
        ("ARG X=ab\nFROM ${X%b}\n", "line 2: the variable in"),
        ("FROM a AS one\nCOPY --from=two x x\nFROM b AS two\n", "line 2: the stage 'two'"),
        ("FROM a\nCOPY --from=0 x x\n", "line 2: there is no stage 0"),
        ("FROM a\nFROM b\nRUN --mount=from=7 x\n", "line 3: there is no stage 7"),
    ],
)
def test_what_no_engine_builds_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(text)
    with pytest.raises(DockerfileError) as caught:
        dockerfile.read(path, {}, shown="train/Dockerfile")
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
