"""Pinning: only the image's scalar changes. The oracle is the parsed YAML."""

from __future__ import annotations

import time
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ci_tools.components import templates
from ci_tools.components.templates import Template
from ci_tools.errors import ConfigError, TemplateError

COMPONENTS = {"train", "evaluate", "a"}
PINNED = {
    name: f"127.0.0.1:5100/ml/{name}@sha256:{'0' * 63}{n}"
    for n, name in enumerate("train evaluate a".split())
}
ALLOWED = "gcr.io/x/y@sha256:" + "e" * 64

V1 = """\
# why: comments stay
name: Train   # train
inputs: [{name: image, default: train}]
implementation:
  container:
    image: train   # the component
    command: [python3, "-c", 'image: train']
"""
V2 = """\
components: {comp-a: {executorLabel: exec-a}}
deploymentSpec:
  executors:
    exec-a:
      container: {image: train, args: [--x, 'y']}
    exec-b:
      container:
        args: ["image"]
        "image": "evaluate"
    exec-c: {container: {image: 'ml/train:latest'}}
    exec-d: {importer: {artifactUri: {constant: s3://x}}}
"""


def read(repository: Any, text: str | bytes, path: str = "component_specs/x.yaml") -> Template:
    repository.write(path, text)
    (one,) = templates.find(repository.root, [path], "component_specs", COMPONENTS, "ml", [ALLOWED])
    return one


def images(document: Any) -> list[Any]:
    """Every holder of an image, found without the code under test."""
    holders = [document.get("implementation", {}).get("container")]
    holders += [
        e.get("container") for e in document.get("deploymentSpec", {}).get("executors", {}).values()
    ]
    return [holder for holder in holders if holder]


@pytest.mark.parametrize(
    "text",
    [
        V1,
        V2,
        V1.replace("\n", "\r\n"),
        "\ufeff" + V1,
        "# 😀 é\n" + V1,
        V1.replace("image: train ", 'image: "train" '),
        V1.replace("image: train ", "image: 'train' "),
        V1.replace("image: train ", "image: &it train "),
        V1.replace("image: train ", "image: &it 'train' "),
        V1.replace("image: train ", "image: !!str train "),
        V1.replace("image: train ", "image:\n      train "),
        V1.replace("image: train ", "image:  ml/train:1.2 "),
        V1.replace("image: train ", "'image'  :  train "),
        V1 + "    env: {X: a}\nmetadata: {annotations: {again: train}}\n",
        '{"implementation":{"container":{"image":"train"}}}',
        "implementation: {container: {image: train}}",
        "implementation: {container: {image: train,}}",
        V1.rstrip("\n"),
        "--- # start\n" + V1 + "...\n",
        V1.replace("image: train ", "image: &it train ") + "    env: {X: *it}\n",
    ],
)  # fmt: skip
def test_only_the_scalar_changes(repository: Any, text: str) -> None:
    template = read(repository, text)
    pinned = template.pinned(PINNED)

    before, after = yaml.safe_load(text), yaml.safe_load(pinned)
    for was, now in zip(images(before), images(after), strict=True):
        component = was["image"].split("/")[-1].split(":")[0]
        assert now["image"] == PINNED[component]
        now["image"] = was["image"]
        if "*it" in text:  # an alias of the image says what the image says
            now["env"]["X"] = was["env"]["X"]
    assert after == before

    # Outside the spans that were named nothing differs, byte for byte.
    rest, position = text, 0
    for node, component in sorted(template.nodes, key=lambda pair: pair[0].start):
        assert text[node.start : node.end] == node.image
        shift = len(pinned) - len(text)
        assert shift != 0
        cut = pinned.index(PINNED[str(component)])
        assert pinned[:cut] == rest[: node.start - position]
        pinned = pinned[cut + len(PINNED[str(component)]) :]
        rest, position = text[node.end :], node.end
    assert pinned == rest


def test_components_and_lines(repository: Any) -> None:
    template = read(repository, V2)
    assert template.components == ["evaluate", "train"]
    assert [(node.line, name) for node, name in template.nodes] == [
        (5, "train"), (9, "evaluate"), (10, "train"),
    ]  # fmt: skip


def test_an_allowed_external_image_is_left_alone(repository: Any) -> None:
    text = V1.replace("image: train ", f"image: {ALLOWED} ")
    template = read(repository, text)
    assert template.components == []
    assert template.pinned(PINNED) == text


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("trane", "line 6: image 'trane' is no component of this repository. Did you mean 'train'"),
        ("127.0.0.1:5100/ml/trane:1", "Did you mean 'train'"),
        ("zzzzzz", "Name one of: a, evaluate, train"),
        ("train:1", "line 6"),  # Docker Hub's
        (ALLOWED.replace("e", "f"), "line 6"),
        ("gcr.io/x/y:1", "pipelines.allow_images"),
        ("''", "'image' names no image"),
        ("", "'image' names no image"),
        ("3", "must be a plain or quoted string"),
        ("|\n      train", "must be a plain or quoted string"),
        (">-\n      train", "must be a plain or quoted string"),
        ("[train]", "'image' names no image"),
        ("!!python/name:os.system train", "must be a plain or quoted string"),
        ("train\n    image: evaluate", "line 7: 'image' is there twice"),
        ("'train\n\n      train'", "is no component"),
    ],
)
def test_what_is_refused_is_told_with_its_line(repository: Any, image: str, said: str) -> None:
    with pytest.raises(TemplateError) as caught:
        read(repository, V1.replace("image: train ", f"image: {image} "))
    assert said in str(caught.value)
    assert "component_specs/x.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"\xff\xfe", "cannot be read"),
        ("a: [}", "does not parse at line 1"),
        ("", "is no component template"),
        ("- a\n", "is no component template"),
        ("implementation: {container: }\n", "is no component template"),
        ("implementation: {graph: {}}\n", "is no component template"),
        ("implementation: {}\n" + V1, "'implementation' is there twice"),
        ("x: &i train\nimplementation: {container: {image: *i}}", "without an alias"),
        ("--- a\n--- b\n", "holds 2 YAML documents"),
        (V1 + "---\n" + V1, "holds 2 YAML documents"),
        (V2 + "---\nplatforms: {}\n---\n" + V2, "holds 3 YAML documents"),
        ("implementation: {container: {<<: *x}}", "does not parse"),
    ],
)  # fmt: skip
def test_what_is_no_template_is_told(repository: Any, text: str | bytes, said: str) -> None:
    with pytest.raises(TemplateError) as caught:
        read(repository, text)
    assert said in str(caught.value)


def test_a_shared_container_is_pinned_once(repository: Any) -> None:
    text = (
        "deploymentSpec:\n  executors:\n    one: &one {container: {image: train}}\n    two: *one\n"
    )
    after = yaml.safe_load(read(repository, text).pinned(PINNED))
    assert [holder["image"] for holder in images(after)] == [PINNED["train"]] * 2


def test_a_bomb_and_a_python_tag_do_nothing(repository: Any, tmp_path: Any) -> None:
    bomb = "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 9)}]\n" for n in range(30)
    )
    started = time.process_time()
    assert read(repository, bomb + V1).components == ["train"]
    assert time.process_time() - started < 30  # expanded it would take longer than the universe
    mark = tmp_path / "mark"
    tag = f"x: !!python/object/apply:pathlib.Path.touch [{mark}]\n"
    read(repository, tag + V1)
    assert not mark.exists()


def test_only_yaml_below_the_directory_counts(repository: Any) -> None:
    for path in ("specs/b.yml", "specs/in/a.yaml", "specs/x.txt", "specs2/c.yaml", "d.yaml"):
        repository.write(path, V1)
    files = ["d.yaml", "specs/b.yml", "specs/in/a.yaml", "specs/x.txt", "specs2/c.yaml"]
    found = templates.find(repository.root, files, "specs/", COMPONENTS, "ml")
    assert [template.path for template in found] == ["specs/b.yml", "specs/in/a.yaml"]


SCALARS = st.sampled_from(["train", "'train'", '"evaluate"', "&x a", "ml/a:1", "h:5/ml/train"])
NOISE = st.sampled_from(["", "# image: train\n", "\n\n", "name: 'é😀'\n", "y: |\n  image: train\n"])


@given(SCALARS, NOISE, st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_pinning_twice_is_pinning_once(scalar: str, noise: str, newline: str, flow: bool) -> None:
    holder = (
        f"{{container: {{image: {scalar} }}}}" if flow else f"\n  container:\n    image: {scalar}"
    )
    text = f"{noise}implementation: {holder}\n".replace("\n", newline)

    def pinned(text: str) -> str:
        nodes = templates.image_nodes(text, "x")
        pairs = [(n, templates.component_named(n.image, COMPONENTS, "ml")) for n in nodes]
        return Template("x", text, tuple(pairs)).pinned(PINNED)

    once = pinned(text)
    assert once != text
    assert pinned(once) == once


def test_aliases_of_all_components() -> None:
    found = templates.aliases(
        {"old": "train-gpu"}, ["${R}/{component}", "${{COMPONENT}}"], ["train", "train-gpu"]
    )
    assert found == {
        "old": "train-gpu",
        "${R}/train": "train",
        "${R}/train-gpu": "train-gpu",
        "${TRAIN}": "train",
        "${TRAIN_GPU}": "train-gpu",
    }


@pytest.mark.parametrize(
    ("images", "patterns", "components", "words"),
    [
        ({"x": "gone"}, [], ["train"], "is component 'gone', which is not there"),
        ({"${A_B}": "a-b"}, ["${{COMPONENT}}"], ["a-b", "a.b"], "both component 'a-b' and 'a.b'"),
    ],
)
def test_aliases_that_mean_nothing_or_two_things(
    images: dict[str, str], patterns: list[str], components: list[str], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        templates.aliases(images, patterns, components)
