"""What a shell, a Jenkins job, an agent or a git hook says in its environment is no part of
any test."""

from __future__ import annotations

import os

_OF_A_JOB = """BRANCH_NAME BUILD_ID BUILD_NUMBER BUILD_TAG BUILD_URL BUILD_USER BUILD_USER_ID CI
    JENKINS_URL JOB_NAME SOURCE_DATE_EPOCH TAG_NAME TRAIN WORKSPACE"""
_OF_A_SHELL = "COLUMNS LINES NO_COLOR FORCE_COLOR PYTHONWARNINGS"
_OURS = "KFP_CI_ENVIRONMENT KFP_CI_HOME KFP_CI_REGISTRY_IMAGE"
_NAMES = frozenset(f"{_OF_A_JOB} {_OF_A_SHELL} {_OURS}".split())
_BEGIN = ("AWS_", "CHANGE_", "KFP_CI_SECRET_", "GIT_")
_STAY = ("GIT_CONFIG", "GIT_SSH", "GIT_SSL")  # how a clone may be read at all

for name in [*os.environ]:
    if name in _NAMES or (name.startswith(_BEGIN) and not name.startswith(_STAY)):
        del os.environ[name]
