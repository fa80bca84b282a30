"""Uploads: once, named apart for branches, and never behind a schedule's back.

The real `kfp.Client`'s API classes against the fake API server; with
KFP_ENDPOINT (and KFP_NAMESPACE, KFP_TOKEN), what needs no script against a real one.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from ci_tools import config
from ci_tools.documents import Upload
from ci_tools.errors import (
    ConfigError,
    FloatingScheduleError,
    MissingInputError,
    UploadConflictError,
)
from ci_tools.kubeflow import branches, ir, names
from ci_tools.kubeflow.branches import Mark
from ci_tools.kubeflow.inventory import ServerInventory
from ci_tools.kubeflow.server import KubeflowServer
from ci_tools.kubeflow.wanted import Wanted
from tests.fakes.kubeflow import FakeKubeflow, serve

REAL = os.environ.get("KFP_ENDPOINT", "")
NAMESPACE = os.environ.get("KFP_NAMESPACE") or None
scripted = pytest.mark.skipif(bool(REAL), reason="a real server cannot be scripted")
MAIN = Mark(project="ml", origin="host/ml", pipeline="demo")
BRANCH = Mark(project="ml", origin="host/ml", pipeline="demo", branch="feature/x")


def spec(command: str = "true") -> str:
    """A pipeline that is another one for another command."""
    container = {"image": f"r/go@sha256:{'a' * 64}", "command": [command]}
    return yaml.safe_dump(
        {
            "components": {"comp-go": {"executorLabel": "exec-go"}},
            "deploymentSpec": {"executors": {"exec-go": {"container": container}}},
            "pipelineInfo": {"name": "demo", "description": "Trains."},
            "root": {
                "dag": {
                    "tasks": {
                        "go": {"componentRef": {"name": "comp-go"}, "taskInfo": {"name": "go"}}
                    }
                }
            },
            "schemaVersion": "2.1.0",
            "sdkVersion": "kfp-2.17.0",
        }
    )


class Server:
    """A client of the server under test; what it uploads is deleted at the end."""

    def __init__(self, fake: FakeKubeflow, directory: Path) -> None:
        self.fake, self.directory = fake, directory
        self.name = f"demo-{uuid.uuid4().hex[:8]}"

    def client(self, **settings: Any) -> KubeflowServer:
        given = {"endpoint": self.fake.endpoint, "namespace": NAMESPACE, **settings}
        return KubeflowServer(config.KubeflowServer(**given), patience=5)

    def wanted(self, commit: str = "c1", command: str = "true", **keywords: Any) -> Wanted:
        path = self.directory / f"{command}.yaml"
        path.write_text(spec(command))
        sha256 = ir.canonical_sha256(ir.load(path))
        version = f"{commit}{names.ending(sha256)}"
        given = {"name": self.name, "ir_path": path, "sha256": sha256, "version": version}
        return Wanted(**{**given, **keywords})

    def upload(self, commit: str = "c1", command: str = "true", **keywords: Any) -> Upload:
        settings = keywords.pop("settings", {})
        return self.client(**settings).upload(self.wanted(commit, command, **keywords))

    def posts(self) -> list[str]:
        return [request for request in self.fake.requests if request.startswith("POST")]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serve(FakeKubeflow(page_size=200)) as fake:
        if REAL:
            fake.endpoint = REAL
        one = Server(fake, tmp_path)
        yield one
        if REAL:
            inventory = one.client().inventory()
            for known in inventory.pipelines():
                if known.name.startswith(one.name):
                    inventory.delete(known)


# unchanged --------------------------------------------------------------------------


def test_an_unchanged_pipeline_is_not_uploaded_again(server: Server) -> None:
    first = server.upload("c1")
    server.fake.requests.clear()
    again = server.upload("c2")
    assert (first.created, first.unchanged) == (True, False)
    assert (again.created, again.unchanged) == (False, True)
    assert (again.version_id, again.version) == (first.version_id, first.version)
    assert server.posts() == []


def test_a_changed_pipeline_gets_a_version(server: Server) -> None:
    first, second = server.upload(command="true"), server.upload(command="false")
    assert second.created
    assert second.pipeline_id == first.pipeline_id
    assert server.upload(command="true").version_id == first.version_id


@scripted
def test_the_version_of_this_commit_comes_first_then_the_newest(server: Server) -> None:
    """Versions of one content are what builds left that looked for nothing."""
    for commit in ("c1", "c2", "c3"):
        wanted = server.wanted(commit)
        pipeline = next(iter(server.fake.pipelines), "") or server.upload(commit).pipeline_id
        if commit != "c1":
            query = {"name": wanted.version, "pipelineid": pipeline}
            server.fake.upload_version(wanted.ir_path.read_bytes(), query)
    assert server.upload("c2").version.startswith("c2-")
    assert server.upload("c9").version.startswith("c3-")
    assert server.upload("c1").version.startswith("c1-")
    assert len(server.fake.versions) == 3


@scripted
def test_however_many_versions_there_are_it_is_one_call(server: Server) -> None:
    first = server.upload("c0")
    for number in range(1, 50):
        wanted = server.wanted(f"c{number}")
        query = {"name": wanted.version, "pipelineid": first.pipeline_id}
        server.fake.upload_version(wanted.ir_path.read_bytes(), query)
    client = server.client()
    client.inventory()
    server.fake.requests.clear()
    assert client.upload(server.wanted("c0")).unchanged
    assert len(server.fake.requests) == 2


@scripted
def test_a_name_alone_proves_nothing(server: Server) -> None:
    first = server.upload("c1")
    server.fake.versions[first.version_id]["pipeline_spec"] = yaml.safe_load(spec("false"))
    with pytest.raises(UploadConflictError, match=r"c1-"):
        server.upload("c1")
    assert server.upload("c2").created


@scripted
def test_a_spec_that_the_server_cannot_read_is_not_equal(server: Server) -> None:
    first = server.upload("c1")
    server.fake.versions[first.version_id]["pipeline_spec"] = {}
    assert server.upload("c2").created


@scripted
def test_one_call_a_pipeline_and_one_for_all(server: Server) -> None:
    asked = [server.wanted(name=f"{server.name}-{number:02}") for number in range(20)]
    server.client().upload_all(asked)
    client = server.client()
    client.upload(asked[0])  # and logs in
    server.fake.requests.clear()
    done = client.upload_all(asked)
    assert [it.pipeline for it in done] == [it.name for it in asked]
    assert all(it.unchanged for it in done)
    assert len(server.fake.requests) == 20 + 1


@scripted
def test_many_names_are_asked_for_in_urls_that_proxies_take(server: Server) -> None:
    asked = [server.wanted(name=f"{'n' * 120}-{number:03}") for number in range(90)]
    client = server.client()
    assert all(it.created for it in client.upload_all(asked))
    assert all(it.unchanged for it in client.upload_all(asked))
    listings = [it for it in server.fake.requests if it.startswith("GET /apis/v2beta1/pipelines?")]
    assert len(listings) == 2 * 3
    assert max(len(it) for it in server.fake.requests) < 8 << 10


# what a version tells of itself -----------------------------------------------------


def test_display_name_description_and_tags(server: Server) -> None:
    told = {"display_name": "c1 (main)", "description": "Trains.\n\ncommit c1 + x%20 &"}
    tags = {"commit": "c1", "branch": "feature/x&=+", "url": "https://j/1?a=b&c=d"}
    first = server.upload(tags=tags, **told)
    assert first.tags == tags
    assert (first.display_name, first.description) == tuple(told.values())
    again = server.upload("c2", tags={"commit": "c2"})
    assert again.tags == tags
    known = server.client().inventory().latest(first.pipeline_id)
    assert known is not None
    assert (known.version_id, known.tags) == (first.version_id, tags)
    assert known.created.endswith("Z")


def test_tags_that_the_server_would_refuse_are_not_sent(server: Server) -> None:
    with pytest.raises(ConfigError, match="tags"):
        server.upload(tags={"commit": "x" * 64})
    assert all("healthz" in it for it in server.fake.requests)


def test_the_ir_stays_what_it_is_under_any_pipelines_name(server: Server) -> None:
    name = branches.name_of(BRANCH).replace("demo", server.name)
    uploaded = server.upload(name=name, mark=BRANCH)
    known = server.client().inventory().pipelines()
    assert [it.mark for it in known if it.pipeline_id == uploaded.pipeline_id] == [BRANCH]
    again = server.upload("c2", name=name, mark=BRANCH)
    assert again.unchanged  # so its spec is the same, although its name is not


@scripted
def test_one_bad_pipeline_of_many_and_nothing_is_changed(server: Server) -> None:
    bad = server.directory / "bad.yaml"
    bad.write_text("no: pipeline")
    with pytest.raises(MissingInputError):
        server.client().upload_all([server.wanted(), server.wanted(ir_path=bad)])
    assert all("healthz" in it for it in server.fake.requests)


@scripted
def test_pipelines_are_found_on_any_page(server: Server) -> None:
    asked = [server.wanted(name=f"{server.name}-{number}") for number in range(10)]
    client = server.client()
    client.upload_all(asked)
    server.fake.page_size = 3
    assert all(it.unchanged for it in client.upload_all(asked))
    assert len(client.inventory().pipelines()) == 10


# several builds at once -------------------------------------------------------------


def test_builds_of_one_commit_at_once(server: Server) -> None:
    client = server.client()
    client.inventory()  # logs in
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(client.upload, [server.wanted()] * 6))
    assert len({(it.pipeline_id, it.version_id) for it in done}) == 1
    assert sum(it.created for it in done) == 1


@scripted
def test_what_appears_while_we_look_is_a_success_if_it_is_equal(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = server.upload("c1")
    monkeypatch.setattr(ServerInventory, "named", lambda *_: {})  # as it was before
    late = server.upload("c1")
    assert (late.created, late.unchanged, late.version_id) == (False, False, first.version_id)
    with pytest.raises(UploadConflictError, match="another pipeline"):
        server.upload(command="false", version=first.version)


# namespaces -------------------------------------------------------------------------


@scripted
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_private_pipeline_is_found_where_the_sdk_finds_none(server: Server) -> None:
    import kfp
    from kfp_server_api.exceptions import ApiException  # type: ignore[import-untyped]

    settings = {"namespace": "team-a"}
    first = server.upload(settings=settings)
    assert server.fake.pipelines[first.pipeline_id]["namespace"] == "team-a"
    sdk = kfp.Client(host=server.fake.endpoint, namespace="team-a")
    path = str(server.wanted("c2", "false").ir_path)
    with pytest.raises(ApiException) as refused:
        sdk.upload_pipeline_version(path, "c2", pipeline_name=server.name)
    assert refused.value.status == 400
    assert server.upload("c2", "false", settings=settings).pipeline_id == first.pipeline_id


@scripted
def test_a_shared_pipeline_is_in_no_namespace(server: Server) -> None:
    shared = server.upload(settings={"namespace": "team-a", "shared": True})
    private = server.upload(settings={"namespace": "team-a"})
    assert server.fake.pipelines[shared.pipeline_id]["namespace"] == ""
    assert shared.pipeline_id != private.pipeline_id
    again = server.upload("c2", settings={"namespace": "team-b", "shared": True})
    assert (again.pipeline_id, again.unchanged) == (shared.pipeline_id, True)
    assert all("namespace=team-b" not in it for it in server.fake.requests)


@scripted
def test_the_schedules_of_a_shared_pipeline_are_in_our_namespace(server: Server) -> None:
    settings = {"namespace": "team-a", "shared": True}
    first = server.upload(settings=settings)
    server.fake.schedule("nightly", first.pipeline_id, namespace="team-a")
    with pytest.raises(FloatingScheduleError, match="nightly"):
        server.upload(command="false", settings=settings)


# schedules --------------------------------------------------------------------------


@scripted
def test_a_schedule_that_names_no_version_stops_every_upload(server: Server) -> None:
    first = server.upload()
    for number in range(250):
        server.fake.schedule(f"pinned-{number}", first.pipeline_id, first.version_id)
    server.fake.schedule("nightly", first.pipeline_id)
    server.fake.requests.clear()
    others = server.wanted(command="false", name=f"{server.name}-new")
    with pytest.raises(FloatingScheduleError, match="'nightly'") as refused:
        server.client().upload_all([others, server.wanted(command="false")])
    assert server.name in str(refused.value)
    assert refused.value.exit_code == 38
    assert server.posts() == []


@scripted
def test_a_schedule_may_float_where_the_settings_say_so(server: Server) -> None:
    first = server.upload()
    server.fake.schedule("nightly", first.pipeline_id)
    settings = {"allow_floating_schedules": True}
    assert server.upload(command="false", settings=settings).followed_by == ["nightly"]
    assert server.upload("c2", "false", settings=settings).followed_by == []


@scripted
def test_what_follows_the_latest_version_follows_a_revert(server: Server) -> None:
    first = server.upload("c1", "true")
    server.fake.schedule("nightly", first.pipeline_id)
    settings = {"allow_floating_schedules": True}
    server.upload("c2", "false", settings=settings)
    reverted = server.upload("c3", "true", settings=settings)
    assert (reverted.created, reverted.followed_by) == (True, ["nightly"])
    server.fake.requests.clear()
    assert server.upload("c4", "true", settings=settings).unchanged
    assert server.posts() == []


@scripted
def test_nothing_to_upload_asks_nobody(server: Server) -> None:
    assert server.client().upload_all([]) == []
    assert server.fake.requests == []


@scripted
def test_schedules_that_an_upload_changes_nothing_for(server: Server) -> None:
    first, other = server.upload(), server.upload(name=f"{server.name}-other")
    server.fake.schedule("pinned", first.pipeline_id, first.version_id)
    server.fake.schedule("off", first.pipeline_id, enabled=False)
    server.fake.schedule("another's", other.pipeline_id)
    server.fake.schedules.append({**server.fake.schedules[0], "pipeline_version_reference": None})
    assert server.upload(command="false").created


@scripted
def test_a_branch_may_upload_to_its_own(server: Server) -> None:
    first = server.upload(mark=BRANCH)
    server.fake.schedule("mine", first.pipeline_id)
    assert server.upload(command="false", mark=BRANCH).created


@scripted
def test_schedules_are_asked_for_only_when_a_pipeline_changes(server: Server) -> None:
    first = server.upload()
    server.fake.schedule("nightly", first.pipeline_id)
    assert server.upload("c2").unchanged
    assert not any("recurringruns" in it for it in server.fake.requests)


# branches ---------------------------------------------------------------------------


@scripted
@pytest.mark.parametrize(("first", "second"), [(MAIN, BRANCH), (BRANCH, MAIN), (None, BRANCH)])
def test_another_branchs_pipeline_is_left_alone(
    server: Server, first: Mark | None, second: Mark
) -> None:
    server.upload(mark=first)
    with pytest.raises(UploadConflictError, match=server.name):
        server.upload(command="false", mark=second)
    assert len(server.fake.versions) == 1


@scripted
def test_another_branchs_pipeline_that_appears_while_we_look(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.upload(mark=MAIN)
    monkeypatch.setattr(ServerInventory, "named", lambda *_: {})
    with pytest.raises(UploadConflictError, match=server.name):
        server.upload(mark=BRANCH)
    assert len(server.fake.versions) == 1


def test_a_pipeline_without_a_mark_is_mains(server: Server) -> None:
    """Earlier versions of this tool left none."""
    server.upload(mark=None)
    assert server.upload(command="false", mark=MAIN).created


# deleting ---------------------------------------------------------------------------


def test_a_pipeline_is_deleted_with_its_versions(server: Server) -> None:
    server.upload()
    server.upload(command="false")
    inventory = server.client().inventory()
    (known,) = [it for it in inventory.pipelines() if it.name == server.name]
    inventory.delete(known)
    assert server.name not in {it.name for it in inventory.pipelines()}
    inventory.delete(known)  # somebody else was faster


def test_one_version_is_found_by_its_content_and_deleted(server: Server) -> None:
    first, second = server.upload(command="true"), server.upload(command="false")
    inventory = server.client().inventory()
    ending = names.ending(second.sha256)
    (found,) = inventory.versions(second.pipeline_id, ending)
    assert (found.version_id, found.name) == (second.version_id, second.version)
    inventory.delete_version(second.pipeline_id, second.version_id)
    inventory.delete_version(second.pipeline_id, second.version_id)  # it is gone
    assert inventory.versions(second.pipeline_id, ending) == []
    latest = inventory.latest(first.pipeline_id)
    assert latest is not None
    assert latest.version_id == first.version_id


@scripted
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_fake_refuses_what_the_server_does(server: Server) -> None:
    import kfp
    from kfp_server_api.exceptions import ApiException

    first = server.upload()
    with pytest.raises(ApiException) as refused:
        kfp.Client(host=server.fake.endpoint, namespace="x").delete_pipeline(first.pipeline_id)
    assert refused.value.status == 400
    assert server.client().inventory().latest(first.pipeline_id) is not None
