"""The logs of failed tasks, by whichever address has them; the server is a fake."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import kfp_server_api
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_tools.errors import CredentialsError, KubeflowError
from ci_tools.kubeflow import api, ir, podlogs
from ci_tools.kubeflow.metadata import Pod
from ci_tools.kubeflow.podlogs import TaskLog
from tests.fakes.metadata import FakeMetadata, serve
from tests.unit.test_kubeflow_metadata import RUN, Wire

POD = Pod("train", "flow-x7-system-container-impl-123", "team", "2026-09-21", "")
ASKED = f"/k8s/pod/logs?podname={POD.name}&runid={RUN}&podnamespace=team&createdat=2026-09-21"
SERVED = f"/apis/v1alpha1/runs/{RUN}/nodes/{POD.name}/log"
ONE = ir.Ir(
    {
        "pipelineInfo": {"name": "p"},
        "root": {
            "dag": {
                "tasks": {
                    "train": {"componentRef": {"name": "comp-train"}},
                    "sub": {"componentRef": {"name": "comp-sub"}},
                }
            }
        },
        "components": {
            "comp-train": {"executorLabel": "exec-train"},
            "comp-sub": {"dag": {"tasks": {"check": {"componentRef": {"name": "comp-train"}}}}},
        },
        "deploymentSpec": {"executors": {"exec-train": {"container": {"image": "a"}}}},
    },
    {},
)


@pytest.fixture
def fake() -> Iterator[FakeMetadata]:
    with serve(FakeMetadata()) as served:
        yield served


def failed(fake: FakeMetadata, *pods: Pod, **more: Any) -> list[TaskLog]:
    return list(
        podlogs.failed(Wire(fake.endpoint), RUN, "team", (), one=ONE, pods=pods or (POD,), **more)
    )


def detail(name: str, state: str = "FAILED", **more: Any) -> Any:
    children = [
        kfp_server_api.PipelineTaskDetailChildTask(pod_name=it) for it in more.pop("children", ())
    ]
    return kfp_server_api.V2beta1PipelineTaskDetail(
        display_name=name, state=state, child_tasks=children, **more
    )


def test_the_user_interface_is_asked_first(fake: FakeMetadata) -> None:
    fake.logs[ASKED] = (200, "", b"one\ntwo\n")
    assert failed(fake) == [TaskLog("train", "one\ntwo")]
    assert fake.requests == [f"GET {ASKED}"]


def test_below_the_endpoint_where_a_full_kubeflow_has_it(fake: FakeMetadata) -> None:
    fake.logs["/pipeline" + ASKED] = (200, "", b"one")
    found = podlogs.failed(Wire(fake.endpoint + "/pipeline"), RUN, "", (), one=ONE, pods=[POD])
    assert list(found) == [TaskLog("train", "one")]


def test_the_api_server_by_itself_has_another_address(fake: FakeMetadata) -> None:
    fake.logs[SERVED] = (200, "text/plain", b"one")
    assert failed(fake) == [TaskLog("train", "one")]


def test_its_error_comes_with_the_status_200(fake: FakeMetadata) -> None:
    """`run_log_server.go` has sent the status before it looks for the pod."""
    error = {"error_message": "pods not found", "error_details": "Failed to read logs"}
    fake.logs[SERVED] = (200, "text/plain", json.dumps(error).encode())
    (found,) = failed(fake)
    assert found.text == ""
    assert found.trouble == f"the log of pod {POD.name} cannot be had (pods not found)"


@pytest.mark.parametrize(
    "log", [b'{"error_message": "no", but', b'{"error_message": "a step\'s own JSON"}']
)
def test_a_log_that_looks_like_an_error_is_a_log(fake: FakeMetadata, log: bytes) -> None:
    fake.logs[ASKED] = (200, "", log)
    assert failed(fake) == [TaskLog("train", log.decode())]


def test_the_launchers_copy_is_the_last_resort(fake: FakeMetadata) -> None:
    pod = POD._replace(log="s3://bucket/v2/artifacts/executor-logs")
    where = "source=s3&namespace=team&bucket=bucket&key=v2%2Fartifacts%2Fexecutor-logs"
    fake.logs[f"/artifacts/get?{where}"] = (200, "", b"kept")
    assert failed(fake, pod) == [TaskLog("train", "kept")]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            (500, "text/html; charset=utf-8", b"Could not get main container logs: Error: gone"),
            "500: Could not get main container logs: Error: gone",
        ),
        ((403, "text/html; charset=utf-8", b"Access denied to namespace"), "403: Access denied"),
        ((404, "text/html", b"<!DOCTYPE html><pre>Cannot GET</pre>"), "(404: nothing is there)"),
        ((302, "", b""), "(302)"),
        ((200, "text/html", b"<form>"), "a web page came instead"),
        ((500, "", b"\x1b[31m" + b"x" * 5000 + b"\n\n"), "500: xxx"),
    ],
)
def test_a_log_that_cannot_be_had_is_one_line(
    fake: FakeMetadata, answer: tuple[int, str, bytes], words: str
) -> None:
    fake.logs[ASKED] = answer
    pod = POD._replace(log="minio://b/\x1b[2Jkey")
    (found,) = failed(fake, pod)
    assert found.text == ""
    assert words in found.trouble
    assert found.trouble.endswith("; a copy is at minio://b/key")
    assert found.trouble.isprintable()
    assert len(found.trouble) < 600


@pytest.mark.parametrize(
    "error",
    [
        api.Away("Kubeflow does not answer", "Check it"),
        CredentialsError("Kubeflow refuses these credentials", "Log in"),
        KubeflowError("no TLS connection", "Give the bundle"),
    ],
)
def test_what_the_connection_raises_is_one_line_too(error: KubeflowError) -> None:
    (found,) = podlogs.failed(Wire("http://x", error), RUN, "team", (), one=ONE, pods=[POD])
    assert error.what in found.trouble


def test_an_interruption_is_not_caught() -> None:
    broken = Wire("http://x", KeyboardInterrupt())  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        list(podlogs.failed(broken, RUN, "team", (), one=ONE, pods=[POD]))


def test_only_the_end_of_a_log_is_kept(fake: FakeMetadata) -> None:
    fake.logs[ASKED] = (200, "", b"".join(b"line %d\r\n" % it for it in range(1000)))
    (found,) = failed(fake)
    lines = found.text.split("\n")
    assert (lines[0], lines[-1], len(lines)) == ("line 800", "line 999", 200)
    (found,) = failed(fake, lines=1)
    assert found.text == "line 999"


def test_a_line_is_bounded_too(fake: FakeMetadata) -> None:
    fake.logs[ASKED] = (200, "", b"a" * 100_000 + b"end")
    (found,) = failed(fake)
    assert len(found.text) == 2000
    assert found.text.endswith("aend")


def test_of_a_progress_bar_its_last_state_is_kept(fake: FakeMetadata) -> None:
    fake.logs[ASKED] = (200, "", b"10%\r50%\r100%\ndone\n")
    assert failed(fake) == [TaskLog("train", "100%\ndone")]


def test_an_empty_log_is_said(fake: FakeMetadata) -> None:
    fake.logs[ASKED] = (200, "", b"")
    (found,) = failed(fake)
    assert found.trouble == f"the log of pod {POD.name} is empty"


def test_colours_go_and_the_rest_is_shown(fake: FakeMetadata) -> None:
    fake.logs[ASKED] = (
        200,
        "",
        b"\x1b[1;31mred\x1b[0m\ta\x1b]0;title\x07b\x1b]8;;http://x\x1b\\c\x07\xff\xe2\x80\xae",
    )
    (found,) = failed(fake)
    assert found.text == "red\tabc\\x07\N{REPLACEMENT CHARACTER}\\u202e"


@given(st.text())
def test_no_text_moves_a_terminal(text: str) -> None:
    assert podlogs.harmless(text).replace("\t", "").isprintable()


@pytest.mark.parametrize(
    "name", ["../../secrets", "a/../b", "a?x=1", "A", "", "-a", "a" * 254, "a\n", "p\x1b[2J"]
)
def test_a_name_that_is_no_pods_is_not_asked_for(fake: FakeMetadata, name: str) -> None:
    (found,) = failed(fake, POD._replace(name=name))
    assert found.text == ""
    assert found.trouble.isprintable()
    assert found.trouble
    assert fake.requests == []


def test_a_runs_id_is_no_path(fake: FakeMetadata) -> None:
    list(podlogs.failed(Wire(fake.endpoint), "../x?", "a&b", (), one=ONE, pods=[POD]))
    assert "runid=..%2Fx%3F" in fake.requests[0]
    assert fake.requests[1] == f"GET /apis/v1alpha1/runs/..%2Fx%3F/nodes/{POD.name}/log"


def test_a_loop_that_fails_whole_is_not_read_whole(fake: FakeMetadata) -> None:
    pods = [POD._replace(task=f"train (iteration {it})") for it in range(30)]
    found = failed(fake, *pods)
    assert len(found) == podlogs.MOST + 1
    assert found[-1].trouble.startswith("10 more failed: train (iteration 20), train (iteration 21")


# without the metadata store ------------------------------------------------------------


def from_details(fake: FakeMetadata, *tasks: Any) -> list[TaskLog]:
    return list(podlogs.failed(Wire(fake.endpoint), RUN, "team", tasks, one=ONE))


def test_the_pod_is_made_of_argos_node(fake: FakeMetadata) -> None:
    """As the API server tells of a run: dags, drivers and `executor` are in the list too."""
    fake.logs[SERVED] = (200, "", b"one")
    node = "flow-x7-123"
    found = from_details(
        fake,
        detail("root", children=["flow-x7-1"]),
        detail("train-driver", "SUCCEEDED", children=["flow-x7-2"]),
        detail("train", children=[node], create_time=datetime(2026, 9, 21, tzinfo=timezone.utc)),
        detail("executor", children=[]),
        detail("sub", children=["flow-x7-3"]),
        detail("check", "SUCCEEDED", children=["flow-x7-4"]),
    )
    assert found == [TaskLog("train", "one")]
    assert fake.requests[0] == f"GET {ASKED}"


def test_a_pod_that_the_server_names_is_taken(fake: FakeMetadata) -> None:
    fake.logs[SERVED] = (200, "", b"one")
    assert from_details(fake, detail("check", pod_name=POD.name)) == [TaskLog("check", "one")]


@pytest.mark.parametrize("children", [[], ["no-node"], ["../x-1"], [None]])
def test_a_task_without_a_pod_says_so(fake: FakeMetadata, children: list[Any]) -> None:
    (found,) = from_details(fake, detail("train", children=children))
    why = "there is no log: it never started, or nobody knows its pod"
    assert found == TaskLog("train", "", why)
    assert fake.requests == []
