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
