"""Which line made which layer, from histories as BuildKit writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_tools.documents import Layer
from ci_tools.scanner import layers
from ci_tools.scanner.layers import Origins


def made(*texts: str) -> list[Layer]:
    return [Layer(diff_id=f"sha256:{n}", created_by=text) for n, text in enumerate(texts)]


def origins(text: str, *history: str, **more: str) -> dict[int, int | str]:
    """Number of the layer -> its line, or its base."""
    found = layers.origins(made(*history), text, **more)  # type: ignore[arg-type]
    lines = {int(diff_id.removeprefix("sha256:")): line for diff_id, line in found.lines.items()}
    bases = {int(diff_id.removeprefix("sha256:")): name for diff_id, name in found.bases.items()}
    assert bases.keys() <= lines.keys()
    return {**lines, **bases}


BASE = ("ADD rootfs.tar.xz / # buildkit", 'CMD ["bash"]', "RUN /bin/sh -c apt-get install x")
SH = "RUN /bin/sh -c "


def test_layers_are_those_of_the_history_that_are_not_empty() -> None:
    history = [
        {"created_by": "COPY a / # buildkit"},
        {"created_by": "ENV A=b", "empty_layer": True},
        {"created_by": "RUN x # buildkit", "empty_layer": False},
    ]
    assert layers.layers(history, ["sha256:a", "sha256:b"]) == [
        Layer(diff_id="sha256:a", created_by="COPY a / # buildkit"),
        Layer(diff_id="sha256:b", created_by="RUN x # buildkit"),
    ]
    unlike = layers.layers(history, ["sha256:a", "sha256:b", "sha256:c"])
    assert [layer.created_by for layer in unlike] == ["", "", ""]


def test_instructions_from_the_top_and_the_rest_is_the_base() -> None:
    text = (
        "FROM python:3.11\nENV A=b\nRUN pip install \\\n  # why\n  x\n\nWORKDIR /app\n"
        "COPY --chown=1:1 src/ /app/\nUSER app\n"
    )
    history = (
        *BASE,
        f"{SH}pip install   x # buildkit",
        "WORKDIR /app",
        "COPY src/ /app/ # buildkit",
    )
    assert origins(text, *history) == {
        0: "python:3.11", 1: "python:3.11", 2: "python:3.11", 3: 3, 4: 7, 5: 8,
    }  # fmt: skip


def test_a_base_s_layers_are_at_the_line_of_its_from() -> None:
    found = layers.origins(made("ADD x /", f"{SH}y"), "\n# base\nFROM b:1\nRUN y\n")
    assert found == Origins({"sha256:0": 3, "sha256:1": 4}, {"sha256:0": "b:1"})


@pytest.mark.parametrize(
    ("text", "history", "wanted"),
    [
        ("FROM b\nRUN a", ["RUN |1 A=b c /bin/sh -c a # buildkit"], {0: 2}),
        ('FROM b\nSHELL ["/bin/bash", "-c"]\nRUN a', ["RUN /bin/bash -c a # buildkit"], {0: 3}),
        ('FROM b\nRUN ["a", "b c"]', ["RUN a b c # buildkit"], {0: 2}),
        ("FROM b\nRUN --mount=type=cache,target=/x a", [f"{SH}a # buildkit"], {0: 2}),
        ("FROM b\nRUN <<E\na\nb\nE\nRUN c", [f"{SH}a\nb\n # buildkit", f"{SH}c"], {0: 2, 1: 6}),
        ("FROM b\nRUN <<-E\n\ta\nE\n", [f"{SH}a\n # buildkit"], {0: 2}),
        ("FROM b\nRUN <<E\n#!/x\nE\n", ["RUN /dev/pipes/E # buildkit"], {0: 2}),
        ("FROM b\nRUN cat <<E >/x\na\nE\n", [f"{SH}cat <<E >/x\na\nE # buildkit"], {0: 2}),
        ("FROM b\nCOPY <<A <<B /x/\na\nA\nb\nB\n", ["COPY <<A <<B /x/ # buildkit"], {0: 2}),
        ("# escape=`\nFROM b\nRUN a `\n  b\nRUN c", [f"{SH}a   b", f"{SH}c"], {0: 3, 1: 5}),
        ("FROM b\r\nRUN a \\\r\n  b\r\nRUN c\r\n", [f"{SH}a   b", f"{SH}c"], {0: 2, 1: 4}),
        ('FROM b\nCOPY ["a b", "/c d"]', ["COPY a b /c d # buildkit"], {0: 2}),
        ("FROM b\nARG X=1\nCOPY a-$X /", ["COPY a-1 / # buildkit"], {0: 3}),
        ("FROM b\nADD --checksum=sha256:0 http://x/y /z", ["ADD http://x/y /z"], {0: 2}),
        ("FROM b\nADD --link a /z", ["ADD --link a /z # buildkit"], {0: 2}),
        ("FROM b\nWORKDIR /a\nWORKDIR b", ["WORKDIR /a", "WORKDIR /a/b"], {0: 2, 1: 3}),
        ("FROM b\nWORKDIR /\nRUN a", [f"{SH}a"], {0: 3}),
        ("FROM b\nWORKDIR ..\nRUN a", [f"{SH}a"], {0: 3}),
        ("FROM b\nENV H=/\nWORKDIR $H\nRUN a", [f"{SH}a"], {0: 4}),
        ("FROM b\nENV H=/h\nWORKDIR $H\nRUN a", ["WORKDIR /h", f"{SH}a"], {0: 3, 1: 4}),
    ],
)
def test_every_form_of_an_instruction(
    text: str, history: list[str], wanted: dict[int, int | str]
) -> None:
    assert origins(text, *history) == wanted
    above = {number + 1: line for number, line in wanted.items()}
    assert origins(text, "ADD base /", *history) == {0: "b", **above}


STAGES = """FROM deep:1 AS one
RUN a
FROM other:1 AS tools
RUN tool
FROM one AS two
COPY --from=tools /t /t
RUN b
FROM two
RUN c
"""
HISTORY = ("ADD deep /", f"{SH}a", "COPY /t /t # buildkit", f"{SH}b", f"{SH}c")


def test_a_stage_goes_on_with_the_stage_it_is_built_on() -> None:
    assert origins(STAGES, *HISTORY) == {0: "deep:1", 1: 2, 2: 6, 3: 7, 4: 9}
    assert origins(STAGES, *HISTORY[:4], target="two") == {0: "deep:1", 1: 2, 2: 6, 3: 7}
    assert origins(STAGES, "ADD o /", f"{SH}tool", target="Tools") == {0: "other:1", 1: 4}


def test_triggers_of_a_stage_are_between_it_and_the_next() -> None:
    text = "FROM b AS one\nRUN a\nONBUILD COPY x /x\nONBUILD ENV A=b\nFROM one\nRUN c"
    history = ("ADD b /", f"{SH}a", "COPY x /x # buildkit", f"{SH}c")
    assert origins(text, *history) == {0: "b", 1: 2, 2: 3, 3: 6}
    assert origins(text, *history[:2], target="one") == {0: "b", 1: 2}


def test_arguments_and_platform_are_in_a_base_s_name() -> None:
    text = "ARG V=1\nFROM b-$TARGETARCH:$V\nRUN a"
    found = layers.origins(
        made("ADD b /", f"{SH}a"), text, arguments={"V": "2"}, platform="linux/arm64"
    )
    assert found.bases == {"sha256:0": "b-arm64:2"}


def test_where_a_text_differs_nothing_more_is_said() -> None:
    text = "FROM b\nRUN a\nRUN b\nRUN c"
    assert origins(text, "ADD b /", f"{SH}a", f"{SH}other", f"{SH}c") == {3: 4}
    assert origins(text, f"{SH}b", f"{SH}c") == {0: 3, 1: 4}
    assert origins(text, "", "", "") == {}
    assert origins("FROM b AS x\nRUN a", f"{SH}a", target="y") == {}
    assert origins("FRM b", f"{SH}a") == {}
    assert origins("FROM scratch\nCOPY a /", "ADD what /", "COPY a / # buildkit") == {1: 2}


def test_layers_of_one_content_are_told_apart_by_nothing() -> None:
    text = "FROM b\nRUN a\nRUN c\nRUN d"
    same = [
        Layer(diff_id="base", created_by="ADD b /"),
        Layer(diff_id="nothing", created_by=f"{SH}a"),
        Layer(diff_id="own", created_by=f"{SH}c"),
        Layer(diff_id="nothing", created_by=f"{SH}d"),
    ]
    found = layers.origins(same, text)
    assert found == Origins({"base": 1, "own": 3}, {"base": "b"})
    # Nor where one of the two is not known.
    assert layers.origins([Layer(diff_id="own", created_by="?"), *same[1:]], "FROM b\n" * 1 + (
        "RUN z\nRUN a\nRUN c\nRUN d"
    )).lines == {}  # fmt: skip


@given(st.lists(st.sampled_from("abc"), max_size=6), st.lists(st.sampled_from("abcx"), max_size=8))
def test_a_line_is_never_of_another_text(own: list[str], history: list[str]) -> None:
    text = "\n".join(["FROM base", *(f"RUN {word}" for word in own)])
    found = layers.origins(made(*(f"{SH}{word} # buildkit" for word in history)), text)
    lines = text.split("\n")
    for diff_id, line in found.lines.items():
        word = history[int(diff_id.removeprefix("sha256:"))]
        assert diff_id in found.bases or lines[line - 1] == f"RUN {word}"
    if own and history[-len(own) :] == own:
        assert len(found.lines) == len(history)
        assert len(found.bases) == len(history) - len(own)
