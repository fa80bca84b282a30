"""What holds for every test, however pytest was started."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

# What a shell, a Jenkins job, an agent or a git hook says in its environment is no part of
# any test.
_OF_A_JOB = """BRANCH_NAME BUILD_ID BUILD_NUMBER BUILD_TAG BUILD_URL BUILD_USER BUILD_USER_ID CI
    JOB_NAME SOURCE_DATE_EPOCH TAG_NAME TRAIN WORKSPACE"""
_OF_A_SHELL = "COLUMNS LINES NO_COLOR FORCE_COLOR PYTHONWARNINGS"
_OURS = "KFP_CI_ENVIRONMENT KFP_CI_HOME KFP_CI_REGISTRY_IMAGE"
_NAMES = frozenset(f"{_OF_A_JOB} {_OF_A_SHELL} {_OURS}".split())
_BEGIN = ("AWS_", "CHANGE_", "KFP_CI_SECRET_", "GIT_")
_STAY = ("GIT_CONFIG", "GIT_SSH", "GIT_SSL")  # how a clone may be read at all

for name in [*os.environ]:
    if name in _NAMES or (name.startswith(_BEGIN) and not name.startswith(_STAY)):
        del os.environ[name]
if "JENKINS_TOKEN" not in os.environ:  # with it, a controller to try the client on is meant
    os.environ.pop("JENKINS_URL", None)

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(scope="session", autouse=True)
def signals_reach_children() -> Iterator[None]:
    """Under nohup, or behind a shell's `&`, we ignore signals, and whoever we start would
    inherit that: tests that send them would wait in vain. A handler is not inherited."""
    ignored = [number for number in _ENDING if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, lambda *_: None)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
