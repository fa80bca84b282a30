"""What git knows; git itself is the oracle."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ci_tools import git
from ci_tools.documents import Source
from ci_tools.errors import ToolError


@pytest.fixture(autouse=True)
def no_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BRANCH_NAME", "GIT_BRANCH"):
        monkeypatch.delenv(name, raising=False)


def test_files(repository: Any) -> None:
    for path in ("b", "a b/c", "new\nline", 'q"uote', "é", "gone", "-dash"):
        repository.write(path)
    repository.write(".gitignore", "*.log\n")
    repository.commit()
    repository.write("untracked")
    repository.write("x.log")
    (repository.root / "gone").unlink()
    (repository.root / "dangling").symlink_to("nothing")
    assert git.files(repository.root) == sorted(
        [".gitignore", "b", "a b/c", "new\nline", 'q"uote', "é", "-dash", "untracked", "dangling"]
    )
    assert git.files(repository.root / "a b") == ["c"]


def test_source(repository: Any) -> None:
    repository.write("a")
    commit = repository.commit()
    assert git.source(repository.root) == Source(commit=commit, branch="main", dirty=False)
    repository.write("b")
    assert git.source(repository.root).dirty
    assert repository.git("status", "--porcelain") == "?? b\n"


def test_files_of_a_sparse_checkout(repository: Any) -> None:
    for path in ("a/x", "b/x", "c/x"):
        repository.write(path)
    repository.commit()
    repository.git("sparse-checkout", "set", "--no-cone", "/a/")
    assert not (repository.root / "b").exists()
    repository.write("b/x")  # put back by hand, though git does not look at it
    assert git.files(repository.root) == ["a/x", "b/x"]


def test_files_in_the_middle_of_a_merge(repository: Any) -> None:
    repository.write("a", "1")
    repository.commit()
    repository.git("checkout", "-q", "-b", "other")
    repository.write("a", "2")
    repository.commit()
    repository.git("checkout", "-q", "main")
    repository.write("a", "3")
    repository.write("b", "")
    repository.commit()
    with pytest.raises(subprocess.CalledProcessError):
        repository.git("merge", "other")
    repository.git("rm", "-q", "--cached", "b")  # it stays in the work tree
    assert git.files(repository.root) == ["a", "b"]
    assert git.source(repository.root).dirty


@pytest.mark.parametrize("name", ["# x", "moved\n# y"])
def test_any_change_makes_it_dirty(repository: Any, name: str) -> None:
    repository.write("a", "1")
    repository.write(name, "some content\n" * 10)
    repository.commit()
    repository.git("branch", "--set-upstream-to=main", "main")
    assert not git.source(repository.root).dirty
    repository.git("mv", name, "z")
    assert git.source(repository.root) == Source(
        commit=repository.git("rev-parse", "HEAD").strip(), branch="main", dirty=True
    )


def test_before_the_first_commit(repository: Any) -> None:
    repository.git("init", "-q")
    assert git.source(repository.root) == Source()
    assert git.commit_time(repository.root) is None
    repository.commit()
    assert git.commit_time(repository.root) is not None


def test_a_detached_checkout_asks_jenkins(repository: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.git("checkout", "-q", "--detach", repository.commit())
    assert git.source(repository.root).branch is None
    monkeypatch.setenv("GIT_BRANCH", "origin/feature/x")
    assert git.source(repository.root).branch == "feature/x"
    monkeypatch.setenv("BRANCH_NAME", "PR-7")
    assert git.source(repository.root).branch == "PR-7"


def test_a_branch_that_is_no_utf8_goes_into_documents(repository: Any) -> None:
    repository.commit()
    subprocess.run(
        ["git", "-C", os.fsencode(repository.root), "checkout", "-q", "-b", b"br\xffx"], check=True
    )
    assert git.source(repository.root).branch == "br\\xffx"


def test_no_repository_at_all(repository: Any) -> None:
    repository.write("a/b")
    assert git.files(repository.root) == ["a/b"]
    assert git.source(repository.root) == Source()
    assert git.default_name(repository.root) == "repository"


@pytest.mark.parametrize(
    "url",
    ["https://h/org/name.git", "git@h:org/name.git", "h:name", "https://h/org/name/", "/x/name"],
)
def test_the_name_is_the_origins(repository: Any, url: str) -> None:
    repository.git("init", "-q")
    repository.git("remote", "add", "origin", url)
    assert git.default_name(repository.root) == "name"


def test_every_work_tree_has_the_name_of_the_first(repository: Any, tmp_path: Path) -> None:
    repository.commit()
    repository.git("worktree", "add", "-q", str(tmp_path / "other"))
    assert git.default_name(tmp_path / "other") == git.default_name(repository.root)
    repository.git("config", "remote.origin.url", "https://h/org/name.git")
    assert git.default_name(tmp_path / "other") == "name"


def test_a_submodule_has_a_name_of_its_own(repository: Any, tmp_path: Path) -> None:
    repository.commit()
    allowed = ("-c", "protocol.file.allow=always")
    repository.git(*allowed, "submodule", "--quiet", "add", str(repository.root), "inner")
    assert git.default_name(repository.root / "inner") == "repository"  # its origin's
    repository.git("-C", "inner", "remote", "remove", "origin")
    assert git.default_name(repository.root / "inner") == "inner"


def test_a_repository_that_git_refuses_is_told(repository: Any) -> None:
    repository.commit()
    repository.write(".git/config", "[core\n")
    with pytest.raises(ToolError, match=r"git cannot read .*bad config"):
        git.files(repository.root)


def test_a_repository_of_another_owner_is_told(
    repository: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a repository away")
    repository.commit()
    for path in (repository.root, repository.root / ".git"):
        os.chown(path, 12345, 12345)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    with pytest.raises(ToolError, match=r"dubious ownership.*safe.directory"):
        git.source(repository.root)


def test_without_git_on_the_machine(
    repository: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    repository.write("a")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git.files(repository.root) == ["a"]
    (repository.root / ".git").mkdir()
    with pytest.raises(ToolError, match="git is not on PATH"):
        git.files(repository.root)


# the branch that a commit is on -----------------------------------------------------------------


@pytest.fixture
def cloned(repository: Any, tmp_path: Path) -> tuple[Any, Any]:
    """A repository, and a clone of it."""
    from tests.unit.conftest import Repository

    repository.write("a")
    repository.commit()
    other = Repository(tmp_path / "clone")
    other.git("clone", "-q", str(repository.root), ".")
    return repository, other


def test_a_commit_of_a_branch_is_found_there(cloned: tuple[Any, Any]) -> None:
    origin, clone = cloned
    first = clone.git("rev-parse", "HEAD").strip()
    assert git.branch_of(clone.root, first, ["main"]) == "main"
    assert git.branch_of(clone.root, first, ["ma*"]) == "main"
    origin.write("b")
    newer = origin.commit()
    # The clone lacks both, but origin says that it is the newest.
    assert git.branch_of(clone.root, newer, ["main"]) == "main"
    # What the clone knew of the branch counts too.
    assert git.branch_of(clone.root, first, ["main"]) == "main"


def test_a_commit_of_another_branch_is_not(cloned: tuple[Any, Any]) -> None:
    origin, clone = cloned
    origin.git("checkout", "-q", "-b", "feature")
    origin.write("c")
    commit = origin.commit()
    with pytest.raises(ToolError, match="does not know all of origin's main"):
        git.branch_of(clone.root, commit, ["main"])
    clone.git("fetch", "-q")
    assert git.branch_of(clone.root, commit, ["main"]) == ""
    assert git.branch_of(clone.root, commit, ["main", "feature"]) == "feature"


def test_a_commit_that_is_none_is_on_no_branch(cloned: tuple[Any, Any]) -> None:
    for hostile in ("--help", "HEAD", "main", "$(touch x)", ""):
        assert git.branch_of(cloned[1].root, hostile, ["main"]) == ""
        assert git.branch_known(cloned[1].root, hostile, ["main"]) == ""


def test_what_a_clone_last_fetched_of_a_branch_is_known_without_origin(
    cloned: tuple[Any, Any],
) -> None:
    origin, clone = cloned
    first = clone.git("rev-parse", "HEAD").strip()
    origin.git("checkout", "-q", "-b", "feature")
    origin.write("c")
    other = origin.commit()
    assert git.branch_known(clone.root, other, ["*"]) == ""  # not fetched
    clone.git("fetch", "-q")
    clone.git("remote", "set-url", "origin", str(clone.root / "nowhere"))
    assert git.branch_known(clone.root, first, ["main"]) == "main"
    assert git.branch_known(clone.root, first, ["HEAD", "m?in"]) == "main"
    assert git.branch_known(clone.root, other, ["main"]) == ""
    assert git.branch_known(clone.root, other, ["feature"]) == "feature"
    # What is only here was on no branch of origin.
    clone.write("d")
    assert git.branch_known(clone.root, clone.commit(), ["main"]) == ""


def test_without_the_branches_or_origin_nobody_can_tell(cloned: tuple[Any, Any]) -> None:
    _, clone = cloned
    commit = clone.git("rev-parse", "HEAD").strip()
    with pytest.raises(ToolError, match="origin has none of the branches release"):
        git.branch_of(clone.root, commit, ["release"])
    clone.git("remote", "set-url", "origin", str(clone.root / "nowhere"))
    with pytest.raises(ToolError, match="cannot ask origin"):
        git.branch_of(clone.root, commit, ["main"])


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pass@word@h/org/name?a@b#c@d", "https://h/org/name?a@b#c@d"),
        ("https://h/job/a@b/1/", "https://h/job/a@b/1/"),
        ("ssh://git@h:22/x", "ssh://h:22/x"),
        ("https://user:pass@[h/x", "https://[h/x"),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_credentials(url: str, shown: str) -> None:
    assert git.without_credentials(url) == shown
