"""What an exit code makes of a build in Jenkins."""

from __future__ import annotations

import pytest

from ci_tools import errors
from ci_tools.jenkins import results
from ci_tools.jenkins.results import result


def test_only_a_training_test_s_verdict_is_unstable() -> None:
    """And what was only followed: the client's codes say what became of another build."""
    told = {code: result(code) for code in errors.exit_codes()}
    assert {code for code, it in told.items() if it == "SUCCESS"} == {0}
    assert {code for code, it in told.items() if it == "UNSTABLE"} == {34, 35, 36, 62}
    assert {code for code, it in told.items() if it == "ABORTED"} == {42, 63, 64, 130}
    assert set(told.values()) == {"SUCCESS", "UNSTABLE", "ABORTED", "FAILURE"}
    assert ({34, 35, 36}, {42, 130}) == (results.UNSTABLE, results.ABORTED)


@pytest.mark.parametrize("code", [-1, -15, 99, 137, 143, 255, 1000])
def test_what_nobody_knows_is_a_failure(code: int) -> None:
    assert result(code) == "FAILURE"
