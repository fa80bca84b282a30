"""The real `kfp.Client` against a fake API server, or a real one.

With KFP_ENDPOINT (and KFP_NAMESPACE, KFP_TOKEN) set, the tests that need no
script drive that server instead.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ci_tools import config
from ci_tools.errors import (
    ConfigError,
    CredentialsError,
    KubeflowError,
    UploadConflictError,
)
from ci_tools.kubeflow import auth, connect, ir
from ci_tools.kubeflow.server import KubeflowServer
from ci_tools.kubeflow.wanted import Wanted
from tests.fakes.kubeflow import FakeKubeflow, serve

REAL = os.environ.get("KFP_ENDPOINT", "")
scripted = pytest.mark.skipif(bool(REAL), reason="a real server cannot be scripted")

DIGEST = "sha256:" + "a" * 64


def spec(command: str = "true", platforms: bool = False) -> str:
    documents: list[dict[str, Any]] = [
        {
            "components": {"comp-go": {"executorLabel": "exec-go"}},
            "deploymentSpec": {
                "executors": {
                    "exec-go": {"container": {"image": f"r/go@{DIGEST}", "command": [command]}}
                }
            },
            "pipelineInfo": {"name": "demo"},
            "root": {
                "dag": {
                    "tasks": {
                        "go": {"componentRef": {"name": "comp-go"}, "taskInfo": {"name": "go"}}
                    }
                },
                "inputDefinitions": {
                    "parameters": {
                        "rows": {
                            "parameterType": "NUMBER_INTEGER",
                            "defaultValue": 3,
                            "isOptional": True,
                        }
                    }
                },
            },
            "schemaVersion": "2.1.0",
            "sdkVersion": "kfp-2.17.0",
        }
    ]
    if platforms:
        documents.append(
            {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {"exec-go": {}}}}}}
        )
    return yaml.safe_dump_all(documents)


@pytest.fixture
def fake() -> Iterator[FakeKubeflow]:
    with serve(FakeKubeflow(endpoint=REAL)) as served:
        if REAL:
            served.endpoint = REAL
        yield served


@pytest.fixture
def name(fake: FakeKubeflow) -> Iterator[str]:
    name = f"demo-{uuid.uuid4().hex[:8]}"
    yield name
    if REAL:
        inventory = client(fake).inventory()
        for known in inventory.pipelines():
            if known.name == name:
                inventory.delete(known)


def client(fake: FakeKubeflow, **keywords: Any) -> KubeflowServer:
    settings = config.KubeflowServer(
        endpoint=fake.endpoint,
        namespace=keywords.pop("namespace", os.environ.get("KFP_NAMESPACE")),
    )
    if token := keywords.pop("token", ""):
        keywords["credentials"] = auth.bearer(
            lambda: str(token), what="a test's token", remedy="Set KFP_TOKEN"
        )
    return KubeflowServer(settings, poll=(0.01, 0.05), patience=5, **keywords)


def upload(
    kubeflow: KubeflowServer, path: Path, name: str, version: str = "v1", text: str | None = None
) -> Any:
    path = path / "demo.yaml"
    path.write_text(text or spec())
    return kubeflow.upload(
        Wanted(name, path, ir.canonical_sha256(ir.load(path)), version, "from a test")
    )


def launch(kubeflow: KubeflowServer, tmp_path: Path, name: str, **keywords: Any) -> Any:
    uploaded = upload(kubeflow, tmp_path, name)
    keywords = {"parameters": {}, "timeout": 30, **keywords}
    return kubeflow.launch(
        name, uploaded, job_name="a job", log=tmp_path / "logs" / "run.log", **keywords
    )


def watched(fake: FakeKubeflow) -> None:
    """Returns when a client is waiting for its run."""
    for _ in range(20_000):
        if any("GET /apis/v2beta1/runs/" in request for request in list(fake.requests)):
            return
        time.sleep(0.005)


# upload ---------------------------------------------------------------------------


@pytest.mark.parametrize("platforms", [False, True])
def test_a_second_upload_changes_nothing(
    fake: FakeKubeflow, tmp_path: Path, name: str, platforms: bool
) -> None:
    text = spec(platforms=platforms)
    first = upload(client(fake), tmp_path, name, text=text)
    again = upload(client(fake), tmp_path, name, text="# another layout\n" + text)
    assert first.created
    assert not again.created
    assert (again.pipeline_id, again.version_id) == (first.pipeline_id, first.version_id)


def test_another_spec_under_the_same_version_is_a_conflict(
    fake: FakeKubeflow, tmp_path: Path, name: str
) -> None:
    upload(client(fake), tmp_path, name)
    with pytest.raises(UploadConflictError, match="'v1'"):
        upload(client(fake), tmp_path, name, text=spec("false"))


def test_the_version_is_found_on_any_page(fake: FakeKubeflow, tmp_path: Path, name: str) -> None:
    kubeflow = client(fake)
    versions = [upload(kubeflow, tmp_path, name, f"v{number}") for number in range(5)]
    assert len({it.pipeline_id for it in versions}) == 1
    assert [upload(kubeflow, tmp_path, name, f"v{number}").version_id for number in range(5)] == [
        it.version_id for it in versions
    ]


def test_a_file_that_changed_since_it_was_compiled(
    fake: FakeKubeflow, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "demo.yaml"
    path.write_text(spec())
    with pytest.raises(KubeflowError, match="changed since"):
        client(fake).upload(Wanted(name, path, "0" * 64, "v1"))


@scripted
def test_a_pipeline_has_no_version_but_ours(fake: FakeKubeflow, tmp_path: Path, name: str) -> None:
    upload(client(fake), tmp_path, name)
    assert [it["name"] for it in fake.versions.values()] == ["v1"]


@scripted
def test_namespaces_are_kept_apart(fake: FakeKubeflow, tmp_path: Path, name: str) -> None:
    one = upload(client(fake, namespace="team-a"), tmp_path, name)
    two = upload(client(fake, namespace="team-b"), tmp_path, name, text=spec("false"))
    assert one.pipeline_id != two.pipeline_id
    again = upload(client(fake, namespace="team-a"), tmp_path, name)
    assert (again.pipeline_id, again.created) == (one.pipeline_id, False)


# runs -----------------------------------------------------------------------------


@scripted
@pytest.mark.parametrize(
    "states",
    [
        ["PENDING", "RUNNING", "SUCCEEDED"],
        ["RUNNING", "FAILED"],
        ["RUNNING", "CANCELING", "CANCELED"],
        ["PAUSED", "RUNTIME_STATE_UNSPECIFIED", "SKIPPED"],
    ],
)
def test_every_end_is_an_end(
    fake: FakeKubeflow, tmp_path: Path, name: str, states: list[str]
) -> None:
    fake.states = states
    run = launch(client(fake), tmp_path, name)
    assert run.state == states[-1]
    assert run.run_id in run.url
    log = (tmp_path / "logs" / "run.log").read_text()
    assert all(state in log for state in states)


@scripted
@pytest.mark.parametrize("state", ["RUNNING", "PAUSED", "PENDING"])
def test_a_run_that_does_not_end_is_terminated(
    fake: FakeKubeflow, tmp_path: Path, name: str, state: str
) -> None:
    fake.states = [state]
    run = launch(client(fake), tmp_path, name, timeout=0.2)
    assert (run.state, run.message) == ("TIMEOUT", "cancelled after 0 seconds")
    assert fake.run(run.run_id)["state"] == "CANCELED"


@scripted
def test_failed_run_says_which_task(fake: FakeKubeflow, tmp_path: Path, name: str) -> None:
    fake.states = ["FAILED"]
    fake.task_details = [
        {"display_name": "go", "state": "FAILED", "error": {"message": "exit code 3"}},
        {"display_name": "prepare", "state": "SUCCEEDED"},
    ]
    run = launch(client(fake), tmp_path, name)
    assert run.state == "FAILED"
    assert run.message.splitlines()[0] == "task 'go' failed: exit code 3"
    assert "there is no log" in run.message  # the fake has neither store nor pods


@scripted
def test_a_run_is_of_the_uploaded_version_not_the_latest(
    fake: FakeKubeflow, tmp_path: Path, name: str
) -> None:
    kubeflow = client(fake)
    first = upload(kubeflow, tmp_path, name)
    upload(kubeflow, tmp_path, name, "v2", spec("false"))
    run = kubeflow.launch(
        name,
        first,
        parameters={"rows": "7"},
        job_name="j",
        timeout=30,
        log=tmp_path / "run.log",
    )
    sent = fake.runs[run.run_id]
    assert sent["pipeline_version_reference"]["pipeline_version_id"] == first.version_id
    assert sent["runtime_config"] == {"parameters": {"rows": 7}}
    assert run.parameters == {"rows": 7}


@scripted
def test_a_version_that_was_swapped_is_not_run(
    fake: FakeKubeflow, tmp_path: Path, name: str
) -> None:
    kubeflow = client(fake)
    uploaded = upload(kubeflow, tmp_path, name)
    fake.versions[uploaded.version_id]["pipeline_spec"]["components"] = {}
    with pytest.raises(KubeflowError, match="not what was uploaded"):
        kubeflow.launch(name, uploaded, parameters={}, job_name="j", timeout=5, log=tmp_path / "l")
    assert fake.runs == {}


@scripted
def test_experiment_is_made_once(fake: FakeKubeflow, tmp_path: Path, name: str) -> None:
    launch(client(fake), tmp_path, name)
    launch(client(fake), tmp_path, name)
    assert [it["display_name"] for it in fake.experiments.values()] == ["ci"]


def test_wrong_parameter_starts_nothing(fake: FakeKubeflow, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'rows'"):
        launch(client(fake), tmp_path, name, parameters={"row": 1})
    assert fake.runs == {}


@scripted
def test_interrupt_terminates_the_run(
    fake: FakeKubeflow, tmp_path: Path, name: str, uncollected: None
) -> None:
    fake.states = ["RUNNING"]
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        watched(fake)
        signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        launch(client(fake), tmp_path, name)
    (run_id,) = fake.runs
    assert fake.run(run_id)["state"] == "CANCELING"


# when it does not answer ------------------------------------------------------------


@scripted
def test_a_server_that_is_away_for_a_moment(fake: FakeKubeflow, tmp_path: Path, name: str) -> None:
    kubeflow = client(fake)
    upload(kubeflow, tmp_path, name)
    fake.failing = 2
    assert not upload(kubeflow, tmp_path, name).created


def test_nobody_there(tmp_path: Path, name: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(KubeflowError, match="does not answer"):
        upload(client(FakeKubeflow(endpoint=endpoint)), tmp_path, name)


@scripted
def test_token_is_sent_and_missing_one_is_named(
    fake: FakeKubeflow, tmp_path: Path, name: str
) -> None:
    fake.token = "secret-word"
    assert upload(client(fake, token="secret-word"), tmp_path, name).created
    with pytest.raises(CredentialsError, match="KFP_TOKEN") as caught:
        upload(client(fake, token="wrong-word"), tmp_path, name)
    assert "wrong-word" not in str(caught.value)


@scripted
def test_login_page_is_not_an_answer(fake: FakeKubeflow, tmp_path: Path, name: str) -> None:
    fake.login = True
    with pytest.raises(CredentialsError, match="login"):
        upload(client(fake), tmp_path, name)


@scripted
def test_session_that_ends_while_we_wait(fake: FakeKubeflow, tmp_path: Path, name: str) -> None:
    kubeflow = client(fake)
    uploaded = upload(kubeflow, tmp_path, name)
    fake.states = ["RUNNING"]

    def expire() -> None:
        watched(fake)
        fake.login = True

    threading.Thread(target=expire, daemon=True).start()
    with pytest.raises(CredentialsError, match="may still go on"):
        kubeflow.launch(name, uploaded, parameters={}, job_name="j", timeout=30, log=tmp_path / "l")


@scripted
def test_forbidden_namespace(fake: FakeKubeflow, tmp_path: Path, name: str) -> None:
    fake.forbidden = {"theirs"}
    with pytest.raises(CredentialsError, match="namespace 'theirs'"):
        upload(client(fake, namespace="theirs"), tmp_path, name)


@scripted
def test_the_fake_says_that_it_is_one(fake: FakeKubeflow) -> None:
    import urllib.request

    with urllib.request.urlopen(f"{fake.endpoint}/apis/v2beta1/healthz") as answer:
        assert b"fake" in answer.read()


def test_context_of_another_build_is_not_read(
    fake: FakeKubeflow, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """~/.config/kfp/context.json holds a namespace that nobody named here."""
    import kfp.client.client

    context = tmp_path / "context.json"
    context.write_text('{"namespace": "left-over"}')
    monkeypatch.setattr(kfp.client.client.Client, "_LOCAL_KFP_CONTEXT", str(context))
    upload(client(fake), tmp_path, name)
    assert all("left-over" not in request for request in fake.requests)


def test_connect_chooses(tmp_path: Path) -> None:
    assert type(connect(config.Environment(), tmp_path)).__name__ == "EmbeddedKubeflow"
    server = config.KubeflowServer(endpoint="http://127.0.0.1:1")
    assert isinstance(connect(config.Environment(kubeflow=server), tmp_path), KubeflowServer)
    with pytest.raises(ConfigError, match="ca_bundle"):
        connect(
            config.Environment(
                kubeflow=config.KubeflowServer(endpoint="https://x", ca_bundle="/no/such.pem")
            ),
            tmp_path,
        )
