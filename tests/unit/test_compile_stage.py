"""The stage `compile` lets no image through that this build did not make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ci import compile as stage
from ci.workspace import Workspace
from ci_tools.errors import UnpinnedImageError

DIGEST = "example.com/tool@sha256:" + "d" * 64
PIPELINE = """
from pathlib import Path
from kfp import dsl
from kfp.components import load_component_from_file

train = load_component_from_file(str(Path(__file__).parents[1] / "component_specs/train.yaml"))


@dsl.pipeline(name="training")
def training():
    train(){override}
"""


@pytest.fixture
def workspace(repository: Any, tmp_path: Path) -> Workspace:
    repository.write("train/Dockerfile", "FROM scratch\nCOPY . /\n")
    repository.write(
        "component_specs/train.yaml",
        "name: train\nimplementation: {container: {image: train, command: [x]}}\n",
    )
    repository.write("pipelines/training.py", PIPELINE.format(override=""))
    repository.write("ci.yaml", "project: ml\n")
    return Workspace(
        repository=repository.root, build=tmp_path / "build", home=tmp_path / "home", dry_run=True
    )


def overridden(workspace: Workspace, image: str) -> None:
    text = PIPELINE.format(override=f".set_container_image({image!r})")
    (workspace.repository / "pipelines/training.py").write_text(text)


def test_the_components_of_a_pipeline_are_told(workspace: Workspace) -> None:
    compiled = stage.dry_run(workspace).pipelines["training"]
    assert compiled.components == ["train"]
    assert all("/ml/train@sha256:" in image for image in compiled.images)
    assert not workspace.build.exists()


@pytest.mark.parametrize("image", ["python:3.11", "train", "${TRAIN_IMAGE}", DIGEST])
def test_a_task_with_an_image_of_its_own_is_refused(workspace: Workspace, image: str) -> None:
    overridden(workspace, image)
    with pytest.raises(UnpinnedImageError) as caught:
        stage.dry_run(workspace)
    assert caught.value.exit_code == 31
    assert image in caught.value.what
    assert "training.py" in caught.value.what
    assert "'train'" in caught.value.what


def test_an_image_on_the_allow_list_passes(workspace: Workspace) -> None:
    overridden(workspace, DIGEST)
    (workspace.repository / "ci.yaml").write_text(
        f"project: ml\npipelines: {{allow_images: ['{DIGEST}']}}\n"
    )
    compiled = stage.dry_run(workspace).pipelines["training"]
    assert compiled.images == [DIGEST]
    assert compiled.components == []


HIDDEN = """
from pathlib import Path
from kfp import dsl
from kfp.components import load_component_from_file

train = load_component_from_file("component_specs/train.yaml")

@dsl.container_component
def evil():
    return dsl.ContainerSpec(image="evil:1", command=["x"])

@dsl.component(base_image="evil:1", kfp_package_path="none", install_kfp_package=False)
def light() -> bool:
    return True

@dsl.pipeline(name="inner")
def inner():
    evil()

@dsl.pipeline(name="training")
def training(image: str = "evil:1", items: list = ["a"]):
    train()
    {body}
"""


@pytest.mark.parametrize(
    ("body", "task"),
    [
        ("evil()", "evil"),
        ("light()", "light"),
        ("inner()", "inner/evil"),
        ("with dsl.ParallelFor([1, 2]):\n        evil()", "for-loop-2/evil"),
        (
            "with dsl.ParallelFor(items) as it:\n        with dsl.ParallelFor([1]):\n"
            "            inner()",
            "inner/evil",
        ),
        ("with dsl.ExitHandler(evil()):\n        train()", "evil"),
        ("with dsl.ExitHandler(train()):\n        inner()", "exit-handler-1/inner/evil"),
        (
            "with dsl.If(image == 'x'):\n        train()\n    with dsl.Else():\n        evil()",
            "evil",
        ),
        ("with dsl.If(light().output == True):\n        train()", "light"),
        ("train().set_container_image('evil:1')", "train-2"),
        ("train().set_container_image(image)", "train-2"),
        ("train().set_container_image(f'evil:{image}')", "train-2"),
        (
            "from kfp import kubernetes\n    t = evil()\n"
            "    kubernetes.use_secret_as_env(t, secret_name='s', secret_key_to_env={'a': 'B'})",
            "evil",
        ),
    ],
)
def test_no_construct_of_kfp_hides_an_image(workspace: Workspace, body: str, task: str) -> None:
    """The IR is kfp's own compiler's."""
    file = workspace.repository / "pipelines/training.py"
    file.write_text(HIDDEN.format(body=body))
    with pytest.raises(UnpinnedImageError) as caught:
        stage.dry_run(workspace)
    # `inner` is a pipeline of its own too, and told first.
    told = caught.value.what.split("; pipelines/training.py: ")[-1]
    assert f"{task}'" in told or f"{task}," in told
    assert "evil" in told or "{{" in told


def test_all_files_that_are_wrong_are_told(workspace: Workspace) -> None:
    overridden(workspace, "python:3.11")
    text = (workspace.repository / "pipelines/training.py").read_text()
    (workspace.repository / "pipelines/other.py").write_text(
        text.replace('name="training"', 'name="other"').replace("python:3.11", "python:3.12")
    )
    with pytest.raises(UnpinnedImageError) as caught:
        stage.dry_run(workspace)
    assert "pipelines/other.py: task 'train' runs 'python:3.12'" in caught.value.what
    assert "pipelines/training.py: task 'train' runs 'python:3.11'" in caught.value.what
