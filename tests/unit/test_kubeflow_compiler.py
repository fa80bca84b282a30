"""Compiling a repository's pipelines; the oracle is kfp's own compiler."""

from __future__ import annotations

import base64
import io
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from ci_tools import config, git
from ci_tools.documents import CompiledPipeline
from ci_tools.errors import CompileError, ConfigError
from ci_tools.kubeflow import compiler, ir, pipeline_files
from ci_tools.kubeflow.kept import Kept

PINNED = "registry.example/demo/train@sha256:" + "a" * 64
TEMPLATE = """\
name: Train
inputs: [{{name: rows, type: Integer}}]
outputs: [{{name: model, type: Model}}]
implementation:
  container:
    image: {image}
    command: [train, --rows, {{inputValue: rows}}, --model, {{outputPath: model}}]
"""
PIPELINE = """\
from kfp import components, dsl
from kfp.components import load_component_from_file

train = load_component_from_file("component_specs/train.yaml")
again = components.load_component_from_file("component_specs/train.yaml")

@dsl.pipeline(name="training", description="Trains it")
def training(rows: int = 3):
    train(rows=rows)
    again(rows=rows).set_caching_options(False)
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    for directory, image in (("component_specs", "train"), ("build/component_specs", PINNED)):
        write(root / directory / "train.yaml", TEMPLATE.format(image=image))
    write(root / "pipelines/training.py", PIPELINE)
    return root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def compile_all(
    repository: Path, settings: config.Pipelines | None = None, kept: Kept | None = None
) -> dict[str, CompiledPipeline]:
    found = compiler.compile_all(
        repository,
        git.files(repository),
        settings or config.Pipelines(),
        repository / "build/component_specs",
        repository / "build/pipelines",
        jobs=2,
        kept=kept,
    )
    return {name: it.pipeline for name, it in found.items()}


def test_pinned_copies_are_compiled_as_kfp_compiles_them(repository: Path) -> None:
    compiled = compile_all(repository)
    assert list(compiled) == ["training"]
    one = compiled["training"]
    path = repository / "build" / one.path
    assert one.images == [PINNED]
    assert one.parameters == {"rows": 3}
    assert (one.source, one.function) == ("pipelines/training.py", "training")
    assert one.description == "Trains it"
    assert one.sha256 == ir.canonical_sha256(ir.load(path))
    ir.prove(ir.load(path), {PINNED}, set(), path.name)

    write(repository / "component_specs/train.yaml", TEMPLATE.format(image=PINNED))
    oracle = (
        "import sys; sys.path.insert(0, 'pipelines'); import training; from kfp import compiler;"
        "compiler.Compiler().compile(training.training, 'oracle.yaml')"
    )
    subprocess.run([sys.executable, "-c", oracle], cwd=repository, check=True)
    expected = (repository / "oracle.yaml").read_text()
    assert yaml.safe_load(path.read_text()) == yaml.safe_load(expected)


def test_same_sources_same_bytes_and_nothing_left_in_them(repository: Path) -> None:
    compile_all(repository)
    first = (repository / "build/pipelines/training.yaml").read_bytes()
    compile_all(repository)
    assert (repository / "build/pipelines/training.yaml").read_bytes() == first
    assert [path.name for path in (repository / "pipelines").iterdir()] == ["training.py"]


def test_pipelines_that_a_function_makes_are_all_compiled(repository: Path) -> None:
    made = PIPELINE.replace("@dsl", "def make(name):\n  @dsl").replace('"training"', "name")
    head, rest = made.split("  @dsl")
    rest = ("  @dsl" + rest).replace("\n", "\n  ").rstrip()
    ends = "\n  return training\n\none, two = make('one'), make('two')\nagain_one = one\n"
    write(repository / "pipelines/made.py", head + rest + ends)
    compiled = compile_all(repository)
    assert {name: one.function for name, one in compiled.items()} == {
        "one": "one", "two": "two", "training": "training",
    }  # fmt: skip
    named = {"first": config.Pipeline(file="pipelines/made.py", function="one")}
    assert list(compile_all(repository, config.Pipelines(named=named))) == [
        "first", "training", "two",
    ]  # fmt: skip


EMBEDDING = """\
from kfp import dsl

@dsl.component(base_image="python@sha256:%s", embedded_artifact_path="pipelines/assets")
def reads(assets: dsl.EmbeddedInput[dsl.Artifact]) -> str:
    return open(assets.path + "/rows.txt").read()

@dsl.pipeline(name="embedding")
def embedding():
    reads()
""" % ("b" * 64)


def test_what_is_embedded_is_the_same_in_every_checkout(repository: Path) -> None:
    write(repository / "pipelines/embedding.py", EMBEDDING)
    write(repository / "pipelines/assets/in/rows.txt", "3")
    write(repository / "pipelines/assets/rows.txt", "3")
    run = repository / "pipelines/assets/run"
    write(run, "#!/bin/sh\n")
    run.chmod(0o755)
    first = compile_all(repository)["embedding"]
    text = (repository / "build/pipelines/embedding.yaml").read_text()

    for path, mode in ((run, 0o700), (run.with_name("rows.txt"), 0o600)):
        os.utime(path, (1, 1))
        path.chmod(mode)
    write(repository / "pipelines/assets/__pycache__/x.pyc", "")
    assert compile_all(repository)["embedding"].sha256 == first.sha256
    run.chmod(0o600)
    assert compile_all(repository)["embedding"].sha256 != first.sha256

    # What kfp makes of it can be unpacked, and holds what was embedded.
    found = re.search(r"__KFP_EMBEDDED_ARCHIVE_B64\s*=\s*\\?['\"]([\w+/=\s\\]+)", text)
    assert found
    packed = base64.b64decode(re.sub(r"[\s\\]", "", found[1]))
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        assert {it.name: oct(it.mode) for it in archive if it.isfile()} == {
            "./in/rows.txt": "0o644", "./rows.txt": "0o644", "./run": "0o755",
        }  # fmt: skip


def test_a_broken_pipeline_does_not_hold_up_the_others(repository: Path) -> None:
    write(
        repository / "pipelines/broken.py",
        PIPELINE.replace('"training"', '"broken"').replace("train(rows=rows)", "train(row=rows)"),
    )
    write(repository / "pipelines/unreadable.py", "def (:\n")
    with pytest.raises(CompileError) as caught:
        compile_all(repository)
    text = str(caught.value)
    assert "pipelines/broken.py line 9: TypeError: train() got an unexpected keyword" in text
    assert "pipelines/unreadable.py line 1: SyntaxError" in text
    assert "Traceback" not in text
    log = repository / "build/pipelines/logs/pipelines__broken.py.log"
    assert "Traceback" in log.read_text()
    assert (repository / "build/pipelines/training.yaml").is_file()


def test_an_earlier_builds_ir_does_not_stay(repository: Path) -> None:
    compile_all(repository)
    (repository / "pipelines/training.py").write_text("raise RuntimeError('no\\nmore')\n")
    with pytest.raises(CompileError, match="line 1: RuntimeError: no more"):
        compile_all(repository)
    assert list((repository / "build/pipelines").glob("*.yaml")) == []


def test_files_that_end_themselves(repository: Path) -> None:
    write(repository / "pipelines/exits.py", "import sys\nsys.exit(0)\n")
    write(repository / "pipelines/stops.py", "import os\nos._exit(0)\n")
    write(repository / "pipelines/dies.py", "import os, signal\nos.kill(os.getpid(), 9)\n")
    with pytest.raises(CompileError) as caught:
        compile_all(repository)
    for words in (
        "exits.py line 2: it exits while it is imported (sys.exit(0))",
        "stops.py ended its own process (exit code 0)",
        "dies.py ended its own process (exit code -9)",
    ):
        assert words in str(caught.value)
    assert (repository / "build/pipelines/training.yaml").is_file()


def test_a_file_that_never_ends(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(repository / "pipelines/training.py", "import time\ntime.sleep(10_000)\n")
    monkeypatch.setattr(compiler, "TIMEOUT_SECONDS", 3.0)
    with pytest.raises(CompileError, match="took more than 3 seconds"):
        compile_all(repository)


def test_helpers_are_skipped_and_may_be_imported(repository: Path) -> None:
    write(repository / "pipelines/steps.py", "ROWS = 12\nprint('{\"pipelines\": []}')\n")
    write(repository / "pipelines/_draft.py", "raise RuntimeError\n")
    write(repository / "pipelines/.cache/x.py", "raise RuntimeError\n")
    write(repository / "common.py", "NAME = 'training'\n")
    write(
        repository / "pipelines/training.py",
        "import common, steps\nimport yaml\n"
        + PIPELINE.replace('name="training"', "name=common.NAME").replace(
            "rows: int = 3", "rows: int = steps.ROWS"
        ),
    )
    write(repository / "yaml.py", "raise RuntimeError('the repository has a yaml.py')\n")
    compiled = compile_all(repository)
    assert {name: it.parameters for name, it in compiled.items()} == {"training": {"rows": 12}}


def test_a_pipeline_imported_from_another_file_is_compiled_once(repository: Path) -> None:
    write(
        repository / "pipelines/nightly.py",
        "from kfp import dsl\nfrom training import training\n\n"
        '@dsl.pipeline(name="nightly")\ndef nightly():\n    training(rows=9)\n',
    )
    assert sorted(compile_all(repository)) == ["nightly", "training"]


def test_two_pipelines_of_one_name(repository: Path) -> None:
    write(repository / "pipelines/twin.py", PIPELINE)
    with pytest.raises(CompileError, match=r"two pipelines are called 'training'") as caught:
        compile_all(repository)
    assert "pipelines/training.py" in str(caught.value)
    assert "pipelines/twin.py" in str(caught.value)


def test_git_ignored_files_are_left_out(repository: Path) -> None:
    write(repository / ".gitignore", "scratch/\n")
    write(repository / "pipelines/scratch/x.py", "raise RuntimeError\n")
    write(repository / "pipelines/nested/ü é.py", "")
    subprocess.run(["git", "init", "-q"], cwd=repository, check=True)
    assert pipeline_files.discover(git.files(repository), "pipelines") == [
        "pipelines/nested/ü é.py",
        "pipelines/training.py",
    ]


def test_a_template_that_was_not_pinned(repository: Path) -> None:
    (repository / "build/component_specs/train.yaml").unlink()
    with pytest.raises(CompileError, match="no pinned copy"):
        compile_all(repository)


def test_pipelines_named_in_ci_yaml(repository: Path) -> None:
    write(
        repository / "elsewhere/flow.py",
        PIPELINE + '\n@dsl.pipeline(name="other")\ndef other():\n    train(rows=1)\n',
    )
    named = {"nightly": config.Pipeline(file="elsewhere/flow.py", function="training")}
    compiled = compile_all(repository, config.Pipelines(named=named))
    assert sorted(compiled) == ["nightly", "other", "training"]
    assert compiled["nightly"].source == "elsewhere/flow.py"
    text = (repository / "build/pipelines/nightly.yaml").read_text()
    assert yaml.safe_load(text)["pipelineInfo"]["name"] == "nightly"


@pytest.mark.parametrize(
    ("name", "pipeline", "error", "words"),
    [
        ("absent", config.Pipeline(), ConfigError, "'absent', which no file defines"),
        ("x", config.Pipeline(file="no.py"), ConfigError, r"'no\.py' is not a file"),
        ("x", config.Pipeline(file="../outside.py"), ConfigError, "of this repository"),
        ("x", config.Pipeline(function="f"), ConfigError, "no file"),
        (
            "x",
            config.Pipeline(file="pipelines/training.py", function="f"),
            CompileError,
            "no @dsl.pipeline function 'f': the file defines training",
        ),
    ],
)
def test_wrong_entries_of_ci_yaml(
    repository: Path, name: str, pipeline: config.Pipeline, error: type, words: str
) -> None:
    write(repository.parent / "outside.py", PIPELINE)
    with pytest.raises(error, match=words):
        compile_all(repository, config.Pipelines(named={name: pipeline}))


def test_a_link_out_of_the_repository(repository: Path) -> None:
    write(repository.parent / "outside.py", PIPELINE)
    (repository / "pipelines/link.py").symlink_to(repository.parent / "outside.py")
    with pytest.raises(CompileError, match="link out of the repository"):
        compile_all(repository)


def test_a_users_kfp_context_and_switches_do_not_leak(
    repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compile_all(repository)
    before = (repository / "build/pipelines/training.yaml").read_bytes()
    monkeypatch.setenv("KFP_DISABLE_EXECUTION_CACHING_BY_DEFAULT", "true")
    write(
        repository / "pipelines/training.py",
        "import os, pathlib\n"
        f"assert pathlib.Path.home() != pathlib.Path({str(Path.home())!r})\n" + PIPELINE,
    )
    compile_all(repository)
    assert (repository / "build/pipelines/training.yaml").read_bytes() == before


def test_packages_with_relative_imports_and_any_layout(repository: Path) -> None:
    flow = PIPELINE.replace('"training"', '"flow"').replace("training(rows", "flow(rows")
    write(repository / "src/project/__init__.py", "")
    write(repository / "src/project/names.py", "ROWS = 5\n")
    write(repository / "src/project/flows/__init__.py", "raise_nothing = True\n")
    write(
        repository / "src/project/flows/pipeline.py",
        "from ..names import ROWS\nfrom . import raise_nothing\n"
        + flow.replace("rows: int = 3", "rows: int = ROWS"),
    )
    write(repository / "src/project/flows/other.py", "raise RuntimeError('not asked for')\n")
    settings = config.Pipelines(directory=["pipelines", "src/**/pipeline.py"])
    compiled = compile_all(repository, settings)
    assert {name: it.parameters for name, it in compiled.items()} == {
        "flow": {"rows": 5},
        "training": {"rows": 3},
    }
    assert compiled["flow"].source == "src/project/flows/pipeline.py"


def test_a_package_called_like_a_library_hides_nothing(repository: Path) -> None:
    write(repository / "yaml/__init__.py", "raise RuntimeError('ours')\n")
    write(repository / "yaml/flow.py", PIPELINE.replace('"training"', '"flow"'))
    assert sorted(compile_all(repository, config.Pipelines(directory="yaml"))) == ["flow"]


@pytest.mark.parametrize(
    ("places", "found"),
    [
        ("a", ["a/b/y.py", "a/x.py"]),
        (["a/b", "c"], ["a/b/y.py", "c/z.py"]),
        ("./a/", ["a/b/y.py", "a/x.py"]),
        (["*/z.py"], ["c/z.py"]),
        (".", ["a/b/y.py", "a/x.py", "c/z.py", "top.py"]),
        ("absent", []),
        ("../a", []),
    ],
)
def test_where_pipelines_are_looked_for(places: str | list[str], found: list[str]) -> None:
    files = ["a/x.py", "a/b/y.py", "a/_w.py", "a/.h/v.py", "c/z.py", "top.py", "a/n.txt", "ab/c.py"]
    if places == ".":
        found = sorted([*found, "ab/c.py"])
    assert pipeline_files.discover(files, places) == found


def test_what_belongs_to_pipelines_is_found_beside_them() -> None:
    files = [
        "p/a.py",
        "p/a.test.yaml",
        "p/t/b.test.yaml",
        "q/flow.py",
        "q/c.test.yaml",
        "d.test.yaml",
    ]
    assert pipeline_files.beside(files, ["p", "q/*.py"], (".test.yaml",)) == [
        "p/a.test.yaml",
        "p/t/b.test.yaml",
        "q/c.test.yaml",
    ]
