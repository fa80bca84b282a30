"""Write the Wisconsin diagnostic breast-cancer data set as CSV.

In:  nothing; the data ships with scikit-learn.
Out: a CSV file with a header, one row a tumour: 30 measurements of its cell
     nuclei, named like `mean_radius`, and `malignant` (1 malignant, 0 benign).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import kubeflow_outputs
import pandas as pd
from sklearn.datasets import load_breast_cancer

TARGET = "malignant"


def extract() -> pd.DataFrame:
    """The data set as a table, the target in the last column.

    scikit-learn codes a malignant tumour as 0. Here it is 1, so that the class
    that must not be missed is the positive one and `recall` means what a
    clinician takes it for.
    """
    source = load_breast_cancer(as_frame=True)
    table = source.data.rename(columns=lambda name: name.replace(" ", "_"))
    malignant = list(source.target_names).index("malignant")
    table[TARGET] = (source.target == malignant).astype(int)
    return table


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True, help="CSV file to write")
    kubeflow_outputs.add_argument(parser)
    arguments = parser.parse_args(argv)

    table = extract()
    arguments.dataset.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(arguments.dataset, index=False, lineterminator="\n")
    kubeflow_outputs.record(arguments.executor_input)
    print(f"{len(table)} rows, {table[TARGET].sum()} malignant, {len(table.columns) - 1} features")


if __name__ == "__main__":
    main()
