"""Every way the tool stops: one class each, with its own exit code.

An error says one sentence about what is wrong and one about what to do next.
The command line prints both and exits with `exit_code`; nothing else in the
package calls `sys.exit`. `docs/exit-codes.md` is generated from this module
and a test keeps the two equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class CIError(Exception):
    """A failure that a person can act on.

    what: one sentence, without a full stop: what is wrong. Lines below it are
          what is known besides.
    todo: one sentence: what to do next.
    log:  the file that holds the whole story, if there is one.
    again: whether the same thing may well succeed when it is tried again.
    """

    exit_code = 1
    summary = "internal error (a defect of this tool: please report it)"

    def __init__(
        self, what: str, todo: str, *, log: Path | None = None, again: bool = False
    ) -> None:
        super().__init__(what)
        self.what = what.rstrip(".")
        self.todo = todo.rstrip(".")
        self.log = log
        self.again = again

    def __str__(self) -> str:
        several = "\n" in self.what
        end = "?" if self.todo.startswith("Did you mean ") else "."
        todo = self.todo.removesuffix("?") + end
        text = f"{self.what}\n{todo}" if several else f"{self.what}. {todo}"
        return f"{text} Log: {self.log}" if self.log else text


# 3-9: what the repository says -------------------------------------------------


class ConfigError(CIError):
    exit_code = 3
    summary = "ci.yaml or another declaration is not valid"


class DockerfileError(CIError):
    exit_code = 4
    summary = "a Dockerfile does not parse"


class DuplicateComponentError(CIError):
    exit_code = 5
    summary = "two components have one name"


class CycleError(CIError):
    exit_code = 6
    summary = "components build FROM each other in a circle"


class TemplateError(CIError):
    exit_code = 7
    summary = "a component template is not valid or names an unknown component"


class MissingInputError(CIError):
    exit_code = 8
    summary = "a stage's input file is missing, damaged or of another schema version"


class LintError(CIError):
    exit_code = 9
    summary = "a Dockerfile has remarks that the lint gate does not allow"


# 10-19: what the machine lacks -------------------------------------------------


class EngineError(CIError):
    exit_code = 10
    summary = "no Docker engine with BuildKit answers"


class RegistryError(CIError):
    exit_code = 11
    summary = "the image registry does not answer or refuses"


class WriteError(CIError):
    exit_code = 12
    summary = "a file could not be written (disk full, no permission)"


class ToolError(CIError):
    exit_code = 13
    summary = "a program this tool needs is missing or broken"


class LocalEnvironmentError(CIError):
    exit_code = 14
    summary = "the embedded local environment did not start or stop"


class CredentialsError(CIError):
    exit_code = 15
    summary = "credentials for AWS, the registry, Kubeflow or Jenkins are missing or refused"


# 20-29: images -----------------------------------------------------------------
# When several images fail in different ways the exit code is that of the
# earliest step (the lowest number): mend that first.


class BuildError(CIError):
    exit_code = 20
    summary = "an image does not build"


class ImageTestError(CIError):
    exit_code = 21
    summary = "an image's own tests fail"


class ScanFailedError(CIError):
    exit_code = 22
    summary = "the scan gate refuses an image"


class ScanIncompleteError(CIError):
    exit_code = 23
    summary = "an image could not be scanned completely and the environment demands it"


class PushError(CIError):
    exit_code = 24
    summary = "an image could not be pushed, or the registry holds other bytes than were built"


class ParentFailedError(CIError):
    exit_code = 25
    summary = "an image was not built because its parent failed"

    @classmethod
    def of(cls, name: str, parents: Sequence[str]) -> ParentFailedError:
        """Of component `name`, whose parents of those names failed."""
        failed = ", ".join(parents)
        return cls(f"component '{name}' was not built because {failed} failed", f"Mend {failed}")


class MergeError(CIError):
    exit_code = 26
    summary = "two locks contradict each other"


class CancelledError(CIError):
    exit_code = 27
    summary = "an image was not built because another failed first (--fail-fast)"


class PinDriftError(CIError):
    exit_code = 29
    summary = "a pinned template names another image than the lock"


# 30-39: pipelines --------------------------------------------------------------


class CompileError(CIError):
    exit_code = 30
    summary = "a pipeline does not compile"


class UnpinnedImageError(CIError):
    exit_code = 31
    summary = "a compiled pipeline names an image that is not a digest of this build"


class KubeflowError(CIError):
    exit_code = 32
    summary = "Kubeflow does not answer or refuses"


class UploadConflictError(CIError):
    exit_code = 33
    summary = "Kubeflow holds another pipeline under the same version name"


class RunFailedError(CIError):
    exit_code = 34
    summary = "a training run failed or was cancelled"


class RunTimeoutError(CIError):
    exit_code = 35
    summary = "a training run did not end in time"


class ExpectationError(CIError):
    exit_code = 36
    summary = "a training run succeeded but did not do what its test expects"


class RunInfrastructureError(CIError):
    exit_code = 37
    summary = "a training run failed for reasons of the infrastructure, again after its retries"


class FloatingScheduleError(CIError):
    exit_code = 38
    summary = "a schedule in Kubeflow follows the latest version of a pipeline"


class NoPublishedLockError(CIError):
    exit_code = 39
    summary = "CI has published no lock of images for this commit, or none with a wanted image"


# 40-49: the prediction service -------------------------------------------------


class ServiceError(CIError):
    exit_code = 40
    summary = "the prediction service could not be created or updated"


class DeploymentFailedError(CIError):
    exit_code = 41
    summary = "a deployment failed and the service was put back on its last verified revision"


class DeploymentSupersededError(CIError):
    exit_code = 42
    summary = "somebody else deployed while we waited"


class DeploymentTimeoutError(CIError):
    exit_code = 43
    summary = "a deployment did not end in time"


class SmokeTestError(CIError):
    exit_code = 44
    summary = "the new revision does not answer as declared and was rolled back"


class ServiceDriftError(CIError):
    exit_code = 45
    summary = "the prediction service differs from what is declared"


class ServicePreflightError(CIError):
    exit_code = 46
    summary = "what a prediction service needs is not there; nothing was changed"


# 50-59: releases ---------------------------------------------------------------


class ReleaseError(CIError):
    exit_code = 50
    summary = "a release cannot be made of what is there"


class ReleaseSignatureError(CIError):
    exit_code = 51
    summary = "a release's signature is missing, of another key or not of its content"


class ReleaseNotFoundError(CIError):
    exit_code = 52
    summary = "a release cannot be found"


class PromotionRefusedError(CIError):
    exit_code = 53
    summary = "a release is not allowed into an environment"


class PromotionUndoneError(CIError):
    exit_code = 54
    summary = "a promotion failed and the environment was put back"


class PromotionStuckError(CIError):
    exit_code = 55
    summary = "a promotion failed and could not be put back completely"


class PromotionUnderWayError(CIError):
    exit_code = 56
    summary = "another promotion is under way or was left unfinished"


# 60-69: Jenkins, as its client meets it ----------------------------------------


class JenkinsError(CIError):
    exit_code = 60
    summary = "Jenkins does not answer or refuses"


class JenkinsBuildFailedError(CIError):
    exit_code = 61
    summary = "a build on Jenkins failed"


class JenkinsBuildUnstableError(CIError):
    exit_code = 62
    summary = "a build on Jenkins is unstable: it ended, and tests of it failed"


class JenkinsBuildAbortedError(CIError):
    exit_code = 63
    summary = "a build on Jenkins was aborted, or was not built"


class JenkinsQueueError(CIError):
    exit_code = 64
    summary = "a build on Jenkins was cancelled in the queue, or never left it"


class JenkinsfileError(CIError):
    exit_code = 65
    summary = "Jenkins refuses the Jenkinsfile"


class JenkinsSetupError(CIError):
    exit_code = 66
    summary = "Jenkins lacks a plugin, credentials or an agent that the job needs"


class InterruptedRunError(CIError):
    exit_code = 130
    summary = "interrupted (Ctrl-C or SIGTERM); nothing is left half-written"


class OutputClosedError(CIError):
    exit_code = 141  # as a shell tells it of any program
    summary = "nobody read the output to its end (a closed pipe, as with '| head')"


USAGE_EXIT_CODE = 2  # click's own, for a wrong option or argument


def exit_codes() -> dict[int, str]:
    """Every exit code with its meaning, in order."""
    codes = {cls.exit_code: cls.summary for cls in _classes()}
    codes[0] = "success"
    codes[USAGE_EXIT_CODE] = "the command line is wrong"
    return dict(sorted(codes.items()))


def error_for(exit_code: int) -> type[CIError]:
    """The class that ends with `exit_code`: to raise again what a document recorded."""
    return next((cls for cls in _classes() if cls.exit_code == exit_code), CIError)


def _classes() -> list[type[CIError]]:
    classes: list[type[CIError]] = [CIError]
    for cls in classes:
        classes.extend(cls.__subclasses__())
    return classes
