"""Split a data set into training and test rows.

In:  a CSV file with a `malignant` column (1 or 0), the fraction of rows to keep
     for the test, a seed.
Out: two CSV files with the same columns. The same input, fraction and seed give
     the same bytes.

Nothing is scaled here: the scaler is fitted with the model, on training rows
only, and travels in the model's file, so that test rows cannot leak into it
and the prediction service cannot scale differently.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import kubeflow_outputs
import pandas as pd
from sklearn.model_selection import train_test_split

TARGET = "malignant"


def split(
    table: pd.DataFrame, *, test_fraction: float, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training and test rows, each with the share of malignant rows of the whole.

    test_fraction: above 0 and below 1.
    Raises ValueError, in words for the user, for data that cannot be split.
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction is {test_fraction}: it must lie between 0 and 1")
    if TARGET not in table:
        raise ValueError(f"the data set has no column '{TARGET}'")
    incomplete = table.columns[table.isna().any()].tolist()
    if incomplete:
        raise ValueError(f"values are missing in {', '.join(map(str, incomplete))}")
    train, test = train_test_split(
        table, test_size=test_fraction, random_state=seed, stratify=table[TARGET]
    )
    return train, test


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True, help="CSV file to read")
    parser.add_argument("--test-fraction", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--train-data", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--test-data", type=Path, required=True, help="CSV file to write")
    kubeflow_outputs.add_argument(parser)
    arguments = parser.parse_args(argv)

    table = pd.read_csv(arguments.dataset)
    try:
        train, test = split(table, test_fraction=arguments.test_fraction, seed=arguments.seed)
    except ValueError as error:
        raise SystemExit(f"preprocess: {error}") from error
    for rows, path in ((train, arguments.train_data), (test, arguments.test_data)):
        path.parent.mkdir(parents=True, exist_ok=True)
        rows.to_csv(path, index=False, lineterminator="\n")
    kubeflow_outputs.record(arguments.executor_input)
    print(f"{len(train)} rows to train on, {len(test)} rows to test with")


if __name__ == "__main__":
    main()
