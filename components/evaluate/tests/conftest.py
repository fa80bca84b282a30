import hashlib
from collections.abc import Callable
from pathlib import Path

import joblib
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression


@pytest.fixture
def rows() -> pd.DataFrame:
    """Tumours above size 5 are malignant, and the columns are in another order."""
    return pd.DataFrame(
        {
            "malignant": [0, 0, 0, 1, 1, 1],
            "size": [1.0, 2.0, 3.0, 7.0, 8.0, 9.0],
            "age": [40.0, 50.0, 60.0, 40.0, 50.0, 60.0],
        }
    )


@pytest.fixture
def model(rows: pd.DataFrame, tmp_path: Path) -> tuple[Path, str]:
    """A model's file and its SHA-256."""
    path = tmp_path / "model"
    features = ["age", "size"]
    estimator = LogisticRegression().fit(rows[features].to_numpy(), rows["malignant"])
    joblib.dump({"estimator": estimator, "feature_names": features, "trained_with": {}}, path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def hostile_model(tmp_path: Path) -> Callable[[Path], Path]:
    """A model's file that makes a file when it is loaded."""

    class Trap:
        def __init__(self, path: Path) -> None:
            self.path = path

        def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
            return Path.touch, (self.path,)

    def write(sprung: Path) -> Path:
        joblib.dump(Trap(sprung), tmp_path / "hostile")
        return tmp_path / "hostile"

    return write
