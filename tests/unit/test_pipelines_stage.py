"""Stages `upload` and `pipelines`: whose pipelines they are, and which are deleted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ci import pipelines as stage
from ci import upload as uploading
from ci.cli import cli
from ci.console import Console
from ci.workspace import Workspace
from ci_tools import git, storage
from ci_tools.documents import Compiled, CompiledPipeline, Upload, Uploads
from ci_tools.errors import CredentialsError, MissingInputError, ToolError, UploadConflictError
from ci_tools.kubeflow import ir, names
from ci_tools.kubeflow.catalogue import Catalogue
from ci_tools.kubeflow.wanted import Wanted
from tests.fakes.kubeflow import FakeKubeflow, serve
from tests.unit.test_kubeflow_uploads import BRANCH, MAIN, spec

CI_YAML = """\
project: ml
pipelines:
  branches: {}
environments:
  dev:
    registry: {host: "127.0.0.1:1"}
    kubeflow: {endpoint: "ENDPOINT", namespace: team}
"""


@pytest.fixture(autouse=True)
def no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        *("BRANCH_NAME", "GIT_BRANCH", "CHANGE_ID", "CHANGE_BRANCH", "CHANGE_FORK"),
        *("BUILD_URL", "SOURCE_DATE_EPOCH"),
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fake() -> Iterator[FakeKubeflow]:
    with serve(FakeKubeflow(page_size=200)) as served:
        yield served


class Project:
    """A repository with an origin, and a compiled pipeline in its build directory."""

    def __init__(self, repository: Any, home: Path, endpoint: str) -> None:
        self.repository, self.home = repository, home
        self.environment = "dev" if endpoint else "local"
        text = CI_YAML.replace("ENDPOINT", endpoint)
        # Without a server the environment is embedded; uploads need its other half not.
        repository.write("ci.yaml", text if endpoint else text[: text.index("environments")])
        repository.write(".gitignore", "/build/\n")
        repository.commit()
        self.origin = home / "origin.git"
        repository.git("init", "-q", "--bare", str(self.origin))
        repository.git("remote", "add", "origin", str(self.origin))
        self.push("main")

    def push(self, *branches: str) -> None:
        for branch in branches:
            self.repository.git("push", "-q", "origin", f"HEAD:refs/heads/{branch}")

    def forget(self, branch: str) -> None:
        self.repository.git("push", "-q", "origin", f":refs/heads/{branch}")

    def workspace(self, **keywords: Any) -> Workspace:
        root = self.repository.root
        return Workspace(
            repository=root,
            build=root / "build",
            environment_name=self.environment,
            home=self.home,
            console=Console(quiet=True),
            **keywords,
        )

    def upload(self, command: str = "true", *, branch: str | None = None, **marks: str) -> Upload:
        if branch is not None:
            self.repository.git("checkout", "-q", "-B", branch)
        path = self.repository.write("build/ir/demo.yaml", spec(command))
        sha256 = ir.canonical_sha256(ir.load(path))
        pipeline = CompiledPipeline(
            path="ir/demo.yaml",
            source="p.py",
            function="demo",
            sha256=sha256,
            images=[],
            components=[],
        )
        workspace = self.workspace()
        if self.environment == "local":  # whose registry need not be started for this
            workspace.environment = workspace.config.environment("local")
        workspace.write("pipelines.json", Compiled(pipelines={"demo": pipeline}))
        uploads = uploading.upload(workspace, marks)
        written = storage.read(workspace.build / "uploads.json", Uploads, made_by="upload")
        assert written == uploads
        return uploads.pipelines["demo"]

    def prune(self, *closed: str, **keywords: Any) -> dict[str, bool]:
        pruned = stage.prune(self.workspace(**keywords), closed)
        told = "\n".join(stage.prune_lines(pruned))
        assert all(f"{one.pipeline}: " in told and one.why in told for one in pruned.pipelines)
        return {one.pipeline: one.deleted for one in pruned.pipelines}

    def there(self) -> set[str]:
        return {it.name for it in stage._inventory(self.workspace()).pipelines()}


@pytest.fixture(params=["server", "embedded"])
def project(request: Any, repository: Any, tmp_path: Path, fake: FakeKubeflow) -> Project:
    endpoint = fake.endpoint if request.param == "server" else ""
    return Project(repository, tmp_path / "home", endpoint)


@pytest.fixture
def served(repository: Any, tmp_path: Path, fake: FakeKubeflow) -> Project:
    return Project(repository, tmp_path / "home", fake.endpoint)


# upload -----------------------------------------------------------------------------


def test_mains_pipeline_keeps_its_name(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILD_URL", "https://me:secret@jenkins/job/1/")
    one = project.upload(unpinned="true")
    commit = project.repository.git("rev-parse", "HEAD").strip()
    assert (one.pipeline, one.created) == ("demo", True)
    assert one.version == f"{commit[:12]}{names.ending(one.sha256)}"
    assert one.tags == {
        "project": "ml",
        "commit": commit,
        "branch": "main",
        "ir": one.sha256[:32],
        "build": "https://jenkins/job/1/",
        "unpinned": "true",
    }
    assert f"commit {commit} of main" in one.description
    assert one.display_name == f"{commit[:12]} (main)"
    project.repository.commit()
    again = project.upload()
    assert (again.unchanged, again.version_id, again.tags) == (True, one.version_id, one.tags)


def test_a_branch_has_a_pipeline_of_its_own(project: Project) -> None:
    main = project.upload()
    branch = project.upload(branch="feature/x")
    assert branch.pipeline.startswith("demo--feature-x-")
    assert branch.created
    assert branch.pipeline_id != main.pipeline_id
    assert branch.sha256 == main.sha256
    assert project.there() == {"demo", branch.pipeline}


def test_a_pull_request_called_main_is_not_main(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHANGE_ID", "12")
    assert project.upload(branch="main").pipeline == "demo--pr-12"


def test_without_the_setting_all_branches_share(project: Project) -> None:
    path = project.repository.root / "ci.yaml"
    path.write_text(path.read_text().replace("  branches: {}", "  directory: pipelines"))
    main, branch = project.upload(), project.upload(branch="feature/x")
    assert (branch.pipeline, branch.pipeline_id) == ("demo", main.pipeline_id)


def test_nobody_knows_the_branch(project: Project) -> None:
    project.repository.git("checkout", "-q", "--detach")
    one = project.upload()
    assert one.pipeline.startswith("demo--unnamed-")
    assert project.prune() == {one.pipeline: False}


def test_an_ir_that_was_not_proven_is_not_uploaded(served: Project, fake: FakeKubeflow) -> None:
    served.upload()
    served.repository.write("build/ir/demo.yaml", spec("other"))
    fake.requests.clear()
    uploads = served.workspace().build / "uploads.json"
    assert uploads.exists()
    with pytest.raises(MissingInputError, match="proven"):
        uploading.upload(served.workspace())
    assert fake.requests == []
    assert not uploads.exists()  # `train` would take what is in it for this build's


def test_a_floating_schedule_is_told(
    served: Project, fake: FakeKubeflow, capsys: pytest.CaptureFixture[str]
) -> None:
    first = served.upload()
    fake.schedule("nightly", first.pipeline_id, namespace="team")
    path = served.repository.root / "ci.yaml"
    path.write_text(path.read_text().replace("team}", "team, allow_floating_schedules: true}"))
    assert served.upload("false").followed_by == ["nightly"]
    shown = capsys.readouterr()
    assert "'nightly'" in shown.out + shown.err


# prune ------------------------------------------------------------------------------


def test_what_is_gone_is_deleted_and_nothing_else(project: Project) -> None:
    project.push("there", "away")
    kept = {project.upload(branch=it).pipeline for it in ("main", "there")}
    gone = project.upload(branch="away").pipeline
    project.upload("false", branch="away")
    assert project.prune() == dict.fromkeys(kept - {"demo"}, False) | {gone: False}
    project.forget("away")
    expected = dict.fromkeys(kept - {"demo"}, False) | {gone: True}
    assert project.prune(dry_run=True) == expected
    assert project.there() == kept | {gone}
    assert project.prune() == expected
    assert project.there() == kept
    assert gone not in project.prune()


def test_pull_requests(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.push("work")
    for change, fork in (("1", ""), ("2", "someone")):
        monkeypatch.setenv("CHANGE_ID", change)
        monkeypatch.setenv("CHANGE_BRANCH", "work")
        monkeypatch.setenv("CHANGE_FORK", fork)
        project.upload()
    one, two = "demo--pr-1", "demo--pr-2"
    assert project.prune() == {one: False, two: False}
    project.forget("work")
    assert project.prune() == {one: True, two: False}
    assert project.prune("2") == {two: True}


def test_a_branch_that_comes_back_uploads_again(project: Project) -> None:
    first = project.upload(branch="away")
    assert project.prune() == {first.pipeline: True}
    again = project.upload()
    assert (again.pipeline, again.created) == (first.pipeline, True)


@pytest.mark.parametrize("how", ["none", "no main", "unreachable", "no origin"])
def test_no_list_of_branches_deletes_nothing(project: Project, how: str) -> None:
    branch = project.upload(branch="away").pipeline
    if how == "none":
        project.forget("main")
    elif how == "no main":
        project.push("trunk")
        project.forget("main")
    elif how == "unreachable":
        project.origin.rename(project.origin.with_name("elsewhere"))
    else:
        project.repository.git("remote", "remove", "origin")
    with pytest.raises(ToolError, match="origin"):
        project.prune()
    assert branch in project.there()


def test_another_projects_branches_are_not_ours(project: Project) -> None:
    branch = project.upload(branch="away").pipeline
    path = project.repository.root / "ci.yaml"
    path.write_text(path.read_text().replace("project: ml", "project: other"))
    assert project.prune() == {}
    path.write_text(path.read_text().replace("project: other", "project: ml"))
    project.origin = project.origin.rename(project.origin.with_name("fork.git"))
    project.repository.git("remote", "set-url", "origin", str(project.origin))
    assert project.prune() == {}
    assert branch in project.there()


def test_a_branch_called_with_any_character(project: Project) -> None:
    name = "feature/\u2028line\u0085s;$(id)'ü"
    project.push(name)
    branch = project.upload(branch=name).pipeline
    assert project.prune() == {branch: False}
    project.forget(name)
    assert project.prune() == {branch: True}


def test_a_pipeline_that_a_schedule_runs_stays(served: Project, fake: FakeKubeflow) -> None:
    one, two = served.upload(branch="away"), served.upload(branch="off")
    fake.schedule("weekly", one.pipeline_id, one.version_id, namespace="team")
    fake.schedule("was", two.pipeline_id, two.version_id, namespace="team", enabled=False)
    assert served.prune() == {one.pipeline: False, two.pipeline: True}


def test_a_mark_on_a_pipeline_of_another_name_is_not_trusted(
    served: Project, fake: FakeKubeflow
) -> None:
    """As the author of a pipeline might write into its description."""
    branch = served.upload(branch="away")
    fake.pipelines[branch.pipeline_id]["name"] = "production"
    assert served.prune() == {"production": False}


def test_a_server_that_refuses_is_an_error(served: Project, fake: FakeKubeflow) -> None:
    served.upload(branch="away")
    fake.forbidden = {"team"}
    with pytest.raises(CredentialsError, match="forbids"):
        served.prune()


# list -------------------------------------------------------------------------------


def test_the_list_shows_the_latest_version_of_ours(project: Project) -> None:
    main = project.upload()
    branch = project.upload("false", branch="feature/x")
    other = project.upload("other", branch="feature/x")
    listing = stage.list_(project.workspace())
    assert [(it.pipeline, it.branch, it.version_id) for it in listing.pipelines] == [
        ("demo", "main", main.version_id),
        (branch.pipeline, "feature/x", other.version_id),
    ]
    commit = project.repository.git("rev-parse", "HEAD").strip()
    assert {it.commit for it in listing.pipelines} == {commit}
    lines = stage.list_lines(listing)
    assert lines[1].split()[:4] == ["demo", main.version, commit[:12], "main"]


def test_the_list_shows_what_earlier_versions_of_this_tool_made(
    served: Project, fake: FakeKubeflow
) -> None:
    one = served.upload()
    fake.pipelines[one.pipeline_id]["description"] = ""
    fake.create_pipeline({"name": "somebody's", "namespace": "team"}, {})
    assert [it.pipeline for it in stage.list_(served.workspace()).pipelines] == ["demo"]


def test_the_command_line(served: Project) -> None:
    served.upload()
    gone = served.upload(branch="away").pipeline
    where = ["--repo", str(served.repository.root), "--env", "dev"]

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(cli, ["pipelines", *arguments, *where])
        assert done.exit_code == 0, done.output
        return str(done.stdout)

    assert json.loads(run("list", "--json"))["pipelines"][0]["pipeline"] == "demo"
    told = json.loads(run("prune", "--dry-run", "--json"))
    assert (told["dry_run"], told["pipelines"][0]["pipeline"]) == (True, gone)
    assert f"{gone}: would be deleted (branch 'away' is gone)" in run("prune", "--dry-run")
    assert f"{gone}: deleted" in run("prune")
    assert "no such pipeline" in run("prune")


# the embedded catalogue -------------------------------------------------------------


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(tmp_path / "catalogue")


def wanted(tmp_path: Path, commit: str = "c1", command: str = "true", **keywords: Any) -> Wanted:
    path = tmp_path / f"{command}.yaml"
    path.write_text(spec(command))
    sha256 = ir.canonical_sha256(ir.load(path))
    return Wanted("demo", path, sha256, f"{commit}{names.ending(sha256)}", **keywords)


def test_the_catalogue_keeps_an_unchanged_version(catalogue: Catalogue, tmp_path: Path) -> None:
    first = catalogue.upload(wanted(tmp_path))
    again = catalogue.upload(wanted(tmp_path, "c2"))
    assert (again.unchanged, again.version_id) == (True, first.version_id)
    assert catalogue.upload(wanted(tmp_path, command="false")).created


def test_a_damaged_copy_is_put_back(catalogue: Catalogue, tmp_path: Path) -> None:
    first = catalogue.upload(wanted(tmp_path))
    path = catalogue.path("demo", first.version)
    path.write_text("cut o")
    assert catalogue.upload(wanted(tmp_path, "c2")).unchanged
    assert path.read_text() == spec()


def test_the_catalogue_keeps_branches_apart(catalogue: Catalogue, tmp_path: Path) -> None:
    catalogue.upload(wanted(tmp_path, mark=MAIN))
    with pytest.raises(UploadConflictError, match="'demo'"):
        catalogue.upload(wanted(tmp_path, command="false", mark=BRANCH))


def test_deleting_from_the_catalogue(catalogue: Catalogue, tmp_path: Path) -> None:
    assert catalogue.pipelines() == []
    assert catalogue.latest("nothing") is None
    catalogue.upload(wanted(tmp_path))
    (known,) = catalogue.pipelines()
    catalogue.delete(known)
    catalogue.delete(known)
    assert list((tmp_path / "catalogue").iterdir()) == []


def test_deleting_one_version_from_the_catalogue(catalogue: Catalogue, tmp_path: Path) -> None:
    first = catalogue.upload(wanted(tmp_path))
    second = catalogue.upload(wanted(tmp_path, command="false"))
    (known,) = catalogue.pipelines()
    (found,) = catalogue.versions(known.pipeline_id, names.ending(second.sha256))
    assert found.version_id == second.version_id
    for _ in range(2):
        catalogue.delete_version(known.pipeline_id, second.version_id)
    assert [it.name for it in catalogue.versions(known.pipeline_id, "")] == [first.version]
    catalogue.delete_version(known.pipeline_id, first.version_id)
    assert catalogue.pipelines() == []
    assert catalogue.latest(known.pipeline_id) is None


# origin's branches ------------------------------------------------------------------


def test_heads(served: Project) -> None:
    served.push("b", "deep/er")
    served.repository.git("tag", "v1")
    served.repository.git("push", "-q", "origin", "v1", "HEAD:refs/pull/1/head")
    assert git.heads(served.repository.root) == {"main", "b", "deep/er"}


def test_heads_never_tells_a_password(
    served: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not every git leaves it out of what it says."""
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'fatal: no https://me:s3cret@host/ml.git/' >&2; exit 128\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    with pytest.raises(ToolError, match=r"https://host/ml\.git") as refused:
        git.heads(served.repository.root)
    assert "s3cret" not in str(refused.value)
