"""The process itself: what it refuses, and that it serves and stops."""

import os
import signal
import socket
import subprocess
import sys
import time

import httpx2 as httpx
import pytest
from prediction.__main__ import main

COMMAND = [sys.executable, "-m", "prediction"]


def test_the_process_refuses_another_model_in_one_line(model_file: tuple[str, str]) -> None:
    environment = {"MODEL_URI": model_file[0], "MODEL_SHA256": "0" * 64}
    finished = subprocess.run(
        COMMAND, env=os.environ | environment, capture_output=True, text=True, timeout=120
    )
    assert finished.returncode == 3
    assert finished.stdout == ""
    (line,) = finished.stderr.splitlines()
    assert line.startswith("prediction: refused to start: the model at file://")
    assert line.endswith("expected " + "0" * 64)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"MODEL_SHA256": ""}, "MODEL_SHA256 is not set"),
        ({"MODEL_URI": ""}, "MODEL_URI is not set"),
        ({"MODEL_URI": "file:///none"}, "cannot be read"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL must be"),
        ({"PORT": "http"}, "PORT is not"),
    ],
)
def test_what_is_missing_or_wrong_is_named(
    model_file: tuple[str, str],
    wrong: dict[str, str],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    right = {"MODEL_URI": model_file[0], "MODEL_SHA256": model_file[1]}
    for name, value in (right | wrong).items():
        monkeypatch.setenv(name, value)
    assert main() == 3
    assert reason in capsys.readouterr().err


def test_it_serves_and_stops(model_file: tuple[str, str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {"MODEL_URI": model_file[0], "MODEL_SHA256": model_file[1], "PORT": str(port)}
    service = subprocess.Popen(COMMAND, env=os.environ | environment)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(600):
            try:
                assert httpx.get(f"{url}/healthz").status_code == 200
                break
            except httpx.TransportError:
                assert service.poll() is None, "the service ended by itself"
                time.sleep(0.1)
        else:
            pytest.fail("the service does not answer")
        answer = httpx.post(f"{url}/predict", json={"instances": [[50, 9]]})
        assert answer.json()["predictions"] == [1]
        service.send_signal(signal.SIGTERM)
        assert service.wait(timeout=30) in (0, -signal.SIGTERM)
    finally:
        service.kill()
        service.wait()
