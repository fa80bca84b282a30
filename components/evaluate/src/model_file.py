"""Read a model's file. Its layout is written down in the `train` component.

A model is a pickle, and loading a pickle runs what it says: the bytes are
compared with the SHA-256 that training recorded before anything is loaded.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import pandas as pd


class Model(NamedTuple):
    """estimator: fitted sklearn Pipeline. feature_names: its columns, in order."""

    estimator: Any
    feature_names: list[str]

    def probabilities(self, rows: pd.DataFrame) -> np.ndarray:
        """The probability of a malignant tumour, one a row.

        Raises ValueError when `rows` lack a feature; other columns are ignored.
        """
        missing = [name for name in self.feature_names if name not in rows]
        if missing:
            raise ValueError(f"the data lack the model's {', '.join(missing)}")
        features = rows[self.feature_names].to_numpy(dtype=float)
        return np.asarray(self.estimator.predict_proba(features)[:, 1])


def load(path: Path, sha256: str) -> Model:
    """Load the model of `path`. Raises ValueError unless its SHA-256 is `sha256`."""
    content = path.read_bytes()
    actual = hashlib.sha256(content).hexdigest()
    if actual != sha256:
        raise ValueError(f"the model's sha256 is {actual}, expected {sha256}: it is not loaded")
    model = joblib.load(io.BytesIO(content))
    return Model(model["estimator"], model["feature_names"])
