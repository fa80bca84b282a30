"""What an exit code makes of a build in Jenkins. Pure.

FAILURE   the build did not do what it was to do. So it is with all that is not below:
          without an image, a pipeline or a revision nothing can be released, and a
          refusal (of a gate, of a promotion) is there to stop somebody.
UNSTABLE  the build did its work, and a training test says that the model is not good
          enough: its images and pipelines stand, and nothing of it is released.
ABORTED   nobody's fault, and nothing to mend: it was interrupted, or somebody else's
          deployment is the newer one.

A promotion that another one keeps from beginning is a FAILURE, since the other may
have been left unfinished, which nobody ought to overlook.
"""

from __future__ import annotations

from typing import Literal

from ci_tools.errors import (
    CIError,
    DeploymentSupersededError,
    ExpectationError,
    InterruptedRunError,
    JenkinsBuildAbortedError,
    JenkinsBuildUnstableError,
    JenkinsQueueError,
    RunFailedError,
    RunTimeoutError,
)

Result = Literal["SUCCESS", "UNSTABLE", "FAILURE", "ABORTED"]


def _codes(*errors: type[CIError]) -> frozenset[int]:
    return frozenset(error.exit_code for error in errors)


# The Jenkinsfile has these as numbers.
UNSTABLE = _codes(RunFailedError, RunTimeoutError, ExpectationError)
ABORTED = _codes(DeploymentSupersededError, InterruptedRunError)

# Of a build that does nothing but follow another one: what became of that.
_FOLLOWED: dict[int, Result] = {
    JenkinsBuildUnstableError.exit_code: "UNSTABLE",
    JenkinsBuildAbortedError.exit_code: "ABORTED",
    JenkinsQueueError.exit_code: "ABORTED",
}


def result(exit_code: int) -> Result:
    """What a build is whose command ended with that code; a code that nobody knows, as
    that of a program that was killed, is a FAILURE."""
    if exit_code == 0:
        return "SUCCESS"
    if exit_code in UNSTABLE:
        return "UNSTABLE"
    if exit_code in ABORTED:
        return "ABORTED"
    return _FOLLOWED.get(exit_code, "FAILURE")
