"""`from ci_tools.components import load`, as pipelines and notebooks use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ci import compile as compiling
from ci.workspace import Workspace
from ci_tools.components import load, loading
from ci_tools.errors import ConfigError, NoPublishedLockError, TemplateError, UnpinnedImageError
from ci_tools.images import moving
from tests.fakes.published import Project, Repositories
from tests.fakes.registry import serve

ROOT = Path(__file__).parents[2]
TEMPLATE = "name: {name}\nimplementation: {{container: {{image: {image}, command: [x]}}}}\n"
PIPELINE = """
from ci_tools.components import load
from kfp import dsl

train = load("train"{more})


@dsl.pipeline(name="training")
def training():
    train()
"""


@pytest.fixture(autouse=True)
def afresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As a process of its own would begin."""
    for cached in (
        loading._config, loading._opened, loading._components, loading._resolved,
    ):  # fmt: skip
        cached.cache_clear()
    monkeypatch.setenv("KFP_CI_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("KFP_CI_ENVIRONMENT", raising=False)


@pytest.fixture
def registry() -> Repositories:
    return Repositories()


@pytest.fixture
def project(repository: Any, registry: Repositories) -> Iterator[Project]:
    with serve(registry) as host:
        made = Project(repository, host)
        repository.write("evaluate/Dockerfile", "FROM scratch\n")
        repository.write("component_specs/train.yaml", TEMPLATE.format(name="t", image="train"))
        for name in ("evaluate", "more/score"):
            repository.write(
                f"component_specs/{name}.yaml", TEMPLATE.format(name="s", image="evaluate")
            )
        made.publish(repository.commit())
        yield made


def image(component: Any) -> str:
    return str(component.component_spec.implementation.container.image)


def loaded(project: Project, name: str, **more: Any) -> str:
    return image(load(name, repository=project.root, **more))


@pytest.mark.parametrize(
    ("name", "component"),
    [("train", "train"), ("train.yaml", "train"), ("component_specs/train.yaml", "train"),
     ("score", "evaluate"), ("more/score", "evaluate"), ("evaluate", "evaluate")],
)  # fmt: skip
def test_a_template_by_any_of_its_names(project: Project, name: str, component: str) -> None:
    assert loaded(project, name) == f"{project.host}/ml/{component}@{project.digest}"


def test_a_component_that_one_template_names(project: Project) -> None:
    (project.root / "component_specs/train.yaml").rename(project.root / "component_specs/fit.yaml")
    assert loaded(project, "train").startswith(f"{project.host}/ml/train@")


def test_a_template_that_names_a_variable(project: Project) -> None:
    config = project.root / "ci.yaml"
    settings = {"image_patterns": ["${{COMPONENT}_IMAGE}"]}
    config.write_text(json.dumps({**json.loads(config.read_text()), "pipelines": settings}))
    text = TEMPLATE.format(name="t", image="'${TRAIN_IMAGE}'")
    (project.root / "component_specs/train.yaml").write_text(text)
    assert loaded(project, "train") == f"{project.host}/ml/train@{project.digest}"


def test_a_name_of_several_templates_is_refused(project: Project) -> None:
    specs = project.root / "component_specs"
    (specs / "evaluate.yaml").rename(specs / "judge.yaml")
    with pytest.raises(ConfigError, match=r"may mean .*/judge\.yaml or .*/more/score\.yaml"):
        loaded(project, "evaluate")
    (specs / "other").mkdir()
    (specs / "judge.yaml").rename(specs / "other/score.yaml")
    with pytest.raises(ConfigError, match=r"may mean .*/more/score\.yaml or .*/other/score\.yaml"):
        loaded(project, "score")
    assert loaded(project, "other/score").startswith(f"{project.host}/ml/evaluate@")


def test_an_unknown_name(project: Project) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'train'"):
        loaded(project, "trian")


@pytest.mark.parametrize("name", ["../ci", "/etc/passwd", "", ".", "**"])
def test_hostile_names(project: Project, name: str) -> None:
    with pytest.raises(ConfigError, match="no template below component_specs"):
        loaded(project, name)


def test_the_lock_is_asked_for_once_and_again_for_another_commit(
    project: Project, registry: Repositories
) -> None:
    loaded(project, "train")
    asked = len(registry.asked)
    loaded(project, "evaluate")
    assert len(registry.asked) == asked
    project.digest = registry.image("another")
    project.publish(project.repository.commit())
    assert loaded(project, "train").endswith(project.digest)


def test_the_environment_is_an_argument_or_the_variable_s(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert project.digest in loaded(project, "train", environment="dev")
    monkeypatch.setenv("KFP_CI_ENVIRONMENT", "prod")
    with pytest.raises(ConfigError, match="environment 'prod' is not declared"):
        loaded(project, "train")


def test_changes_that_no_image_holds_are_warned_of_where_it_is_called(project: Project) -> None:
    project.repository.write("train/main.py", "new")
    with pytest.warns(loading.ImageWarning, match="train has changes here") as caught:
        assert project.digest in loaded(project, "train")
    assert caught[0].filename == __file__


def test_an_image_of_one_s_own_is_warned_of_and_asks_nobody(
    project: Project, registry: Repositories
) -> None:
    asked = len(registry.asked)
    with pytest.warns(loading.ImageWarning, match="is unpinned: it runs train:dev") as caught:
        assert loaded(project, "train", image="train:dev") == "train:dev"
    assert caught[0].filename == __file__
    assert len(registry.asked) == asked


def test_no_image(project: Project) -> None:
    with pytest.raises(ConfigError, match="is no image"):
        loaded(project, "train", image="${IMAGE}")


def test_an_image_for_a_template_without_a_component(project: Project) -> None:
    external = f"example.com/x@sha256:{'0' * 64}"
    project.repository.write(
        "ci.yaml",
        f'{{"project": "ml", "pipelines": {{"allow_images": ["{external}"]}}}}',
    )
    project.repository.write("component_specs/x.yaml", TEMPLATE.format(name="x", image=external))
    with pytest.raises(TemplateError, match="names no component"):
        loaded(project, "x", image="train:dev")


def test_a_component_that_ci_never_built(project: Project) -> None:
    project.repository.write("new/Dockerfile", "FROM scratch\n")
    project.repository.write("component_specs/new.yaml", TEMPLATE.format(name="n", image="new"))
    with pytest.raises(NoPublishedLockError, match="holds no image of new"):
        loaded(project, "new")


# Where the repository is --------------------------------------------------------------


def test_the_root_is_the_caller_s_or_that_of_the_working_directory(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deep = project.root / "a/b"
    deep.mkdir(parents=True)
    assert loading.root_of(None, str(deep / "x.py")) == project.root
    monkeypatch.chdir(deep)
    assert loading.root_of(None, None) == project.root
    (project.root / "ci.yaml").unlink()
    assert loading.root_of(None, None) == project.root  # by its .git
    with pytest.raises(ConfigError, match="is no directory"):
        loading.root_of(tmp_path / "nowhere", None)


def test_a_script_needs_nothing_but_the_import(project: Project) -> None:
    project.repository.write(
        "pipelines/script.py",
        "from ci_tools.components import load\n"
        "print(load('train').component_spec.implementation.container.image)\n",
    )
    done = subprocess.run(
        [sys.executable, project.root / "pipelines/script.py"],
        capture_output=True, text=True, cwd="/", check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout.strip() == f"{project.host}/ml/train@{project.digest}"


def test_the_import_is_light() -> None:
    script = (
        "import sys; from ci_tools.components import load; "
        "print([n for n in ('kfp', 'msgspec', 'yaml', 'requests', 'ci_tools.config') "
        "if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


# While CI compiles -----------------------------------------------------------------------


def compiled(project: Project, tmp_path: Path, more: str = "") -> Any:
    project.repository.write("pipelines/training.py", PIPELINE.format(more=more))
    return compiling.dry_run(
        Workspace(
            repository=project.root, build=tmp_path / "build", environment_name="dev",
            home=tmp_path / "home", dry_run=True,
        )
    ).pipelines["training"]  # fmt: skip


def test_ci_s_own_pins_are_used_and_nobody_is_asked(
    project: Project, registry: Repositories, tmp_path: Path
) -> None:
    registry.asked.clear()
    made = compiled(project, tmp_path)
    assert made.components == ["train"]
    (used,) = made.images
    assert project.digest not in used  # the plan's key stands there, not CI's last lock
    assert registry.asked == []


def test_ci_refuses_an_image_of_one_s_own(project: Project, tmp_path: Path) -> None:
    with pytest.raises(UnpinnedImageError, match="train:dev"):
        compiled(project, tmp_path, ", image='train:dev'")


def test_tags_of_commits_can_be_read() -> None:
    assert moving.tag_of(f"{'c' * 40}-dev") == f"{'c' * 40}-dev"
