import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import joblib
import numpy as np
import pytest
from conftest import FEATURES, Trap, save
from prediction import model
from prediction.model import ModelError, obtain
from sklearn.linear_model import LogisticRegression


def test_the_right_hash_loads(model_file: tuple[str, str]) -> None:
    loaded = obtain(*model_file)
    assert (loaded.uri, loaded.sha256) == model_file
    assert loaded.feature_names == FEATURES
    assert (loaded.probabilities(np.array([[50, 1], [50, 9]])) >= 0.5).tolist() == [False, True]


def test_other_bytes_are_refused_before_they_are_loaded(
    tmp_path: Path, model_file: tuple[str, str]
) -> None:
    sprung = tmp_path / "sprung"
    uri, _ = save(tmp_path / "hostile", Trap(sprung))
    with pytest.raises(ModelError, match=f"expected {model_file[1]}"):
        obtain(uri, model_file[1])
    assert not sprung.exists()

    joblib.load(tmp_path / "hostile")  # the trap does work
    assert sprung.exists()


@pytest.mark.parametrize("sha256", ["", "latest", "0" * 63, "g" * 64, "A" * 64, "0" * 64 + "\n"])
def test_a_hash_that_is_none_is_refused(model_file: tuple[str, str], sha256: str) -> None:
    with pytest.raises(ModelError, match="64 hex digits"):
        obtain(model_file[0], sha256)


@pytest.mark.parametrize(
    "uri",
    [
        "file:///not/there",
        "file:///dev/zero",
        "file:///tmp",
        "file://elsewhere/model",
        "/model",
        "http://host/model",
        "s3://bucket",
        "s3:///key",
        "file:///a%00b",
    ],
)
def test_a_uri_that_cannot_be_read_is_one_line(uri: str) -> None:
    with pytest.raises(ModelError, match="cannot be read") as raised:
        obtain(uri, "0" * 64)
    assert "\n" not in str(raised.value)


def test_a_pipe_does_not_hang_the_start(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelError, match="cannot be read"):
        obtain((tmp_path / "pipe").as_uri(), "0" * 64)


def test_size_and_time_are_bounded(
    model_file: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(model, "MAX_BYTES", 100)
        with pytest.raises(ModelError, match="larger than 100 bytes"):
            obtain(*model_file)
    monkeypatch.setattr(model, "FETCH_SECONDS", -1.0)
    with pytest.raises(ModelError, match="did not arrive"):
        obtain(*model_file)


def contents() -> dict[str, object]:
    estimator = LogisticRegression().fit([[1.0, 2.0], [3.0, 4.0]], [0, 1])
    return {"estimator": estimator, "feature_names": FEATURES, "trained_with": {}}


@pytest.mark.parametrize(
    "wrong",
    [
        {"feature_names": ["age"]},
        {"estimator": LogisticRegression().fit([[1.0, 2.0], [3.0, 4.0]], [1, 2])},
        {"estimator": LogisticRegression()},
        {"estimator": None},
    ],
)
def test_what_breaks_the_contract_is_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    obtain(*save(tmp_path / "right", contents()))
    with pytest.raises(ModelError, match="cannot be loaded"):
        obtain(*save(tmp_path / "wrong", contents() | wrong))


def test_a_model_of_another_scikit_learn_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("sklearn.base.__version__", "0.1")
        uri, sha256 = save(tmp_path / "old", contents())
    with pytest.raises(ModelError, match=r"InconsistentVersionWarning.* 0\.1 "):
        obtain(uri, sha256)


def test_bytes_that_are_no_pickle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"junk")
    with pytest.raises(ModelError, match="cannot be loaded"):
        obtain((tmp_path / "junk").as_uri(), hashlib.sha256(b"junk").hexdigest())


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """Objects by `/bucket/key`, served as S3 serves them to boto3 itself."""
    objects: dict[str, bytes] = {}

    class S3(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = objects.get(self.path.partition("?")[0])
            missing = b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>"
            self.send_response(200 if body is not None else 404)
            content = missing if body is None else body
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), S3) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        yield objects
        server.shutdown()
        thread.join()


def test_s3(tmp_path: Path, model_file: tuple[str, str], bucket: dict[str, bytes]) -> None:
    bucket["/models/a/b"] = (tmp_path / "a model").read_bytes()
    assert obtain("s3://models/a/b", model_file[1]).feature_names == FEATURES
    with pytest.raises(ModelError, match="NoSuchKey"):
        obtain("s3://models/other", model_file[1])
    bucket["/models/a/b"] += b" "
    with pytest.raises(ModelError, match="expected"):
        obtain("s3://models/a/b", model_file[1])
