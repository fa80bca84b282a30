"""The model: fetched, compared with its SHA-256, and only then loaded.

A model is a pickle, and loading a pickle runs what it says. So the hash is
taken of the very bytes that are loaded afterwards, from one open file.

The file's layout is the contract that the `train` component writes: a joblib
file of a dict with these keys.

    estimator      fitted sklearn classifier for the classes 0 and 1; takes a
                   float array with one column a feature, in this order:
    feature_names  list of str
    trained_with   dict of library name -> version, and of the parameters
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import joblib
import numpy as np
from sklearn.exceptions import InconsistentVersionWarning

MAX_BYTES = 512 * 1024 * 1024
FETCH_SECONDS = 120.0
_CHUNK_BYTES = 1024 * 1024


class ModelError(Exception):
    """The model must not be served; the message is one line for the operator."""


@dataclass(frozen=True)
class Model:
    """A verified model. sha256 is that of the bytes it was loaded from."""

    uri: str
    sha256: str
    estimator: Any
    feature_names: list[str]
    trained_with: dict[str, Any]

    def probabilities(self, rows: np.ndarray) -> np.ndarray:
        """The probability of class 1, one a row of features in order."""
        return np.asarray(self.estimator.predict_proba(rows)[:, 1])


def obtain(uri: str, sha256: str) -> Model:
    """Fetch, verify and load the model at `uri` (`file://` or `s3://`).

    Raises ModelError, with nothing loaded, unless the bytes have this SHA-256.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ModelError("MODEL_SHA256 is not a SHA-256 of 64 hex digits")
    with tempfile.TemporaryFile() as file:
        actual = _fetch(uri, file)
        if actual != sha256:
            raise ModelError(f"the model at {uri} has sha256 {actual}, expected {sha256}")
        file.seek(0)
        return _load(uri, sha256, file)


def _fetch(uri: str, file: IO[bytes]) -> str:
    """Copy the bytes at `uri` to `file`; their SHA-256 in hex. Raises ModelError."""
    from botocore.exceptions import BotoCoreError, ClientError

    deadline = time.monotonic() + FETCH_SECONDS
    digest, size = hashlib.sha256(), 0
    try:
        for chunk in _chunks(uri):
            size += len(chunk)
            if size > MAX_BYTES:
                raise ModelError(f"the model at {uri} is larger than {MAX_BYTES} bytes")
            if time.monotonic() > deadline:
                raise ModelError(f"the model at {uri} did not arrive in {FETCH_SECONDS:.0f} s")
            digest.update(chunk)
            file.write(chunk)
    except (OSError, ValueError, BotoCoreError, ClientError) as error:
        raise ModelError(f"the model at {uri} cannot be read ({_one_line(error)})") from error
    return digest.hexdigest()


def _chunks(uri: str) -> Iterator[bytes]:
    parts = urlsplit(uri)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        path = Path(url2pathname(parts.path))
        if not path.is_file():  # a pipe or a device would never end
            raise FileNotFoundError(f"{path} is no file")
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                yield chunk
    elif parts.scheme == "s3" and parts.netloc and parts.path.strip("/"):
        import boto3
        from botocore.config import Config

        client = boto3.client(
            "s3",
            config=Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 3}),
        )
        answer = client.get_object(Bucket=parts.netloc, Key=parts.path.removeprefix("/"))
        yield from answer["Body"].iter_chunks(_CHUNK_BYTES)
    else:
        raise ValueError("MODEL_URI must be file:///path or s3://bucket/key")


def _load(uri: str, sha256: str, file: IO[bytes]) -> Model:
    try:
        with warnings.catch_warnings():
            # Another scikit-learn may read the pickle and predict otherwise.
            warnings.simplefilter("error", InconsistentVersionWarning)
            content = joblib.load(file)
        estimator, names = content["estimator"], content["feature_names"]
        if list(estimator.classes_) != [0, 1] or estimator.n_features_in_ != len(names):
            raise ValueError("its classes or features are not those of the contract")
        return Model(uri, sha256, estimator, list(names), dict(content["trained_with"]))
    except Exception as error:  # unpickling raises whatever the pickled classes raise
        raise ModelError(f"the model at {uri} cannot be loaded ({_one_line(error)})") from error


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
