"""What an IR says it runs, and that nothing unpinned gets through."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_tools.documents import Source
from ci_tools.errors import ConfigError, MissingInputError, UnpinnedImageError
from ci_tools.kubeflow import VERSION_NAME_LIMIT, arguments, check_names, ir, version_name

PINNED = "registry.example/demo/train@sha256:" + "a" * 64
OTHER = "registry.example/demo/report@sha256:" + "b" * 64
ALLOWED = "registry.example/tools/notify@sha256:" + "c" * 64


def container(image: str) -> dict[str, Any]:
    return {"container": {"image": image, "env": [{"name": "image", "value": "not:one"}]}}


SPEC: dict[str, Any] = {
    "components": {
        "comp-train": {"executorLabel": "exec-train"},
        "comp-report": {"executorLabel": "exec-report"},
        "comp-import": {"executorLabel": "exec-import"},
        "comp-exit": {"executorLabel": "exec-exit"},
        "comp-for-loop-1": {
            "dag": {
                "tasks": {
                    "train": {"componentRef": {"name": "comp-train"}},
                    "condition-2": {"componentRef": {"name": "comp-condition-2"}},
                }
            }
        },
        "comp-condition-2": {
            "dag": {"tasks": {"report": {"componentRef": {"name": "comp-report"}}}}
        },
    },
    "deploymentSpec": {
        "executors": {
            "exec-train": container(PINNED),
            "exec-report": container(OTHER),
            "exec-exit": container(ALLOWED),
            "exec-import": {"importer": {"artifactUri": {"constant": "s3://x/image"}}},
        }
    },
    "pipelineInfo": {"name": "demo", "description": "what it does"},
    "root": {
        "dag": {
            "tasks": {
                "for-loop-1": {"componentRef": {"name": "comp-for-loop-1"}},
                "train": {"componentRef": {"name": "comp-train"}},
                "import": {"componentRef": {"name": "comp-import"}},
                "exit": {"componentRef": {"name": "comp-exit"}},
            }
        },
        "inputDefinitions": {
            "parameters": {
                "rows": {"parameterType": "NUMBER_INTEGER", "defaultValue": 3.0},
                "rate": {"parameterType": "NUMBER_DOUBLE"},
                "note": {"parameterType": "STRING", "isOptional": True},
            }
        },
    },
    "sdkVersion": "kfp-2.17.0",
}
PLATFORMS: dict[str, Any] = {
    "platforms": {
        "kubernetes": {"deploymentSpec": {"executors": {"exec-train": {"imagePullPolicy": "x"}}}}
    }
}


def parsed(*documents: dict[str, Any]) -> ir.Ir:
    return ir.parse(yaml.safe_dump_all(documents), "demo.yaml")


def test_images_of_every_executor_with_their_tasks() -> None:
    assert ir.executor_images(parsed(SPEC)) == [
        ir.TaskImage("exec-exit", ("exit",), ALLOWED),
        ir.TaskImage("exec-report", ("for-loop-1/condition-2/report",), OTHER),
        ir.TaskImage("exec-train", ("for-loop-1/train", "train"), PINNED),
    ]


def test_a_sound_pipeline_is_proven() -> None:
    ir.prove(parsed(SPEC, PLATFORMS), {PINNED, OTHER}, {ALLOWED}, "demo.yaml")


@pytest.mark.parametrize(
    ("image", "why"),
    [
        ("python:3.11", "a tag can move"),
        ("train", "a tag can move"),
        ("${TRAIN_IMAGE}", "nothing expands"),
        ("{{$.inputs.parameters['image']}}", "run time"),
        (PINNED.replace("aaaa", "dddd"), "neither of this build"),
        (PINNED[:-1], "a tag can move"),
        (PINNED + " ", "a tag can move"),
        (PINNED.replace("/train@", "/train:v1@"), "neither of this build"),
        ("", "no image"),
    ],
)
def test_anything_else_is_refused_with_file_task_and_image(image: str, why: str) -> None:
    spec = copy.deepcopy(SPEC)
    spec["deploymentSpec"]["executors"]["exec-report"] = container(image)
    with pytest.raises(UnpinnedImageError, match=why) as caught:
        ir.prove(parsed(spec), {PINNED, OTHER}, {ALLOWED}, "demo.yaml")
    assert "demo.yaml" in caught.value.what
    assert "for-loop-1/condition-2/report" in caught.value.what
    assert image in caught.value.what


def test_the_allow_list_cannot_name_a_tag() -> None:
    spec = copy.deepcopy(SPEC)
    spec["deploymentSpec"]["executors"]["exec-report"] = container("python:3.11")
    with pytest.raises(UnpinnedImageError):
        ir.prove(parsed(spec), {PINNED, OTHER}, {ALLOWED, "python:3.11"}, "demo.yaml")


def test_an_executor_of_another_kind_and_a_platform_are_read_too() -> None:
    spec, platforms = copy.deepcopy(SPEC), copy.deepcopy(PLATFORMS)
    spec["deploymentSpec"]["executors"]["exec-unused"] = {
        "customJob": {"customJob": {"workers": [{"containerSpec": {"imageUri": "job:1"}}]}}
    }
    platforms["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-train"] = {
        "sidecars": [{"image": "proxy:2"}]
    }
    images = {found.image for found in ir.executor_images(parsed(spec, platforms))}
    assert images == {PINNED, OTHER, ALLOWED, "job:1", "proxy:2"}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), width=st.integers(20, 200), indent=st.integers(2, 8))
def test_layout_never_changes_the_hash(seed: int, width: int, indent: int) -> None:
    chance = random.Random(seed)

    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            items = list(value.items())
            chance.shuffle(items)
            return {key: shuffled(item) for key, item in items}
        if isinstance(value, list):
            return [shuffled(item) for item in value]
        if isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        return value

    one = [shuffled(SPEC), shuffled(PLATFORMS)]
    text = yaml.safe_dump_all(one, sort_keys=False, width=width, indent=indent)
    assert ir.canonical_sha256(ir.parse("# a comment\n" + text, "x")) == ir.canonical_sha256(
        parsed(SPEC, PLATFORMS)
    )


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [found for key in value for found in _paths(value[key], (*path, key))]
    if isinstance(value, list):
        return [found for key, item in enumerate(value) for found in _paths(item, (*path, key))]
    return [path]


@given(path=st.sampled_from([p for p in _paths(SPEC) if p != ("sdkVersion",)]))
def test_any_other_content_changes_the_hash(path: tuple[Any, ...]) -> None:
    spec = copy.deepcopy(SPEC)
    place = spec
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = f"{place[path[-1]]}-changed"
    assert ir.canonical_sha256(parsed(spec)) != ir.canonical_sha256(parsed(SPEC))


@given(
    image=st.sampled_from([PINNED, OTHER, ALLOWED]),
    position=st.integers(0, 200),
    letter=st.characters(exclude_categories=("C", "Z")),
)
def test_every_mutated_image_is_caught(image: str, position: int, letter: str) -> None:
    position %= len(image)
    mutated = image[:position] + letter + image[position + 1 :]
    if mutated == image:
        return
    spec = copy.deepcopy(SPEC)
    spec["deploymentSpec"]["executors"]["exec-train"] = container(mutated)
    with pytest.raises(UnpinnedImageError):
        ir.prove(parsed(spec), {PINNED, OTHER}, {ALLOWED}, "demo.yaml")


def test_the_sdk_that_compiled_is_not_part_of_the_hash() -> None:
    spec = {**SPEC, "sdkVersion": "kfp-2.17.1"}
    assert ir.canonical_sha256(parsed(spec)) == ir.canonical_sha256(parsed(SPEC))
    spec = {**SPEC, "schemaVersion": "9"}
    assert ir.canonical_sha256(parsed(spec)) != ir.canonical_sha256(parsed(SPEC))


def test_platforms_are_part_of_the_hash() -> None:
    assert ir.canonical_sha256(parsed(SPEC, PLATFORMS)) != ir.canonical_sha256(parsed(SPEC))


def test_the_servers_form_is_the_same_pipeline() -> None:
    wrapped = json.loads(json.dumps({"pipeline_spec": SPEC, "platform_spec": PLATFORMS}))
    assert ir.canonical_sha256(ir.from_server(wrapped, "x")) == ir.canonical_sha256(
        parsed(SPEC, PLATFORMS)
    )
    assert ir.from_server(SPEC, "x") == parsed(SPEC)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "a: 1", "{", "a: 1\n---\nb: 2\n---\nc: 3", "!!python/object/apply:os.getcwd []"],
)
def test_what_is_no_ir_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "demo.yaml"
    path.write_text(text)
    with pytest.raises(MissingInputError, match=r"demo\.yaml"):
        ir.load(path)


def test_an_ir_that_nests_itself_is_read() -> None:
    spec = copy.deepcopy(SPEC)
    spec["components"]["comp-condition-2"]["dag"]["tasks"]["again"] = {
        "componentRef": {"name": "comp-for-loop-1"}
    }
    assert len(ir.executor_images(parsed(spec))) == 3


# arguments --------------------------------------------------------------------------


def test_parameters_as_declared() -> None:
    assert ir.parameters(parsed(SPEC)) == {
        "note": ir.Parameter("STRING", required=False),
        "rate": ir.Parameter("NUMBER_DOUBLE", required=True),
        "rows": ir.Parameter("NUMBER_INTEGER", required=False, default=3),
    }


TYPES = {
    "n": ir.Parameter("NUMBER_INTEGER", required=False, default=1),
    "f": ir.Parameter("NUMBER_DOUBLE", required=False),
    "b": ir.Parameter("BOOLEAN", required=False),
    "s": ir.Parameter("STRING", required=False),
    "l": ir.Parameter("LIST", required=False),
    "d": ir.Parameter("STRUCT", required=False),
}


@pytest.mark.parametrize(
    ("name", "given_", "got"),
    [
        ("n", "7", 7),
        ("n", 7.0, 7),
        ("f", 2, 2.0),
        ("f", "0.5", 0.5),
        ("b", "True", True),
        ("b", "no", False),
        ("n", "7.0", 7),
        ("n", "1e3", 1000),
        ("n", "", None),
        ("f", "null", None),
        ("f", "1e-3", 0.001),
        ("s", "7", "7"),
        ("s", "1.10", "1.10"),
        ("s", "12:30", "12:30"),
        ("s", "#ff", "#ff"),
        ("s", "null", "null"),
        ("s", "", ""),
        ("s", '"a"', '"a"'),
        ("l", "[1, 2]", [1, 2]),
        ("l", "[a, 'b']", ["a", "b"]),
        ("l", "", None),
        ("d", {"a": 1}, {"a": 1}),
        ("d", "{a: 1}", {"a": 1}),
        ("s", None, None),
    ],
)
def test_values_become_the_declared_type(name: str, given_: Any, got: Any) -> None:
    (value,) = arguments.checked("demo", TYPES, {name: given_}).values()
    assert value == got
    assert type(value) is type(got)


@pytest.mark.parametrize(
    ("name", "given_"),
    [
        ("n", "seven"),
        ("n", 7.5),
        ("n", True),
        ("n", "7.5"),
        ("n", "inf"),
        ("f", "x"),
        ("f", "nan"),
        ("f", float("inf")),
        pytest.param("f", 10**400, id="f-no double"),
        ("f", [1]),
        ("b", 1),
        ("b", "maybe"),
        ("s", 7),
        ("l", "{}"),
        ("l", "[1"),
        ("l", "[2024-01-01]"),
        ("l", "[.nan]"),
        ("d", "!!python/name:os.system"),
        ("d", [1]),
    ],
)
def test_values_of_another_type_are_refused(name: str, given_: Any) -> None:
    with pytest.raises(ConfigError, match=f"parameter '{name}'") as caught:
        arguments.checked("demo", TYPES, {name: given_})
    assert ("Put it in quotes" in caught.value.todo) == (name == "s")


@pytest.mark.parametrize(
    ("name", "given_", "way"),
    [
        ("n", "x", "Give another with -p n=VALUE, or under 'parameters'"),
        ("s", 7, "Put it in quotes, or give another with -p s=VALUE, or under 'parameters'"),
    ],
)
def test_a_value_is_mended_where_it_was_given(name: str, given_: Any, way: str) -> None:
    with pytest.raises(ConfigError) as caught:
        arguments.checked("demo.ann", TYPES, {name: given_})
    assert caught.value.todo.startswith(way)
    assert "demo.ann" not in caught.value.todo  # a launch's own name, which ci.yaml has not


def test_unknown_and_missing_parameters_are_named() -> None:
    declared = ir.parameters(parsed(SPEC))
    with pytest.raises(ConfigError, match="Did you mean 'rows'"):
        arguments.checked("demo", declared, {"rate": 1.0, "row": 3})
    with pytest.raises(ConfigError, match=r"'rate'.*with -p NAME=VALUE"):
        arguments.checked("demo", declared, {})
    assert arguments.with_defaults(declared, {"rate": 0.5}) == {
        "note": None,
        "rate": 0.5,
        "rows": 3,
    }


# names ------------------------------------------------------------------------------


@given(
    commit=st.none() | st.text("0123456789abcdef", min_size=40, max_size=64), dirty=st.booleans()
)
def test_version_names_are_valid_and_tell_pipelines_apart(commit: str | None, dirty: bool) -> None:
    source = Source(commit=commit, dirty=dirty)
    one, two = version_name(source, "a" * 64), version_name(source, "b" * 64)
    assert one != two
    assert len(one) <= VERSION_NAME_LIMIT
    check_names("demo", one)


@pytest.mark.parametrize("word", ["", "../x", "a/b", ".hidden", "a b", "x" * 129, "a\nb"])
def test_names_that_are_paths_are_refused(word: str) -> None:
    with pytest.raises(ConfigError):
        check_names(word, "v1")
    with pytest.raises(ConfigError):
        check_names("demo", word)
