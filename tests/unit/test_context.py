"""Which files a build sends. What the engine says of it: tests/integration/test_context.py."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci.workspace import Workspace
from ci_tools.components import context
from ci_tools.components.dockerignore import Ignore
from ci_tools.errors import ConfigError, DockerfileError

TREE = ["a", "b.txt", "c/a", "c/b.txt", "c/d/a", "c/d/e/b.txt", "f/x.py", "f/g/x.py"]


def sent(root: Path, dockerfile: str = "Dockerfile") -> list[str]:
    return sorted(context.paths(root, root / dockerfile))


@pytest.mark.parametrize(
    ("patterns", "left_out"),
    [
        ("", []),
        ("# a\n\n   \n", []),
        ("a\n", ["a"]),
        ("/a\n", ["a"]),
        ("./c/../a/\n", ["a"]),
        ("c\n", ["c/a", "c/b.txt", "c/d/a", "c/d/e/b.txt"]),
        ("**/a\n", ["a", "c/a", "c/d/a"]),
        ("*/a\n", ["c/a"]),
        ("*.txt\n", ["b.txt"]),
        ("**/*.txt\n", ["b.txt", "c/b.txt", "c/d/e/b.txt"]),
        ("c/**\n", ["c/a", "c/b.txt", "c/d/a", "c/d/e/b.txt"]),
        ("c\n!c/d\n", ["c/a", "c/b.txt"]),
        ("c\n!c/d\nc/d/e\n", ["c/a", "c/b.txt", "c/d/e/b.txt"]),
        ("**\n!f\n", [p for p in TREE if not p.startswith("f/")]),
        ("*\n!f/g\n", [p for p in TREE if p != "f/g/x.py"]),
        ("?\n", [p for p in TREE if p != "b.txt"]),
        ("[ab]\n", ["a"]),
        ("[^b-z]\n", ["a"]),
        ("\ufeffa\n", ["a"]),
        ("  a  \r\n", ["a"]),
        ("! a\na\n", ["a"]),
        ("\\?\n", []),
        ("*/b.txt\n!c\n", ["c/b.txt"]),
        ("/!a\na\n", ["a"]),
        (".\n", []),
        ("b+txt\nb(txt\n", []),
    ],
)
def test_dockerignore(repository: Any, patterns: str, left_out: list[str]) -> None:
    for path in TREE:
        repository.write(path)
    repository.write(".dockerignore", patterns)
    assert set(TREE) - set(sent(repository.root)) == set(left_out)


NAMES = st.sampled_from(["a", "b", "ab", "c.py", "*", "**", "?", "*.py", "a*", "[ab]"])
PATTERNS = st.lists(
    st.tuples(st.sampled_from(["", "!"]), st.lists(NAMES, min_size=1, max_size=3)), max_size=5
).map(lambda found: [sign + "/".join(parts) for sign, parts in found])


@settings(max_examples=25, deadline=None)
@given(PATTERNS)
def test_pruning_directories_changes_nothing(patterns: list[str]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        everything = ["a/a/b", "a/ab", "b/c.py", "ab/x/c.py", "x"]
        for path in everything:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).touch()
        (root / "D.dockerignore").write_text("\n".join([*patterns, "D.dockerignore"]))
        ignore = Ignore("\n".join(patterns))
        assert sent(root, "D") == sorted(path for path in everything if not ignore.ignores(path))


def test_a_dockerfiles_own_ignore_file_comes_first(repository: Any) -> None:
    for path in ("a", "b", "Dockerfile", "Dockerfile.gpu"):
        repository.write(path)
    repository.write(".dockerignore", "a\n.dockerignore\nDockerfile*\n")
    repository.write("Dockerfile.gpu.dockerignore", "b\n.dockerignore\nDockerfile*\n")
    assert sent(repository.root) == ["b"]
    assert sent(repository.root, "Dockerfile.gpu") == ["a"]


def test_links_are_sent_as_links(repository: Any, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").touch()
    (repository.root / "out").symlink_to(tmp_path / "outside")
    (repository.root / "loop").symlink_to(".")
    (repository.root / "dangling").symlink_to("nothing")
    assert sent(repository.root) == ["dangling", "loop", "out"]


def test_odd_names_are_hashed(repository: Any) -> None:
    repository.write("new\nline")
    (repository.root / os.fsdecode(b"\xff")).touch()
    assert sent(repository.root) == ["new\nline", "\udcff"]
    assert (
        len(context.entries_hash(context.entries(repository.root, repository.root / "Dockerfile")))
        == 64
    )


@pytest.mark.parametrize(
    "pattern", ["[", "a[b", "!", "!/", "[z-a]", "[a-]", "[]a]", "a\\", "\\d", "[[:alpha:]]", "a\tb"]
)
def test_a_pattern_that_no_engine_accepts_is_told(repository: Any, pattern: str) -> None:
    repository.write(".dockerignore", f"fine\n{pattern}\n")
    with pytest.raises(DockerfileError, match=r"\.dockerignore line 2: "):
        sent(repository.root)


def test_a_pipe_is_no_content(repository: Any) -> None:
    os.mkfifo(repository.root / "pipe")
    assert (
        len(context.entries_hash(context.entries(repository.root, repository.root / "Dockerfile")))
        == 64
    )


def test_a_file_that_vanishes_or_refuses_is_told(
    repository: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (gone,) = os.scandir(repository.write("there/gone").parent)
    repository.write("there/gone").unlink()
    monkeypatch.setattr(context, "_walk", lambda *_: iter([("gone", gone)]))
    with pytest.raises(DockerfileError, match="gone is in a build context but cannot be read"):
        context.entries_hash(context.entries(repository.root, repository.root / "Dockerfile"))


@pytest.mark.parametrize(("git", "line"), [(".git/HEAD", r"'\.git'"), ("x/.git", r"'\*\*/\.git'")])
def test_what_differs_from_clone_to_clone_is_refused(repository: Any, git: str, line: str) -> None:
    repository.write(git, "gitdir: elsewhere")
    with pytest.raises(ConfigError, match=line):
        sent(repository.root)
    repository.write(".dockerignore", "**/.git\n.dockerignore\n")
    assert sent(repository.root) == []


def test_what_the_stages_write_is_refused_before_it_is_there(repository: Any) -> None:
    root, build = repository.root, repository.root / "build"
    with pytest.raises(ConfigError, match="Add the line 'build'"):
        context.check_outputs(root, root / "Dockerfile", build)
    repository.write(".dockerignore", "build\n")
    context.check_outputs(root, root / "Dockerfile", build)
    repository.write(".dockerignore", "build/*.json\n")
    with pytest.raises(ConfigError, match="Add the line 'build'"):
        context.check_outputs(root, root / "Dockerfile", build)
    context.check_outputs(root / "src", root / "src/Dockerfile", build)


@pytest.mark.parametrize("where", ["components/a/out", "components/a/out/deep", "components/a"])
def test_another_directory_for_what_the_stages_write_is_refused_too(
    repository: Any, where: str
) -> None:
    repository.write("ci.yaml", "components: {linked: {context: link}}")
    repository.write("components/a/Dockerfile", "FROM scratch\n")
    repository.write("linked/Dockerfile", "FROM scratch\n")
    (repository.root / "link").symlink_to("components/a")
    workspace = Workspace(repository=repository.root, build=repository.root / where)
    with pytest.raises(ConfigError, match=r"where this tool writes, would be sent"):
        workspace.components  # noqa: B018 - to read it is to check it
    repository.write("components/a/.dockerignore", "out\nplan.json\nlogs\n")
    assert "a" in Workspace(repository=repository.root, build=workspace.build).components
    assert "a" in Workspace(repository=repository.root, build=repository.root / "build").components


@pytest.mark.parametrize("target", ["../shared", "/etc/hostname", "missing"])
def test_an_ignore_file_that_buildkit_does_not_follow_is_refused(
    repository: Any, target: str
) -> None:
    repository.write("../shared", "a\n")
    (repository.root / ".dockerignore").symlink_to(target)
    with pytest.raises(DockerfileError, match="does not follow"):
        sent(repository.root)
