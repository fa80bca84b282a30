"""Fit a logistic regression and write it with its SHA-256.

In:  a CSV file of training rows with a `malignant` column (1 or 0), the
     regularisation C (above 0; smaller means stronger).
Out: the model's file, and a text file with the SHA-256 of its bytes in hex.
     The same rows and C give the same bytes on the same machine.

The model's file is a contract with everyone who reads it (`evaluate`, `score`,
the prediction service): a joblib file of a dict with these keys.

    estimator      fitted sklearn Pipeline of scaler and classifier; takes a
                   float array with one column a feature, in this order:
    feature_names  list of str
    trained_with   dict of library name -> version, and of the parameters
"""

from __future__ import annotations

import argparse
import hashlib
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import kubeflow_outputs
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

TARGET = "malignant"


def fit(rows: pd.DataFrame, *, regularisation: float) -> dict[str, Any]:
    """The contents of a model's file. The scaler sees these rows and no others.

    Raises ValueError, in words for the user, for rows that cannot be fitted.
    """
    if not regularisation > 0:
        raise ValueError(f"regularisation is {regularisation}: it must be above 0")
    if TARGET not in rows:
        raise ValueError(f"the training data have no column '{TARGET}'")
    features = rows.drop(columns=TARGET)
    if set(rows[TARGET]) != {0, 1}:
        raise ValueError(f"'{TARGET}' must hold both 0 and 1 and nothing else")
    estimator = make_pipeline(
        StandardScaler(), LogisticRegression(C=regularisation, max_iter=10_000)
    )
    estimator.fit(features.to_numpy(dtype=float), rows[TARGET].to_numpy(dtype=int))
    return {
        "estimator": estimator,
        "feature_names": [str(name) for name in features.columns],
        "trained_with": {
            "python": platform.python_version(),
            "numpy": version("numpy"),
            "scikit-learn": version("scikit-learn"),
            "regularisation": regularisation,
            "rows": len(rows),
        },
    }


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--train-data", type=Path, required=True, help="CSV file to read")
    parser.add_argument("--regularisation", type=float, required=True)
    parser.add_argument("--model", type=Path, required=True, help="joblib file to write")
    parser.add_argument("--model-sha256", type=Path, required=True, help="text file to write")
    kubeflow_outputs.add_argument(parser)
    arguments = parser.parse_args(argv)

    rows = pd.read_csv(arguments.train_data)
    try:
        model = fit(rows, regularisation=arguments.regularisation)
    except ValueError as error:
        raise SystemExit(f"train: {error}") from error
    for path in (arguments.model, arguments.model_sha256):
        path.parent.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, arguments.model)
    sha256 = hashlib.sha256(arguments.model.read_bytes()).hexdigest()
    arguments.model_sha256.write_text(sha256)
    kubeflow_outputs.record(arguments.executor_input)
    print(f"model of {len(rows)} rows, sha256 {sha256}")


if __name__ == "__main__":
    main()
