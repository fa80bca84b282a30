"""What differs between two releases."""

from __future__ import annotations

import msgspec

from ci_tools import documents as d
from ci_tools.promotion import compare
from ci_tools.release import bundle
from tests.fakes.releases import made, release


def test_equal_releases_differ_in_nothing() -> None:
    found = compare.compare(made(), made())
    assert (found.images, found.pipelines, found.servables, found.models) == ([], [], [], [])
    assert compare.lines(found)[-1] == "nothing differs"


def test_each_part_that_changed_is_told_with_what_changed_in_it() -> None:
    one = made()
    image = msgspec.structs.replace(
        one.release.images["train"], digest="sha256:" + "9" * 64, key="other",
        bases={"python:3.12": f"docker.io/library/python@sha256:{'8' * 64}"},
    )  # fmt: skip
    servable = msgspec.structs.replace(
        one.release.servables["train"], task_definition_sha256="0" * 64,
        model=d.Model(uri="s3://models/2", sha256="1" * 64),
    )  # fmt: skip
    changed = release(
        images={"train": image, "new": image},
        pipelines={
            "training": d.ReleasedPipeline(
                sha256="7" * 64, file="pipelines/training.yaml", components=["train"]
            )
        },
        servables={"train": servable},
        source=d.Source(commit="d" * 40, branch="main"),
    )
    two = bundle.of(
        changed, {"pipelines/training.yaml": b"root: {a: 1}\n", "servables/train.yaml": b"x: 1\n"}
    )
    found = compare.compare(one, two)
    assert [(it.name, it.before[:9]) for it in found.images] == [
        ("new", ""),
        ("train", "sha256:aa"),
    ]
    assert found.images[1].lines[0] == "key: k → other"
    assert found.images[1].lines[1].startswith("base python:3.12: ")
    assert found.pipelines[0].lines == ["-root: {}", "+root: {a: 1}"]
    assert found.servables[0].lines == ["-service: svc", "+x: 1"]
    assert found.models[0].after.startswith("s3://models/2")
    told = compare.lines(found)
    assert "image  new  (none) → 999999999999" in told
    assert told[1] == f"commit  {'c' * 12} → {'d' * 12}"


def test_a_long_difference_is_cut() -> None:
    files = {"servables/train.yaml": b"service: svc\n"}
    long = "\n".join(f"k{number}: 1" for number in range(200)).encode()
    other = release(
        pipelines={
            "training": d.ReleasedPipeline(
                sha256="7" * 64, file="pipelines/training.yaml", components=["train"]
            )
        }
    )
    two = bundle.of(other, {"pipelines/training.yaml": long, **files})
    (pipeline,) = compare.compare(made(), two).pipelines
    assert pipeline.lines[-1] == "... and 141 more lines"
