"""Which files a build sends; docker-py's matcher is the independent word on .dockerignore."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from docker.utils.build import PatternMatcher
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_tools.components import context
from ci_tools.components.dockerignore import Ignore
from ci_tools.errors import DockerfileError

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
        ("\\a\n", ["a"]),
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
PATHS = st.lists(st.sampled_from(["a", "b", "ab", "c.py", "x"]), min_size=1, max_size=4)


@given(PATTERNS, PATHS)
def test_docker_py_agrees(patterns: list[str], parts: list[str]) -> None:
    # docker-py asks of the parents only the one as deep as the pattern, which
    # differs from moby where `**` matches fewer directories: ask it of each.
    theirs = False
    matcher = PatternMatcher(patterns)
    above = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
    for pattern in matcher.patterns:
        if any(pattern.match(path) for path in above):
            theirs = not pattern.exclusion
    assert Ignore(patterns).ignores("/".join(parts)) == theirs


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
        ignore = Ignore(patterns)
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
    assert len(context.tree_hash(repository.root, repository.root / "Dockerfile")) == 64


@pytest.mark.parametrize("pattern", ["[", "a[b", "!", "[z-a]"])
def test_a_pattern_that_no_engine_accepts_is_told(repository: Any, pattern: str) -> None:
    repository.write(".dockerignore", f"fine\n{pattern}\n")
    with pytest.raises(DockerfileError, match=r"\.dockerignore line 2: "):
        sent(repository.root)


def test_a_pipe_is_no_content(repository: Any) -> None:
    os.mkfifo(repository.root / "pipe")
    assert len(context.tree_hash(repository.root, repository.root / "Dockerfile")) == 64


def test_a_file_that_vanishes_or_refuses_is_told(
    repository: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.write("a")
    monkeypatch.setattr(context, "paths", lambda *_, **__: iter(["gone"]))
    with pytest.raises(DockerfileError, match="gone is in a build context but cannot be read"):
        context.tree_hash(repository.root, repository.root / "Dockerfile")
