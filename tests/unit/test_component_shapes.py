"""A corpus of component files, in the many shapes that people and tools write.

Each is pinned, and then three independent readers must agree: PyYAML sees nothing but
the image changed, kfp loads the pinned file, and what kfp compiles from it names the
digest wherever the file named the component.
"""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import yaml

from ci_tools.components import templates
from ci_tools.errors import TemplateError

REFERENCE = "registry.example/ml/train@sha256:" + "a" * 64

V1 = {
    "plain": """\
name: Train
implementation:
  container:
    image: train
    command: [python3, -m, train]
""",
    "all kinds of inputs": """\
# Copyright of somebody
name: Train model
description: |
  Trains.
  image: train        <- no image, but a description
inputs:
- {name: Rows, type: Integer, default: '100', optional: true, description: "how many: rows"}
- {name: data, type: {GCSPath: {data_type: CSV}}}
- {name: free}
outputs:
- {name: model, type: Model}
- name: Text
  type: String
metadata:
  annotations: {author: "image: train <me@example.com>"}
  labels: {image: train}
implementation:
  container:
    image: train
    command:
    - sh
    - -ec
    - |
      image: train
      echo "$0" "$@"
    args: [--rows, {inputValue: Rows}, --data, {inputPath: data},
           --model, {outputPath: model}, --text, {outputPath: Text}]
""",
    "conditions and joins": """\
name: Train
inputs:
- {name: image, type: String, optional: true}
- {name: b, type: String, default: x}
implementation:
  container:
    image: train
    command: [run]
    args:
    - if:
        cond: {isPresent: image}
        then: [--image, {inputValue: image}]
        else: [--no-image]
    - {concat: ["--b=", {inputValue: b}]}
""",
    "environment": """\
name: Train
implementation:
  container:
    image: train
    command: [run]
    env: {IMAGE: train, image: train}
""",
    "image last, quoted": """\
name: Train
implementation:
  container:
    command: [run]
    "image": "train"
""",
    "single quotes and a comment": """\
name: Train
implementation:
  container:
    image:   'train'   # 'train' of components/train
    command: [run]
""",
    "json": '{"name": "Train", "implementation": {"container": {"image": "train", '
    '"command": ["run"]}}}',
    "one line": "{name: Train, implementation: {container: {image: train, command: [run]}}}\n",
    "windows": "name: Train\r\nimplementation:\r\n  container:\r\n    image: train\r\n"
    "    command: [run]\r\n",
    "document markers": "---\nname: Train\nimplementation:\n  container:\n"
    "    image: train\n    command: [run]\n...\n",
    "a comment, no last newline": "name: Train\nimplementation:\n  container:\n"
    "    image: train # x\n    command: [run]",
    "anchors": """\
name: Train
metadata:
  annotations: &notes {a: b}
  labels: *notes
implementation:
  container:
    image: &it train
    command: [run]
""",
    "other alphabets": """\
name: Тренировка модели
description: 学習 😀 — “train”
implementation:
  container:
    image: train
    command: [run, "学習"]
""",
    "a tag of its own": """\
name: Train
implementation:
  container:
    image: registry.example:5000/team/ml/train:1.2.3-rc1
    command: [run]
""",
    "pinned before": f"""\
name: Train
implementation:
  container:
    image: {REFERENCE.replace("a" * 64, "b" * 64)}
    command: [run]
""",
    "indented sequence, folded text": """\
name: Train
description: >-
  folded
  text
implementation:
    container:
        image: train
        command:
            - run
            - >-
              image: train
""",
}
V2 = """\
# PIPELINE DEFINITION
# Name: train
components:
  comp-train:
    executorLabel: exec-train
    inputDefinitions:
      parameters:
        image: {defaultValue: train, isOptional: true, parameterType: STRING}
deploymentSpec:
  executors:
    exec-train:
      container:
        args: ['{{$.inputs.parameters[''image'']}}']
        command: [run]
        image: train
pipelineInfo: {name: train}
root:
  dag:
    tasks:
      train:
        cachingOptions: {enableCache: true}
        componentRef: {name: comp-train}
        inputs: {parameters: {image: {componentInputParameter: image}}}
        taskInfo: {name: train}
  inputDefinitions:
    parameters:
      image: {defaultValue: train, isOptional: true, parameterType: STRING}
schemaVersion: 2.1.0
sdkVersion: kfp-2.17.0
"""
# A pipeline that is used as a step, as kfp-kubernetes has it compiled.
NESTED = (
    V2.replace("pipelineInfo: {name: train}", "pipelineInfo: {name: inner}")
    + """\
---
platforms:
  kubernetes:
    deploymentSpec:
      executors:
        exec-train: {imagePullPolicy: IfNotPresent}
"""
)


def pinned(repository: Any, text: str) -> str:
    repository.write("component_specs/x.yaml", text.encode())
    (one,) = templates.find(
        repository.root, ["component_specs/x.yaml"], "component_specs", {"train"}, "ml"
    )
    return one.pinned({"train": REFERENCE})


def images(node: Any) -> list[Any]:
    """Every holder of an image, found by walking all of it."""
    if isinstance(node, dict):
        own = [node] if "image" in node and "command" in node else []
        return own + [found for value in node.values() for found in images(value)]
    if isinstance(node, list):
        return [found for value in node for found in images(value)]
    return []


@pytest.mark.parametrize(
    "text", [*V1.values(), V2, NESTED], ids=[*V1, "compiled by kfp", "platform"]
)
def test_kfp_reads_the_pinned_file_and_runs_the_digest(repository: Any, text: str) -> None:
    done = pinned(repository, text)
    before, after = list(yaml.safe_load_all(text)), list(yaml.safe_load_all(done))
    for holder in (holders := images(before)):
        holder["image"] = REFERENCE
    assert len(holders) == 1
    assert after == before
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from kfp import compiler, components, dsl

        step = components.load_component_from_text(done)
        needed = {"data": "x", "free": "y"} if "GCSPath" in text else {}

        @dsl.pipeline(name="flow")
        def flow():  # kfp reads an annotation as an output
            if needed:
                made = dsl.importer(artifact_uri="s3://x", artifact_class=dsl.Artifact)
                step(data=made.output, free=made.output)
            else:
                step()

        compiler.Compiler().compile(flow, str(repository.root / "flow.yaml"))
    compiled, *platforms = yaml.safe_load_all((repository.root / "flow.yaml").read_text())
    assert ("IfNotPresent" in str(platforms)) == (text == NESTED)
    executors = compiled["deploymentSpec"]["executors"].values()
    assert [it["container"]["image"] for it in executors if "container" in it] == [REFERENCE]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: x\nimplementation: {graph: {tasks: {}}}\n", "is no component template"),
        ("name: x\n", "is no component template"),
        ("[]\n", "is no component template"),
        ("apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nspec: {}\n", "is no component"),
        ("name: x\nimplementation: {container: {image: '${TRAIN_IMAGE}'}}\n", "line 2"),
        ("name: x\nimplementation: {container: {image: [train]}}\n", "names no image"),
        ("name: x\nimplementation: {container: {image: !!python/name:os.system x}}\n", "line 2"),
        ("a: &x train\nimplementation: {container: {image: *x}}\n", "without an alias"),
        ("a: 1\n---\nb: 2\n", "holds 2 YAML documents"),
    ],
)
def test_what_cannot_be_pinned_is_told(repository: Any, text: str, words: str) -> None:
    with pytest.raises(TemplateError, match=words):
        pinned(repository, text)
