"""Judge a model on data that it has not seen.

In:  a model's file and its SHA-256, a CSV file of test rows with a `malignant`
     column (1 or 0).
Out: a JSON file of metrics; `accuracy`, `roc_auc` and `recall` as text files of
     one number each; and the metrics as metadata of the `metrics` artifact, where
     Kubeflow's pages show them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import kubeflow_outputs
import model_file
import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, precision_score, recall_score, roc_auc_score

TARGET = "malignant"


def evaluate(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Metrics of predicted probabilities, malignant (1) being the positive class.

    recall is the share of malignant tumours that are found, specificity the
    share of benign ones that are left alone. Raises ValueError unless `truth`
    holds both classes.
    """
    if set(truth.tolist()) != {0, 1}:
        raise ValueError(f"'{TARGET}' must hold both 0 and 1 and nothing else")
    predicted = (probabilities >= 0.5).astype(int)
    return {
        "accuracy": float(accuracy_score(truth, predicted)),
        "roc_auc": float(roc_auc_score(truth, probabilities)),
        "recall": float(recall_score(truth, predicted)),
        "specificity": float(recall_score(truth, predicted, pos_label=0)),
        "precision": float(precision_score(truth, predicted, zero_division=0)),
        "rows": float(len(truth)),
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="joblib file to read")
    parser.add_argument("--model-sha256", required=True)
    parser.add_argument("--test-data", type=Path, required=True, help="CSV file to read")
    parser.add_argument("--metrics", type=Path, required=True, help="JSON file to write")
    for name in ("--accuracy", "--roc-auc", "--recall"):
        parser.add_argument(name, type=Path, required=True, help="text file to write")
    kubeflow_outputs.add_argument(parser)
    arguments = parser.parse_args(argv)

    rows = pd.read_csv(arguments.test_data)
    try:
        if TARGET not in rows:
            raise ValueError(f"the test data have no column '{TARGET}'")
        model = model_file.load(arguments.model, arguments.model_sha256)
        metrics = evaluate(rows[TARGET].to_numpy(), model.probabilities(rows))
    except ValueError as error:
        raise SystemExit(f"evaluate: {error}") from error

    written = {
        arguments.metrics: json.dumps(metrics, indent=2),
        arguments.accuracy: repr(metrics["accuracy"]),
        arguments.roc_auc: repr(metrics["roc_auc"]),
        arguments.recall: repr(metrics["recall"]),
    }
    for path, text in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    kubeflow_outputs.record(arguments.executor_input, {"metrics": metrics})
    print(json.dumps(metrics))


if __name__ == "__main__":
    main()
