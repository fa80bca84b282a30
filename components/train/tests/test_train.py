import subprocess
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import train
from sklearn.datasets import load_breast_cancer


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    source = load_breast_cancer(as_frame=True)
    return source.data.assign(malignant=1 - source.target)


def write(rows: pd.DataFrame, folder: Path, regularisation: str = "1.0") -> Path:
    rows.to_csv(folder / "rows.csv", index=False)
    out = folder / "out"
    train.main(
        [
            f"--train-data={folder / 'rows.csv'}",
            f"--regularisation={regularisation}",
            f"--model={out / 'model'}",
            f"--model-sha256={out / 'sha256'}",
        ]
    )
    return out


def test_the_file_keeps_its_contract(rows: pd.DataFrame, tmp_path: Path) -> None:
    out = write(rows, tmp_path)
    model = joblib.load(out / "model")

    assert set(model) == {"estimator", "feature_names", "trained_with"}
    assert model["feature_names"] == list(rows.columns[:-1])
    assert model["trained_with"]["rows"] == 569
    sha256sum = subprocess.run(
        ["sha256sum", out / "model"], check=True, capture_output=True, text=True
    )
    assert (out / "sha256").read_text() == sha256sum.stdout.split()[0]


def test_the_model_has_learnt(rows: pd.DataFrame) -> None:
    model = train.fit(rows.iloc[::2], regularisation=1.0)
    unseen = rows.iloc[1::2]
    score = model["estimator"].score(unseen.iloc[:, :-1].to_numpy(), unseen["malignant"])
    assert score > 0.93


def test_the_scaler_knows_the_training_rows_only(rows: pd.DataFrame) -> None:
    half = rows.iloc[::2]
    scaler = train.fit(half, regularisation=1.0)["estimator"][0]
    np.testing.assert_allclose(scaler.mean_, half.iloc[:, :-1].mean())


def test_equal_training_gives_equal_bytes(rows: pd.DataFrame, tmp_path: Path) -> None:
    first = (write(rows, tmp_path) / "model").read_bytes()
    assert (write(rows, tmp_path) / "model").read_bytes() == first
    assert (write(rows, tmp_path, "0.1") / "model").read_bytes() != first


@pytest.mark.parametrize("regularisation", ["0", "-1", "nan"])
def test_a_regularisation_that_is_none_is_refused(
    rows: pd.DataFrame, tmp_path: Path, regularisation: str
) -> None:
    with pytest.raises(SystemExit, match=r"train: regularisation .* above 0"):
        write(rows, tmp_path, regularisation)
    assert not (tmp_path / "out").exists()


def test_one_class_alone_is_refused(rows: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="both 0 and 1"):
        train.fit(rows[rows["malignant"] == 1], regularisation=1.0)
    with pytest.raises(ValueError, match="no column"):
        train.fit(rows.drop(columns="malignant"), regularisation=1.0)
