"""What builds of CI took before, for an agent that remembers none; of a FAKE registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ci import dividing, earlier
from ci import plan as planning
from ci.workspace import Workspace
from ci_tools import durations, git
from ci_tools.documents import LockedImage, Verdict
from tests.fakes.published import Project, Repositories
from tests.fakes.registry import FakeRegistry, serve


@pytest.fixture
def fake() -> FakeRegistry:
    return Repositories()


@pytest.fixture
def project(
    repository: Any, fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    monkeypatch.setenv("KFP_CI_HOME", str(tmp_path / "home"))
    with serve(fake) as host:
        yield Project(repository, host)


def here(project: Project, **fields: Any) -> Workspace:
    root = project.root
    return Workspace(repository=root, build=root / "build", environment_name="dev", **fields)


def published(project: Project, commit: str, **seconds: float) -> None:
    images = {
        name: LockedImage(
            repository=f"{project.host}/ml/{name}", digest=project.digest, config="", key="k",
            size=1, verdict=Verdict(status="pass", trivy="1", database=None, policy="p"),
            timings={"build": took},
        )
        for name, took in seconds.items()
    }  # fmt: skip
    project.publish(commit, components=images)


def test_the_newest_lock_that_tells_counts(project: Project) -> None:
    commits = [project.repository.commit() for _ in range(3)]
    published(project, commits[0], train=10.0, old=30.0)
    published(project, commits[1], train=20.0)
    assert earlier.took(here(project)) == {"train": 20.0, "old": 30.0}


def test_what_a_merged_branch_built_is_not_asked_for(project: Project) -> None:
    project.repository.commit()
    project.repository.git("checkout", "-q", "-b", "work")
    published(project, project.repository.commit(), train=10.0)
    project.repository.git("checkout", "-q", "main")
    project.repository.git("merge", "-q", "--no-ff", "-m", "merge", "work")
    assert earlier.took(here(project)) == {}
    assert len(git.first_parents(project.root, 9)) == 2


def test_no_more_commits_than_said(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(earlier, "COMMITS", 2)
    published(project, project.repository.commit(), train=10.0)
    project.repository.commit()
    assert earlier.took(here(project)) == {"train": 10.0}
    project.repository.commit()
    assert earlier.took(here(project)) == {}


def test_nonsense_tells_nothing(project: Project, fake: FakeRegistry) -> None:
    published(project, project.repository.commit(), train=-1.0, eager=0.0, late=1e300, fine=2.0)
    assert earlier.took(here(project)) == {"fine": 2.0}
    for digest in fake.blobs:
        fake.blobs[digest] = b"{"
    assert earlier.took(here(project)) == {}


def test_without_a_commit_or_a_registry(project: Project) -> None:
    assert earlier.took(here(project)) == {}
    project.repository.git("init", "-q")
    assert earlier.took(here(project)) == {}
    assert git.first_parents(project.root, 3) == []
    project.repository.commit()
    project.declare(host="127.0.0.1:1")
    assert earlier.took(here(project)) == {}


def test_a_division_asks_and_a_plan_without_one_does_not(
    project: Project, fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(project, project.repository.commit(), train=77.0)
    asked: list[Workspace] = []
    took = earlier.took
    monkeypatch.setattr(earlier, "took", lambda where: (asked.append(where), took(where))[1])

    def expected(**fields: Any) -> float:
        (one,) = planning.plan(here(project, **fields), drift=False, division=division).components
        return one.expected

    division: dividing.Division | None = None
    assert expected() == durations.DEFAULT_SECONDS
    division = dividing.Division(None)
    assert expected(dry_run=True) == durations.DEFAULT_SECONDS
    assert asked == []
    assert expected() == 77.0
    assert len(asked) == 1
    durations.record(here(project).home, msgspec.structs.replace(
        project.lock("c"), components={"train": LockedImage(
            repository="r", digest="d", config="", key="k", size=1, timings={"build": 5.0},
            verdict=Verdict(status="pass", trivy="1", database=None, policy="p"))}))  # fmt: skip
    assert expected() == 5.0  # known here: nobody is asked
    assert len(asked) == 1
