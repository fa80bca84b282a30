"""What Argo says of a run's failed pods, which v2beta1 does not pass on.

v1beta1, which servers of 2.x still have, tells the run's Argo workflow as it was
last reported (backend/src/apiserver/server/api_converter.go, `toApiRunDetailV1`),
with a message on every node: an exit code, `OOMKilled`, `pod deleted`, an eviction.
A node's name is the path to it: `training-x2x5k.root.train.executor(1)`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

from ci_tools.kubeflow import tasks
from ci_tools.kubeflow.aftermath import FailedTask
from ci_tools.kubeflow.api import Api
from ci_tools.kubeflow.ir import Ir

_FAILED = frozenset({"Failed", "Error"})
_DRIVER = "-driver"
_ATTEMPT = re.compile(r"\((\d+)\)$")
_ITEM = re.compile(r"\(.*\)$")
_MESSAGE_LIMIT = 2000  # characters


def failed(connection: Api, run_id: str, one: Ir) -> list[FailedTask]:
    """Every failed pod of a run by its task, with Argo's message. Raises as `Api.call`."""
    client = connection.runs.api_client

    def get_run_v1(run_id: str, **how: Any) -> Any:
        return client.call_api(
            "/apis/v1beta1/runs/{run_id}",
            "GET",
            {"run_id": run_id},
            header_params={"Accept": "application/json"},
            response_type="object",
            auth_settings=["Bearer"],
            **how,
        )

    return of(connection.call(get_run_v1, run_id), one)


def of(answer: object, one: Ir) -> list[FailedTask]:
    """The same of v1beta1's answer; nothing for one that holds no workflow. Pure."""
    runtime = _mapping(_mapping(answer).get("pipeline_runtime"))
    try:
        workflow = json.loads(str(runtime.get("workflow_manifest") or "{}"))
    except (ValueError, RecursionError):
        return []
    names = {path.rpartition("/")[2] for path in tasks.paths(one)}
    last: dict[str, tuple[int, dict[str, Any]]] = {}
    for node in _mapping(_mapping(_mapping(workflow).get("status")).get("nodes")).values():
        body = _mapping(node)
        if body.get("type") != "Pod":
            continue
        path = str(body.get("name") or "")
        attempt = _ATTEMPT.search(path)
        number = int(attempt[1][:9]) if attempt else 0
        place = path[: attempt.start()] if attempt else path
        if place not in last or last[place][0] <= number:  # an earlier attempt decides nothing
            last[place] = (number, body)
    return [
        FailedTask(_task(place, names), str(body.get("message") or "")[:_MESSAGE_LIMIT])
        for place, (_, body) in sorted(last.items())
        if body.get("phase") in _FAILED
    ]


def _task(path: str, names: Collection[str]) -> str:
    """The task that a node is of: the innermost part of its path that is one."""
    for part in reversed(path.split(".")):
        part = _ITEM.sub("", part)
        for name in (part, part.removesuffix(_DRIVER)):
            if name in names:
                return name
    return path.rpartition(".")[2]


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
