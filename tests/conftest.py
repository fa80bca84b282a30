"""What a shell, a Jenkins job or an agent says in its environment is no part of any test."""

from __future__ import annotations

import os

_OF_A_JOB = """BRANCH_NAME BUILD_ID BUILD_NUMBER BUILD_TAG BUILD_URL BUILD_USER BUILD_USER_ID CI
    GIT_BRANCH GIT_COMMIT JENKINS_URL JOB_NAME SOURCE_DATE_EPOCH TAG_NAME TRAIN WORKSPACE"""
_OURS = "KFP_CI_ENVIRONMENT KFP_CI_HOME KFP_CI_REGISTRY_IMAGE"
_OF_A_SHELL = "COLUMNS LINES NO_COLOR FORCE_COLOR PYTHONWARNINGS"

for name in [*os.environ]:
    if name.startswith(("AWS_", "CHANGE_", "KFP_CI_SECRET_")) or name in (
        f"{_OF_A_JOB} {_OURS} {_OF_A_SHELL}".split()
    ):
        del os.environ[name]
