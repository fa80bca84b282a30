"""What Kubeflow's metadata store holds of a run, read as its user interface reads it.

v2beta1 serves no outputs. Each driver and launcher of a run writes them to ML
Metadata (kubeflow/pipelines `backend/src/v2/metadata/client.go`), and a proxy
speaks grpc-web for that store on the host of the user interface:

- the user interface's own server passes `/ml_metadata.*` on, at its root
  (`frontend/server/app.ts`);
- in a full Kubeflow istio routes `/ml_metadata` of the host, beside `/pipeline`
  (`manifests/kustomize/base/metadata/options/istio/virtual-service.yaml`);
- the API server by itself, as a port-forward reaches it, has no such address.

Verified for Kubeflow Pipelines 2.17, which runs ML Metadata 1.14.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ci_tools.errors import CredentialsError, KubeflowError
from ci_tools.kubeflow import api, grpc_web, metadata_record
from ci_tools.kubeflow import metadata_messages as messages
from ci_tools.kubeflow.metadata_record import Record
from ci_tools.kubeflow.raw import Answer, Connection, is_page

_PAGE = 100  # what the store gives at most, see ListOperationOptions
_MOST = 20_000  # executions of one run; a loop of that size is nobody's training test
_AWAY = frozenset({429, 502, 503, 504})
_ROUTE = (
    "Give the address of Kubeflow's user interface as 'kubeflow.endpoint' in ci.yaml, "
    "or ask who runs it for the route /ml_metadata to the store"
)
_LOGIN = frozenset({301, 302, 303, 307, 308, 401, 403})


class NoMetadata(KubeflowError):
    """What a run gave cannot be read. Its sentence says why, for unmet bounds."""


def read(connection: Connection, run_id: str, *, patience: float = 30.0) -> Record:
    """Everything that the store holds of a run.

    patience: seconds that the store may be away before it is given up.

    Raises NoMetadata, whatever the reason is.
    """
    store = _Store(connection, patience)
    answer = store.ask(
        "GetContextByTypeAndName", type_name="system.PipelineRun", context_name=run_id
    )
    if not answer.context.id:  # an unknown name is an empty answer, no error
        raise NoMetadata(
            f"Kubeflow's metadata store holds nothing of run {run_id}",
            "See on the run's page whether its first task, 'root-driver', could reach the store",
        )
    executions = [metadata_record.execution(it) for it in store.executions(answer.context.id)]
    events = [
        event
        for some in _batches([it.id for it in executions])
        for event in store.ask("GetEventsByExecutionIDs", execution_ids=some).events
        if event.type == messages.OUTPUT
    ]
    # By id: a cached task's artefacts are of the run that made them.
    wanted = sorted({event.artifact_id for event in events})
    artifacts = {
        artifact.id: artifact
        for some in _batches(wanted)
        for artifact in store.ask("GetArtifactsByID", artifact_ids=some).artifacts
    }
    known = [it for it in events if it.artifact_id in artifacts]
    return Record(
        executions,
        [metadata_record.produced(it, artifacts[it.artifact_id]) for it in known],
        [
            (it.execution_id, metadata_record.name(it))
            for it in events
            if it.artifact_id not in artifacts
        ],
    )


class _Away(Exception):
    """Worth another try. The error is what to say when there is none left."""

    def __init__(self, error: NoMetadata) -> None:
        super().__init__(error.what)
        self.error = error


class _Store:
    def __init__(self, connection: Connection, patience: float) -> None:
        self._connection, self._patience = connection, patience
        # The host's root first; below the endpoint where a proxy of one's own put it.
        self._origins = [True, False]

    def ask(self, method: str, **fields: Any) -> Any:
        """One call, again with growing pauses while the store is away: all are reads."""
        from tenacity import (
            Retrying,
            retry_if_exception_type,
            stop_after_delay,
            wait_random_exponential,
        )

        retrying = Retrying(
            retry=retry_if_exception_type(_Away),
            stop=stop_after_delay(self._patience),
            wait=wait_random_exponential(multiplier=0.5, max=10),
            reraise=True,
        )
        try:
            return retrying(self._call, method, fields)
        except _Away as away:
            raise away.error from away

    def executions(self, context: int) -> Iterator[Any]:
        token, seen = "", 0
        while True:
            page = self.ask(
                "GetExecutionsByContext",
                context_id=context,
                options={"max_result_size": _PAGE, "next_page_token": token},
            )
            seen += len(page.executions)
            if seen > _MOST or (page.next_page_token and not page.executions):
                raise _broken(f"its listing does not end, after {seen} executions")
            yield from page.executions
            token = page.next_page_token
            if not token:
                return

    def _call(self, method: str, fields: dict[str, Any]) -> Any:
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

        body = grpc_web.framed(messages.request(method, **fields).SerializeToString())
        answer = self._answer(f"/{messages.SERVICE}/{method}", body)
        if answer.status in _AWAY:
            raise _Away(_unread(f"it answered {answer.status}"))
        if answer.status in _LOGIN:
            raise NoMetadata(
                f"Kubeflow's metadata store refuses these credentials ({answer.status})",
                "Ask who runs it to let this identity read /ml_metadata",
            )
        if answer.status != 200:
            raise _unread(f"it answered {answer.status}")
        try:
            return messages.response(method, grpc_web.unframed(answer))
        except grpc_web.Refused as error:
            unread = _unread(str(error))
            if error.status in (grpc_web.ABORTED, grpc_web.UNAVAILABLE):
                raise _Away(unread) from error
            raise unread from error
        except (grpc_web.Broken, DecodeError) as error:
            raise _broken(str(error)) from error

    def _answer(self, path: str, body: bytes) -> Answer:
        """From the first place that is the store's; that one is asked from then on."""
        refused: list[NoMetadata] = []
        absent: list[NoMetadata] = []
        for origin in self._origins:
            try:
                answer = self._connection.raw(
                    "POST", path, headers=grpc_web.HEADERS, body=body, origin=origin
                )
            except api.Away as error:
                raise _Away(_unread(error.what)) from error
            except (KubeflowError, CredentialsError) as error:
                # A refusal, which may be of what is there in the store's place: so go on.
                why = f"Kubeflow's metadata store cannot be read ({error.what})"
                refused.append(NoMetadata(why, error.todo))
                continue
            if answer.status not in (404, 405) and not is_page(answer):
                self._origins = [origin]
                return answer
            shown = "a web page" if is_page(answer) else "nothing"
            absent.append(
                NoMetadata(
                    "Kubeflow's metadata store is not served at this endpoint: "
                    f"/ml_metadata shows {shown} ({answer.status})",
                    _ROUTE,
                )
            )
        raise (refused + absent)[0]


def _batches(ids: Sequence[int]) -> Iterable[Sequence[int]]:
    return (ids[first : first + _PAGE] for first in range(0, len(ids), _PAGE))


def _unread(why: str) -> NoMetadata:
    return NoMetadata(
        f"Kubeflow's metadata store does not answer as it should ({why})",
        "Try again, or ask who runs it",
    )


def _broken(why: str) -> NoMetadata:
    return NoMetadata(
        f"what Kubeflow's metadata store answered cannot be read: {' '.join(why.split())}",
        "Compare its version with the kfp version in setup.cfg",
    )
