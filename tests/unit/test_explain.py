"""What changed against a lock: exactly that, and nothing else."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from ci import explain as stage
from ci.cli import cli
from ci.workspace import Workspace
from ci_tools import storage
from ci_tools.components import changes, keys
from ci_tools.components.changes import Change
from ci_tools.documents import FailedImage, Ingredients, Lock, LockedImage, Source, Verdict
from ci_tools.errors import ConfigError, MissingInputError

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
VERDICT = Verdict(status="pass", trivy="1", database=None, policy="p")


def workspace(root: Path) -> Workspace:
    return Workspace(
        repository=root, build=root / "build", home=root / "nowhere", dry_run=True
    )  # fmt: skip


def lock(root: Path, digests: dict[str, str] | None = None, *without: str) -> Path:
    """The lock that a build of this tree would leave."""
    components = workspace(root).components
    bases = {"python:3.11": DIGEST} if digests is None else digests
    known = {name: key for name, (key, _) in keys.compute(root, components, bases).items()}
    images = {
        name: LockedImage(
            repository=f"h/ml/{name}", digest=DIGEST, config=DIGEST, key=key, size=1,
            verdict=VERDICT, ingredients=changes.recorded(
                keys.ingredients(root, components[name], known, bases)
            ),
        )
        for name, key in known.items()
        if name not in without
    }  # fmt: skip
    written = Lock(project="ml", environment="local", source=Source(), components=images)
    storage.write(root / "build/images.lock.json", written)
    return root / "build/images.lock.json"


def told(root: Path, name: str) -> list[str]:
    return stage.lines(stage.explain(workspace(root), name))


@pytest.fixture
def project(repository: Any) -> Any:
    repository.write("ci.yaml", "project: ml\n")
    repository.write("bases.lock", f"python:3.11: {DIGEST}\n")
    repository.write("base/Dockerfile", "FROM python:3.11\nCOPY lib /lib\n")
    repository.write("base/lib", "lib")
    repository.write("train/Dockerfile", "FROM ml/base AS one\nARG V=1\nCOPY . /\nFROM one\n")
    repository.write("train/src/run.py", "1")
    repository.write("train/go.sh", "#!").chmod(0o755)
    (repository.root / "train/link").symlink_to("go.sh")
    repository.write("leaf/Dockerfile", "FROM ml/train\n")
    repository.write("other/Dockerfile", "FROM python:3.11\n")
    return repository


def relink(root: Path) -> None:
    (root / "train/link").unlink()
    (root / "train/link").symlink_to("src")


def unlink(root: Path) -> None:
    (root / "train/link").unlink()
    (root / "train/link").write_text("go.sh")


def rewrite(root: Path) -> None:
    (root / "train/go.sh").write_text("#!more")
    (root / "train/go.sh").chmod(0o644)


def declare(text: str) -> Any:
    return lambda root: (root / "ci.yaml").write_text(
        f"project: ml\ncomponents: {{train: {{{text}}}}}\n"
    )


ONE = {
    "file src/run.py changed": lambda root: (root / "train/src/run.py").write_text("2"),
    "file new added": lambda root: (root / "train/new").write_text(""),
    "file go.sh removed": lambda root: (root / "train/go.sh").unlink(),
    "file go.sh is no longer executable": lambda root: (root / "train/go.sh").chmod(0o644),
    "file src/run.py became executable": lambda root: (root / "train/src/run.py").chmod(0o755),
    "file go.sh changed and is no longer executable": rewrite,
    "file link points elsewhere": relink,
    "file link became a plain file": unlink,
    "file 'a\\nb' added": lambda root: (root / "train/a\nb").write_text(""),
    r"file \xff\\xff added": lambda root: Path(
        os.fsdecode(os.fsencode(root / "train") + b"/\xff\\xff")
    ).write_text(""),
    "Dockerfile train/Dockerfile changed": lambda root: (
        (root / "train/Dockerfile").open("a").write("USER 1\n")
    ),
    "argument V added": declare("args: {V: '2'}"),
    "target: (the last) → one": declare("target: one"),
    "platform: linux/amd64 → linux/amd64,linux/arm64": declare(
        "platforms: [linux/arm64, linux/amd64]"
    ),
    "frontend: (the engine's own) → ml/base": declare("args: {BUILDKIT_SYNTAX: ml/base}"),
}


@pytest.mark.parametrize("sentence", ONE)
def test_one_change_is_one_line(project: Any, sentence: str) -> None:
    lock(project.root)
    ONE[sentence](project.root)
    first, *rest = told(project.root, "train")
    assert first.startswith("train: ")
    assert " → " in first
    assert rest == [f"  {sentence}"]
    assert told(project.root, "base") == ["base: nothing changed"]


def test_an_argument_tells_both_values(project: Any) -> None:
    declare("args: {V: '2'}")(project.root)
    lock(project.root)
    declare("args: {V: '3'}")(project.root)
    assert told(project.root, "train")[1:] == ["  argument V: 2 → 3"]


def test_a_parent_is_followed_to_the_file(project: Any) -> None:
    lock(project.root)
    project.write("base/lib", "new")
    leaf, first, train, second, base, third = told(project.root, "leaf")
    assert (first, second, third) == (
        "  parent ml/train changed", "  parent ml/base changed", "  file lib changed",
    )  # fmt: skip
    assert [line.partition(":")[0] for line in (leaf, train, base)] == ["leaf", "train", "base"]


def test_a_moved_base_tells_both_digests(project: Any) -> None:
    lock(project.root)
    project.write("bases.lock", f"python:3.11: {OTHER}\n")
    assert told(project.root, "other")[1:] == [f"  base python:3.11: {DIGEST} → {OTHER}"]


def test_a_base_that_nobody_locked_is_taken_from_the_lock_and_said_so(project: Any) -> None:
    lock(project.root)
    (project.root / "bases.lock").unlink()
    assert told(project.root, "other") == [
        "other: nothing changed",
        "assumed: python:3.11 as in the lock (bases.lock lacks it)",
    ]


def test_what_the_lock_does_not_hold(project: Any) -> None:
    path = lock(project.root, None, "train")
    assert told(project.root, "train") == ["train: not in build/images.lock.json"]
    content = storage.read(path, Lock, made_by="build")
    content.failed["train"] = FailedImage(step="test", message="m", todo="t", exit_code=21)
    storage.write(path, content)
    assert told(project.root, "train")[1:] == ["  it failed there in step 'test'"]


def test_a_lock_without_ingredients_says_so(project: Any) -> None:
    path = lock(project.root)
    content = storage.read(path, Lock, made_by="build")
    content.components["train"].ingredients = None
    storage.write(path, content)
    assert told(project.root, "train") == ["train: nothing changed"]
    project.write("train/new")
    assert told(project.root, "train")[1:] == ["  the lock does not say what the key was made of"]


def test_a_child_of_another_build_of_its_parent(project: Any) -> None:
    old = storage.read(lock(project.root), Lock, made_by="build")
    project.write("base/lib", "new")
    path = lock(project.root)
    mixed = storage.read(path, Lock, made_by="build")
    mixed.components["train"] = old.components["train"]
    storage.write(path, mixed)
    assert told(project.root, "train")[1:] == [
        "  parent ml/base changed",
        "base: nothing changed",
        "  the lock has it, but train there is built on another",
    ]


def test_mistakes(project: Any) -> None:
    with pytest.raises(MissingInputError):
        stage.explain(workspace(project.root), "train")
    lock(project.root)
    with pytest.raises(ConfigError, match=r"Did you mean 'train'\?$"):
        stage.explain(workspace(project.root), "trian")
    (project.root / "other/Dockerfile").unlink()
    with pytest.raises(ConfigError, match="any more, though the lock has it"):
        stage.explain(workspace(project.root), "other")


def run(root: Path, *arguments: str) -> str:
    done = CliRunner().invoke(
        cli, [*arguments, "--repo", str(root)], catch_exceptions=False,
        env={"DOCKER_HOST": "tcp://127.0.0.1:1"},
    )  # fmt: skip
    assert done.exit_code == 0
    return done.stdout


def test_explain_on_the_command_line(project: Any, tmp_path: Path) -> None:
    elsewhere = lock(project.root).rename(tmp_path / "main.json")
    project.write("train/src/run.py", "2")
    found = json.loads(run(project.root, "explain", "train", "--against", str(elsewhere), "--json"))
    assert found["component"]["changes"] == [
        {"kind": "file", "how": "changed", "name": "src/run.py",
         "before": "file:6b86b273ff34fce1", "after": "file:d4735e3a265e16ee"}
    ]  # fmt: skip
    assert found["parents"] == {}
    assert found["assumed"] == []


def test_plan_against_a_lock(project: Any) -> None:
    project.write("gone/Dockerfile", "FROM python:3.11\n")
    path = lock(project.root, None, "base2")
    (project.root / "gone/Dockerfile").unlink()
    project.write("fresh/Dockerfile", "FROM python:3.11\n")
    project.write("train/src/run.py", "2")
    arguments = ("plan", "--dry-run", "--against", str(path))
    assert run(project.root, *arguments).splitlines()[-6:] == [
        "against build/images.lock.json:",
        "  rebuild  leaf: parent ml/train changed",
        "  rebuild  train: file src/run.py changed",
        "  new      fresh",
        "  removed  gone",
        "  2 components unchanged",
    ]
    found = json.loads(run(project.root, *arguments, "--json"))
    assert found["against"] == {
        "lock": "build/images.lock.json",
        "rebuild": [
            {"name": "leaf", "reasons": ["parent ml/train changed"], "state": "unknown"},
            {"name": "train", "reasons": ["file src/run.py changed"], "state": "unknown"},
        ],
        "new": ["fresh"], "removed": ["gone"], "unchanged": 2, "assumed": [],
    }  # fmt: skip
    assert len(found["components"]) == 5


def test_plan_against_an_equal_tree_without_bases_lock(project: Any) -> None:
    path = lock(project.root)
    (project.root / "bases.lock").unlink()
    found = json.loads(run(project.root, "plan", "--dry-run", "--json", "--against", str(path)))
    assert (found["against"]["rebuild"], found["against"]["unchanged"]) == ([], 4)
    assert found["against"]["assumed"] == ["python:3.11"]


# Large contexts -----------------------------------------------------------------


def made_of(files: dict[str, str]) -> Ingredients:
    return Ingredients(recipe=1, dockerfile="0" * 64, files=files, platform="linux/amd64")


def names(before: Ingredients, after: Ingredients) -> list[str]:
    found = changes.between(before, after, dockerfile="c/Dockerfile", context="c")
    return [f"{one.kind} {one.name} {one.how}" for one in found]


FILES = {f"data/{i}/{j}": f"file:{i}{j}" + "0" * 60 for i in range(4) for j in range(4)}


def test_a_large_context_is_kept_by_directories() -> None:
    whole = made_of({**FILES, "top": "file:1"})
    kept = changes.recorded(whole, limit=6)
    assert sorted(kept.files) == ["data/0/", "data/1/", "data/2/", "data/3/", "top"]
    assert sorted(changes.recorded(whole, limit=3).files) == ["data/", "top"]
    assert sorted(changes.recorded(whole, limit=1).files) == ["./"]
    later = changes.recorded(made_of({**whole.files, "data/2/9": "file:9"}), limit=6)
    assert names(kept, later) == ["directory data/2/ changed"]
    assert str(changes.between(kept, later, dockerfile="D", context="c")[0]) == (
        "files in directory data/2/ changed"
    )


@given(
    st.dictionaries(
        st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(lambda p: "/".join(p) + ".x"),
        st.sampled_from(["file:1", "exec:1", "file:2"]),
        max_size=12,
    ),
    st.integers(1, 12),
    st.integers(1, 12),
)
def test_records_of_different_depth_agree_about_one_tree(
    files: dict[str, str], one: int, other: int
) -> None:
    tree = made_of(files)
    records = [changes.recorded(tree, limit=limit) for limit in (one, other)]
    assert len(records[0].files) <= max(one, 1)
    assert names(*records) == []
    for path, entry in files.items():
        changed = made_of({**files, path: "link:9"})
        assert names(records[0], changes.recorded(changed, limit=other)) != [], entry


def test_a_record_survives_its_file() -> None:
    record = changes.recorded(made_of({"a\udcff": "file:" + "1" * 64, "a\\xff": "file:2"}))
    assert sorted(record.files) == ["a\\\\xff", "a\\xff"]
    assert msgspec.json.decode(msgspec.json.encode(record), type=Ingredients) == record


# A random repository, and one ingredient of it changed --------------------------

PATHS = ["x", "d/y", "d/z w", "é"]
MUTATIONS = [
    "content", "mode", "add", "remove", "dockerfile", "argument", "base", "platform", "frontend",
]  # fmt: skip
NO_MUTATIONS = ["none", "argument of nobody", "proxy", "base of a stage that nobody needs"]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    trees=st.lists(
        st.dictionaries(
            st.sampled_from(PATHS), st.tuples(st.binary(max_size=3), st.booleans()), min_size=1
        ),
        min_size=1, max_size=4,
    ),
    parent_of=st.lists(st.integers(0, 3), min_size=4, max_size=4),
    what=st.sampled_from(MUTATIONS + NO_MUTATIONS),
    where=st.integers(0, 3),
)  # fmt: skip
def test_one_mutation_is_named_and_nothing_else(
    trees: list[dict[str, tuple[bytes, bool]]], parent_of: list[int], what: str, where: int
) -> None:
    # Component i is built FROM an earlier one, or, where there is none, from bN:1.
    parents = {i: p for i in range(len(trees)) if (p := parent_of[i]) < i}
    bases = {f"b{i}:1": DIGEST for i in range(len(trees))} | {"fe:1": DIGEST, "nobodys:1": DIGEST}
    victim = where % len(trees)
    path = sorted(trees[victim])[0]
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        root.joinpath("ci.yaml").write_text("project: ml\n")
        for i, tree in enumerate(trees):
            for name, (content, executable) in tree.items():
                file = root / f"c{i}" / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
                file.chmod(0o755 if executable else 0o644)
            source = f"ml/c{parents[i]}" if i in parents else f"b{i}:1"
            (root / f"c{i}/Dockerfile").write_text(
                f"FROM nobodys:1 AS unused\nARG NOBODYS\nFROM {source}\nARG V\nCOPY . /\n"
            )
        write_bases(root, bases)
        lock(root, bases)
        file = root / f"c{victim}" / path
        expected = Change(kind="file", how="changed", name=path)
        if what == "content":
            file.write_bytes(file.read_bytes() + b"!")
        elif what == "mode":
            file.chmod(file.stat().st_mode ^ 0o100)
        elif what == "add":
            (root / f"c{victim}/new").touch()
            expected = Change(kind="file", how="added", name="new")
        elif what == "remove":
            file.unlink()
            expected = Change(kind="file", how="removed", name=path)
        elif what == "dockerfile":
            (root / f"c{victim}/Dockerfile").open("a").write("USER 1\n")
            expected = Change(kind="dockerfile", how="changed", name=f"c{victim}/Dockerfile")
        elif what == "argument":
            override(root, victim, "args: {V: '1'}")
            expected = Change(kind="argument", how="added", name="V")
        elif what == "platform":
            override(root, victim, "platforms: [linux/arm64, linux/amd64]")
            expected = Change(kind="platform", how="changed")
        elif what == "frontend":
            override(root, victim, "args: {BUILDKIT_SYNTAX: 'fe:1'}")
            expected = Change(kind="syntax", how="changed")
        elif what == "argument of nobody":
            override(root, victim, "args: {NOBODYS: '1', V2: '1'}")
        elif what == "proxy":
            override(root, victim, "args: {HTTP_PROXY: 'http://h', SOURCE_DATE_EPOCH: '1'}")
        elif what == "base of a stage that nobody needs":
            write_bases(root, {**bases, "nobodys:1": OTHER})
        elif what == "base":
            while victim in parents:  # the one whose base it is
                victim = parents[victim]
            write_bases(root, {**bases, f"b{victim}:1": OTHER})
            expected = Change(kind="base", how="changed", name=f"b{victim}:1")
        for i in range(len(trees)):
            reached = [i]
            while reached[-1] in parents and reached[-1] != victim:
                reached.append(parents[reached[-1]])
            explained = stage.explain(workspace(root), f"c{i}")
            found = {one.name: one for one in (explained.component, *explained.parents.values())}
            if what in NO_MUTATIONS or reached[-1] != victim:
                assert explained.component.changes == []
                assert explained.parents == {}
                assert explained.component.state == "unchanged"
                continue
            assert list(found) == [f"c{one}" for one in reached]
            for one in reached:
                changed = [bare(change) for change in found[f"c{one}"].changes]
                if one == victim and what == "frontend":
                    assert changed == [expected, Change(kind="base", how="added", name="fe:1")]
                elif one == victim:
                    assert changed == [expected]
                else:
                    assert changed == [
                        Change(kind="parent", how="changed", name=f"ml/c{parents[one]}")
                    ]


def override(root: Path, component: int, text: str) -> None:
    (root / "ci.yaml").write_text(f"project: ml\ncomponents: {{c{component}: {{{text}}}}}\n")


def write_bases(root: Path, bases: dict[str, str]) -> None:
    root.joinpath("bases.lock").write_text("".join(f"{r}: {d}\n" for r, d in bases.items()))


def bare(change: Change) -> Change:
    return msgspec.structs.replace(change, before=None, after=None)
