import json
from pathlib import Path

import evaluate
import numpy as np
import pandas as pd
import pytest


def test_metrics_count_malignant_as_positive() -> None:
    # 4 malignant of which 3 are found, 6 benign of which 4 are left alone.
    truth = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    probabilities = np.array([0.9, 0.8, 0.5, 0.4, 0.7, 0.6, 0.3, 0.2, 0.1, 0.0])
    metrics = evaluate.evaluate(truth, probabilities)
    assert metrics["recall"] == 3 / 4
    assert metrics["specificity"] == pytest.approx(4 / 6)
    assert metrics["precision"] == 3 / 5
    assert metrics["accuracy"] == 7 / 10
    # Of the 24 pairs of malignant and benign, 20 are in the right order.
    assert metrics["roc_auc"] == pytest.approx(20 / 24)


def test_one_class_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="both 0 and 1"):
        evaluate.evaluate(np.array([1, 1]), np.array([0.2, 0.9]))


def arguments(model: tuple[Path, str], rows: pd.DataFrame, folder: Path) -> list[str]:
    rows.to_csv(folder / "test.csv", index=False)
    out = folder / "out"
    return [
        f"--model={model[0]}",
        f"--model-sha256={model[1]}",
        f"--test-data={folder / 'test.csv'}",
        f"--metrics={out / 'metrics'}",
        f"--accuracy={out / 'accuracy'}",
        f"--roc-auc={out / 'roc_auc'}",
        f"--recall={out / 'recall'}",
    ]


def test_kubeflow_finds_every_output(
    model: tuple[Path, str], rows: pd.DataFrame, tmp_path: Path
) -> None:
    artifact = {"name": "metrics", "uri": "s3://bucket/metrics", "type": {"schemaTitle": "x"}}
    executor_input = {
        "outputs": {
            "artifacts": {"metrics": {"artifacts": [artifact]}},
            "outputFile": str(tmp_path / "kfp" / "output.json"),
        }
    }
    evaluate.main(
        [*arguments(model, rows, tmp_path), "--executor-input", json.dumps(executor_input)]
    )

    metrics = json.loads((tmp_path / "out" / "metrics").read_text())
    assert metrics["rows"] == 6
    for name in ("accuracy", "roc_auc", "recall"):
        assert json.loads((tmp_path / "out" / name).read_text()) == metrics[name] == 1.0
    output = json.loads((tmp_path / "kfp" / "output.json").read_text())
    (recorded,) = output["artifacts"]["metrics"]["artifacts"]
    assert recorded == {"name": "metrics", "uri": "s3://bucket/metrics", "metadata": metrics}


def test_data_without_target_are_refused_in_one_line(
    model: tuple[Path, str], rows: pd.DataFrame, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=r"^evaluate: the test data have no column 'malignant'"):
        evaluate.main(arguments(model, rows.drop(columns="malignant"), tmp_path))
    assert not (tmp_path / "out").exists()
