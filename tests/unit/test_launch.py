"""`launch`: what runs, what it leaves, and that nobody makes a release of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from ci import launch as launching
from ci import pipelines, train
from ci import release as releasing
from ci.workspace import Workspace
from ci_tools.errors import (
    CIError,
    ConfigError,
    MissingInputError,
    NoPublishedLockError,
    ReleaseError,
    RunFailedError,
    UnpinnedImageError,
)
from ci_tools.kubeflow import child, ir
from tests.fakes import kubeflow
from tests.fakes.kubeflow import FakeKubeflow
from tests.fakes.published import Project, Repositories
from tests.fakes.registry import serve

PIPELINE = """
from pathlib import Path
from kfp import dsl
from kfp.components import load_component_from_file

train = load_component_from_file(str(Path(__file__).parents[1] / "component_specs/train.yaml"))


@dsl.pipeline(name="training")
def training(rows: int = 3):
    train(){more}
"""
TEMPLATE = "name: {name}\nimplementation: {{container: {{image: {name}, command: [x]}}}}\n"


@pytest.fixture(autouse=True)
def person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "Ann O'Neil")
    for name in ("BRANCH_NAME", "GIT_BRANCH", "CHANGE_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[FakeKubeflow]:
    with kubeflow.serve(FakeKubeflow()) as served:
        yield served


@pytest.fixture
def registry() -> Repositories:
    return Repositories()


@pytest.fixture
def project(repository: Any, registry: Repositories, server: FakeKubeflow) -> Iterator[Project]:
    with serve(registry) as host:
        made = Project(repository, host)
        made.kubeflow = {"kubeflow": {"endpoint": server.endpoint}}
        made.declare()
        made.digest = registry.image()
        repository.write("evaluate/Dockerfile", "FROM scratch\n")
        for name in ("train", "evaluate"):
            repository.write(f"component_specs/{name}.yaml", TEMPLATE.format(name=name))
        repository.write("pipelines/training.py", PIPELINE.format(more=""))
        repository.write(".gitignore", "__pycache__\n")
        made.publish(repository.commit())
        yield made


def workspace(project: Project, **more: Any) -> Workspace:
    return Workspace(
        repository=project.root, build=project.root / "build", environment_name="dev",
        home=project.root.parent / "home", **more,
    )  # fmt: skip


def launch(project: Project, **images: str) -> tuple[launching.Launched, Workspace]:
    place = workspace(project)
    return launching.launch(place, "training", parameters={"rows": 5}, images=images), place


def image_of(launched: launching.Launched) -> str:
    (found,) = ir.executor_images(ir.load(launched.folder / "pipelines/training.yaml"))
    return found.image


def tagged(registry: Repositories, project: Project, tag: str) -> str:
    """Push an image by hand; its digest."""
    digest = registry.image(f"by hand: {tag}")
    registry.tags[f"me/train/{tag}"] = digest
    return digest


def test_ci_s_images_are_used_by_default(project: Project, server: FakeKubeflow) -> None:
    launched, place = launch(project)
    assert image_of(launched) == f"{project.host}/ml/train@{project.digest}"
    (pipeline,) = server.pipelines.values()
    assert pipeline["name"] == "training.ann-o-neil"
    (run,) = server.runs.values()
    (version,) = server.versions.values()
    assert run["pipeline_version_reference"] == {
        "pipeline_id": pipeline["pipeline_id"],
        "pipeline_version_id": version["pipeline_version_id"],
    }
    assert run["runtime_config"] == {"parameters": {"rows": 5}}
    (made,) = launched.training.runs
    assert (made.state, made.run_id) == ("SUCCEEDED", run["run_id"])
    assert place.console.warnings == []


def test_what_is_as_it_was_is_not_compiled_again(
    project: Project, registry: Repositories, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = launch(project)
    asked: list[str] = []
    ask = child.ask
    monkeypatch.setattr(
        child, "ask", lambda verb, *a, **k: asked.append(verb) or ask(verb, *a, **k)
    )
    again, _ = launch(project)
    assert asked == []
    assert image_of(again) == image_of(first)
    digest = tagged(registry, project, "dev")
    own, _ = launch(project, train=f"{project.host}/me/train:dev")
    assert image_of(own).endswith(digest)
    assert asked == ["compile"]


def test_the_work_tree_stays_as_it_is(project: Project) -> None:
    launched, place = launch(project)
    assert project.repository.git("status", "--porcelain", "--ignored") == ""
    assert not place.build.exists()
    assert place.home in launched.folder.parents


def test_an_override_is_used_by_digest_and_marked(
    project: Project, server: FakeKubeflow, registry: Repositories
) -> None:
    digest = tagged(registry, project, "dev")
    launched, place = launch(project, train=f"{project.host}/me/train:dev")
    used = f"{project.host}/me/train@{digest}"
    assert image_of(launched) == used
    (version,) = server.versions.values()
    (run,) = server.runs.values()
    assert version["name"].endswith("-unpinned")
    assert version["name"] in run["display_name"]
    tags = version["tags"]
    assert (tags["unpinned"], tags["launched-by"]) == ("train", "ann-o-neil")
    assert "unpinned=train" in version["description"]
    (warning,) = place.console.warnings
    assert f"unpinned (train={project.host}/me/train:dev)" in warning
    for file in ("images.lock.json", "pipelines.json", "uploads.json", "train.json"):
        mark = json.loads((launched.folder / file).read_text())["launched"]
        assert mark["unpinned"] == {"train": used}
        assert mark["named"] == {"train": f"{project.host}/me/train:dev"}
        assert mark["by"] == "ann-o-neil"


def test_the_same_launch_twice_is_one_version(project: Project, server: FakeKubeflow) -> None:
    launch(project)
    launch(project)
    assert len(server.versions) == 1
    assert len(server.runs) == 2


def test_no_stage_s_name_is_a_launch_s(project: Project) -> None:
    for name in ("training", "training--ann", "x" * 128):
        made = launching.apart(workspace(project), name)
        assert made != name
        assert "." in made  # which no compiled pipeline's name holds
        assert len(made) <= 128


def test_a_wrong_parameter_is_told_before_anything_is_uploaded(
    project: Project, server: FakeKubeflow
) -> None:
    for wrong, words in (
        ({"row": "5"}, "pipeline 'training' has no parameter 'row'. Did you mean 'rows'"),
        ({"rows": "many"}, 'must be an integer, not "many". Give another with -p rows=VALUE'),
    ):
        with pytest.raises(ConfigError) as caught:
            launching.launch(workspace(project), "training", parameters=wrong, images={})
        assert words in str(caught.value)
    assert server.pipelines == {}


# What it leaves ------------------------------------------------------------------------


def age(project: Project, server: FakeKubeflow, days: int) -> None:
    """Let everything that there is have been launched so long ago."""
    then = datetime.now(timezone.utc) - timedelta(days=days)
    for version in server.versions.values():
        version["created_at"] = then.strftime("%Y-%m-%dT%H:%M:%SZ")
    for folder in (project.root.parent / "home/launches").iterdir():
        folder.rename(folder.with_name(f"{then:%Y%m%dT%H%M%S}-{folder.name.partition('-')[2]}"))


def prune(project: Project, days: int, **keywords: Any) -> dict[str, bool]:
    place = workspace(project, **keywords)
    pruned = pipelines.prune_launched(place, days)
    folders = list((place.home / "launches").iterdir())
    assert pruned.dry_run or not {*pruned.folders} & {str(it) for it in folders}
    told = pipelines.prune_lines(pruned)
    return {line.partition(":")[0].rpartition("/")[2][:8]: "kept" not in line for line in told}


def test_a_person_s_own_launches_are_deleted_once_they_are_old(
    project: Project, server: FakeKubeflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched, place = launch(project)
    (run,) = launched.training.runs
    made = place.home / "artifacts" / run.run_id
    made.mkdir(parents=True)
    (listed,) = pipelines.list_(place).pipelines
    assert (listed.pipeline, listed.branch) == ("training.ann-o-neil", "by hand, ann-o-neil")
    assert prune(project, 1) == {"training": False}

    age(project, server, days=3)
    assert prune(project, 4) == {"training": False}
    stamp = f"{datetime.now(timezone.utc) - timedelta(days=3):%Y%m%d}"
    assert prune(project, 2, dry_run=True) == {"training": True, stamp: True}
    assert len(server.pipelines) == 1
    assert made.is_dir()
    monkeypatch.setenv("LOGNAME", "bob")
    assert "training" not in prune(project, 2)  # which is another's, but this machine's files go
    assert not made.exists()
    monkeypatch.setenv("LOGNAME", "Ann O'Neil")
    assert prune(project, 2) == {"training": True}
    assert server.pipelines == {}
    assert run.run_id in server.runs
    assert prune(project, 2) == {"no such ": True}


def test_of_launches_only_this_project_s_own_are_deleted(
    project: Project, server: FakeKubeflow
) -> None:
    launched, place = launch(project)
    edit(launched.folder / "images.lock.json", lambda lock: lock.update(project="other"))
    for pipeline in server.pipelines.values():
        pipeline["description"] = pipeline["description"].replace('"ml"', '"other"')
    age(project, server, days=30)
    (place.home / "launches/notes").mkdir()
    assert prune(project, 2) == {"no such ": True}
    assert len(server.pipelines) == 1
    assert len([*(place.home / "launches").iterdir()]) == 2  # the other's, and the notes


def test_a_person_s_own_schedule_stops_no_launch_and_keeps_the_pipeline(
    project: Project, registry: Repositories, server: FakeKubeflow
) -> None:
    launch(project)
    (pipeline,) = server.pipelines
    server.schedule("mine", pipeline)  # which names no version
    tagged(registry, project, "dev")
    launch(project, train=f"{project.host}/me/train:dev")
    assert len(server.versions) == 2
    age(project, server, days=30)
    assert prune(project, 2)["training"] is False
    assert len(server.pipelines) == 1


def test_tags_are_within_the_server_s_limits() -> None:
    many = {f"component-{number}": "x" for number in range(50)}
    found = launching.tags(launching.ByHand(by="a" * 32, commit="c" * 64, unpinned=many))
    assert found["unpinned"].startswith("component-0,")
    assert len(found) <= 20
    assert all(len(key) <= 63 and len(value) <= 63 for key, value in found.items())
    assert not any("." in key for key in found)  # which the server refuses
    assert "unpinned" not in launching.tags(launching.ByHand(by="a", commit="c"))


REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "a name of the engine's": ({"train": "train:dev"}, "docker push"),
    "an id": ({"train": f"sha256:{'0' * 64}"}, "on this machine only"),
    "another registry here": ({"train": "localhost:1/train:dev"}, "on this machine only"),
    "not pushed": ({"train": "HOST/me/train:gone"}, "there is no image"),
    "no component": ({"trian": "HOST/me/train:dev"}, "Did you mean 'train'"),
    "no step": ({"evaluate": "HOST/me/train:dev"}, "no step of component 'evaluate'"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_an_image_that_cannot_be_had_is_refused_before_anything_starts(
    project: Project, server: FakeKubeflow, registry: Repositories, why: str
) -> None:
    tagged(registry, project, "dev")
    images, said = REFUSED[why]
    with pytest.raises(ConfigError) as caught:
        launch(project, **{n: i.replace("HOST", project.host) for n, i in images.items()})
    assert said in str(caught.value)
    assert not server.pipelines


@pytest.mark.parametrize(
    ("images", "said"),
    [({}, "what is built here Kubeflow at"), ({"train": "HOST/x:y"}, "has --image and --build")],
)
def test_what_is_built_here_is_of_no_use_to_a_server(
    project: Project, server: FakeKubeflow, images: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        launching.launch(
            workspace(project), "training", parameters={}, images=images, builds=["train"]
        )
    assert not server.pipelines


def test_changes_that_no_image_holds_are_told(project: Project) -> None:
    project.repository.write("train/main.py", "new")
    project.repository.write("evaluate/main.py", "new, but no step of it")
    launched, place = launch(project)
    assert image_of(launched).endswith(project.digest)
    (warning,) = place.console.warnings
    assert warning.startswith("train has changes here that no image holds")
    assert "--build train, or --image train=IMAGE" in warning


def test_the_pipeline_is_the_work_tree_s(project: Project) -> None:
    project.repository.write(
        "pipelines/training.py", PIPELINE.format(more=".set_display_name('mine')")
    )
    launched, place = launch(project)
    assert "mine" in (launched.folder / "pipelines/training.yaml").read_text()
    assert place.console.warnings == []


def test_a_component_that_ci_never_built(project: Project) -> None:
    project.repository.write("new/Dockerfile", "FROM scratch\n")
    project.repository.write("component_specs/new.yaml", TEMPLATE.format(name="new"))
    launch(project)  # it is no step
    text = PIPELINE.format(more="").replace("train.yaml", "new.yaml")
    project.repository.write("pipelines/training.py", text)
    with pytest.raises(NoPublishedLockError, match="needs new, of which CI's lock"):
        launch(project)


def test_an_image_that_expired(project: Project, registry: Repositories) -> None:
    del registry.manifests[project.digest]
    with pytest.raises(NoPublishedLockError, match="no longer in the registry"):
        launch(project)


def test_an_image_that_a_pipeline_brings_itself_is_refused(
    project: Project, server: FakeKubeflow
) -> None:
    project.repository.write(
        "pipelines/training.py", PIPELINE.format(more=".set_container_image('python:3.11')")
    )
    with pytest.raises(UnpinnedImageError):
        launch(project)
    assert not server.pipelines


def test_another_pipeline_that_does_not_compile_is_none_of_its_business(project: Project) -> None:
    project.repository.write("pipelines/other.py", "raise ValueError('no')\n")
    launched, _ = launch(project)
    assert launched.training.runs[0].state == "SUCCEEDED"
    assert [it.name for it in launched.folder.glob("pipelines/*.yaml")] == ["training.yaml"]


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "-x", "", "a/b", "x\n"])
def test_hostile_pipeline_names(project: Project, name: str) -> None:
    with pytest.raises(ConfigError, match="is not a pipeline name"):
        launching.launch(workspace(project), name, parameters={}, images={})
    assert not (project.root.parent / "home" / "launches").exists()


def test_an_unknown_pipeline(project: Project) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'training'"):
        launching.launch(workspace(project), "trainin", parameters={}, images={})


def test_an_unknown_parameter_starts_nothing(project: Project, server: FakeKubeflow) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'rows'"):
        launching.launch(workspace(project), "training", parameters={"row": 1}, images={})
    assert not server.runs


def test_a_failed_run_has_its_exit_code(project: Project, server: FakeKubeflow) -> None:
    server.states = ["RUNNING", "FAILED"]
    launched, _ = launch(project)
    with pytest.raises(RunFailedError):
        train.raise_failures(launched.training)


def test_the_link_comes_first(
    project: Project, server: FakeKubeflow, capsys: pytest.CaptureFixture[str]
) -> None:
    server.states = ["RUNNING", "FAILED"]
    launched, _ = launch(project)
    told = capsys.readouterr().err
    assert launched.url.startswith(f"{server.endpoint}/#/runs/details/")
    assert 0 < told.index(launched.url) < told.index("failed in")


def test_a_run_that_nobody_waits_for_goes_on(project: Project, server: FakeKubeflow) -> None:
    server.states = ["RUNNING"]
    place = workspace(project)
    launched = launching.launch(place, "training", parameters={}, images={}, wait=False)
    (run,) = server.runs.values()
    assert run["run_id"] in launched.url
    assert launched.training.runs == []
    assert not any("terminate" in asked for asked in server.requests)
    assert released_is_refused(project, launched.folder)


def released_is_refused(project: Project, folder: Path) -> bool:
    with pytest.raises(ReleaseError, match="launch by"):
        released(project, folder)
    return True


def test_on_this_machine_somebody_waits(project: Project) -> None:
    place = Workspace(
        repository=project.root, build=project.root / "build", home=project.root.parent / "home"
    )
    with pytest.raises(ConfigError, match="lasts no longer than the command"):
        launching.launch(place, "training", parameters={}, images={}, wait=False)


def test_a_dry_run_asks_nobody(
    project: Project, server: FakeKubeflow, registry: Repositories
) -> None:
    registry.asked.clear()
    place = workspace(project, dry_run=True)
    lines = launching.dry_run(
        place, "training", parameters={"rows": 5}, images={"train": "train:dev"}
    )
    assert lines == [
        "training: would run as training.ann-o-neil with {'rows': 5}",
        "  train: train:dev (unpinned)",
    ]
    assert registry.asked == []
    assert server.requests == []
    assert not place.home.exists()


# Never a release --------------------------------------------------------------------

FILES = ["images.lock.json", "pipelines.json", "uploads.json", "train.json"]


def released(project: Project, folder: Path) -> Any:
    place = workspace(project)
    return releasing.release(Workspace(
        repository=place.repository, build=folder, environment_name="dev", home=place.home,
    ))  # fmt: skip


def edit(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.fixture(params=["CI's images", "an override"])
def folder(request: pytest.FixtureRequest, project: Project, registry: Repositories) -> Path:
    tagged(registry, project, "dev")
    own = {} if request.param == "CI's images" else {"train": f"{project.host}/me/train:dev"}
    return launch(project, **own)[0].folder


def test_a_launch_is_no_release(project: Project, folder: Path) -> None:
    with pytest.raises(ReleaseError, match="launch by ann-o-neil") as caught:
        released(project, folder)
    assert caught.value.exit_code == 50
    assert not (folder / "release.json").exists()


@pytest.mark.parametrize("kept", FILES)
def test_one_mark_is_enough(project: Project, folder: Path, kept: str) -> None:
    for file in FILES:
        if file != kept:
            edit(folder / file, lambda content: content.pop("launched"))
    with pytest.raises(ReleaseError, match=f"{kept} is of a launch"):
        released(project, folder)


@pytest.mark.parametrize("gone", FILES)
def test_a_file_less_does_not_help(project: Project, folder: Path, gone: str) -> None:
    (folder / gone).unlink()
    with pytest.raises((ReleaseError, MissingInputError)):
        released(project, folder)


def test_the_files_of_a_launch_beside_ci_s_own_lock(project: Project, folder: Path) -> None:
    """As somebody would who copies them into a build directory."""
    build = project.root / "build"
    shutil.copytree(folder, build)
    edit(build / "images.lock.json", lambda content: content.pop("launched"))
    with pytest.raises(ReleaseError):
        released(project, build)


def test_without_any_mark_an_override_is_still_no_image_of_the_lock(
    project: Project, registry: Repositories
) -> None:
    tagged(registry, project, "dev")
    launched, _ = launch(project, train=f"{project.host}/me/train:dev")
    for file in FILES:
        edit(launched.folder / file, lambda content: content.pop("launched"))
    for components in (["train"], []):
        edit(
            launched.folder / "pipelines.json",
            lambda it, c=components: it["pipelines"]["training"].update(components=c),
        )
        with pytest.raises(ReleaseError, match=r"another build|no image of"):
            released(project, launched.folder)


# As a person types it ------------------------------------------------------------------


def test_the_command(project: Project, server: FakeKubeflow, capsys: Any) -> None:
    from ci.cli import cli

    arguments = ["launch", "training", "-p", "rows=7", "--env", "dev", "--repo", str(project.root)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("KFP_CI_HOME", str(project.root.parent / "home"))
        cli.main(arguments, standalone_mode=False)
        with pytest.raises(CIError, match="names no image"):
            cli.main([*arguments, "--image", "train"], standalone_mode=False)
    (run,) = server.runs.values()
    assert run["runtime_config"] == {"parameters": {"rows": 7}}
    assert "training.ann-o-neil  SUCCEEDED" in capsys.readouterr().out


def test_the_template_of_a_launch_is_not_the_repository_s(project: Project) -> None:
    before = (project.root / "component_specs/train.yaml").read_text()
    launched, _ = launch(project)
    assert (project.root / "component_specs/train.yaml").read_text() == before
    copy = yaml.safe_load((launched.folder / "component_specs/train.yaml").read_text())
    assert copy["implementation"]["container"]["image"].endswith(project.digest)
