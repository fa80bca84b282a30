"""Repositories to work on, made for each test."""

from __future__ import annotations

import gc
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.fakes.jenkins import FakeJenkins

# No test asserts a time, nor does hypothesis: a busy machine is no defect of ours. The same
# examples each time, so that nobody's change is refused for what another one brought; new
# ones are looked for with `--hypothesis-profile=explore`.
settings.register_profile(
    "untimed", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "explore", settings.get_profile("untimed"), derandomize=False, max_examples=1000
)
settings.load_profile("untimed")


class Repository:
    """A directory with files, under git when a test says so."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def write(self, path: str, text: str | bytes = "") -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode() if isinstance(text, str) else text)
        return target

    def git(self, *arguments: str) -> str:
        environment = {
            **os.environ,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
            **{
                f"GIT_{who}_{what}": "test@example.com"
                for who in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")
            },
        }
        return subprocess.run(
            ["git", "-C", self.root, *arguments],
            check=True,
            capture_output=True,
            text=True,
            env=environment,
        ).stdout

    def commit(self) -> str:
        if not (self.root / ".git").exists():
            self.git("init", "-q", "-b", "main")
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "state")
        return self.git("rev-parse", "HEAD").strip()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


@pytest.fixture
def uncollected() -> Iterator[None]:
    """No garbage is collected meanwhile: hypothesis is told of each collection, in Python,
    and what the handler of a signal raises just then is lost."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def jenkins(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeJenkins]:
    """A fake controller that runs, known to nobody yet; nothing waits long for it."""
    from ci_tools.jenkins import connection, console, queue

    for name in ("JENKINS_URL", "JENKINS_USER", "JENKINS_TOKEN", "JENKINS_API_EXTRA_HEADERS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", os.devnull)
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    monkeypatch.setattr(connection, "PAUSES", (0.001, 0.01))
    monkeypatch.setattr(queue, "POLL", (0.001, 0.01))
    monkeypatch.setattr(console, "POLL", (0.001, 0.01))
    with FakeJenkins().running() as fake:
        yield fake
