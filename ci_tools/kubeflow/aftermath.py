"""What is asked once a server's run is over: its results, and why tasks failed.

v2beta1 tells neither. Who can find them out (the metadata store, the pods' logs)
is given to `Runs`; without, nothing is known, and it is said why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ci_tools.documents import Artifact, Json
from ci_tools.kubeflow.api import Api


class Outcome(NamedTuple):
    """What a run made. unknown: why that is not known, as `because ...`'s rest; "" where it is."""

    outputs: Json = {}
    metrics: Mapping[str, float] = {}
    artifacts: Mapping[str, Artifact] = {}
    unknown: str = ""


class FailedTask(NamedTuple):
    """task: its name. message: what the cluster says of it (Argo's node message, the
    pod's reason), "" where it says nothing. lines: the last of its log."""

    task: str
    message: str = ""
    lines: Sequence[str] = ()


AskOutcome = Callable[[Api, str], Outcome]
"""Of a connection and a run's id. Raises CIError where it cannot be asked."""

AskFailed = Callable[[Api, str], Sequence[FailedTask]]
"""Of a connection and a run's id. Raises CIError where it cannot be asked."""


def no_outcome(_: Api, __: str) -> Outcome:
    return Outcome(unknown="v2beta1 of the API tells no outputs, metrics or artefacts")


def no_failures(_: Api, __: str) -> Sequence[FailedTask]:
    return ()
