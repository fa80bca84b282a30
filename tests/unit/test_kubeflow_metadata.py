"""What a run gave, read from a fake metadata store that shares no code with the reader."""

from __future__ import annotations

import math
import struct
import sys
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from ci_tools.documents import Artifact
from ci_tools.errors import CredentialsError, KubeflowError
from ci_tools.kubeflow import api, grpc_web, ir, metadata, metadata_messages, recorder
from ci_tools.kubeflow.local.resolve import NOTHING, Scope, Values
from ci_tools.kubeflow.local.step import Job
from ci_tools.kubeflow.metadata_store import NoMetadata
from tests.fakes import metadata as fakes
from tests.fakes.metadata import CACHED, CANCELED, FAILED, RUNNING, FakeMetadata, serve

RUN = "6c1f5a0e-0b5e-4f1e-9f57-0d1f0c9a7b11"
OK = {"Content-Type": fakes.KIND}


class Plain(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class Wire:
    """A connection by `requests`, without what the real one adds. broken: raised instead."""

    def __init__(self, endpoint: str, broken: Exception | None = None) -> None:
        self._endpoint, self._broken = endpoint, broken

    def raw(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] = {},
        body: bytes = b"",
        origin: bool = False,
    ) -> Plain:
        if self._broken:
            raise self._broken
        url = urllib.parse.urlsplit(self._endpoint)
        base = f"{url.scheme}://{url.netloc}" if origin else self._endpoint.rstrip("/")
        answer = requests.request(
            method, base + path, headers=dict(headers), data=body, timeout=10, allow_redirects=False
        )
        return Plain(answer.status_code, answer.headers, answer.content)


@pytest.fixture
def fake() -> Iterator[FakeMetadata]:
    with serve(FakeMetadata()) as served:
        yield served


def read(fake: FakeMetadata, one: ir.Ir | None = None, patience: float = 0.0) -> metadata.Outcome:
    return metadata.outcome(Wire(fake.endpoint), RUN, one or spec({}), patience=patience)


def spec(
    tasks: dict[str, Any],
    outputs: dict[str, Any] | None = None,
    types: dict[str, str] | None = None,
    components: dict[str, Any] | None = None,
) -> ir.Ir:
    """A pipeline of these tasks; outputs: name -> (task, its output)."""
    parameters = {
        name: {"valueFromParameter": {"producerSubtask": task, "outputParameterKey": key}}
        for name, (task, key) in (outputs or {}).items()
    }
    root = {
        "dag": {"tasks": tasks, "outputs": {"parameters": parameters}},
        "outputDefinitions": {
            "parameters": {
                name: {"parameterType": (types or {}).get(name, "NUMBER_DOUBLE")}
                for name in parameters
            }
        },
    }
    return ir.Ir({"pipelineInfo": {"name": "p"}, "root": root, "components": components or {}}, {})


ONE_STEP = {"train": {"componentRef": {"name": "comp-train"}, "taskInfo": {"name": "train"}}}
STEP = {"comp-train": {"executorLabel": "exec-train"}}


# the wire ---------------------------------------------------------------------------


def test_a_request_is_these_bytes() -> None:
    """By hand from metadata_store_service.proto: type_name 1, context_name 2."""
    made = metadata_messages.request(
        "GetContextByTypeAndName", type_name="system.PipelineRun", context_name="r1"
    )
    assert made.SerializeToString() == b"\x0a\x12system.PipelineRun\x12\x02r1"
    framed = grpc_web.framed(b"\x0a\x02r1")
    assert framed == b"\x00\x00\x00\x00\x04\x0a\x02r1"
    page = metadata_messages.request(
        "GetExecutionsByContext",
        context_id=300,
        options={"max_result_size": 100, "next_page_token": "t"},
    )
    assert page.SerializeToString() == b"\x08\xac\x02\x12\x05\x08\x64\x1a\x01t"
    some = metadata_messages.request("GetArtifactsByID", artifact_ids=[1, 300])
    assert some.SerializeToString() == b"\x08\x01\x08\xac\x02"


def test_an_answer_of_these_bytes_is_an_execution() -> None:
    value = b"\x0a\x03auc\x12\x09\x11" + struct.pack("<d", 0.5)  # Value.double_value is 2
    unknown = b"\x52\x02ab"  # external_id, 10: skipped
    execution = b"\x08\x07\x18\x03\x2a" + bytes([len(value)]) + value + b"\x3a\x01k" + unknown
    data = b"\x0a" + bytes([len(execution)]) + execution + b"\x12\x01n"
    page = metadata_messages.response("GetExecutionsByContext", data)
    (found,) = page.executions
    assert (found.id, found.last_known_state, found.type) == (7, 3, "k")
    assert [(it.key, it.value.double_value) for it in found.custom_properties] == [("auc", 0.5)]
    assert page.next_page_token == "n"


def test_the_messages_touch_no_other_pool() -> None:
    """A process may hold the real ml_metadata package, whose names are these."""
    from google.protobuf import descriptor_pool

    metadata_messages.request("GetArtifactsByID")
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("ml_metadata.Artifact")


def test_protobuf_is_imported_only_when_it_is_used() -> None:
    import subprocess

    code = (
        "import sys, ci_tools.kubeflow.metadata, ci_tools.kubeflow.podlogs;"
        "print(sorted(it for it in ('google.protobuf', 'kfp', 'requests') if it in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@given(st.binary(max_size=60), st.dictionaries(st.sampled_from(["grpc-status"]), st.text()))
def test_any_bytes_are_an_answer_or_an_error(body: bytes, headers: dict[str, str]) -> None:
    try:
        message = grpc_web.unframed(Plain(200, headers, body))
    except (grpc_web.Broken, grpc_web.Refused):
        return
    assert body.startswith(b"\x00" + len(message).to_bytes(4, "big") + message)


@given(st.binary(max_size=40), st.integers(0, 200))
def test_a_cut_answer_is_never_taken_for_a_whole_one(message: bytes, cut: int) -> None:
    whole = fakes.frame(0, message) + fakes.trailers(0)
    assert grpc_web.unframed(Plain(200, {}, whole)) == message
    if cut < len(whole):
        with pytest.raises(grpc_web.Broken):
            grpc_web.unframed(Plain(200, {}, whole[:cut]))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        fakes.trailers(0),
        fakes.frame(0, b"") * 2 + fakes.trailers(0),
        fakes.frame(1, b"") + fakes.trailers(0),  # compressed, which nobody asked for
        fakes.frame(0, b"") + fakes.frame(0x80, b"grpc-status:\xc2\xb2\r\n"),  # a digit to Python
        fakes.frame(0, b"\xff\xff\xff") + fakes.trailers(0),
        fakes.frame(0, b"\x0a\x02\x08") + fakes.trailers(0),
        b"\x00\xff\xff\xff\xff",
    ],
)
def test_a_broken_answer_is_a_sentence(fake: FakeMetadata, body: bytes) -> None:
    fake.answers = [(200, OK, body)]
    with pytest.raises(NoMetadata, match="cannot be read"):
        read(fake)


def test_text_that_is_no_text_is_a_sentence(fake: FakeMetadata) -> None:
    root = fake.run(RUN)
    fake.execution(RUN, "train", root, pod_name=b"\xff\xfe")
    with pytest.raises(NoMetadata, match="cannot be read"):
        read(fake)


def test_an_answer_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_web, "LIMIT", 20)
    with pytest.raises(grpc_web.Broken, match="larger than 20"):
        grpc_web.unframed(Plain(200, {}, fakes.frame(0, b"a" * 30) + fakes.trailers(0)))


# where the store is ------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "/", "/pipeline", "/pipeline/"])
def test_the_store_is_at_the_hosts_root(fake: FakeMetadata, path: str) -> None:
    """A full Kubeflow has its API below /pipeline and the store beside it."""
    fake.run(RUN)
    outcome = metadata.outcome(Wire(fake.endpoint + path), RUN, spec({}), patience=0)
    assert outcome.metrics == {}
    assert all(it.startswith("POST /ml_metadata.MetadataStoreService/") for it in fake.requests)


def test_or_below_the_endpoint_where_a_proxy_put_it(fake: FakeMetadata) -> None:
    fake.prefix = "/kfp"
    fake.run(RUN)
    metadata.outcome(Wire(fake.endpoint + "/kfp"), RUN, spec({}), patience=0)
    assert not fake.requests[0].startswith("POST /kfp")
    assert all(it.startswith("POST /kfp/ml_metadata") for it in fake.requests[1:])


def test_a_server_without_the_store_says_what_to_do(fake: FakeMetadata) -> None:
    """As the API server alone, through a port-forward."""
    fake.prefix = "/elsewhere"
    with pytest.raises(NoMetadata, match="not served at this endpoint") as caught:
        read(fake)
    assert "kubeflow.endpoint" in caught.value.todo
    assert isinstance(caught.value, KubeflowError)


@pytest.mark.parametrize("status", [302, 401, 403])
def test_refused_credentials_are_said(fake: FakeMetadata, status: int) -> None:
    fake.answers = [(status, {"Location": "/dex"}, b"no")]
    with pytest.raises(NoMetadata, match=f"refuses these credentials \\({status}\\)"):
        read(fake)


def test_a_refusal_is_told_rather_than_what_came_after_it(fake: FakeMetadata) -> None:
    """As a connection tells it that raises for 403; below the endpoint there is nothing."""

    class Strict(Wire):
        def raw(self, method: str, path: str, *, origin: bool = False, **more: Any) -> Plain:
            if origin:
                raise CredentialsError("Kubeflow refuses these credentials (403)", "Log in")
            return super().raw(method, path, origin=origin, **more)

    fake.prefix = "/elsewhere"
    with pytest.raises(NoMetadata, match="refuses these credentials \\(403\\)"):
        metadata.outcome(Strict(fake.endpoint), RUN, spec({}), patience=0)


def test_a_login_page_is_no_answer(fake: FakeMetadata) -> None:
    fake.answers = [(200, {"Content-Type": "text/html; charset=utf-8"}, b"<form>")] * 2
    with pytest.raises(NoMetadata, match="a web page"):
        read(fake)


@pytest.mark.parametrize(
    "error",
    [
        api.Away("Kubeflow at http://x does not answer", "Check it"),
        CredentialsError("Kubeflow at http://x answered with a page", "Log in"),
        KubeflowError("no TLS connection", "Give the bundle"),
    ],
)
def test_what_the_connection_raises_is_the_reason(error: Exception) -> None:
    with pytest.raises(NoMetadata) as caught:
        metadata.outcome(Wire("http://x", error), RUN, spec({}), patience=0)
    assert str(error).partition(". ")[0] in caught.value.what


def test_an_interruption_is_not_caught() -> None:
    with pytest.raises(KeyboardInterrupt):
        metadata.outcome(Wire("http://x", KeyboardInterrupt()), RUN, spec({}), patience=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("bare", [True, False])
def test_an_error_of_the_store_is_told_in_its_words(fake: FakeMetadata, bare: bool) -> None:
    """As trailers, or as headers of an answer without a body; the words are percent-encoded."""
    fake.refusing = [(13, "no%20such%0Atable", bare)]
    with pytest.raises(NoMetadata, match="status 13: no such table"):
        read(fake)


def test_a_store_that_is_away_is_asked_again(fake: FakeMetadata) -> None:
    fake.run(RUN)
    fake.refusing = [(14, "connect failed", True)]
    fake.answers = [(503, {}, b"no healthy upstream")]
    assert read(fake, patience=20).outputs == {}


def test_but_not_for_ever(fake: FakeMetadata) -> None:
    fake.refusing = [(14, "connect failed", False)] * 3
    with pytest.raises(NoMetadata, match="status 14: connect failed"):
        read(fake)
    assert len(fake.refusing) == 2


def test_a_run_without_metadata_is_said(fake: FakeMetadata) -> None:
    with pytest.raises(NoMetadata, match=f"holds nothing of run {RUN}"):
        read(fake)


def test_a_run_without_its_root_is_said(fake: FakeMetadata) -> None:
    fake.run(RUN)
    fake.executions.clear()
    with pytest.raises(NoMetadata, match="does not know the root"):
        read(fake)


def test_a_listing_without_an_end_is_left(fake: FakeMetadata) -> None:
    context = fakes.frame(0, fakes.chunk(1, fakes.number(1, 5))) + fakes.trailers(0)
    page = fakes.frame(0, fakes.chunk(2, "again")) + fakes.trailers(0)
    fake.answers = [(200, OK, context)] + [(200, OK, page)] * 3
    with pytest.raises(NoMetadata, match="does not end"):
        read(fake)


def test_other_runs_are_not_looked_at(fake: FakeMetadata) -> None:
    other = fake.run("another")
    fake.artifact(fake.execution("another", "train", other), "m", "system.Metrics", auc=0.1)
    root = fake.run(RUN)
    fake.artifact(fake.execution(RUN, "train", root), "m", "system.Metrics", auc=0.9)
    assert read(fake).metrics == {"auc": 0.9}


def test_more_tasks_than_a_page_holds(fake: FakeMetadata) -> None:
    root = fake.run(RUN)
    for number in range(250):
        task = fake.execution(RUN, f"t{number}", root)
        fake.artifact(task, "m", "system.Metrics", **{f"n{number}": float(number)})
    assert read(fake).metrics == {f"n{number}": float(number) for number in range(250)}


# metrics and artefacts ----------------------------------------------------------------


def test_metrics_and_artefacts_of_a_task(fake: FakeMetadata) -> None:
    root = fake.run(RUN)
    task = fake.execution(RUN, "train", root)
    fake.artifact(task, "metrics", "system.Metrics", "s3://b/metrics", auc=0.9, comment="good")
    fake.artifact(task, "model", "system.Model", "s3://b/model", framework="sk", layers=3.0)
    fake.artifact(task, "executor-logs", "system.Artifact")
    outcome = read(fake)
    assert outcome.metrics == {"auc": 0.9}
    assert outcome.artifacts == {
        "train.metrics": Artifact(uri="s3://b/metrics", type="system.Metrics"),
        "train.model": Artifact(uri="s3://b/model", type="system.Model"),
    }
    assert outcome.left_out == []
    assert outcome.pods == []


def test_what_can_not_be_bounded_is_left_out_with_its_reason(fake: FakeMetadata) -> None:
    root = fake.run(RUN)
    task = fake.execution(RUN, "train", root)
    fake.artifact(
        task, "m", "system.Metrics", loss=math.nan, top=math.inf, ok=1, curve={"list": [1.0]}
    )
    fake.artifact(task, "roc", "system.ClassificationMetrics", confidenceMetrics={"list": []})
    fake.artifact(task, "odd", "", auc=0.5)
    outcome = read(fake)
    assert outcome.metrics == {}
    assert outcome.left_out == [
        "train.m: loss is NaN, no number",
        "train.m: ok is 1, a truth value and no number",
        "train.m: top is Infinity, no number",
        "train.roc: system.ClassificationMetrics holds curves and tables, no single numbers",
        "train.odd: the store does not say whether these are metrics",
    ]


def test_metrics_that_several_tasks_report(fake: FakeMetadata) -> None:
    root = fake.run(RUN)
    for task, auc in (("a", 0.5), ("b", 0.6)):
        fake.artifact(fake.execution(RUN, task, root), "m", "system.Metrics", auc=auc)
    fake.artifact(fake.execution(RUN, "c", root), "m", "system.Metrics", loss=1.0)
    assert read(fake).metrics == {"a.auc": 0.5, "b.auc": 0.6, "loss": 1.0}


def test_a_cached_task_gives_what_the_other_run_made(fake: FakeMetadata) -> None:
    """`driver/container.go`: a new execution, with outputs copied and the old artefact's event."""
    earlier = fake.run("earlier")
    original = fake.execution("earlier", "train", earlier, outputs={"rows": 5.0})
    made = fake.artifact(original, "m", "system.Metrics", auc=0.8)
    root = fake.run(RUN)
    cached = fake.execution(
        RUN,
        "train",
        root,
        state=CACHED,
        outputs={"rows": 5.0},
        cached_execution_id=str(original),
    )
    fake.produced(cached, made, "m")
    outcome = read(fake, spec(ONE_STEP, {"rows": ("train", "rows")}, {}, STEP))
    assert outcome.metrics == {"auc": 0.8, "rows": 5.0}
    assert list(outcome.artifacts) == ["train.m"]
    assert outcome.pods == []


def test_what_a_task_took_is_not_what_it_gave(fake: FakeMetadata) -> None:
    root = fake.run(RUN)
    made = fake.artifact(fake.execution(RUN, "train", root), "m", "system.Metrics", auc=0.8)
    fake.produced(fake.execution(RUN, "check", root), made, "taken", kind=3)
    outcome = read(fake)
    assert list(outcome.artifacts) == ["train.m"]
    assert outcome.metrics == {"auc": 0.8}


def test_an_artefact_that_is_deleted_is_said(fake: FakeMetadata) -> None:
    root = fake.run(RUN)
    fake.artifacts.pop(fake.artifact(fake.execution(RUN, "train", root), "m", "system.Metrics"))
    outcome = read(fake)
    assert outcome.artifacts == {}
    assert outcome.left_out == ["train.m: the store holds it no more"]


def test_a_failed_task_gives_nothing_but_its_pod(fake: FakeMetadata) -> None:
    root = fake.run(RUN)
    task = fake.execution(RUN, "train", root, state=FAILED, pod_name="p-1", namespace="team")
    fake.artifact(task, "m", "system.Metrics", auc=0.8)
    fake.artifact(task, "executor-logs", "system.Artifact", "minio://b/log")
    fake.execution(RUN, "killed", root, state=RUNNING, pod_name="p-2", namespace="team")
    fake.execution(RUN, "skipped", root, state=CANCELED, pod_name="")
    outcome = read(fake)
    assert (outcome.metrics, outcome.artifacts) == ({}, {})
    assert outcome.pods == [
        metadata.Pod("train", "p-1", "team", "2026-09-21", "minio://b/log"),
        metadata.Pod("killed", "p-2", "team", "2026-09-21", ""),
    ]


def test_a_retried_runs_last_try_counts(fake: FakeMetadata) -> None:
    root = fake.run(RUN)
    fake.execution(RUN, "train", root, state=FAILED, pod_name="p-1")
    fake.artifact(fake.execution(RUN, "train", root), "m", "system.Metrics", auc=0.8)
    outcome = read(fake)
    assert outcome.metrics == {"auc": 0.8}
    assert outcome.pods == []


def test_loops_are_told_apart_in_their_order(fake: FakeMetadata) -> None:
    root = fake.run(RUN)
    loop = fake.dag(RUN, "for-loop-1", root, iteration_count=3)
    rounds = {
        index: fake.dag(RUN, "for-loop-1", loop, iteration_index=index) for index in (2, 0, 1)
    }
    for index, one in rounds.items():
        task = fake.execution(RUN, "train", one)
        fake.artifact(task, "m", "system.Metrics", f"s3://b/{index}", auc=index / 10)
    fake.execution(RUN, "check", rounds[1], state=FAILED, pod_name="p")
    outcome = read(fake)
    assert outcome.metrics == {"train.auc": 0.0, "train.auc-2": 0.1, "train.auc-3": 0.2}
    assert [it.uri for it in outcome.artifacts.values()] == ["s3://b/0", "s3://b/1", "s3://b/2"]
    assert [it.task for it in outcome.pods] == ["check (iteration 1)"]


def test_hostile_names_are_only_names(fake: FakeMetadata) -> None:
    root = fake.run(RUN)
    name = "../../etc\x1b[31m\n'; DROP--"
    task = fake.execution(RUN, name, root)
    fake.artifact(task, name, "system.Metrics", "javascript:alert(1)", **{name: 1.5})
    outcome = read(fake)
    assert outcome.metrics == {name: 1.5}
    assert list(outcome.artifacts) == [f"{name}.{name}"]


def test_a_circle_of_dags_is_not_walked_for_ever(fake: FakeMetadata) -> None:
    root = fake.run(RUN)
    one = fake.dag(RUN, "a", root + 2)  # each the other's parent
    assert fake.dag(RUN, "b", one) == root + 2
    assert read(fake).metrics == {}


def test_names_are_those_of_an_embedded_run(fake: FakeMetadata) -> None:
    """The same tasks, told to the recorder of embedded runs and written to the store."""
    told = [("a", {"auc": 0.5}), ("b", {"auc": 0.6, "loss": 2.0}), ("b", {"auc": 0.7})]
    embedded = recorder.Recorder(lambda _: None, lambda _: None)
    root = fake.run(RUN)
    for order, (task, numbers) in enumerate(told):
        job = Job(task, (task,), task, {}, NOTHING, Scope(NOTHING, {}, {}), (order,))
        kind = {"schemaTitle": "system.Metrics"}
        made = {"name": "m", "uri": f"s3://b/{task}", "type": kind, "metadata": numbers}
        embedded.succeeded(task, job, Values({}, {"m": [made]}))
    loop = fake.dag(RUN, "loop", root, iteration_count=3)
    for index, (task, numbers) in enumerate(told):
        one = fake.dag(RUN, "loop", loop, iteration_index=index)
        step = fake.execution(RUN, task, one)
        fake.artifact(step, "m", "system.Metrics", f"s3://b/{task}", **numbers)
    fake.execution(RUN, "count", root, outputs={"rows": 7.0})
    plain = embedded.results(Values({"rows": 7}, {}))
    outcome = read(
        fake,
        spec(
            {"count": {"componentRef": {"name": "comp-train"}}},
            {"rows": ("count", "rows")},
            {"rows": "NUMBER_INTEGER"},
            STEP,
        ),
    )
    assert outcome.metrics == plain["metrics"]
    assert outcome.outputs == plain["outputs"]
    assert {
        name: {"path": it.uri, "type": it.type} for name, it in outcome.artifacts.items()
    } == plain["artifacts"]


# what the pipeline itself returned ---------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "stored", "expected"),
    [
        ("NUMBER_INTEGER", 3.0, 3),
        ("NUMBER_DOUBLE", 3.0, 3.0),
        ("STRING", "3", "3"),
        ("BOOLEAN", True, True),
        ("LIST", [1.0, "a", None, [2.5]], [1, "a", None, [2.5]]),
        ("STRUCT", {"a": {"b": [False]}}, {"a": {"b": [False]}}),
        ("NUMBER_DOUBLE", math.nan, "NaN"),
        ("LIST", [-math.inf], ["-Infinity"]),
        ("NUMBER_INTEGER", 2.0**60, 2.0**60),
    ],
)
def test_outputs_have_their_types(
    fake: FakeMetadata, kind: str, stored: Any, expected: Any
) -> None:
    root = fake.run(RUN)
    fake.execution(RUN, "train", root, outputs={"x": stored})
    outcome = read(fake, spec(ONE_STEP, {"out": ("train", "x")}, {"out": kind}, STEP))
    assert outcome.outputs == {"out": expected}
    assert type(outcome.outputs["out"]) is type(expected)
    assert outcome.metrics == (
        {"out": expected} if type(expected) in (int, float) else {}
    )  # true is no number
    assert bool(outcome.left_out) == (expected == "NaN")


@pytest.mark.parametrize(
    ("state", "outputs", "why"),
    [
        (FAILED, {"x": 1.0}, "task 'train' did not succeed"),
        (CANCELED, None, "task 'train' did not run"),
        (fakes.COMPLETE, {"y": 1.0}, "task 'train' gave no 'x'"),
        (fakes.COMPLETE, None, "task 'train' gave no 'x'"),
    ],
)
def test_an_output_that_is_not_there_has_a_reason(
    fake: FakeMetadata, state: int, outputs: dict[str, Any] | None, why: str
) -> None:
    root = fake.run(RUN)
    fake.execution(RUN, "train", root, state=state, outputs=outputs)
    outcome = read(fake, spec(ONE_STEP, {"out": ("train", "x")}, {}, STEP))
    assert outcome.outputs == {}
    assert outcome.left_out == [f"output 'out': {why}"]


def test_an_older_servers_tasks_go_by_their_shown_name(fake: FakeMetadata) -> None:
    root = fake.run(RUN)
    fake.execution(RUN, "Train it", root, outputs={"x": 1.0})
    tasks = {"train": {"componentRef": {"name": "comp-train"}, "taskInfo": {"name": "Train it"}}}
    assert read(fake, spec(tasks, {"out": ("train", "x")}, {}, STEP)).outputs == {"out": 1.0}


PIPELINE = """
from typing import List, NamedTuple
from kfp import dsl, compiler

@dsl.container_component
def train(x: int, model: dsl.Output[dsl.Model], auc: dsl.OutputPath(float)):
    return dsl.ContainerSpec(image="a", command=["x", x, model.path, auc])

@dsl.pipeline
def inner(x: int) -> NamedTuple("O", [("auc", float), ("model", dsl.Model)]):
    one = train(x=x)
    class O(NamedTuple):
        auc: float
        model: dsl.Model
    return O(one.outputs["auc"], one.outputs["model"])

@dsl.pipeline(name="p")
def p(a: int = 1) -> NamedTuple(
    "R", [("all", List[float]), ("either", float), ("nested", float), ("model", dsl.Model)]
):
    with dsl.ParallelFor([1, 2]) as item:
        each = train(x=item)
    with dsl.If(a == 1):
        yes = train(x=3)
    with dsl.Else():
        no = train(x=4)
    either = dsl.OneOf(yes.outputs["auc"], no.outputs["auc"])
    sub = inner(x=1)
    class R(NamedTuple):
        all: List[float]
        either: float
        nested: float
        model: dsl.Model
    return R(dsl.Collected(each.outputs["auc"]), either, sub.outputs["auc"], sub.outputs["model"])
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> ir.Ir:
    """What kfp's own compiler makes of loops, branches and nested pipelines."""
    from kfp import compiler

    folder = tmp_path_factory.mktemp("pipeline")
    source = folder / "returned.py"
    source.write_text(PIPELINE)
    names: dict[str, Any] = {"__name__": "returned"}
    exec(compile(PIPELINE, str(source), "exec", dont_inherit=True), names)
    compiler.Compiler().compile(names["p"], str(folder / "p.yaml"))
    return ir.load(Path(folder, "p.yaml"))


def as_the_drivers_write(fake: FakeMetadata, *, rounds: int = 2, branch: int = 5) -> None:
    root = fake.run(RUN)
    loop = fake.dag(RUN, "for-loop-2", root, iteration_count=2)
    for index in reversed(range(rounds)):
        one = fake.dag(RUN, "for-loop-2", loop, iteration_index=index)
        fake.execution(RUN, "train", one, outputs={"auc": 0.1 + index})
    branches = fake.dag(RUN, "condition-branches-3", root)
    for number, task in ((4, "train-2"), (5, "train-3")):
        state = RUNNING if number == branch else CANCELED
        one = fake.dag(RUN, f"condition-{number}", branches, state=state)
        if number == branch:
            fake.execution(RUN, task, one, outputs={"auc": 0.4})
    inner = fake.dag(RUN, "inner", root)
    task = fake.execution(RUN, "train", inner, outputs={"auc": 0.7})
    fake.artifact(task, "model", "system.Model", "s3://b/model")


@pytest.mark.parametrize("branch", [4, 5])
def test_loops_branches_and_nested_pipelines(
    fake: FakeMetadata, compiled: ir.Ir, branch: int
) -> None:
    as_the_drivers_write(fake, branch=branch)
    outcome = read(fake, compiled)
    assert outcome.left_out == []
    assert outcome.outputs == {"all": [0.1, 1.1], "either": 0.4, "nested": 0.7}
    assert outcome.metrics == {"either": 0.4, "nested": 0.7}
    assert outcome.artifacts["model"] == Artifact(uri="s3://b/model", type="system.Model")
    assert outcome.artifacts["train.model"].uri == "s3://b/model"


def test_a_loop_that_is_not_whole_gives_no_list(fake: FakeMetadata, compiled: ir.Ir) -> None:
    as_the_drivers_write(fake, rounds=1, branch=0)
    outcome = read(fake, compiled)
    assert sorted(outcome.outputs) == ["nested"]
    assert sorted(outcome.left_out) == [
        "output 'all': iteration 1 of 'for-loop-2' did not run",
        "output 'either': task 'condition-5' did not run",
    ]


def test_a_loop_of_a_thousand_million_rounds_is_not_counted(fake: FakeMetadata) -> None:
    root = fake.run(RUN)
    fake.dag(RUN, "train", root, iteration_count=10**12)
    outcome = read(fake, spec(ONE_STEP, {"out": ("train", "x")}, {}, STEP))
    assert outcome.left_out == ["output 'out': iteration 0 of 'train' did not run"]


def test_a_pipeline_that_holds_itself_ends(fake: FakeMetadata) -> None:
    parent = fake.run(RUN)
    for _ in range(200):
        parent = fake.dag(RUN, "train", parent)
    output = {"valueFromParameter": {"producerSubtask": "train", "outputParameterKey": "x"}}
    itself = {"comp-train": {"dag": {"tasks": ONE_STEP, "outputs": {"parameters": {"x": output}}}}}
    outcome = read(fake, spec(ONE_STEP, {"out": ("train", "x")}, {}, itself))
    assert "too many pipelines" in outcome.left_out[0]
