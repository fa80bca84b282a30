"""Locks of shards joined into one, or refused."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ci import merge as stage
from ci import plan as planning
from ci.cli import cli
from ci_tools import storage
from ci_tools.components import graph, shards
from ci_tools.documents import (
    FailedImage,
    Lock,
    LockedImage,
    Plan,
    PlannedComponent,
    Source,
    Verdict,
)
from ci_tools.errors import CIError, MergeError, MissingInputError
from ci_tools.report import junit

VERDICT = Verdict(status="pass", trivy="1", database=None, policy="p")


def planned(name: str, *parents: str, built: bool = False, shard: int | None) -> PlannedComponent:
    return PlannedComponent(
        name=name, dockerfile="d", context=".", key=f"key of {name}", parents=sorted(parents),
        templates=[], state="built" if built else "missing", shard=shard, expected=1.0,
    )  # fmt: skip


def plan_of(*components: PlannedComponent, count: int = 2) -> Plan:
    return Plan(
        project="p", environment="local", source=Source(commit="c"), shards=count,
        components=list(components),
    )  # fmt: skip


def image(name: str, digest: str = "", **fields: Any) -> LockedImage:
    return LockedImage(**{
        "repository": f"r/p/{name}", "digest": digest or f"sha256:{name}", "config": "sha256:c",
        "key": f"key of {name}", "size": 1, "verdict": VERDICT, **fields,
    })  # fmt: skip


def failure(name: str, step: Any = "build", code: int = 20) -> FailedImage:
    return FailedImage(step=step, message=f"{name} broke", todo="Mend it", exit_code=code)


def lock_of(
    plan: Plan, number: int, *images: LockedImage, failed: dict[str, FailedImage] | None = None
) -> Lock:
    return Lock(
        project=plan.project, environment=plan.environment, source=plan.source,
        components={one.repository.rpartition("/")[2]: one for one in images},
        failed=failed or {}, seconds=float(number), shard=f"{number}/{plan.shards}",
        plan=planning.plan_id(plan),
    )  # fmt: skip


PLAN = plan_of(
    planned("a", shard=1), planned("b", "a", shard=1), planned("c", "base", shard=2),
    planned("base", built=True, shard=1),
)  # fmt: skip
ONE = lock_of(PLAN, 1, image("a"), image("b", parents=["a"]), image("base", built=False))
TWO = lock_of(PLAN, 2, image("c", parents=["base"]))


def changed(lock: Lock, **fields: Any) -> Lock:
    return msgspec.structs.replace(lock, **fields)


def test_the_whole_is_what_one_agent_writes() -> None:
    whole = stage.joined(PLAN, {"1": ONE, "2": TWO})
    assert whole == Lock(
        project="p", environment="local", source=Source(commit="c"), seconds=2.0, shard="",
        plan=planning.plan_id(PLAN), components={**ONE.components, **TWO.components},
    )  # fmt: skip
    assert stage.joined(PLAN, {"2": TWO, "1": ONE}) == whole


def test_what_was_built_first_is_joined_too() -> None:
    plan = plan_of(
        planned("root", shard=0), planned("a", "root", shard=1), planned("b", "root", shard=2)
    )
    first, one = lock_of(plan, 0, image("root")), lock_of(plan, 1, image("a", parents=["root"]))
    two = lock_of(plan, 2, image("b", parents=["root"]))
    whole = stage.joined(plan, {"0": first, "1": one, "2": two})
    assert set(whole.components) == {"root", "a", "b"}
    assert not whole.failed
    with pytest.raises(MissingInputError, match="no lock of shard 0/2"):
        stage.joined(plan, {"1": one, "2": two})
    broken = changed(first, components={}, failed={"root": failure("root")})
    whole = stage.joined(plan, {"0": broken, "1": one, "2": two})
    assert {name: one.step for name, one in whole.failed.items()} == {
        "root": "build", "a": "parent", "b": "parent",
    }  # fmt: skip
    with pytest.raises(MissingInputError, match="not divided"):
        stage.joined(plan_of(planned("a", shard=0), planned("b", shard=None)), {"0": first})


OTHER_DIGEST = changed(TWO, components={"c": image("c", "sha256:other")})
OTHER_KEY = changed(TWO, components={"c": image("c", key="old")})
FAILED = changed(TWO, components={}, failed={"c": failure("c")})


@pytest.mark.parametrize(
    ("locks", "error", "words"),
    [
        ([], MissingInputError, "no lock of shard 1/2, 2/2"),
        ([ONE], MissingInputError, "no lock of shard 2/2"),
        ([TWO, TWO], MissingInputError, "no lock of shard 1/2"),
        ([ONE, changed(TWO, components={})], MissingInputError, "'c' is in no lock"),
        ([ONE, changed(TWO, shard="")], MissingInputError, "not the lock of a shard"),
        ([ONE, changed(TWO, shard="two")], MissingInputError, "not the lock of a shard"),
        ([ONE, changed(TWO, shard="2/3")], MissingInputError, "of shard 2/3, not of 2 shards"),
        ([ONE, changed(TWO, shard="3/2")], MissingInputError, "of shard 3/2, not of 2 shards"),
        ([ONE, changed(TWO, project="q")], MissingInputError, "of project 'q'"),
        ([ONE, changed(TWO, environment="x")], MissingInputError, "for environment 'x'"),
        ([ONE, changed(TWO, source=Source(commit="d"))], MissingInputError, "at commit d"),
        ([ONE, changed(TWO, plan="")], MissingInputError, "with other keys"),
        ([ONE, changed(TWO, plan="0" * 64)], MissingInputError, "with other keys"),
        ([ONE, TWO, OTHER_DIGEST], MergeError, "sha256:c .*in lock 1 but sha256:other .*in lock 2"),
        ([ONE, TWO, OTHER_KEY], MergeError, "in lock 1 but .*key old.* in lock 2"),
        ([ONE, OTHER_KEY], MergeError, "its key in the plan is key of c"),
        ([ONE, TWO, FAILED], MergeError, r"but failed \(build\) in lock 2"),
        ([ONE, FAILED, changed(FAILED, failed={"c": failure("c", "scan", 22)})], MergeError,
         r"failed \(build\) in lock 1 but failed \(scan\) in lock 2"),
        ([ONE, changed(TWO, failed={"c": failure("c")})], MergeError, "but failed"),
        ([ONE, changed(TWO, components={"c": image("c"), "a": image("a")})], MergeError,
         "'a' is of shard 1/2 but in lock 1, the lock of 2/2"),
        ([ONE, changed(TWO, components={"c": image("c"), "a": image("a", "sha256:z")})],
         MergeError, "'a' is sha256:a .* but sha256:z"),
        ([ONE, changed(TWO, components={"c": image("c"), "z": image("z")})], MergeError,
         "'z', which is not in the plan"),
        ([ONE, changed(TWO, failed={"z": failure("z")})], MergeError, "not in the plan"),
    ],
)  # fmt: skip
def test_what_does_not_belong_together(locks: list[Lock], error: type[CIError], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        stage.joined(PLAN, {f"lock {n}": lock for n, lock in enumerate(locks)})
    assert type(caught.value) is error


def test_a_plan_that_is_not_divided() -> None:
    plan = plan_of(planned("a", shard=None), count=1)
    with pytest.raises(MissingInputError, match="not divided"):
        stage.joined(plan, {"1": lock_of(plan, 1, image("a"))})
    one = plan_of(planned("a", shard=1), count=1)
    assert set(stage.joined(one, {"1": lock_of(one, 1, image("a"))}).components) == {"a"}


def test_an_empty_shard_needs_no_lock_and_may_have_one() -> None:
    plan = plan_of(planned("a", shard=1), count=3)
    locks = {"1": lock_of(plan, 1, image("a"))}
    assert set(stage.joined(plan, locks).components) == {"a"}
    assert set(stage.joined(plan, {**locks, "3": lock_of(plan, 3)}).components) == {"a"}


def test_a_shard_built_again_that_agrees_is_no_contradiction() -> None:
    again = changed(TWO, components={"c": image("c", built=False, seconds=9.0)}, seconds=5.0)
    whole = stage.joined(PLAN, {"1": ONE, "2": TWO, "again": again})
    assert whole.components["c"] == TWO.components["c"]
    assert whole.seconds == 5.0


def test_failures_are_carried_over_and_what_they_left_out_is_no_error() -> None:
    one = changed(ONE, components={}, failed={"a": failure("a", "test", 21)})
    two = changed(TWO, components={}, failed={"c": failure("c", "scan", 22)})
    whole = stage.joined(PLAN, {"1": one, "2": two})
    assert whole.failed == {**one.failed, **two.failed}
    with pytest.raises(CIError, match="a broke; also failed: c") as caught:
        stage.raise_failures(whole)
    assert caught.value.exit_code == 21
    with pytest.raises(MissingInputError, match="'c' is in no lock"):
        stage.joined(PLAN, {"1": one, "2": changed(TWO, components={})})


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Plan, dict[str, tuple[str, int]]]:
    """A divided plan, and which components fail by themselves: step and code."""
    size = draw(st.integers(1, 8))
    edges = draw(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=9))
    names = "abcdefgh"
    components = [
        planned(
            names[child],
            *{names[p] for c, p in edges if c == child and p < child},
            built=draw(st.booleans()),
            shard=None,
        )
        for child in range(size)
    ]
    count = draw(st.integers(1, 4))
    assigned = shards.assign(components, count, 2)
    for component in components:
        component.shard = assigned[component.name]
    plan = plan_of(*components, count=count)
    steps = st.sampled_from([("build", 20), ("test", 21), ("scan", 22), ("push", 24)])
    return plan, draw(st.dictionaries(st.sampled_from(names[:size]), steps, max_size=3))


def built(
    plan: Plan, names: set[str], fails: dict[str, tuple[str, int]]
) -> tuple[dict[str, LockedImage], dict[str, FailedImage]]:
    """What an agent that has these components comes to, as `ci.image` words it."""
    images: dict[str, LockedImage] = {}
    failed: dict[str, FailedImage] = {}
    parents = {component.name: component.parents for component in plan.components}
    for name in graph.ordered(parents):
        lost = [parent for parent in parents[name] if parent in failed]
        if name not in names:
            continue
        if lost:
            text = ", ".join(lost)
            failed[name] = FailedImage(
                step="parent", exit_code=25, todo=f"Mend {text}",
                message=f"component '{name}' was not built because {text} failed",
            )  # fmt: skip
        elif name in fails:
            failed[name] = failure(name, *fails[name])
        else:
            images[name] = image(name, parents=parents[name])
    return images, failed


@given(worlds())
def test_shards_come_to_the_same_as_one_agent(
    world: tuple[Plan, dict[str, tuple[str, int]]],
) -> None:
    plan, fails = world
    images, failed = built(plan, {component.name for component in plan.components}, fails)
    locks = {}
    for number in range(1, plan.shards + 1):
        mine = {component.name for component in shards.members(plan, (number, plan.shards))}
        done, lost = built(plan, mine, fails)
        locks[str(number)] = lock_of(plan, number, *done.values(), failed=lost)
    whole = stage.joined(plan, locks)
    assert whole.components == images
    assert whole.failed == failed


@pytest.fixture
def project(repository: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("KFP_CI_HOME", str(tmp_path / "home"))
    repository.write("ci.yaml", "project: p\n")
    storage.write(repository.root / "build/plan.json", PLAN)
    return repository


def leave(folder: Path, lock: Lock, *, report: bool = True) -> Path:
    """A shard's lock, and its report, where a build leaves them."""
    number, count = map(int, lock.shard.split("/"))
    path = folder / shards.file_of((number, count), "images.lock.json")
    storage.write(path, lock)
    suites = []
    for name in reversed([*lock.components, *lock.failed]):
        suite = junit.Suite(f"image.{name}")
        suite.passed("build", 1.0)
        if name in lock.failed:
            suite.failed("scan", "<no> & no")
        suites.append(suite)
    if report:
        junit.write(folder / shards.report_of((number, count), "reports/images.xml"), suites)
    return path


def invoke(project: Any, *arguments: str) -> Any:
    return CliRunner().invoke(cli, ["merge", *arguments, "--repo", str(project.root)])


def written(project: Any) -> Lock:
    return storage.read(project.root / "build/images.lock.json", Lock, made_by="merge")


def suites(project: Any) -> dict[str, list[str]]:
    """Suite -> its cases, those that failed marked, in the order of the file."""
    root = ET.fromstring((project.root / "build/reports/images.xml").read_bytes())
    return {
        suite.attrib["name"]: [
            case.attrib["name"] + ("!" if case.find("failure") is not None else "")
            for case in suite
        ]
        for suite in root
    }


def test_merge_on_the_command_line(project: Any) -> None:
    for lock in (TWO, ONE):
        leave(project.root / "build", lock)
    # of an earlier plan, with other shards: not of this one
    storage.write(project.root / "build/images.lock.1-of-9.json", changed(ONE, shard="1/9"))
    done = invoke(project)
    assert done.exit_code == 0, done.output
    assert written(project) == stage.joined(PLAN, {"1": ONE, "2": TWO})
    names = [f"image.{name}" for name in ("a", "b", "base", "c")]
    assert list(suites(project).items()) == [(name, ["build"]) for name in names]
    assert "c  r/p/c@sha256:c" in done.stdout.splitlines()


def test_locks_from_elsewhere_with_their_reports(project: Any, tmp_path: Path) -> None:
    given = [str(leave(tmp_path / str(n), lock)) for n, lock in enumerate((ONE, TWO))]
    done = invoke(project, *given, "--json")
    assert done.exit_code == 0, done.output
    assert msgspec.convert(json.loads(done.stdout), Lock) == written(project)
    assert set(suites(project)) == {"image.a", "image.b", "image.base", "image.c"}


def test_a_dry_run_checks_and_writes_nothing(project: Any) -> None:
    leave(project.root / "build", ONE)
    assert isinstance(invoke(project, "--dry-run").exception, MissingInputError)
    leave(project.root / "build", TWO)
    before = sorted((project.root / "build").rglob("*"))
    done = invoke(project, "--dry-run")
    assert done.exit_code == 0
    assert done.stdout == "would write images.lock.json: 4 images\n"
    assert sorted((project.root / "build").rglob("*")) == before


def test_a_merge_of_failures_is_written_and_fails_as_build_does(project: Any) -> None:
    # base is refused by the scan: c was built on it by the other shard.
    refused = changed(
        ONE, components={"a": image("a"), "b": image("b")},
        failed={"base": failure("base", "scan", 22)},
    )  # fmt: skip
    for lock in (refused, TWO):
        leave(project.root / "build", lock)
    done = invoke(project)
    assert isinstance(done.exception, CIError)
    assert done.exception.exit_code == 22
    assert "also failed: c (parent)" in str(done.exception)
    whole = written(project)
    assert set(whole.components) == {"a", "b"}
    assert whole.failed["c"].message == "component 'c' was not built because base failed"
    assert suites(project) == {
        "image.a": ["build"], "image.b": ["build"], "image.base": ["build", "scan!"],
        "image.c": ["build!", "scan", "push"],
    }  # fmt: skip


def test_a_contradiction_writes_nothing(project: Any, tmp_path: Path) -> None:
    given = [str(leave(tmp_path / str(n), lock))
             for n, lock in enumerate((ONE, TWO, OTHER_DIGEST))]  # fmt: skip
    done = invoke(project, *given)
    assert isinstance(done.exception, MergeError)
    assert done.exception.exit_code == 26
    assert not (project.root / "build/images.lock.json").exists()


@pytest.mark.parametrize("arguments", [["no-such.json"], ["--env", "prod"]])
def test_what_is_not_there(project: Any, arguments: list[str]) -> None:
    assert isinstance(invoke(project, *arguments).exception, MissingInputError)


def test_a_report_that_is_missing_is_told_and_a_damaged_one_an_error(project: Any) -> None:
    leave(project.root / "build", ONE)
    leave(project.root / "build", TWO, report=False)
    done = invoke(project)
    assert done.exit_code == 0
    assert "the report lacks shard 2/2" in done.stderr
    assert set(suites(project)) == {"image.a", "image.b", "image.base"}
    (project.root / "build/reports/shards/images.2-of-2.xml").write_text("<testsuites>")
    assert isinstance(invoke(project).exception, MissingInputError)


def test_names_of_a_shard_s_files() -> None:
    assert shards.file_of((1, 4), "images.lock.json") == "images.lock.1-of-4.json"
    assert shards.file_of(None, "images.lock.json") == "images.lock.json"
    # Not beside the whole's: `reports/*.xml` would count its cases twice.
    assert shards.report_of((1, 4), "reports/x.xml") == "reports/shards/x.1-of-4.xml"
    assert shards.report_of(None, "reports/x.xml") == "reports/x.xml"
    assert shards.label((1, 4)) == "1/4"
