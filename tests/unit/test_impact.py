"""Which pipelines a changed component reaches, also through its children's images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ci import impact as stage
from ci.workspace import Workspace
from ci_tools.errors import ConfigError

PIPELINE = """
from kfp import dsl
from kfp.components import load_component_from_file as load

one = load("component_specs/{one}.yaml")

@dsl.pipeline(name="inner-{one}")
def inner():
    one()

@dsl.pipeline(name="{name}")
def outer():
    with dsl.ParallelFor([1, 2]):
        inner()
"""


@pytest.fixture
def workspace(repository: Any, tmp_path: Path) -> Workspace:
    for name, base in (("base", "scratch"), ("train", "ml/base"), ("score", "scratch")):
        repository.write(f"{name}/Dockerfile", f"FROM {base}\nCOPY . /\n")
    for name in ("train", "score"):
        repository.write(
            f"component_specs/{name}.yaml",
            f"name: {name}\nimplementation: {{container: {{image: {name}, command: [x]}}}}\n",
        )
        repository.write(f"pipelines/{name}_flow.py", PIPELINE.format(one=name, name=name + "-all"))
    repository.write("ci.yaml", "project: ml\n")
    return Workspace(
        repository=repository.root, build=tmp_path / "build", home=tmp_path / "home", dry_run=True
    )


def test_a_parent_reaches_what_runs_its_children(workspace: Workspace) -> None:
    found = stage.impact(workspace, ["base"])
    assert found.components == {"base": ["base", "train"]}
    assert found.pipelines == {"inner-train": ["train"], "train-all": ["train"]}
    assert found.servables == []
    assert stage.lines(found) == ["inner-train  (runs train)", "train-all  (runs train)"]
    assert not (workspace.home).exists()


def test_several_components(workspace: Workspace) -> None:
    found = stage.impact(workspace, ["score", "train"])
    assert sorted(found.pipelines) == ["inner-score", "inner-train", "score-all", "train-all"]


def test_an_unknown_component_is_told_with_the_nearest(workspace: Workspace) -> None:
    with pytest.raises(ConfigError, match="no component 'trian'") as caught:
        stage.impact(workspace, ["trian"])
    assert "Did you mean 'train'" in str(caught.value)
