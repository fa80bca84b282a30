"""The locks that CI publishes: put where laptops look, found from real git histories."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import moto
import msgspec
import pytest

from ci import publish as publishing
from ci.workspace import Workspace
from ci_tools import documents as d
from ci_tools import errors, git, published
from ci_tools.components import discovery, keys
from ci_tools.errors import MissingInputError, NoPublishedLockError
from tests.fakes.published import Project, Repositories
from tests.fakes.registry import FakeRegistry, error, serve


@pytest.fixture(autouse=True)
def no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BRANCH_NAME", "GIT_BRANCH", "CHANGE_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fake() -> FakeRegistry:
    return Repositories()


@pytest.fixture
def host(fake: FakeRegistry) -> Iterator[str]:
    with serve(fake) as address:
        yield address


@pytest.fixture
def project(repository: Any, host: str) -> Project:
    return Project(repository, host)


def test_the_lock_of_this_commit_comes_first(project: Project) -> None:
    main = project.repository.commit()
    project.publish(main)
    project.repository.git("checkout", "-q", "-b", "work")
    head = project.repository.commit()
    assert project.find().commit == main
    where = project.publish(head)
    assert where == f"{project.host}/ml/locks:{head}-dev"
    found = project.find()
    assert (found.commit, found.lock.source.commit) == (head, head)
    assert found.why == f"this commit ({head[:12]})"
    assert found.lock == project.lock(head)


def test_a_clone_uses_the_merge_base_with_the_remote_main(project: Project) -> None:
    first = project.repository.commit()
    clone = project.clone()
    project.repository.commit()
    for commit in (first, git.commit_of(project.root)):
        project.publish(str(commit))
    clone.repository.commit()  # on main of the clone: no CI has seen it
    clone.repository.git("checkout", "-q", "-b", "work")
    clone.repository.commit()
    found = clone.find()
    assert found.commit == first
    assert "origin/main" in found.why


def test_the_newest_lock_of_a_commit_counts(project: Project) -> None:
    commit = project.repository.commit()
    project.publish(commit, seconds=1.0)
    project.publish(commit, seconds=2.0)
    assert project.find().lock.seconds == 2.0


def test_environments_that_share_a_registry_have_locks_of_their_own(project: Project) -> None:
    commit = project.repository.commit()
    project.publish(commit)
    project.publish(commit, environment="prod")
    assert project.find().lock.environment == "dev"


def test_a_named_commit(project: Project) -> None:
    old = project.repository.commit()
    project.publish(old)
    project.publish(project.repository.commit())
    assert project.find(old[:10]).commit == old
    assert project.find("HEAD~1").commit == old
    with pytest.raises(errors.ConfigError, match="git knows no commit '--all'"):
        project.find("--all")


def test_nothing_published_names_the_commits_and_the_places(project: Project) -> None:
    main = project.repository.commit()
    project.repository.git("checkout", "-q", "-b", "work")
    head = project.repository.commit()
    with pytest.raises(NoPublishedLockError) as caught:
        project.find()
    assert caught.value.exit_code == 39
    said = str(caught.value)
    for word in (head[:12], main[:12], "merge base with main", f"{project.host}/ml/locks", "Push"):
        assert word in said


SITUATIONS: dict[str, tuple[Callable[[Project], Project], str]] = {
    "shallow": (
        lambda p: work(p.clone("--depth=1", "--branch=work")),
        "git fetch --unshallow origin main:refs/remotes/origin/main",
    ),
    "one branch": (
        lambda p: work(p.clone("--single-branch", "--branch=work")),
        "Run 'git fetch origin main:refs/remotes/origin/main'",
    ),
    "no remote": (lambda p: renamed(p), "git remote add origin URL"),
    "main itself": (lambda p: detached(p), "it is in main itself"),
    "no history in common": (lambda p: orphan(p), "no commit in common with main"),
}


def work(project: Project) -> Project:
    project.repository.commit()
    return project


def renamed(project: Project) -> Project:
    project.repository.git("checkout", "-q", "work")
    project.repository.git("branch", "-D", "main")
    return project


def detached(project: Project) -> Project:
    project.repository.git("checkout", "-q", "--detach", "main")
    return project


def orphan(project: Project) -> Project:
    project.repository.git("checkout", "-q", "--orphan", "alone")
    project.repository.write("other", "so that it is another commit in the same second")
    project.repository.commit()
    return project


@pytest.mark.parametrize("situation", SITUATIONS)
def test_each_situation_has_a_sentence_and_what_to_do(project: Project, situation: str) -> None:
    project.repository.commit()
    project.repository.git("checkout", "-q", "-b", "work")
    project.repository.commit()
    project.repository.git("checkout", "-q", "main")
    arrange, said = SITUATIONS[situation]
    with pytest.raises(NoPublishedLockError) as caught:
        arrange(project).find()
    assert said in str(caught.value)


def test_a_detached_head_has_its_merge_base(project: Project) -> None:
    main = project.repository.commit()
    project.publish(main)
    project.repository.git("checkout", "-q", "--detach")
    project.repository.commit()
    assert project.find().commit == main


def test_a_repository_without_a_commit(project: Project) -> None:
    project.repository.git("init", "-q", "-b", "main")
    with pytest.raises(NoPublishedLockError, match="at no commit"):
        project.find()


def test_outside_git(project: Project) -> None:
    with pytest.raises(NoPublishedLockError, match="at no commit"):
        project.find()


HOSTILE = [
    "--upload-pack=x",
    "$(touch${IFS}x)",
    "a;b",
    "ü/ß",
    "a\u2028b",
    "main'",
    "HEAD-",
    "refs/heads/main",
    "x/main",
]


@pytest.mark.parametrize("branch", HOSTILE)
def test_hostile_branches(project: Project, branch: str) -> None:
    main = project.repository.commit()
    project.publish(main)
    project.repository.git("update-ref", f"refs/heads/{branch}", main)
    project.repository.git("symbolic-ref", "HEAD", f"refs/heads/{branch}")
    project.repository.commit()
    assert project.find().commit == main
    assert not (project.root / "x").exists()


def test_main_may_be_a_pattern_and_the_nearest_counts(project: Project) -> None:
    project.declare(branches={"main": ["release/*", "trunk"]})
    old = project.repository.commit()
    project.repository.git("branch", "trunk")
    project.repository.git("branch", "-m", "release/1")
    new = project.repository.commit()
    project.repository.git("checkout", "-q", "-b", "work")
    project.repository.commit()
    patterns = ("release/*", "trunk")
    assert git.merge_base(project.root, patterns) == git.MergeBase(new, "release/1")
    assert git.merge_base(project.root, ("trunk",)) == git.MergeBase(old, "trunk")
    project.publish(new)
    assert project.find().commit == new


def test_another_remote_where_there_is_no_origin(project: Project) -> None:
    first = project.repository.commit()
    clone = project.clone("--origin=up/stream")
    clone.repository.commit()
    base = git.merge_base(clone.root, ("main",))
    assert base == git.MergeBase(first, "up/stream/main")


# What is found is looked at ----------------------------------------------------


WRONG: dict[str, Callable[[Any], None]] = {
    "of project 'other', not of 'ml'": lambda lock: lock.update(project="other"),
    "of commit dddd": lambda lock: lock["source"].update(commit="d" * 40),
    "of environment 'prod'": lambda lock: lock.update(environment="prod"),
    "the work tree had changes": lambda lock: lock["source"].update(dirty=True),
    "of shard 1/2 only": lambda lock: lock.update(shard="1/2"),
    "of another schema version": lambda lock: lock.update(schema=2),
    "is no lock": lambda lock: lock.update(components=[]),
    "which is no image of this project": lambda lock: lock["components"]["train"].update(
        repository="evil.example.com/ml/train"
    ),
    "no image of this project": lambda lock: lock["components"]["train"].update(digest="latest"),
}


@pytest.mark.parametrize("said", WRONG)
def test_another_lock_is_refused(project: Project, fake: FakeRegistry, said: str) -> None:
    commit = project.repository.commit()
    content = json.loads(msgspec.json.encode(project.lock(commit)))
    WRONG[said](content)
    where = published.shelf.of(project.settings, "ml", apart=False)
    where.put(published.tag_of(commit, "dev"), json.dumps(content).encode())
    with pytest.raises(MissingInputError) as caught:
        project.find()
    assert said in str(caught.value)


@pytest.mark.parametrize("junk", [b"", b"{", b"\xff", b"[" * 100_000, b'{"schema":1}'])
def test_junk_is_refused(project: Project, junk: bytes) -> None:
    commit = project.repository.commit()
    where = published.shelf.of(project.settings, "ml", apart=False)
    where.put(published.tag_of(commit, "dev"), junk)
    with pytest.raises(MissingInputError, match="is no lock"):
        project.find()


def test_a_registry_that_refuses_is_no_missing_lock(project: Project, fake: FakeRegistry) -> None:
    project.repository.commit()
    fake.before = lambda method, path: error(401, "UNAUTHORIZED")
    with pytest.raises(errors.CredentialsError):
        project.find()


# Branches that keep their images apart --------------------------------------------


def test_a_branch_is_not_taken_for_main(project: Project) -> None:
    project.declare(branches={})
    main = project.repository.commit()
    where = project.publish(main, apart=True)  # as whoever may write there could
    assert where.startswith(f"{project.host}/branches/ml/locks:")
    project.repository.git("checkout", "-q", "-b", "work")
    head = project.repository.commit()
    with pytest.raises(NoPublishedLockError):
        project.find()
    project.publish(head, apart=True)
    assert project.find().commit == head


# On this machine ------------------------------------------------------------------


def test_local_takes_the_images_of_the_first_environment(project: Project) -> None:
    commit = project.repository.commit()
    project.publish(commit)
    found = project.find(environment="local")
    assert found.place.environment == "dev"
    assert found.lock == project.lock(commit)


def test_local_without_any_registry(repository: Any, tmp_path: Path) -> None:
    repository.write("ci.yaml", "project: ml\n")
    repository.commit()
    with pytest.raises(NoPublishedLockError, match="no environment of ci"):
        published.find(published.opened(repository.root), "local", tmp_path / "home")


def test_an_environment_without_a_registry(project: Project) -> None:
    project.repository.write("ci.yaml", "environments: {dev: {}}\n")
    project.repository.commit()
    with pytest.raises(errors.ConfigError, match="names no registry"):
        project.find()


# What changed here ------------------------------------------------------------------


def test_changed_components_are_told(project: Project) -> None:
    project.repository.write("base/Dockerfile", "FROM scratch\nCOPY . /\n")
    project.repository.write("train/Dockerfile", "FROM ml/base\nCOPY . /\n")
    project.repository.write("other/Dockerfile", "FROM scratch\nCOPY . /\n")
    commit = project.repository.commit()
    lock = project.lock(commit)

    def changed() -> list[str]:
        here = published.opened(project.root)
        found = discovery.discover(project.root, here.config, "ml")
        return published.changed(here, found, lock)

    assert changed() == []
    project.repository.write("README", "is in no image")
    assert changed() == []
    project.repository.write("base/file", "is in two")
    project.repository.write("new/Dockerfile", "FROM scratch\n")
    assert changed() == ["base", "new", "train"]


def test_a_base_that_moved_is_a_change(project: Project) -> None:
    project.repository.write("train/Dockerfile", "FROM debian:12\n")
    project.repository.write("bases.lock", f"debian:12: sha256:{'1' * 64}\n")
    root = project.root
    here = published.opened(root)
    found = discovery.discover(root, here.config, "ml")
    bases = {"debian:12": f"sha256:{'1' * 64}"}
    made_of = keys.ingredients(root, found["train"], {}, bases)
    lock = project.lock(None)
    assert made_of.bases
    image = lock.components["train"]
    image.key, image.bases = keys.key_of(made_of), {"debian:12": f"debian@sha256:{'1' * 64}"}
    assert published.changed(here, found, lock) == []
    project.repository.write("bases.lock", f"debian:12: sha256:{'2' * 64}\n")
    assert published.changed(here, found, lock) == ["train"]
    (project.root / "bases.lock").unlink()  # CI asked for it
    assert published.changed(here, found, lock) == []
    lock.environment = "local"  # a stand-in
    project.repository.write("bases.lock", f"debian:12: sha256:{'2' * 64}\n")
    assert published.changed(here, found, lock) == []


# What CI publishes -----------------------------------------------------------------


def workspace(project: Project, **more: Any) -> Workspace:
    root = project.root
    return Workspace(
        repository=root, build=root / "build", environment_name="dev",
        home=root.parent / "home", **more,
    )  # fmt: skip


def test_ci_publishes_what_a_clone_finds(project: Project) -> None:
    commit = project.repository.commit()
    where = publishing.publish(workspace(project), project.lock(commit))
    assert where == f"{project.host}/ml/locks:{commit}-dev"
    assert project.find().commit == commit


def test_a_branch_of_its_own_publishes_apart(project: Project) -> None:
    project.declare(branches={})
    project.repository.commit()
    project.repository.git("checkout", "-q", "-b", "work")
    head = project.repository.commit()
    where = publishing.publish(workspace(project), project.lock(head))
    assert where == f"{project.host}/branches/ml/locks:{head}-dev"


FAILED = d.FailedImage(step="build", message="x", todo="y", exit_code=20)
UNPUBLISHABLE: dict[str, dict[str, Any]] = {
    "dirty": {"source": d.Source(commit="c" * 40, dirty=True)},
    "no commit": {"source": d.Source()},
    "failures": {"failed": {"other": FAILED}},
    "shard": {"shard": "1/2"},
    "empty": {"components": {}},
}


@pytest.mark.parametrize("why", UNPUBLISHABLE)
def test_only_whole_clean_commits_are_published(
    project: Project, fake: FakeRegistry, why: str
) -> None:
    commit = project.repository.commit()
    lock = project.lock(commit, **UNPUBLISHABLE[why])
    assert publishing.publish(workspace(project), lock) is None
    assert fake.asked == []
    with pytest.raises(errors.ConfigError):
        published.publish(project.settings, lock, apart=False)


def test_a_dry_run_publishes_nothing(project: Project, fake: FakeRegistry) -> None:
    commit = project.repository.commit()
    assert publishing.publish(workspace(project, dry_run=True), project.lock(commit)) is None
    assert fake.asked == []


def test_a_registry_that_does_not_take_it_is_a_warning(
    project: Project, fake: FakeRegistry
) -> None:
    commit = project.repository.commit()
    fake.before = lambda method, path: error(403, "DENIED") if method != "GET" else None
    where = workspace(project)
    assert publishing.publish(where, project.lock(commit)) is None
    (warning,) = where.console.warnings
    assert "the lock was not published" in warning


# In a bucket -------------------------------------------------------------------------


def test_a_bucket_instead_of_the_registry(
    project: Project, fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    project.declare(locks="s3://ci-locks/team", prefix="x")
    commit = project.repository.commit()
    with moto.mock_aws():
        client = boto3.client("s3")
        with pytest.raises(errors.CIError, match="s3://ci-locks/team/x/ml/locks"):
            project.find()
        client.create_bucket(Bucket="ci-locks")
        with pytest.raises(NoPublishedLockError, match="s3://ci-locks/team/x/ml/locks"):
            project.find()
        project.publish(commit)
        project.publish(commit, seconds=2.0)
        (held,) = client.list_objects_v2(Bucket="ci-locks")["Contents"]
        assert held["Key"] == f"team/x/ml/locks/{commit}-dev.json"
        assert project.find().lock.seconds == 2.0
    assert fake.asked == []


def test_the_embedded_registry_is_not_brought_up_for_it(
    repository: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who merges locks of other agents need not have an engine."""
    from ci_tools import local

    def started(_: Path) -> Any:
        raise AssertionError("it was brought up")

    monkeypatch.setattr(local, "up", started)
    monkeypatch.setattr(published, "unpublishable", lambda _: None)
    one = Workspace(repository=repository.root, build=tmp_path / "build", home=tmp_path / "home")
    lock = d.Lock(project="p", environment="local", source=d.Source(commit="c"), components={})
    assert publishing.publish(one, lock) is None
