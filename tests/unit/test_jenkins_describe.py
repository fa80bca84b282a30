"""What a build's page in Jenkins says, and which shards need agents."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ci.cli import cli
from ci.jenkins import agents
from ci_tools import storage
from ci_tools.components import shards
from ci_tools.documents import (
    Deployed,
    Document,
    FailedImage,
    FailedService,
    Ingredients,
    Lock,
    LockedImage,
    Plan,
    PlannedComponent,
    Promotion,
    Release,
    Revision,
    Run,
    Source,
    Training,
    Upload,
    Uploads,
    Verdict,
)
from ci_tools.errors import MissingInputError
from ci_tools.jenkins import describe
from ci_tools.jenkins.describe import Known

SOURCE = Source(commit="1a2b3c4d5e6f", branch="main")


def component(name: str, state: Any = "missing", **fields: Any) -> PlannedComponent:
    return PlannedComponent(
        name=name, dockerfile="d", context=".", key="k", parents=[], templates=[], state=state,
        **fields,
    )  # fmt: skip


def plan(*components: PlannedComponent, count: int = 1) -> Plan:
    return Plan(project="p", environment="e", source=SOURCE, components=list(components),
                shards=count)  # fmt: skip


def image(status: Any = "pass", *, forced: str = "", **fields: Any) -> LockedImage:
    return LockedImage(
        repository="r", digest="d", config="c", key="k", size=1,
        verdict=Verdict(status=status, trivy="1", database=None, policy="p"),
        ingredients=Ingredients(recipe=1, dockerfile="d", files={}, platform="p", forced=forced),
        **fields,
    )  # fmt: skip


def failure(step: Any) -> FailedImage:
    return FailedImage(step=step, message="m", todo="t", exit_code=20)


def lock(failed: dict[str, FailedImage] | None = None, shard: str = "", **images: Any) -> Lock:
    return Lock(project="p", environment="e", source=SOURCE, components=images,
                failed=failed or {}, shard=shard)  # fmt: skip


def run(pipeline: str, state: Any = "SUCCEEDED", **fields: Any) -> Run:
    return Run(pipeline=pipeline, run_id="r", version_id="v", state=state, **fields)


def upload(*, created: bool) -> Upload:
    return Upload(pipeline_id="i", version_id="v", version="v", sha256="s", created=created)


def revision(service: str, *, changed: bool = True) -> Revision:
    return Revision(
        service=service, cluster="c", image="i", model=None, task_definition_sha256="s",
        task_definition=f"arn:aws:ecs:eu-west-1:1:task-definition/{service}:12", changed=changed,
    )  # fmt: skip


LOCK = lock(
    {"d": failure("build"), "e": failure("test"), "f": failure("scan"), "g": failure("parent")},
    a=image(tests="passed"), b=image("incomplete", built=False), c=image(forced="job-7"),
)  # fmt: skip
EVERY: dict[str, Document] = {
    "plan.json": plan(component("a"), component("b", "built")),
    "images.lock.json": LOCK,
    "uploads.json": Uploads(environment="e", pipelines={
        "training": upload(created=True), "batch": upload(created=False),
    }),
    "train.json": Training(environment="e", runs=[
        run("x"), run("x", test="smoke", unmet=["no"]), run("y", "FAILED"),
        run("z", unchanged=True),
    ]),
    "deploy.json": Deployed(
        environment="e", services={"a": revision("predict"), "b": revision("old", changed=False)},
        failed={"c": FailedService(service="gone", message="m", todo="t", exit_code=41)},
    ),
    "release.json": Release(name="p-1a2b3c4-77", project="p", environment="e", source=SOURCE,
                            images={}, pipelines={}, problems=["no"]),
    "promotion.json": Promotion(
        id="i", action="promote", outcome="done", environment="prod", project="p",
        release="p-1a2b3c4-77", bundle="b", commit=None, by="ann", approvals=["bob"], began="",
        ended="",
    ),
}  # fmt: skip
TOLD = [
    "images: 2 built (a, c), 1 from the registry; failed: d (build), e (test), f (scan), "
    "g (parent); forced: c",
    "tests: 1 images passed theirs; failed: e",
    "scans: 2 pass, 1 incomplete; refused: f",
    "pipelines: 1 uploaded (training), 1 unchanged",
    "training: 1 passed, 1 unchanged; failed: x/smoke, y",
    "services: predict at predict:12, old at old:12 (unchanged); failed: gone",
    "release: p-1a2b3c4-77; not to be promoted, 1 reason",
    "promotion: p-1a2b3c4-77 to prod, done, approved by bob",
]


@pytest.fixture
def project(repository: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("BUILD_NUMBER", "42")
    monkeypatch.delenv("KFP_CI_DESCRIPTION", raising=False)
    repository.write("a/Dockerfile", "FROM scratch\n")
    repository.commit()
    return repository


def described(project: Any, *arguments: str, **env: str) -> tuple[str, list[str]]:
    done = CliRunner(env=env).invoke(
        cli, ["jenkins", "describe", *arguments, "--repo", str(project.root)]
    )
    assert done.exit_code == 0, done.output
    folder = project.root / "build/jenkins"
    name, text = ((folder / f"{it}.txt").read_text() for it in ("name", "description"))
    assert done.stdout == name + text
    return name.rstrip("\n"), text.splitlines()


def test_after_all_stages(project: Any) -> None:
    for name, document in EVERY.items():
        storage.write(project.root / "build" / name, document)
    assert described(project) == ("#42 1a2b3c4", TOLD)


def test_after_a_plan_that_failed(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = project.commit()
    project.write("ci.yaml", "no: such: yaml")
    assert described(project) == (f"#42 {commit[:7]}", [])
    for number in ("", "x", "1\n2", "<b>"):
        monkeypatch.setenv("BUILD_NUMBER", number)
        assert described(project)[0] == commit[:7]


@pytest.mark.parametrize("content", ["", "{", '{"schema": 99}', "[]", "\udcff"])
def test_damaged_files_are_told_and_hide_no_other(project: Any, content: str) -> None:
    for name, document in EVERY.items():
        storage.write(project.root / "build" / name, document)
    for name in ("train.json", "images.lock.1-of-2.json"):
        project.write(f"build/{name}", content.encode(errors="surrogateescape"))
    _, told = described(project)
    assert told[0] == "damaged: images.lock.1-of-2.json, train.json"
    assert told[1:] == [line for line in TOLD if not line.startswith("training")]
    for path in (project.root / "build").glob("*.json"):
        path.unlink()
    assert described(project, "--before", "\n".join(told))[1] == told[1:]  # mended since


def test_each_stage_adds_its_line(project: Any) -> None:
    """Each on an agent of its own, with the files that it needs and no others."""
    before = ""
    for name, document in EVERY.items():
        folder = project.root / "build"
        for path in folder.glob("*.json"):
            path.unlink()
        storage.write(folder / name, document)
        _, told = described(project, KFP_CI_DESCRIPTION=before)
        before = "\n".join(told)
    assert told == TOLD


def test_shards_that_failed_are_told_until_there_is_a_lock(project: Any) -> None:
    storage.write(project.root / "build/plan.json", EVERY["plan.json"])
    for number, failed in ((1, {}), (2, {"z": failure("build")}), (10, {"y": failure("scan")})):
        part = lock(failed, f"{number}/10", a=image())
        storage.write(project.root / f"build/images.lock.{number}-of-10.json", part)
    _, told = described(project)
    assert told == [
        "plan: 1 of 2 images to build",
        "shard 2/10: failed: z (build)",
        "shard 10/10: failed: y (scan)",
    ]
    storage.write(project.root / "build/images.lock.json", LOCK)
    _, told = described(project, "--before", "\n".join(told))
    assert told == TOLD[:3]


@pytest.mark.parametrize(
    ("known", "line"),
    [
        (Known(plan=plan(component("a", forced="7"), component("b", "built"), count=2)),
         "plan: 1 of 2 images to build in 2 shards; forced: a"),
        (Known(uploads=Uploads(environment="e", pipelines={})), "pipelines: none"),
        (Known(training=Training(environment="e", runs=[])), "training: none"),
        (Known(deployed=Deployed(environment="e", services={})), "services: none"),
        (Known(uploads=Uploads(environment="e", pipelines={
            f"p{n}": upload(created=True) for n in range(8)
        })), "pipelines: 8 uploaded (p0, p1, p2, p3, p4 and 3 more)"),
    ],
)  # fmt: skip
def test_a_line(known: Known, line: str) -> None:
    assert describe.lines(known) == [line]


def test_a_commit_is_not_always_known() -> None:
    assert describe.name("7", None) == "#7 no commit"


HOSTILE = st.text(max_size=300) | st.sampled_from(
    ["<script>alert(1)</script>", "a\nimages: 9 built", "\x1b[31m", "\u202egnp", "&amp;", "x" * 999]
)
HARMLESS = re.compile(r"[^<>&\"'`\x00-\x1f]*")


@given(HOSTILE, HOSTILE, HOSTILE)
def test_hostile_names_are_harmless(one: str, other: str, before: str) -> None:
    known = Known(
        training=Training(environment="e", runs=[run(one, "FAILED"), run("p", test=other)]),
        uploads=Uploads(environment="e", pipelines={one: upload(created=True)}),
        deployed=Deployed(environment="e", services={"a": revision(other)}),
        lock=lock({one: failure("build")}, **{"a": image()}),
    )
    told = describe.lines(known, f"release: {before}\n{before}\nplan: {before}")
    assert len(told) <= 8
    for line in told:
        assert HARMLESS.fullmatch(line)
        assert line.isprintable()
        assert len(line) < 300
    assert [line.partition(":")[0] for line in told if not line.startswith("release")] == [
        "images", "scans", "pipelines", "training", "services",
    ]  # fmt: skip
    assert HARMLESS.fullmatch(describe.name("1", one or "c"))


def test_many_shards_and_a_long_text_stay_short() -> None:
    parts = [lock({"x": failure("build")}, f"{n}/64") for n in range(1, 65)]
    assert len(describe.lines(Known(shards=parts), "nothing of ours\n" * 999)) <= 12


# shards -----------------------------------------------------------------------------


def divided(*states: tuple[int, str], count: int = 4) -> Plan:
    return plan(
        *(component(f"c{n}", state, shard=shard) for n, (shard, state) in enumerate(states)),
        count=count,
    )


@pytest.mark.parametrize(
    ("states", "needed"),
    [
        ([], []),
        ([(1, "built"), (2, "built")], []),
        ([(1, "built"), (2, "missing"), (2, "missing")], []),  # one agent has all of it
        ([(1, "missing"), (3, "missing")], ["1/4", "3/4"]),
        ([(1, "missing"), (3, "missing"), (4, "built")], ["1/4", "3/4", "4/4"]),
        ([(2, "unknown"), (1, "unknown")], ["1/4", "2/4"]),
    ],
)
def test_which_shards_need_an_agent(states: list[tuple[int, str]], needed: list[str]) -> None:
    assert agents.needing(divided(*states)) == needed


def test_a_plan_that_is_not_divided_needs_none() -> None:
    assert agents.needing(plan(component("a"), component("b"))) == []


@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["built", "missing"])), max_size=8))
def test_merge_hears_of_all_that_it_waits_for(states: list[tuple[int, str]]) -> None:
    one = divided(*states)
    needed = agents.needing(one)
    if needed:
        members = [shards.members(one, (int(it.split("/")[0]), 4)) for it in needed]
        assert sum(map(len, members)) == len(one.components)
        assert all(members)


def test_shards_on_the_command_line(project: Any) -> None:
    def asked(*arguments: str) -> Any:
        return CliRunner().invoke(
            cli, ["jenkins", "shards", *arguments, "--repo", str(project.root)]
        )

    assert isinstance(asked().exception, MissingInputError)
    storage.write(project.root / "build/plan.json", divided((1, "missing"), (2, "missing")))
    assert asked().stdout == "1/4\n2/4\n"
    assert json.loads(asked("--json").stdout) == ["1/4", "2/4"]
    storage.write(project.root / "build/plan.json", divided((1, "built")))
    assert asked().stdout == ""


def test_a_dry_run_writes_nothing(project: Any) -> None:
    done = CliRunner().invoke(
        cli, ["jenkins", "describe", "--dry-run", "--repo", str(project.root)]
    )
    assert done.exit_code == 0
    assert not Path(project.root / "build").exists()
