"""What is asked once a server's run is over: its results, and its failed tasks' logs.

v2beta1 tells neither. Who can find them out (the metadata store, the pods' logs)
is given to `Runs`; without, nothing is known, and it is said why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ci_tools.documents import Artifact, Json
from ci_tools.kubeflow.api import Api
from ci_tools.kubeflow.ir import Ir


class Outcome(NamedTuple):
    """What a run made. unknown: why that is not known, as `because ...`'s rest; "" where it is."""

    outputs: Json = {}
    metrics: Mapping[str, float] = {}
    artifacts: Mapping[str, Artifact] = {}
    unknown: str = ""


class FailedTask(NamedTuple):
    """A failed task, or one of its pods; what several say of one task counts together.

    task: its name, in a loop also as `train (iteration 2)`. message: what the cluster
    says of it (Argo's node message), "" where it says nothing. lines: the last of its log.
    """

    task: str
    message: str = ""
    lines: Sequence[str] = ()


AskOutcome = Callable[[Api, str, Ir], Outcome]
"""Of a connection, a run's id and what ran. Raises CIError where it cannot be asked."""

AskFailed = Callable[[Api, str, Ir, Sequence[Any]], Sequence[FailedTask]]
"""Of a connection, a run's id, what ran, and the run's task details, for logs of failed
tasks. Raises CIError where it cannot be asked."""


def no_outcome(_: Api, __: str, ___: Ir) -> Outcome:
    return Outcome(unknown="v2beta1 of the API tells no outputs, metrics or artefacts")


def no_logs(_: Api, __: str, ___: Ir, ____: Sequence[Any]) -> Sequence[FailedTask]:
    return ()
