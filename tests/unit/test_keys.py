"""What changes a key, and what does not."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_tools.components import context, keys
from ci_tools.components.discovery import discover
from ci_tools.config import Component as Override
from ci_tools.config import Config
from ci_tools.errors import CycleError

BASES = {"python:3.11": "sha256:" + "a" * 64}


def computed(
    root: Path, bases: dict[str, str] = BASES, **overrides: Override
) -> dict[str, tuple[str, bool]]:
    return keys.compute(root, discover(root, Config(components=overrides), "ml"), bases)


def key(root: Path, *arguments: Any, **options: Any) -> str:
    return computed(root, *arguments, **options)["train"][0]


@pytest.fixture
def project(repository: Any) -> Any:
    repository.write("base/Dockerfile", "FROM python:3.11\nCOPY lib /lib\n")
    repository.write("base/lib", "lib")
    repository.write(
        "train/Dockerfile", "ARG V=1\nFROM ml/base AS one\nCOPY . /app\nFROM one AS two\n"
    )
    repository.write("train/src/run.py", "print(1)\n")
    repository.write("train/.dockerignore", "*.md\nscratch/\n")
    (repository.root / "train/link").symlink_to("src/run.py")
    repository.write("train/go.sh", "#!/bin/sh\n").chmod(0o755)
    repository.write("other/Dockerfile", "FROM python:3.11\n")
    return repository


def test_the_recipe_has_not_changed_by_accident(project: Any) -> None:
    # A new value here rebuilds every image of every user: raise keys._RECIPE and say why.
    assert computed(project.root) == {
        "base": ("834a732454433084699b7f15d824e64c4ab513bcc1a68c6b8d6c98be4f2c5ab4", False),
        "other": ("50de0dc571d979a35188ea20b4300fbfcef36fea66e0c4821f8439e05d3d82c8", False),
        "train": ("1a0d1f463664f89052f90bfb4fb4d3280793d362a25b0181921fa81bad5ee53e", False),
    }


def test_equal_in_another_clone(project: Any, tmp_path: Path) -> None:
    project.commit()
    clone = tmp_path / "elsewhere" / "clone"
    clone.parent.mkdir()
    subprocess.run(["git", "clone", "-q", project.root, clone], check=True)
    for path in clone.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
        if os.geteuid() == 0:
            os.chown(path, 12345, 12345, follow_symlinks=False)
    if os.geteuid() == 0:  # git reads no repository of another owner
        shutil.rmtree(clone / ".git")
    assert computed(clone) == computed(project.root)


def rename(root: Path) -> None:
    (root / "train/src/run.py").rename(root / "train/src/go.py")


def retarget(root: Path) -> None:
    (root / "train/link").unlink()
    (root / "train/link").symlink_to("go.sh")


def link_to_file(root: Path) -> None:
    (root / "train/link").unlink()
    (root / "train/link").write_text("src/run.py")


CHANGES = {
    "content": lambda root: (root / "train/src/run.py").write_text("print(2)\n"),
    "name": rename,
    "new file": lambda root: (root / "train/new").write_text(""),
    "removed file": lambda root: (root / "train/go.sh").unlink(),
    "executable bit": lambda root: (root / "train/go.sh").chmod(0o644),
    "link target": retarget,
    "link becomes a file": link_to_file,
    "Dockerfile": lambda root: (root / "train/Dockerfile").open("a").write("# more\n"),
    "parent": lambda root: (root / "base/lib").write_text("other"),
    "parent's Dockerfile": lambda root: (root / "base/Dockerfile").open("a").write("USER 1\n"),
    ".dockerignore": lambda root: (root / "train/.dockerignore").write_text("*.md\nscratch\n"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_by(project: Any, change: str) -> None:
    before = computed(project.root)
    CHANGES[change](project.root)
    after = computed(project.root)
    assert after["train"] != before["train"]
    assert after["other"] == before["other"]
    assert (after["base"] != before["base"]) == change.startswith("parent")


def write_ignored(root: Path) -> None:
    (root / "train/notes.md").write_text("x")
    (root / "train/scratch").mkdir()
    (root / "train/scratch/x").write_text("x")


SAME = {
    "ignored files": write_ignored,
    "a file outside the context": lambda root: (root / "README").write_text("x"),
    "another component": lambda root: (root / "other/new").write_text("x"),
    "times": lambda root: os.utime(root / "train/src/run.py", (1, 1)),
    "group's bits": lambda root: (root / "train/src/run.py").chmod(0o664),
    "an empty directory, which git does not know": lambda root: (root / "train/empty").mkdir(),
}


@pytest.mark.parametrize("change", SAME)
def test_not_changed_by(project: Any, change: str) -> None:
    before = key(project.root)
    SAME[change](project.root)
    assert key(project.root) == before


def test_changed_by_what_ci_yaml_says(project: Any) -> None:
    project.write(".dockerignore", "build\n")
    found = [
        key(project.root),
        key(project.root, train=Override(args={"V": "2"})),
        key(project.root, train=Override(args={"V": "3"})),
        key(project.root, train=Override(target="one")),
        key(project.root, train=Override(target="two")),
        key(project.root, train=Override(context=".")),
        key(project.root, train=Override(platforms=("linux/arm64",))),
        key(project.root, train=Override(platforms=("linux/arm64", "linux/amd64"))),
        key(project.root, train=Override(args={"BUILDKIT_SYNTAX": "python:3.11"})),
        key(project.root, train=Override(args={"BUILDKIT_SANDBOX_HOSTNAME": "x"})),
        key(project.root, {"python:3.11": "sha256:" + "b" * 64}),  # through the parent
    ]
    assert len(set(found)) == len(found)


def test_the_test_command_is_no_ingredient(project: Any) -> None:
    assert key(project.root, train=Override(test=["x"])) == key(project.root)


def test_an_unknown_base_is_provisional_and_so_is_what_is_built_on_it(project: Any) -> None:
    project.write("alone/Dockerfile", "FROM python@sha256:" + "c" * 64)
    found = computed(project.root, {})
    assert {name: provisional for name, (_, provisional) in found.items()} == {
        "alone": False, "base": True, "other": True, "train": True,
    }  # fmt: skip


def test_an_own_ignore_file_comes_first(project: Any) -> None:
    project.write("train/Dockerfile.dockerignore", "src\n")
    before = key(project.root)
    project.write("train/src/run.py", "changed")
    assert key(project.root) == before
    project.write("train/notes.md", "now sent")
    assert key(project.root) != before


def test_a_context_of_the_whole_repository_is_equal_from_stage_to_stage(repository: Any) -> None:
    repository.write("Dockerfile", "FROM python:3.11\nCOPY . /app\n")
    repository.write(".dockerignore", ".git\nbuild\n")
    repository.write("src/build/x", "a")
    repository.commit()
    before = computed(repository.root)["ml"]
    repository.commit()  # .git differs
    repository.write("build/plan.json", "{}")
    assert computed(repository.root)["ml"] == before
    repository.write("src/build/x", "b")  # a source, wherever it is called build
    assert computed(repository.root)["ml"] != before


def test_a_circle_is_refused(repository: Any) -> None:
    repository.write("a/Dockerfile", "FROM ml/b\n")
    repository.write("b/Dockerfile", "FROM ml/a\n")
    with pytest.raises(CycleError, match=" -> "):
        computed(repository.root)


def test_recipe_number_is_an_ingredient(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = computed(project.root)
    monkeypatch.setattr(keys, "_RECIPE", keys._RECIPE + 1)
    after = computed(project.root)
    assert all(after[name][0] != before[name][0] for name in before)


# A tree: path -> content and executable bit, or a link's target. Names are chosen
# so that a sloppy framing of path and content would make different trees equal.
NAMES = st.sampled_from(["a", "ab", "b", "a b", "a\nfile", "1:a", "d/a", "d/b", "é"])
ENTRIES = st.one_of(
    st.tuples(st.just("file"), st.binary(max_size=3), st.booleans()),
    st.tuples(st.just("link"), st.sampled_from([b"a", b"b"]), st.just(False)),
)
TREES = st.dictionaries(NAMES, ENTRIES, max_size=4)


def lay(root: Path, tree: dict[str, tuple[str, bytes, bool]]) -> None:
    for name, (kind, content, executable) in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "link":
            path.symlink_to(content.decode())
        else:
            path.write_bytes(content)
            path.chmod(0o755 if executable else 0o644)


@settings(max_examples=60, deadline=None)
@given(TREES, TREES)
def test_two_trees_are_equal_exactly_when_their_hashes_are(
    one: dict[str, tuple[str, bytes, bool]], other: dict[str, tuple[str, bytes, bool]]
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        hashes = []
        for number, tree in enumerate((one, other, dict(reversed(one.items())))):
            root = Path(scratch) / str(number)
            root.mkdir()
            lay(root, tree)
            hashes.append(context.entries_hash(context.entries(root, root / "Dockerfile")))
    assert (hashes[0] == hashes[1]) == (one == other)
    assert hashes[0] == hashes[2]


def test_modes_are_read_from_the_owners_bit(tmp_path: Path) -> None:
    (tmp_path / "x").touch(mode=stat.S_IRUSR)
    plain = context.entries_hash(context.entries(tmp_path, tmp_path / "Dockerfile"))
    (tmp_path / "x").chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert context.entries_hash(context.entries(tmp_path, tmp_path / "Dockerfile")) != plain


def test_digest_of_a_reference_by_digest_needs_nobody() -> None:
    digest = "sha256:" + "d" * 64
    assert keys.digest_of(f"x:1@{digest}", {}) == digest
    assert keys.digest_of("x:1", {"x:1": digest}) == digest
    assert keys.digest_of("x:2", {"x:1": digest}) is None


def test_parents_count_by_reference_and_key(project: Any) -> None:
    components = discover(project.root, Config(), "ml")
    renamed = {**components, "train": replace(components["train"], parents={"base": "base"})}
    plain = keys.compute(project.root, components, BASES)["train"]
    assert keys.compute(project.root, renamed, BASES)["train"] != plain


# Built again by force ------------------------------------------------------------------


def under(project: Any, **forced: str) -> dict[str, str]:
    components = discover(project.root, Config(), "ml")
    found = keys.compute(project.root, components, BASES, forced=forced)
    return {name: key for name, (key, _) in found.items()}


def test_nothing_forced_is_the_key_of_the_sources(project: Any) -> None:
    assert under(project) == under(project, base="", train="")
    assert under(project) == {name: key for name, (key, _) in computed(project.root).items()}


@settings(max_examples=40, deadline=None)
@given(
    one=st.dictionaries(st.sampled_from(["base", "train", "other"]), st.text(max_size=3)),
    other=st.dictionaries(st.sampled_from(["base", "train", "other"]), st.text(max_size=3)),
)
def test_a_key_differs_exactly_where_what_forces_it_or_its_parents_does(
    one: dict[str, str], other: dict[str, str]
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for name, text in (("base", "FROM scratch\n"), ("other", "FROM scratch\n"),
                           ("train", "FROM ml/base\n")):  # fmt: skip
            (root / name).mkdir()
            (root / name / "Dockerfile").write_text(text)
        components = discover(root, Config(), "ml")
        first, second = (keys.compute(root, components, {}, forced=it) for it in (one, other))
        for name, above in (("base", ()), ("other", ()), ("train", ("base",))):
            same = all(one.get(it, "") == other.get(it, "") for it in (name, *above))
            assert (first[name] == second[name]) == same
        each = {
            name: keys.key_of(keys.ingredients(root, components[name],
                                               {n: k for n, (k, _) in first.items()}, {},
                                               one.get(name, "")))
            for name in components
        }  # fmt: skip
        assert each == {name: key for name, (key, _) in first.items()}  # as the build checks it
