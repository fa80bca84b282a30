"""The project in this repository is sound, as far as can be told without an engine."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler, components

from ci_tools.serving import declaration

REPOSITORY = Path(__file__).resolve().parents[2]
SPECS = sorted((REPOSITORY / "component_specs").glob("*.yaml"))
IMAGES = sorted(
    path.parent
    for folder in ("base_images", "components")
    for path in REPOSITORY.glob(f"{folder}/*/Dockerfile")
)
IMAGES.append(REPOSITORY / "servable")


def names(paths: list[Path]) -> list[str]:
    return [path.stem for path in paths]


@pytest.fixture(scope="module", params=["training", "batch_scoring"])
def pipeline(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Every pipeline as kfp compiles it."""
    source = REPOSITORY / "pipelines" / f"{request.param}.py"
    spec = importlib.util.spec_from_file_location(request.param, source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    compiled = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    compiler.Compiler().compile(getattr(module, request.param), str(compiled))
    return yaml.safe_load(compiled.read_text())


@pytest.mark.parametrize("path", SPECS, ids=names(SPECS))
def test_a_template_names_a_component_and_no_tag(path: Path) -> None:
    image = yaml.safe_load(path.read_text())["implementation"]["container"]["image"]
    assert (REPOSITORY / "components" / image / "Dockerfile").is_file()


@pytest.mark.parametrize("path", SPECS, ids=names(SPECS))
def test_kfp_loads_a_template_with_typed_artifacts(path: Path) -> None:
    spec = components.load_component_from_file(str(path)).component_spec
    for port in [*(spec.inputs or {}).values(), *spec.outputs.values()]:
        assert port.type != "system.Artifact@0.0.1"


@pytest.mark.parametrize("path", SPECS, ids=names(SPECS))
def test_the_arguments_are_those_that_the_program_takes(path: Path) -> None:
    container = yaml.safe_load(path.read_text())["implementation"]["container"]
    module = container["command"][-1]
    source = REPOSITORY / "components" / container["image"] / "src" / f"{module}.py"
    taken = {
        node.value
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Constant) and str(node.value).startswith("--")
    }
    given = {item for item in container["args"] if isinstance(item, str) and item[:2] == "--"}
    assert given == taken | {"--executor-input"}


def test_one_image_serves_several_templates() -> None:
    images = [
        yaml.safe_load(path.read_text())["implementation"]["container"]["image"] for path in SPECS
    ]
    assert images.count("evaluate") == 2


def test_pipelines_give_out_what_ci_and_the_service_ask_for(pipeline: Any) -> None:
    expected = {
        "training": (
            {"test_fraction": 0.25, "seed": 7, "regularisation": 1.0},
            {"model": "system.Model"},
            {"model_sha256", "accuracy", "roc_auc", "recall"},
        ),
        "batch-scoring": (
            {"model_uri": None, "model_sha256": None},
            {"predictions": "system.Dataset"},
            {"rows"},
        ),
    }
    parameters, artifacts, figures = expected[pipeline["pipelineInfo"]["name"]]
    inputs = pipeline["root"]["inputDefinitions"]["parameters"]
    outputs = pipeline["root"]["outputDefinitions"]
    assert {name: item.get("defaultValue") for name, item in inputs.items()} == parameters
    assert {
        name: item["artifactType"]["schemaTitle"] for name, item in outputs["artifacts"].items()
    } == artifacts
    assert set(outputs["parameters"]) == figures


def test_a_pipeline_holds_the_images_of_its_templates_verbatim(pipeline: Any) -> None:
    executors = pipeline["deploymentSpec"]["executors"].values()
    images = {item["container"]["image"] for item in executors if "container" in item}
    assert images <= {"extract", "preprocess", "train", "evaluate"}
    assert "evaluate" in images


@pytest.mark.parametrize("folder", IMAGES, ids=names(IMAGES))
def test_an_image_is_tested_and_ships_its_last_stage(folder: Path) -> None:
    text = (folder / "Dockerfile").read_text()
    stages = re.findall(r"^FROM (\S+)(?: AS (\S+))?$", text, re.MULTILINE)
    assert ("runtime", "test") in stages
    assert stages[-1] == ("runtime", "")
    assert not re.search(r"^ENTRYPOINT", text, re.MULTILINE)
    assert not text.startswith("# syntax")
    assert list((folder / "tests").glob("test_*.py"))


@pytest.mark.parametrize("folder", IMAGES, ids=names(IMAGES))
def test_every_requirement_is_locked_by_hash(folder: Path) -> None:
    for lock in folder.rglob("requirements.txt"):
        requirements = [line for line in lock.read_text().splitlines() if line[:1].isalnum()]
        assert requirements
        assert all(re.fullmatch(r"[\w.-]+==[\w.]+ \\", line) for line in requirements)
        assert lock.read_text().count("--hash=sha256:") >= len(requirements)
    dockerfile = (folder / "Dockerfile").read_text()
    assert len(re.findall(r"/pip .*\binstall\b", dockerfile)) == dockerfile.count(
        "--require-hashes"
    )


def test_components_share_one_test_runner() -> None:
    # Equal files make an equal build step, which BuildKit then runs once.
    locks = {
        (folder / "tests" / "requirements.txt").read_text()
        for folder in REPOSITORY.glob("components/*/")
    }
    assert len(locks) == 1


def test_the_service_has_the_libraries_that_trained_its_model() -> None:
    def locked(path: str) -> dict[str, str]:
        text = (REPOSITORY / path).read_text()
        return dict(re.findall(r"^([\w.-]+)==([\w.]+)", text, re.MULTILINE))

    base = locked("base_images/python/requirements.txt")
    for path in ("servable/requirements.txt", "servable/tests/requirements.txt"):
        service = locked(path)
        assert {name: service[name] for name in base.keys() & service.keys()} == {
            name: base[name] for name in base.keys() & service.keys()
        }


def test_the_smoke_test_sends_whole_records_of_both_classes() -> None:
    declared = declaration.load(REPOSITORY / "servable")
    (smoke,) = yaml.safe_load((REPOSITORY / "servable" / "servable.yaml").read_text())["smoke"]
    records = smoke["body"]["instances"]
    assert [len(record) for record in records] == [30, 30]
    assert list(records[0]) == list(records[1])
    assert smoke["expect"] == {"predictions": [1, 0]}
    assert (REPOSITORY / "pipelines" / f"{declared.model.pipeline}.py").is_file()
