"""The same pipeline for another registry; kfp's own compiler and loader are the judges."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ci_tools.errors import MissingInputError, UnpinnedImageError
from ci_tools.kubeflow import ir
from ci_tools.kubeflow.relocate import prove_relocated, relocate

HERE, THERE = "dev.example:5000/team", "prod.example/mirror"
TRAIN, REPORT = "@sha256:" + "a" * 64, "@sha256:" + "b" * 64
MOVES = {
    f"{HERE}/train{TRAIN}": f"{THERE}/train{TRAIN}",
    f"{HERE}/report{REPORT}": f"{THERE}/report{REPORT}",
}
KEPT = "tools.example/notify@sha256:" + "c" * 64
TEXT = f"""\
# PIPELINE DEFINITION
# Name: demo
# Inputs: image: {HERE}/train{TRAIN}
components:
  comp-train: {{executorLabel: exec-train}}
deploymentSpec:
  executors:
    exec-train:
      container:
        args: ['{HERE}/train{TRAIN}']   # an argument, and no image
        env: [{{name: image, value: '{HERE}/train{TRAIN}'}}]
        image: {HERE}/train{TRAIN}  # the image
    exec-report:
      container: {{image: "{HERE}/report{REPORT}"}}
    exec-import:
      importer: {{artifactUri: {{constant: 's3://x'}}, image: '{HERE}/train{TRAIN}'}}
    exec-notify:
      container: {{image: '{KEPT}'}}
pipelineInfo:
  name: demo
  image: {HERE}/train{TRAIN}
root:
  dag: {{tasks: {{train: {{componentRef: {{name: comp-train}}}}}}}}
schemaVersion: 2.1.0
sdkVersion: kfp-2.17.0
"""
PLATFORMS = f"""\
---
platforms:
  kubernetes:
    deploymentSpec:
      executors:
        exec-train:
          imagePullPolicy: Always
          sidecar: {{image: {HERE}/report{REPORT}}}
"""


def changed(before: str, after: str) -> list[str]:
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    return [line.strip() for line in lines if line.startswith("+ ")]


def test_only_what_an_executor_runs_is_moved() -> None:
    moved = relocate(TEXT + PLATFORMS, MOVES, [KEPT])
    assert changed(TEXT + PLATFORMS, moved) == [
        f"+         image: {THERE}/train{TRAIN}  # the image",
        f'+       container: {{image: "{THERE}/report{REPORT}"}}',
        f"+           sidecar: {{image: {THERE}/report{REPORT}}}",
    ]
    images = {found.image for found in ir.executor_images(ir.parse(moved, "x"))}
    assert images == {*MOVES.values(), KEPT}


def test_there_and_back_is_the_same_text() -> None:
    back = {there: here for here, there in MOVES.items()}
    moved = relocate(TEXT, MOVES, [KEPT])
    assert moved != TEXT
    assert relocate(moved, back, [KEPT]) == TEXT


@pytest.mark.parametrize(
    "scalar",
    [
        "{}", "'{}'", '"{}"', "&anchor {}", "!!str {}", "!!str '{}'", "&a !!str {}",
        "|-\n            {}", ">-\n            {}", "# far away\n\n          {}",
        '"{}"   # after', "*other",
    ],
)  # fmt: skip
def test_however_the_image_is_written(scalar: str) -> None:
    reference = f"{HERE}/train{TRAIN}"
    text = (
        "x: &other 'nothing'\n" if "*" not in scalar else f"x: {{image: &other '{reference}'}}\n"
    ) + (
        "deploymentSpec:\n  executors:\n    e:\n      container:\n"
        f"        image: {scalar.format(reference)}\n        command: [a]\n"
        "pipelineInfo: {name: é𝄞}\nroot: {}\n"
    )
    if "*" in scalar:  # moving it would move the other too
        with pytest.raises(UnpinnedImageError, match="another pipeline"):
            relocate(text, MOVES)
        return
    moved = relocate(text.replace("{name", "{title: é, name"), MOVES)
    spec = yaml.safe_load(moved)
    assert spec["deploymentSpec"]["executors"]["e"]["container"] == {
        "image": MOVES[reference],
        "command": ["a"],
    }


def test_line_ends_and_characters_beyond_ascii_stay() -> None:
    text = TEXT.replace("# Name: demo", "# Name: é𝄞 demo").replace("\n", "\r\n")
    moved = relocate(text, MOVES, [KEPT])
    assert moved.count("\r\n") == text.count("\r\n")
    assert moved.replace(THERE, HERE) == text


@pytest.mark.parametrize(
    "image",
    ["{}:v1", "", "other/x@sha256:" + "d" * 64, "${{IMAGE}}", "{}@sha256:abc"],
)
def test_an_image_that_nobody_knows_is_refused(image: str) -> None:
    text = TEXT.replace(f"image: {HERE}/train{TRAIN}  #", f"image: '{image.format(HERE)}'  #")
    with pytest.raises(UnpinnedImageError, match=r"demo.yaml: task 'train' runs"):
        relocate(text, MOVES, [KEPT], name="demo.yaml")
    with pytest.raises(UnpinnedImageError, match="exec-notify"):
        relocate(TEXT, MOVES)


def test_a_move_keeps_the_digest() -> None:
    for there in (f"{THERE}/train{REPORT}", f"{THERE}/train:v1", "", f"{THERE} x{TRAIN}"):
        with pytest.raises(UnpinnedImageError, match="under another name"):
            relocate(TEXT, {f"{HERE}/train{TRAIN}": there}, [KEPT])


def test_what_else_differs_is_found() -> None:
    moved = relocate(TEXT + PLATFORMS, MOVES, [KEPT])
    for old, new in [
        ("name: demo", "name: demo2"),
        ("kfp-2.17.0", "kfp-2.17.1"),
        ("s3://x", "s3://y"),
        (f"'{HERE}/train", f"'{THERE}/train"),  # an argument
        ("Always", "Never"),
        (f"{THERE}/train{TRAIN}  #", f"{THERE}/report{REPORT}  #"),
        (f"{THERE}/train{TRAIN}  #", f"{HERE}/train{TRAIN}  #"),
        (KEPT, KEPT.replace("notify", "other")),
    ]:
        assert old in moved
        with pytest.raises(UnpinnedImageError, match="another pipeline"):
            prove_relocated(TEXT + PLATFORMS, moved.replace(old, new), MOVES)
    with pytest.raises(UnpinnedImageError, match="another pipeline"):
        prove_relocated(TEXT + PLATFORMS, relocate(TEXT, MOVES, [KEPT]), MOVES)
    prove_relocated(TEXT + PLATFORMS, moved, MOVES)


@pytest.mark.parametrize(
    "text",
    ["", "a: [", "- 1", "a: 1", "root: &r {x: *r}\npipelineInfo: {}\n", "[" * 5000,
     "root: {}\npipelineInfo: {}\ndeploymentSpec: {executors: {e: &e {image: {x: *e}}}}\n"],
)  # fmt: skip
def test_no_pipeline_is_told(text: str) -> None:
    with pytest.raises((MissingInputError, UnpinnedImageError)):
        relocate(text, MOVES)


NAMES = st.text("abcdefghij-", min_size=1, max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.sampled_from([*MOVES, *MOVES.values()]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
EXECUTORS = st.dictionaries(
    NAMES,
    st.fixed_dictionaries(
        {
            "container": st.fixed_dictionaries(
                {"image": st.sampled_from([*MOVES, KEPT])},
                optional={
                    "args": st.lists(VALUES),
                    "env": VALUES.map(lambda one: [{"value": one}]),
                },
            )
        }
    ),
    max_size=4,
)


@given(EXECUTORS, VALUES, st.booleans(), st.sampled_from([None, "'", '"']), st.booleans())
def test_any_pipeline_is_moved_and_nothing_else_of_it(
    executors: dict[str, Any], value: Any, flow: bool, style: str | None, as_json: bool
) -> None:
    spec = {
        "deploymentSpec": {"executors": executors},
        "pipelineInfo": {"name": "x", "description": value},
        "root": {"inputDefinitions": {"parameters": {"x": {"defaultValue": value}}}},
    }
    try:
        before = ir.executor_images(ir.of([spec], "x"))
        if any(found.image not in {*MOVES, KEPT} for found in before):
            return  # an argument with a key `image`, which counts as one
        if as_json:
            text = json.dumps(spec)
        else:
            text = yaml.safe_dump(
                spec, default_flow_style=flow, default_style=style, allow_unicode=True
            )
        ir.parse(text, "x")
    except (yaml.YAMLError, MissingInputError):
        return
    moved = relocate(text, MOVES, [KEPT])
    names = {**MOVES, KEPT: KEPT}
    after = ir.executor_images(ir.parse(moved, "x"))
    assert sorted(found.image for found in after) == sorted(names[one.image] for one in before)
    again = ir.parse(moved, "x").spec
    for name, executor in again["deploymentSpec"]["executors"].items():
        was = executors[name]["container"]
        assert executor["container"]["image"] == names[was["image"]]
        executor["container"]["image"] = was["image"]
    assert ir.canonical_sha256(ir.of([again], "x")) == ir.canonical_sha256(ir.parse(text, "x"))


PIPELINE = """
from kfp import dsl, kubernetes

@dsl.container_component
def first(text: str):
    return dsl.ContainerSpec(image="{train}", command=["echo"], args=[text, "{train}"])

@dsl.container_component
def second(count: int):
    return dsl.ContainerSpec(image="{report}", command=["echo"], args=[count])

@dsl.pipeline(name="demo")
def demo(count: int = 3, rate: float = 0.5):
    step = first(text="{train}")
    kubernetes.set_image_pull_policy(step, "Always")
    with dsl.ParallelFor([1, 2]) as item, dsl.If(count == 3):
        second(count=item)
"""


def test_kfp_compiles_it_and_loads_what_was_moved(tmp_path: Path) -> None:
    from google.protobuf import json_format
    from kfp import compiler, components

    train, report = MOVES
    made: dict[str, Any] = {}
    source = PIPELINE.format(train=train, report=report)
    # Not as this file, where annotations are names: kfp wants the types.
    exec(compile(source, "demo.py", "exec", dont_inherit=True), made)
    file = tmp_path / "demo.yaml"
    compiler.Compiler().compile(made["demo"], str(file))
    text = file.read_text(encoding="utf-8")
    moved = relocate(text, MOVES)
    assert [line.strip() for line in moved.splitlines() if THERE in line and "image:" in line] == [
        f"image: {image}" for image in MOVES.values()
    ]
    assert len(changed(text, moved)) == 2

    def loaded(content: str) -> tuple[Any, Any]:
        one = components.load_component_from_text(content)
        return tuple(
            json_format.MessageToDict(part) for part in (one.pipeline_spec, one.platform_spec)
        )

    before, after = loaded(text), loaded(moved)
    executors = after[0]["deploymentSpec"]["executors"]
    images = {name: body["container"]["image"] for name, body in executors.items()}
    assert set(images.values()) == set(MOVES.values())
    back = {there: here for here, there in MOVES.items()}
    for name, image in images.items():
        executors[name]["container"]["image"] = back[image]
    assert after == before
