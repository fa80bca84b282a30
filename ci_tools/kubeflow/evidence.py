"""What is asked of a real server once a run is over, where v2beta1 tells nothing.

The metadata store knows what a run gave and which pods ran it, the pods (or their
archive) what its failed tasks said. Neither can turn a failed run into a passed one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ci_tools.errors import CIError
from ci_tools.kubeflow import metadata, podlogs
from ci_tools.kubeflow.aftermath import FailedTask, Outcome
from ci_tools.kubeflow.api import Api
from ci_tools.kubeflow.ir import Ir


def outcome(api: Api, run_id: str, one: Ir) -> Outcome:
    """See `aftermath.AskOutcome`."""
    found = metadata.outcome(api, run_id, one)
    unknown = "; ".join(found.left_out)
    return Outcome(found.outputs, found.metrics, found.artifacts, unknown)


def logs(
    api: Api, run_id: str, one: Ir, details: Sequence[Any], *, namespace: str
) -> list[FailedTask]:
    """See `aftermath.AskFailed`. namespace: of the run's pods."""
    try:
        pods = metadata.outcome(api, run_id, one).pods
    except CIError:  # `podlogs` then knows them from the task details
        pods = []
    found = podlogs.failed(api, run_id, namespace, details, one=one, pods=pods)
    return [FailedTask(it.task, "", it.text.splitlines() or [it.trouble]) for it in found]
