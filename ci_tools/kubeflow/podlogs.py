"""The ends of the logs of a run's failed tasks, as Kubeflow's user interface shows them.

v2beta1 serves no logs. Three addresses do (kubeflow/pipelines 2.17); each is
asked until one has the log:

- `/k8s/pod/logs` of the user interface (`frontend/server/handlers/pod-logs.ts`):
  from the pod, or from Argo's archive when the pod is gone;
- `/apis/v1alpha1/runs/{run}/nodes/{pod}/log` of the API server
  (`backend/src/apiserver/server/run_log_server.go`), which the user interface
  does not pass on: for an endpoint that is the API server itself. It has sent
  the status 200 before it knows of an error, which then is the body;
- `/artifacts/get` of the user interface, for the copy that the launcher keeps in
  the object store (output `executor-logs` of the task).

All want the name of the pod that ran the step, not of its driver. The metadata
store knows it. Without that store it is made of the run's task details, whose
children are Argo's node ids: `{workflow}-{hash}` is the id of the pod
`{workflow}-system-container-impl-{hash}` (`backend/src/common/util/workflow.go`,
`RetrievePodName`).
"""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ci_tools.errors import CredentialsError, KubeflowError
from ci_tools.kubeflow import ir
from ci_tools.kubeflow.metadata import Pod
from ci_tools.kubeflow.raw import Connection, is_page
from ci_tools.printable import printable

LINES = 200  # of each log, its last ones
MOST = 20  # logs of one run: the tasks of a loop tend to fail all for one reason
_LINE = 2000  # characters of a line
_TAIL = 4 * 1024 * 1024  # bytes of a log that are looked at
_SAID = 300  # characters of the server's words
_POD = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")  # RFC 1123, as Kubernetes names are
_NODE = re.compile(r"(?P<workflow>[a-z0-9][a-z0-9.-]{0,200})-(?P<hash>[0-9]{1,10})")
_UNKNOWN = "404: nothing is there"
_STORES = {"minio": "minio", "s3": "s3", "gs": "gcs"}
# Colours and the like: CSI, OSC (with what it sets), and two-character escapes.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\^_]")


class TaskLog(NamedTuple):
    """The end of one failed task's log.

    text:    its lines, harmless to a terminal; "" when it cannot be had,
    trouble: and then one line that says why, "" otherwise.
    """

    task: str
    text: str
    trouble: str = ""


def failed(
    connection: Connection,
    run_id: str,
    namespace: str,
    tasks: Iterable[Any],
    *,
    one: ir.Ir,
    pods: Iterable[Pod] = (),
    lines: int = LINES,
) -> Iterator[TaskLog]:
    """The log of each failed task, one by one as it comes. Raises nothing of Kubeflow's.

    namespace: of the run, "" when the server has only one.
    tasks:     the run's `task_details`, as kfp_server_api has them.
    one:       the pipeline that was run.
    pods:      of the tasks that did not succeed, from `metadata.outcome`; the
               task details are only looked at when there are none.
    """
    found = list(pods) or list(_from_details(tasks, one))
    for pod in found[:MOST]:
        yield _log(connection, run_id, pod, pod.namespace or namespace, lines)
    if len(found) > MOST:
        names = dict.fromkeys(harmless(pod.task) for pod in found[MOST:])
        more = f"{len(found) - MOST} more failed: {', '.join(names)}"
        yield TaskLog("", "", more[:_SAID])


def _from_details(tasks: Iterable[Any], one: ir.Ir) -> Iterator[Pod]:
    steps = {task.rpartition("/")[2] for it in ir.executor_images(one) for task in it.tasks}
    seen: set[str] = set()
    for task in tasks:
        name = str(task.display_name or "")
        if task.state != "FAILED" or name not in steps:
            continue
        created = task.create_time.strftime("%Y-%m-%d") if task.create_time else ""
        names = [task.pod_name] if task.pod_name else list(map(_pod_of, task.child_tasks or ()))
        for pod in names or [""]:
            if pod not in seen or not pod:
                seen.add(pod)
                yield Pod(task=name, name=pod, namespace="", created=created, log="")


def _pod_of(child: Any) -> str:
    node = _NODE.fullmatch(str(child.pod_name or ""))
    return f"{node['workflow']}-system-container-impl-{node['hash']}" if node else ""


def _log(connection: Connection, run_id: str, pod: Pod, namespace: str, lines: int) -> TaskLog:
    task = harmless(pod.task)
    if not pod.name:
        return TaskLog(task, "", "there is no log: it never started, or nobody knows its pod")
    if not _POD.fullmatch(pod.name):
        return TaskLog(task, "", f"'{harmless(pod.name)[:_SAID]}' is no name of a pod")
    trouble = ""
    for path in _paths(run_id, pod, namespace):
        text, why = _ask(connection, path)
        if text is not None:
            end = _end(text, lines)
            return TaskLog(task, end, "" if end else f"the log of pod {pod.name} is empty")
        if trouble in ("", _UNKNOWN):  # what knows the address has more to say
            trouble = why
    kept = f"; a copy is at {harmless(pod.log)}" if pod.log else ""
    return TaskLog(task, "", f"the log of pod {pod.name} cannot be had ({trouble}){kept}")


def _paths(run_id: str, pod: Pod, namespace: str) -> Iterator[str]:
    run = urllib.parse.quote(run_id, safe="")
    asked = {"podname": pod.name, "runid": run_id, "podnamespace": namespace}
    yield "/k8s/pod/logs?" + _query(asked | {"createdat": pod.created})
    yield f"/apis/v1alpha1/runs/{run}/nodes/{pod.name}/log"
    scheme, found, rest = pod.log.partition("://")
    bucket, _, key = rest.partition("/")
    if found and key and scheme in _STORES:
        where = {"source": _STORES[scheme], "namespace": namespace, "bucket": bucket, "key": key}
        yield "/artifacts/get?" + _query(where)


def _query(fields: dict[str, str]) -> str:
    return urllib.parse.urlencode({name: value for name, value in fields.items() if value})


def _ask(connection: Connection, path: str) -> tuple[bytes | None, str]:
    """What is there, or None and why."""
    try:
        answer = connection.raw("GET", path)
    except (KubeflowError, CredentialsError) as error:
        return None, harmless(error.what)[:_SAID]
    if answer.status != 200:
        # The user interface's words are called HTML and are none; a proxy's are.
        said = "" if answer.body.lstrip()[:1] == b"<" else _said(answer.body)
        if answer.status == 404 and not said:
            return None, _UNKNOWN
        return None, f"{answer.status}{': ' + said if said else ''}"
    if is_page(answer):
        return None, "a web page came instead"
    if said := _error_in(answer.body):
        return None, said
    return answer.body, ""


def _error_in(body: bytes) -> str:
    """The error that the API server sends with the status 200."""
    if not body.startswith(b'{"error_message"') or len(body) > _TAIL:
        return ""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    return _said(str(content["error_message"]).encode()) if "error_details" in content else ""


def _said(body: bytes) -> str:
    return harmless(" ".join(body[: 4 * _SAID].decode("utf-8", "replace").split()))[:_SAID]


def _end(body: bytes, lines: int) -> str:
    """The last lines. Of a line that was drawn again and again, what was drawn last."""
    text = body[-_TAIL:].decode("utf-8", "replace").replace("\r\n", "\n")
    rows = text.rstrip("\n").split("\n")[-lines:] if text else []
    drawn = (row.rstrip("\r").rpartition("\r")[2] for row in rows)
    return "\n".join(harmless(row[-_LINE:] if len(row) > _LINE else row) for row in drawn)


def harmless(text: str) -> str:
    """`text` without a terminal's colours, and all else that it would act upon escaped."""
    return printable(_ESCAPES.sub("", text), keep="\t")
