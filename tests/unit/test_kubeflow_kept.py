"""A compilation is reused when, and only when, nothing that it read has changed.

The oracle of "reused" is that no process compiles; of "right", what compiling anew gives.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ci_tools import config, git
from ci_tools.documents import CompiledPipeline
from ci_tools.errors import CompileError
from ci_tools.kubeflow import child, compiler, reads
from ci_tools.kubeflow.kept import Kept
from ci_tools.kubeflow.reads import Places, Watch

TEMPLATE = """\
name: Train
inputs: [{{name: rows, type: Integer}}]
implementation:
  container: {{image: {image}, command: [train, --rows, {{inputValue: rows}}]}}
"""
PIPELINE = """\
{above}
from kfp import dsl
from kfp.components import load_component_from_file

train = load_component_from_file("component_specs/train.yaml")

@dsl.pipeline(name="training")
def training(rows: int = {rows}):
    train(rows=rows)
"""


class Bench:
    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.home = root, root.parent / "home"
        self.asked: list[str] = []
        ask = child.ask

        def counting(verb: str, request: dict[str, Any], **given: Any) -> Any:
            self.asked += [Path(it["file"]).name for it in request["files"]]
            return ask(verb, request, **given)

        monkeypatch.setattr(child, "ask", counting)
        for folder in ("component_specs", "build/component_specs"):
            self.write(f"{folder}/train.yaml", TEMPLATE.format(image="train"))
        self.pipeline()

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def pipeline(self, above: str = "", rows: str = "3", file: str = "training.py") -> None:
        self.write(f"pipelines/{file}", PIPELINE.format(above=above, rows=rows))

    def compile(self, *, write: bool = True) -> dict[str, CompiledPipeline]:
        specs = self.root / "build/component_specs"
        found = compiler.compile_all(
            self.root,
            git.files(self.root),
            config.Pipelines(),
            specs,
            self.root / "build/pipelines",
            jobs=2,
            kept=Kept(self.home, self.root, specs, write=write),
        )
        return {name: it.pipeline for name, it in found.items()}

    def again(self) -> list[str]:
        """Compile once more; the files that a process had to compile."""
        self.asked.clear()
        self.compile()
        return list(self.asked)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path / "repository", monkeypatch)


def test_nothing_changed_nothing_compiled_and_the_same_result(bench: Bench) -> None:
    first = bench.compile()
    text = (bench.root / "build/pipelines/training.yaml").read_bytes()
    (bench.root / "build/pipelines/training.yaml").unlink()
    assert bench.again() == []
    assert bench.compile() == first
    assert (bench.root / "build/pipelines/training.yaml").read_bytes() == text


def helper(bench: Bench) -> None:
    bench.write("pipelines/steps.py", "ROWS = 12\n")


def data(bench: Bench) -> None:
    bench.write("conf/rows.txt", "9")


def flag(bench: Bench) -> None:
    bench.write("conf/big", "")


def listed(bench: Bench) -> None:
    bench.write("conf/b.json", "")


def link(bench: Bench) -> None:
    (bench.root / "conf/now").unlink()
    (bench.root / "conf/now").symlink_to("rows9.txt")


def template(bench: Bench) -> None:
    bench.write("build/component_specs/train.yaml", TEMPLATE.format(image="other"))


def itself(bench: Bench) -> None:
    bench.pipeline(rows="4")


@pytest.mark.parametrize(
    ("above", "rows", "change"),
    [
        ("", "3", itself),
        ("", "3", template),
        ("import steps", "steps.ROWS", helper),
        ("import common", "3 if common else 0", lambda b: b.write("common.py", "X = 2\n")),
        ("from pathlib import Path", "int(Path('conf/rows.txt').read_text())", data),
        ("from pathlib import Path", "int(Path('conf/now').read_text())", link),
        ("from pathlib import Path", "int(Path('conf/now').read_text())", data),
        ("from pathlib import Path", "9 if Path('conf/big').exists() else 1", flag),
        ("import os.path", "9 if os.path.isfile('conf/big') else 1", flag),
        ("import os", "len(os.listdir('conf'))", listed),
        ("from glob import glob", "len(glob('conf/*.json'))", listed),
        ("from pathlib import Path", "len(list(Path('conf').iterdir()))", listed),
        ("import importlib.util as u", "9 if u.find_spec('extra') else 1", None),
    ],
)
def test_whatever_it_read_counts(
    bench: Bench, above: str, rows: str, change: Callable[[Bench], None] | None
) -> None:
    bench.write("pipelines/steps.py", "ROWS = 11\n")
    bench.write("common.py", "X = 1\n")
    bench.write("conf/rows.txt", "8")
    bench.write("conf/rows9.txt", "19")
    (bench.root / "conf/now").symlink_to("rows.txt")
    bench.write("conf/a.json", "")
    bench.pipeline(above, rows)
    bench.compile()
    bench.again()  # folders appeared by the first build
    assert bench.again() == []  # nor are modules that define no pipeline compiled
    if change is None:
        bench.write("pipelines/extra.py", "")
    else:
        change(bench)
    assert "training.py" in bench.again()
    expected = bench.compile()["training"]
    bench.home = bench.home.with_name("nothing is kept here")
    assert bench.compile()["training"] == expected


def test_environment_variables_count_and_are_not_kept_readable(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROWS", "7777777")
    monkeypatch.setenv("UNUSED", "a")
    bench.pipeline("import os", "len(os.environ['ROWS']) + len(os.environ.get('MORE', ''))")
    assert bench.compile()["training"].parameters == {"rows": 7}
    monkeypatch.setenv("UNUSED", "b")
    assert bench.again() == []
    assert all(b"7777777" not in path.read_bytes() for path in bench.home.iterdir())
    monkeypatch.setenv("MORE", "xy")
    assert bench.compile()["training"].parameters == {"rows": 9}
    monkeypatch.setenv("ROWS", "1")
    assert bench.compile()["training"].parameters == {"rows": 3}


@pytest.mark.parametrize(
    "above",
    [
        "import subprocess; subprocess.run(['true'])",
        "import os; os.system('true')",
        "import socket\ntry: socket.create_connection(('127.0.0.1', 1), 0.1)\nexcept OSError: pass",
        "import os; dict(os.environ)",
        "open('left.txt', 'w').close()",
        "open('/proc/uptime').read()",
        "import sqlite3; sqlite3.connect(':memory:')",
    ],
)
def test_what_cannot_be_followed_is_compiled_every_time(bench: Bench, above: str) -> None:
    bench.pipeline(above)
    bench.compile()
    bench.again()
    assert bench.again() == ["training.py"]
    log = bench.root / "build/pipelines/logs/pipelines__training.py.log"
    assert "compiled every time, for it" in log.read_text()


def test_a_pipeline_that_loads_by_name_is_kept(bench: Bench) -> None:
    """Also in a repository of no ci.yaml, whose name only git knows."""
    (bench.root / ".git").mkdir()
    text = PIPELINE.format(above="from ci_tools.components import load", rows="3")
    loaded = 'load_component_from_file("component_specs/train.yaml")'
    assert loaded in text
    bench.write("pipelines/training.py", text.replace(loaded, 'load("train")'))
    bench.compile()
    bench.again()
    assert bench.again() == []
    bench.write("build/component_specs/train.yaml", TEMPLATE.format(image="other"))
    assert bench.again() == ["training.py"]
    assert bench.compile()["training"].images == ["other"]


def test_only_what_changed_is_compiled(bench: Bench) -> None:
    bench.write("pipelines/steps.py", "")
    bench.write(
        "pipelines/other.py",
        PIPELINE.format(above="import steps", rows="1").replace('"training"', '"other"'),
    )
    bench.compile()
    bench.write("pipelines/steps.py", "X = 1\n")
    assert "training.py" not in bench.again()


def test_a_repository_below_python_s_own_prefix_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As /usr/src/app is, where Python is the distribution's."""
    root = tmp_path / "src/app"
    monkeypatch.setattr(reads.sys, "prefix", str(tmp_path))
    watch = reads.Watch(reads.Places(root, root / "build/component_specs", "salt"))
    for path in (root / "rows.txt", tmp_path / "lib/library.py"):
        watch._note_path("file", path)
    assert [name for _, name in watch._seen] == ["rows.txt"]


def test_a_failure_is_not_kept(bench: Bench) -> None:
    bench.pipeline(rows="[][0]")
    for _ in range(2):
        bench.asked.clear()
        with pytest.raises(CompileError):
            bench.compile()
        assert bench.asked == ["training.py"]


def test_a_dry_run_uses_what_is_kept_and_keeps_nothing(bench: Bench) -> None:
    bench.compile(write=False)
    assert not bench.home.exists()
    bench.compile()
    bench.asked.clear()
    bench.compile(write=False)
    assert bench.asked == []


def test_two_states_take_turns(bench: Bench) -> None:
    for image in ("a", "b", "a", "b"):
        bench.write("build/component_specs/train.yaml", TEMPLATE.format(image=image))
        assert bench.compile()["training"].images == [image]
    assert len(bench.asked) == 2


@pytest.mark.parametrize("damage", [b"", b"[{}]", b"\xff", b"[" * 100_000])
def test_what_is_damaged_is_not_used(bench: Bench, damage: bytes) -> None:
    first = bench.compile()
    for path in bench.home.iterdir():
        path.write_bytes(damage)
    assert bench.again() == ["training.py"]
    assert bench.compile() == first


def test_another_release_of_a_library_counts(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from ci_tools.kubeflow import kept

    bench.compile()
    site = tmp_path / "site-packages"
    (site / "kfp-9.dist-info").mkdir(parents=True)
    monkeypatch.setattr(kept.sys, "path", [*kept.sys.path, str(site)])
    kept._fingerprint.cache_clear()
    try:
        assert bench.again() == ["training.py"]
    finally:
        kept._fingerprint.cache_clear()


def test_a_module_is_read_where_its_links_lead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is installed is known by its version; what is linked there is somebody's own."""
    library, own = tmp_path / "site-packages", tmp_path / "own"
    for folder in (library, own):
        folder.mkdir()
    for name in ("site-packages/plain.py", "own/inside.py", "own/file.py"):
        (tmp_path / name).write_text("")
    (library / "linked.py").symlink_to(own / "file.py")
    (library / "folder").symlink_to(own)
    (own / "back").symlink_to(library)
    modules = {}
    for file in ("plain.py", "linked.py", "folder/inside.py", "folder/back/plain.py"):
        modules[file] = ModuleType(file)
        modules[file].__file__ = str(library / file)
    watch = Watch(Places(tmp_path / "repository", tmp_path / "specs", "salt"))
    watch._ignored = (f"{library}/",)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "modules", modules)
        found = watch.stop()
    assert {it.name for it in found} == {str(own / "file.py"), str(own / "inside.py")}
