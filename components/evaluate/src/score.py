"""Score a batch of rows with a trained model.

In:  a model's file and its SHA-256, a CSV file with the model's features (other
     columns are ignored).
Out: a CSV file in the order of the input, with `row` (from 0), `malignant` (1 or
     0) and `probability` (of malignant); a text file with the number of rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import kubeflow_outputs
import model_file
import pandas as pd


def score(model: model_file.Model, rows: pd.DataFrame) -> pd.DataFrame:
    """One prediction a row. Raises ValueError when `rows` lack a feature."""
    probabilities = model.probabilities(rows)
    return pd.DataFrame(
        {
            "row": range(len(rows)),
            "malignant": (probabilities >= 0.5).astype(int),
            "probability": probabilities,
        }
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="joblib file to read")
    parser.add_argument("--model-sha256", required=True)
    parser.add_argument("--dataset", type=Path, required=True, help="CSV file to read")
    parser.add_argument("--predictions", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--rows", type=Path, required=True, help="text file to write")
    kubeflow_outputs.add_argument(parser)
    arguments = parser.parse_args(argv)

    rows = pd.read_csv(arguments.dataset)
    try:
        scored = score(model_file.load(arguments.model, arguments.model_sha256), rows)
    except ValueError as error:
        raise SystemExit(f"score: {error}") from error
    for path in (arguments.predictions, arguments.rows):
        path.parent.mkdir(parents=True, exist_ok=True)
    scored.to_csv(arguments.predictions, index=False, lineterminator="\n")
    arguments.rows.write_text(str(len(scored)))
    kubeflow_outputs.record(arguments.executor_input)
    print(f"{len(scored)} rows scored, {scored['malignant'].sum()} malignant")


if __name__ == "__main__":
    main()
