"""The stage `pin`: digests into templates, all or none, and what has drifted since."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ci import pin as stage
from ci.workspace import Workspace
from ci_tools import storage
from ci_tools.documents import Lock, LockedImage, Source, Verdict
from ci_tools.errors import MissingInputError, PinDriftError, TemplateError, WriteError

TEMPLATE = """\
# {image} stays in comments
name: x
implementation:
  container: {{image: {image}, command: [x]}}
"""


def digest(name: str, letter: str) -> str:
    return f"registry.example/ml/{name}@sha256:{letter * 64}"


def lock(letter: str = "a", names: tuple[str, ...] = ("train", "score")) -> Lock:
    verdict = Verdict(status="pass", trivy="0.76.0", database=None, policy="p")
    return Lock(
        project="ml",
        environment="local",
        source=Source(),
        components={
            name: LockedImage(
                repository=f"registry.example/ml/{name}",
                digest=f"sha256:{letter * 64}",
                config="sha256:" + "c" * 64,
                key=letter * 64,
                size=1,
                verdict=verdict,
            )
            for name in names
        },
    )


@pytest.fixture
def workspace(repository: Any, tmp_path: Path) -> Workspace:
    for name in ("train", "score"):
        repository.write(f"{name}/Dockerfile", "FROM scratch\nCOPY . /\n")
        repository.write(f"component_specs/{name}.yaml", TEMPLATE.format(image=name))
    repository.write("component_specs/again.yaml", TEMPLATE.format(image="train"))
    repository.write("ci.yaml", "project: ml\n")
    it = Workspace(repository=repository.root, build=tmp_path / "build", home=tmp_path / "home")
    it.write("images.lock.json", lock())
    return it


def text(workspace: Workspace, name: str) -> str:
    return (workspace.repository / "component_specs" / name).read_text()


def test_copies_are_pinned_and_sources_stay(workspace: Workspace) -> None:
    pins = stage.pin(workspace)
    assert text(workspace, "train.yaml") == TEMPLATE.format(image="train")
    copy = workspace.build / "component_specs" / "again.yaml"  # one Dockerfile, two templates
    assert copy.read_text() == TEMPLATE.format(image="train").replace(
        "image: train", f"image: {digest('train', 'a')}"
    )
    assert pins.templates["component_specs/again.yaml"] == digest("train", "a")
    assert stage.drift(workspace) == []


def test_sources_are_written_when_asked_and_pinned_anew(workspace: Workspace) -> None:
    (workspace.repository / "component_specs/train.yaml").chmod(0o640)
    for letter in "ab":
        workspace.write("images.lock.json", lock(letter))
        stage.pin(workspace, write_sources=True)
        assert f"image: {digest('score', letter)}" in text(workspace, "score.yaml")
    assert (workspace.repository / "component_specs/train.yaml").stat().st_mode & 0o777 == 0o640


def test_drift_is_told_by_file_and_line(workspace: Workspace) -> None:
    stage.pin(workspace, write_sources=True)
    workspace.write("images.lock.json", lock("b"))
    (workspace.build / "component_specs" / "old.yaml").write_text("x")
    (workspace.build / "component_specs" / "score.yaml").unlink()
    before = text(workspace, "train.yaml")
    said = stage.drift(workspace)
    assert (
        f"component_specs/train.yaml line 4 names {digest('train', 'a')}, "
        f"the lock {digest('train', 'b')}" in said
    )
    assert len(said) == 7  # three sources, two copies of others, the stray and the lost one
    assert any(it.endswith("old.yaml is a copy of no template") for it in said)
    assert any(it.endswith("score.yaml is not there") for it in said)
    assert text(workspace, "train.yaml") == before
    with pytest.raises(PinDriftError, match="line 4 names"):
        stage.raise_drift(said)


def test_templates_by_name_cannot_drift(workspace: Workspace) -> None:
    stage.pin(workspace)
    workspace.write("images.lock.json", lock("b"))
    assert all("build" in it or "component_specs/" not in it for it in stage.drift(workspace))
    stage.pin(workspace)
    assert stage.drift(workspace) == []


def test_an_image_that_is_missing_changes_nothing(workspace: Workspace) -> None:
    stage.pin(workspace)
    before = (workspace.build / "component_specs/score.yaml").read_bytes()
    workspace.write("images.lock.json", lock("b", ("score",)))
    with pytest.raises(MissingInputError, match="holds no image of train"):
        stage.pin(workspace, write_sources=True)
    assert (workspace.build / "component_specs/score.yaml").read_bytes() == before
    assert text(workspace, "score.yaml") == TEMPLATE.format(image="score")


def test_a_source_that_cannot_be_written_leaves_all_as_they_were(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Path.replace

    def fails(path: Path, target: Path) -> Path:
        if Path(target).name == "train.yaml" and Path(target).parent.name == "component_specs":
            raise OSError(28, "No space left on device")
        return written(path, target)

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(WriteError, match="No space left"):
        stage.pin(workspace, write_sources=True)
    for name, image in (("again", "train"), ("score", "score"), ("train", "train")):
        assert text(workspace, f"{name}.yaml") == TEMPLATE.format(image=image)
    left = [path.name for path in (workspace.repository / "component_specs").iterdir()]
    assert sorted(left) == ["again.yaml", "score.yaml", "train.yaml"]


def test_a_link_out_of_the_repository_is_not_followed(workspace: Workspace, tmp_path: Path) -> None:
    outside = tmp_path / "outside.yaml"
    outside.write_text(TEMPLATE.format(image="train"))
    link = workspace.repository / "component_specs/train.yaml"
    link.unlink()
    link.symlink_to(outside)
    with pytest.raises(TemplateError, match="link out of the repository"):
        stage.pin(workspace, write_sources=True)
    assert outside.read_text() == TEMPLATE.format(image="train")


def test_older_repositories_have_variables(workspace: Workspace, repository: Any) -> None:
    repository.write(
        "ci.yaml",
        """\
project: ml
pipelines:
  images: {"${THE_SCORER}": score}
  image_patterns: ["${ECR}/{component}:${TAG}", "${{COMPONENT}_IMAGE}"]
""",
    )
    texts = {
        "a": TEMPLATE.format(image="'${ECR}/train:${TAG}'"),
        "b": TEMPLATE.format(image='"${SCORE_IMAGE}"'),
        "c": TEMPLATE.format(image='"${THE_SCORER}"'),
    }
    for name, content in texts.items():
        repository.write(f"component_specs/{name}.yaml", content)
    stage.pin(workspace, write_sources=True)
    for name, image in (("a", "train"), ("b", "score"), ("c", "score")):
        quote = "'" if name == "a" else '"'
        assert f"{{image: {quote}{digest(image, 'a')}{quote}, " in text(workspace, f"{name}.yaml")
    assert "# '${ECR}/train:${TAG}' stays" in text(workspace, "a.yaml")


def test_storage_rewrites_through_one_door(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    path.chmod(0o600)
    storage.rewrite_all({path: b"new"})
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
