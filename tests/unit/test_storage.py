"""Documents on disk: whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_tools import documents, storage
from ci_tools.documents import Document, Plan, Source
from ci_tools.errors import MissingInputError, WriteError

VERDICT = documents.Verdict(status="pass", trivy="1", database=None, policy="p", counts={"HIGH": 1})
IMAGE = documents.LockedImage(
    repository="h/x", digest="sha256:1", config="sha256:2", key="k", size=1, verdict=VERDICT
)
RUN = documents.Run(
    pipeline="p", run_id="r", version_id="v", state="SUCCEEDED", metrics={"a": 0.1},
    outputs={"x": [1, {"y": None}]}, artifacts={"m": documents.Artifact(uri="file:///m")},
)  # fmt: skip
REVISION = documents.Revision(
    service="s", cluster="c", image="i", model=documents.Model(uri="u", sha256="h"),
    task_definition="arn", task_definition_sha256="h", changed=True, smoke={"q": {"a": 1.5}},
)  # fmt: skip
FINDING = documents.Finding(kind="secret", id="aws-key", severity="CRITICAL", target="/é", line=3)
EXAMPLES: list[Document] = [
    Plan(project="p", environment="local", source=Source(commit="c"), components=[
        documents.PlannedComponent(name="é", dockerfile="d", context=".", key="k", parents=["x"],
                                   templates=[], bases={"python": None})]),
    documents.Lock(project="p", environment="e", source=Source(), components={"a": IMAGE}, failed={
        "b": documents.FailedImage(step="build", message="m", todo="t", exit_code=20)}),
    documents.Pins(templates={"a.yaml": "h/x@sha256:1"}),
    documents.ScanRecord(
        image="sha256:2", trivy="1", matched="2", kinds=["secret"], database=None,
        layers=[documents.Layer(diff_id="sha256:3", created_by="RUN é")], findings=[FINDING]),
    documents.ScanReport(
        project="p", environment="e", source=Source(), created="2026-01-01T00:00:00+00:00",
        trivy="1", database="2026-01-01T00:00:00Z", policy="h", images=[documents.ScannedImage(
            component="a", verdict=VERDICT, lines={"sha256:3": 4}, bases={"sha256:4": "python"},
            findings=[documents.Judged(finding=FINDING, standing="counts")])],
        waivers=[documents.WaiverNote(problem="expired", id="CVE-1")]),
    documents.LintReport(remarks=[documents.Remark(
        dockerfile="é/Dockerfile", line=1, code="DL3006", level="error", message="m", gates=True)]),
    documents.Compiled(pipelines={"p": documents.CompiledPipeline(
        path="p.yaml", source="p.py", function="f", sha256="h", images=["i"], components=["a"],
        parameters={"x": 1, "y": None})}),
    documents.Uploads(environment="e", pipelines={"p": documents.Upload(
        pipeline_id="1", version_id="2", version="v", sha256="h", created=True)}),
    documents.Training(environment="e", runs=[RUN]),
    documents.Passed(run=RUN, created="2026-01-01T00:00:00+00:00"),
    documents.Baseline(environment="e", pipeline="p", test="t", run_id="r", sha256="h",
                       created="2026-01-01T00:00:00+00:00", metrics={"a": 0.1}),
    documents.Deployed(environment="e", services={"s": REVISION}),
    documents.Release(
        name="n", project="p", environment="e", source=Source(), runs=[RUN],
        images={"a": documents.ReleasedImage(
            reference="r", digest="d", key="k", verdict=VERDICT, tests="none")},
        pipelines={"p": documents.ReleasedPipeline(
            sha256="h", file="pipelines/p.yaml", components=["a"])}),
    documents.Promotion(
        id="i", action="promote", outcome="done", environment="e", project="p", release="r",
        bundle="sha256:1", commit=None, by="é", approvals=["a"], began="b", ended="e",
        services={"s": REVISION}, steps=["images"]),
    documents.Journal(
        id="i", action="rollback", environment="e", project="p", release="r", bundle="sha256:1",
        commit="c", previous="", by="b", approvals=[], began="b", steps=[
            documents.JournalStep(kind="service", name="s", before={"x": None})]),
]  # fmt: skip


def test_there_is_an_example_of_every_document() -> None:
    declared = {
        kind
        for kind in Document.__subclasses__()
        if kind.__module__.startswith(f"{documents.__name__}.")
    }
    assert {type(example) for example in EXAMPLES} == declared


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_what_is_written_is_read(tmp_path: Path, example: Document) -> None:
    path = tmp_path / "deep" / "x.json"
    storage.write(path, example)
    assert storage.read(path, type(example), made_by="plan") == example
    assert [p.name for p in path.parent.iterdir()] == ["x.json"]
    assert path.stat().st_mode & 0o777 == 0o644


@given(st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=5))
def test_equal_documents_are_equal_bytes(templates: dict[str, str]) -> None:
    reversed_ = dict(reversed(templates.items()))
    one, other = (storage.encode(documents.Pins(templates=t)) for t in (templates, reversed_))
    assert one == other
    assert msgspec.json.decode(one)["templates"] == templates


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is damaged"),
        (b"{", "is damaged"),
        (b"\xff", "is damaged"),
        (b"[]", "is damaged"),
        (b'{"schema": 1, "templates": {"a": "\xff"}}', "is damaged"),
        (b'{"schema": 1, "more": ' + b"[" * 100_000, "is damaged"),
        (b"{}", "is damaged"),
        (b'{"schema": 1}', "is damaged"),
        (b'{"schema": 1, "templates": {}, "more": 1}', "is damaged"),
        (b'{"schema": 0, "templates": {}}', "schema version 0, this tool reads 1"),
        (b'{"schema": 2, "templates": {}, "more": 1}', "schema version 2, this tool reads 1"),
    ],
)
def test_what_cannot_be_trusted_names_the_stage_to_run(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "pins.json"
    path.write_bytes(content)
    with pytest.raises(MissingInputError) as caught:
        storage.read(path, documents.Pins, made_by="pin")
    assert said in caught.value.what
    assert caught.value.todo == "Run 'python -m ci pin' to make it"
    with pytest.raises(MissingInputError):
        storage.read_if_there(path, documents.Pins, made_by="pin")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"No such file.*python -m ci pin"):
        storage.read(tmp_path / "x", documents.Pins, made_by="pin")
    assert storage.read_if_there(tmp_path / "x", documents.Pins, made_by="pin") is None


@pytest.mark.parametrize("error", [OSError(errno.EIO, "I/O error"), KeyboardInterrupt()])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: BaseException
) -> None:
    def fail(*_: Any) -> None:
        raise error

    path = tmp_path / "x"
    storage.write_bytes(path, b"old")
    monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), fail)
    with pytest.raises(WriteError if isinstance(error, OSError) else KeyboardInterrupt):
        storage.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_full_disk(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        storage.write_bytes(disk / "x", b"old")
        with pytest.raises(WriteError, match=r"No space left on device.*Free some disk space"):
            storage.write_bytes(disk / "x", b"n" * 200_000)
        assert (disk / "x").read_bytes() == b"old"
        assert [p.name for p in disk.iterdir()] == ["x"]
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_directory_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "file").touch()
    for path in (tmp_path / "x", tmp_path / "file" / "y"):
        with pytest.raises(WriteError):
            storage.write_bytes(path, b"")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "x"]
