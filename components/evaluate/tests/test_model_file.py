from collections.abc import Callable
from pathlib import Path

import joblib
import model_file
import pandas as pd
import pytest


def test_columns_are_taken_by_name(model: tuple[Path, str], rows: pd.DataFrame) -> None:
    loaded = model_file.load(*model)
    reordered = rows[["size", "malignant", "age"]]
    assert (loaded.probabilities(rows) == loaded.probabilities(reordered)).all()
    assert (loaded.probabilities(rows) >= 0.5).tolist() == [False] * 3 + [True] * 3


def test_a_missing_feature_is_named(model: tuple[Path, str], rows: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="lack the model's age"):
        model_file.load(*model).probabilities(rows[["size"]])


def test_other_bytes_are_refused_before_they_are_loaded(
    hostile_model: Callable[[Path], Path], model: tuple[Path, str], tmp_path: Path
) -> None:
    sprung = tmp_path / "sprung"
    hostile = hostile_model(sprung)
    with pytest.raises(ValueError, match="it is not loaded"):
        model_file.load(hostile, model[1])
    assert not sprung.exists()

    joblib.load(hostile)  # the trap does work
    assert sprung.exists()
