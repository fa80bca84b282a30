import json
from pathlib import Path

import kubeflow_outputs
import pytest


@pytest.fixture
def answer(tmp_path: Path) -> Path:
    return tmp_path / "not" / "there" / "output.json"


@pytest.fixture
def executor_input(answer: Path) -> str:
    artifacts = {
        name: {"artifacts": [{"name": name, "uri": f"s3://b/{name}", "type": {}}]}
        for name in ("model", "metrics")
    }
    return json.dumps({"outputs": {"artifacts": artifacts, "outputFile": str(answer)}})


def test_every_declared_artifact_is_named_and_metadata_are_kept(
    executor_input: str, answer: Path
) -> None:
    kubeflow_outputs.record(executor_input, {"metrics": {"recall": 0.5}})
    metrics = {"name": "metrics", "uri": "s3://b/metrics", "metadata": {"recall": 0.5}}
    model = {"name": "model", "uri": "s3://b/model"}
    assert json.loads(answer.read_text()) == {
        "artifacts": {"model": {"artifacts": [model]}, "metrics": {"artifacts": [metrics]}}
    }


def test_an_artifact_that_nobody_declared_is_an_error(executor_input: str, answer: Path) -> None:
    with pytest.raises(KeyError):
        kubeflow_outputs.record(executor_input, {"metrik": {}})
    assert not answer.exists()


def test_without_kubeflow_nothing_is_written(answer: Path) -> None:
    kubeflow_outputs.record(None, {"metrics": {"recall": 0.5}})
    assert not answer.exists()
