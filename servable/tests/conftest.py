import hashlib
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

FEATURES = ["age", "size"]


@pytest.fixture
def model_file(tmp_path: Path) -> tuple[str, str]:
    """URI and SHA-256 of a model for which a size above 5 is malignant."""
    rows = np.array([[age, size] for age in (40, 60) for size in (1, 2, 8, 9)], dtype=float)
    estimator = LogisticRegression().fit(rows, (rows[:, 1] > 5).astype(int))
    return save(
        tmp_path / "a model",
        {"estimator": estimator, "feature_names": FEATURES, "trained_with": {"rows": 8}},
    )


def save(path: Path, content: object) -> tuple[str, str]:
    joblib.dump(content, path)
    return path.as_uri(), hashlib.sha256(path.read_bytes()).hexdigest()


class Trap:
    """Makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return Path.touch, (self.path,)
