"""BuildKit's lines, as `docker buildx build --progress=plain` wrote them (buildx 0.13)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ci_tools.images.progress import Progress, Step

CAPTURES = sorted(Path(__file__).with_name("buildkit").glob("*.txt"))


def lines(name: str) -> list[str]:
    text = (Path(__file__).with_name("buildkit") / f"{name}.txt").read_bytes().decode()
    return text.split("\n")


def after(name: str) -> Progress:
    progress = Progress()
    for line in lines(name):
        progress.read(line)
    return progress


def seen(name: str) -> list[str]:
    """What a view shows one after the other."""
    progress, labels = Progress(), [""]
    for line in lines(name):
        progress.read(line)
        if progress.current and progress.current.label != labels[-1]:
            labels.append(progress.current.label)
    return labels[1:]


@pytest.mark.parametrize("path", CAPTURES, ids=[path.stem for path in CAPTURES])
def test_at_the_end_nothing_is_under_way(path: Path) -> None:
    progress = after(path.stem)
    assert progress.current is None
    assert all(step.ended for step in progress.steps.values())
    assert list(progress.steps) == list(range(1, len(progress.steps) + 1))


def test_one_stage() -> None:
    assert seen("single") == [
        "[internal] load build definition from Dockerfile.single",
        "[internal] load .dockerignore",
        "[internal] load build context",
        "[1/4] COPY busybox /bin/busybox",
        '[2/4] RUN ["/bin/busybox", "sh", "-c", "echo one"]',
        '[3/4] RUN ["/bin/busybox", "sh", "-c", "echo two; /bin/busybox sleep 0.2"]',
        "[4/4] WORKDIR /x",
    ]
    run = after("single").steps[6]
    assert (run.number, run.total, run.stage, run.cached, run.seconds) == (3, 4, "", False, 0.4)


def test_several_stages_and_the_export() -> None:
    steps = after("multi").steps
    assert [(step.stage, step.number, step.total) for step in steps.values()] == [
        ("internal", 0, 0), ("internal", 0, 0), ("internal", 0, 0),
        ("base", 1, 1), ("deps", 1, 1), ("assets", 1, 1),
        ("runtime", 1, 3), ("runtime", 2, 3), ("runtime", 3, 3), ("", 0, 0),
    ]  # fmt: skip
    assert steps[7].label == "[runtime 1/3] COPY --from=deps /deps /deps"
    assert steps[10] == Step(text="exporting to image", seconds=0.0)
    assert not any(step.cached for step in steps.values())


def test_what_is_minor() -> None:
    names = [name for name in ("multi", "context") for name in name_of_major(name)]
    assert [name.partition(" ")[0] for name in names] == [
        "[base", "[deps", "[assets", "[runtime", "[runtime", "[runtime", "exporting",
        "[1/2]", "exporting",
    ]  # fmt: skip


def name_of_major(name: str) -> list[str]:
    return [step.label for step in after(name).steps.values() if not step.minor]


def test_what_is_cached() -> None:
    steps = after("cached").steps.values()
    assert [step.cached for step in steps if step.number] == [True] * 6
    assert all(step.seconds is None for step in steps if step.cached)


def test_an_image_that_stands_for_a_reference() -> None:
    assert after("context").steps[4] == Step(text="cap-view:1", stage="context other", seconds=0.0)


def test_a_pull() -> None:
    step = after("pull").steps[4]
    assert step.label.startswith("[1/2] FROM 127.0.0.1:38323/view/base:1@sha256:")
    assert step.seconds == 0.1


def test_a_failure() -> None:
    step = after("failed").steps[6]
    assert step.failed.startswith("failed to calculate checksum of ref ")
    assert (step.number, step.seconds) == (3, None)


def test_of_two_at_once_the_one_that_speaks() -> None:
    one, two = (f"[{stage} 1/1] RUN" for stage in ("one", "two"))
    labels = [label for label in seen("parallel") if not label.startswith(("[internal", "[base"))]
    # "two" fails while "one" is still at work.
    assert [label.partition(" [")[0] for label in labels] == [one, two, one]
    steps = after("parallel").steps
    assert steps[6].failed.endswith("did not complete successfully: exit code: 3")
    assert steps[5].seconds == 5.5


def test_a_done_that_was_not_the_end() -> None:
    progress = Progress()
    for line in ("#4 [1/2] FROM x", "#4 DONE 0.1s", "#4 sha256:aa 1MB / 3MB 0.2s"):
        progress.read(line)
    assert progress.current == Step(text="FROM x", number=1, total=2)
    assert progress.read("#4 DONE 1.5s") == Step(text="FROM x", number=1, total=2, seconds=1.5)


@pytest.mark.parametrize(
    ("head", "step"),
    [
        ("[linux/arm64 2/5] RUN x", Step(text="RUN x", stage="linux/arm64", number=2, total=5)),
        ("[linux/arm64 b 2/5] RUN x", Step(text="RUN x", stage="linux/arm64 b", number=2, total=5)),
        ("[stage-1 10/12] RUN [1/2] x", Step(text="RUN [1/2] x", stage="stage-1", number=10,
                                             total=12)),
        ("importing cache manifest from x", Step(text="importing cache manifest from x")),
        ("[a/b] c", Step(text="c", stage="a/b")),
        ("[1/2]", Step(text="[1/2]")),
        ("[", Step(text="[")),
        ("DONE", Step(text="DONE")),
    ],
)  # fmt: skip
def test_heads(head: str, step: Step) -> None:
    assert Progress().read(f"#12 {head}") == step
    assert step.label == head


@pytest.mark.parametrize("said", ["#8 DONE 1.0s", "ERROR: x", "CACHED", "[2/2] RUN y", "..."])
def test_what_a_run_prints_is_no_news(said: str) -> None:
    progress = Progress()
    progress.read("#7 [1/2] RUN x")
    assert progress.read(f"#7 12.345 {said}") == Step(text="RUN x", number=1, total=2)
    assert list(progress.steps) == [7]


@pytest.mark.parametrize(
    "line",
    ["", "#", "#7", "#7 ", "#0 building with x", "# 7 x", "#x y", "#7x y", " #7 x", "------",
     " > [2/5] RUN x:", "ERROR: failed to solve: x", "#9999999 x", "#٣ x",
     "#7 CACHED", "#7 DONE 0.1s", "#7 ERROR: x", "#7 CANCELED", "#7 ...", "#7 1.0 x"],
)  # fmt: skip
def test_lines_about_no_step(line: str) -> None:
    progress = Progress()
    assert progress.read(line) is None
    assert progress.steps == {}


PARTS = st.sampled_from(
    ["#", "7", "8", " ", "[", "]", "/", "1/2", "...", "DONE ", "CACHED", "ERROR: ", "CANCELED",
     "0.1s", "1.0 ", "RUN x", "internal", "\n", "\r", "\x1b[31m", "٣", "9" * 5000]
)  # fmt: skip


@given(st.lists(st.one_of(st.text(), st.lists(PARTS).map("".join))))
@example(["#7 [" + "9" * 5000 + "/1] x"])
@example(["#7 x", "#7 DONE " + "9" * 5000 + ".0s"])
def test_nothing_is_too_strange(texts: list[str]) -> None:
    progress = Progress()
    for text in texts:
        step = progress.read(text)
        assert step is None or step in progress.steps.values()
        assert progress.current is None or not progress.current.ended
