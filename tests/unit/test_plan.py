"""What a plan says beside the keys: expected times, shards, its identity."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner

from ci import build, dividing, forecast
from ci import plan as stage
from ci import run as whole
from ci.cli import cli
from ci.workspace import Workspace
from ci_tools import durations, storage
from ci_tools.components import scaling, shards
from ci_tools.documents import Lock, LockedImage, Plan, PlannedComponent, Source, Verdict
from ci_tools.errors import USAGE_EXIT_CODE, MissingInputError

VERDICT = Verdict(status="pass", trivy="1", database=None, policy="p")


def lock(path: Path, project: str = "ml", **seconds: float) -> Path:
    images = {
        name: LockedImage(
            repository="r", digest="sha256:1", config="sha256:2", key="k", size=1,
            verdict=VERDICT, timings={"build": took / 2, "scan": took / 2},
        )
        for name, took in seconds.items()
    }  # fmt: skip
    written = Lock(project=project, environment="local", source=Source(), components=images)
    storage.write(path, written)
    return path


@pytest.fixture
def project(repository: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("KFP_CI_HOME", str(tmp_path / "home"))
    repository.write(
        "ci.yaml", "project: ml\nbuild: {jobs: 1, agent_seconds: 1}\n"
        "environments: {dev: {registry: {host: registry.example.com}}}\n",
    )  # fmt: skip
    repository.write("base/Dockerfile", "FROM scratch\n")
    repository.write("train/Dockerfile", "FROM ml/base\n")
    for name in ("x", "y", "z"):
        repository.write(f"{name}/Dockerfile", f"FROM scratch\nLABEL a={name}\n")
    return repository


def workspace(project: Any, *, dry_run: bool = True, env: str = "local") -> Workspace:
    root = project.root
    return Workspace(
        repository=root, build=root / "build", dry_run=dry_run, environment_name=env
    )  # fmt: skip


def seconds(plan: Plan) -> dict[str, float]:
    return {component.name: component.expected for component in plan.components}


def test_what_is_expected_comes_from_the_nearest_that_knows(project: Any, tmp_path: Path) -> None:
    here = workspace(project)
    assert set(seconds(stage.plan(here)).values()) == {durations.DEFAULT_SECONDS}
    given = [lock(tmp_path / "1", x=1.0), lock(tmp_path / "2", x=2.0, y=2.0)]
    lock(here.build / "images.lock.json", x=3.0, y=3.0, z=3.0)
    recorded = lock(tmp_path / "3", x=4.0, y=4.0, z=4.0, base=40.0)
    durations.record(here.home, storage.read(recorded, Lock, made_by="build"))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert seconds(stage.plan(here, timings=given)) == {
        "x": 1.0, "y": 2.0, "z": 3.0, "base": 40.0, "train": 2.5,
    }  # fmt: skip
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_damaged_lock_costs_an_estimate_and_one_that_was_named_an_error(project: Any) -> None:
    here = workspace(project)
    damaged = here.build / "images.lock.json"
    storage.write_bytes(damaged, b"{")
    assert set(seconds(stage.plan(here)).values()) == {durations.DEFAULT_SECONDS}
    with pytest.raises(MissingInputError, match="damaged"):
        stage.plan(here, timings=[damaged])


def test_what_is_built_takes_no_time_and_binds_nobody(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("ci.yaml", "{project: ml, environments: {local: {registry: {host: '127.0.0.1:1'}"
                  ", service: {cluster: c, region: r}}}}")  # fmt: skip

    def ask(_registry: object, planned: Sequence[PlannedComponent]) -> None:
        for component in planned:
            component.state = "built" if component.name in ("base", "y") else "missing"

    monkeypatch.setattr(stage, "ask", ask)
    here = workspace(project, dry_run=False)
    lock(here.build / "images.lock.json", base=50.0, x=5.0, y=9.0, z=2.0, train=7.0)
    plan = stage.plan(here, drift=False, division=dividing.Division(2), jobs=1)
    assert seconds(plan) == {"base": 0.0, "x": 5.0, "y": 0.0, "z": 2.0, "train": 7.0}
    shard = {component.name: component.shard for component in plan.components}
    assert plan.shards == 2
    assert shard["train"] == 1
    assert shard["x"] == shard["z"] == 2
    assert {shard["base"], shard["y"]} == {1, 2}
    assert storage.read(here.build / stage.FILE, Plan, made_by="plan") == plan
    assert forecast.summary(plan, 1) == "3 to build, about 7 s in 2 shards"


def test_without_the_option_nothing_is_divided(project: Any) -> None:
    plan = stage.plan(workspace(project))
    assert plan.shards == 1
    assert {component.shard for component in plan.components} == {None}
    one = stage.plan(workspace(project), division=dividing.Division(1))
    assert {component.shard for component in one.components} == {1}
    auto = stage.plan(workspace(project, env="dev"), division=dividing.Division(None, most=8))
    assert auto.shards == 3  # base and train; two of the others; the third


def test_what_other_agents_do_not_reach_is_not_divided_unasked(
    project: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = stage.plan(workspace(project), division=dividing.Division(None))
    assert plan.shards == 1
    assert {component.shard for component in plan.components} == {1}
    assert shards.needed(plan) == []
    assert (
        "'local' is on this machine, where other agents do not reach it" in capsys.readouterr().err
    )
    plan = stage.plan(workspace(project), division=dividing.Division(2))
    assert plan.shards == 2
    assert "can be built on this machine only" in capsys.readouterr().err
    stage.plan(workspace(project, env="dev"), division=dividing.Division(2))
    assert "on this machine" not in capsys.readouterr().err


def test_an_agent_that_is_long_to_be_ready_is_not_asked_for(project: Any) -> None:
    project.write("ci.yaml", "{project: ml, build: {jobs: 1, agent_seconds: 3600}, "
                  "environments: {dev: {registry: {host: registry.example.com}}}}")  # fmt: skip
    plan = stage.plan(workspace(project, env="dev"), division=dividing.Division(None))
    assert plan.shards == 1
    assert stage.lines(plan, 1, dividing.costs(workspace(project)))[-2] == (
        "1 shard: at most 5 min expected on one agent, and another is ready after 1 h; "
        "critical path 2 min"
    )


def test_nothing_to_build_needs_no_agent(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(_registry: object, planned: Sequence[PlannedComponent]) -> None:
        for component in planned:
            component.state = "built"

    monkeypatch.setattr(stage, "ask", ask)
    here = workspace(project, dry_run=False, env="dev")
    plan = stage.plan(here, drift=False, division=dividing.Division(None, first=True))
    assert plan.shards == 1
    assert shards.needed(plan) == []
    assert stage.lines(plan, 1, dividing.costs(here))[-1] == "nothing needs building"
    assert not any("expected" in line for line in stage.lines(plan, 1, dividing.costs(here)))


def test_a_parent_of_much_is_built_first(project: Any) -> None:
    for name in "abcdefgh":
        project.write(f"{name}/Dockerfile", f"FROM ml/base\nLABEL a={name}\n")
    here = workspace(project, env="dev")
    bound = stage.plan(here, division=dividing.Division(None))
    free = stage.plan(here, division=dividing.Division(None, first=True))
    assert {component.shard for component in bound.components} == {1, 2}
    assert {one.name for one in free.components if one.shard == 0} == {"base"}
    assert free.shards > 2
    assert {one.shard for one in free.components} == set(range(free.shards + 1))
    storage.write(here.build / stage.FILE, free)
    assert build.first(here) == (0, free.shards)
    storage.write(here.build / stage.FILE, bound)
    assert build.first(here) is None


def planned(name: str, *parents: str, **fields: Any) -> PlannedComponent:
    return PlannedComponent(**{
        "name": name, "dockerfile": "d", "context": ".", "key": f"key of {name}",
        "parents": list(parents), "templates": [], "state": "missing", **fields,
    })  # fmt: skip


def plan_of(*components: PlannedComponent, **fields: Any) -> Plan:
    return Plan(**{
        "project": "p", "environment": "e", "source": Source(commit="c"),
        "components": list(components), **fields,
    })  # fmt: skip


def test_a_plan_is_identified_by_what_it_is_of() -> None:
    one = plan_of(planned("a"), planned("b"))
    same = plan_of(
        planned("b", state="built", digest="sha256:1", expected=9.0, shard=2),
        planned("a", shard=1),
        shards=2, source=Source(commit="c", branch="main"),
    )  # fmt: skip
    assert stage.plan_id(one) == stage.plan_id(same)
    assert len(stage.plan_id(one)) == 64
    others = [
        plan_of(planned("a"), planned("b"), project="q"),
        plan_of(planned("a"), planned("b"), environment="prod"),
        plan_of(planned("a"), planned("b"), source=Source(commit="d")),
        plan_of(planned("a"), planned("b"), source=Source()),
        plan_of(planned("a"), planned("b", key="other")),
        plan_of(planned("a")),
        plan_of(planned("a"), planned("b"), planned("c")),
    ]
    assert len({stage.plan_id(plan) for plan in [one, *others]}) == len(others) + 1


def test_a_plan_in_words() -> None:
    plan = plan_of(
        planned("base", state="built", shard=3),
        planned("a", "base", expected=60.0, shard=1),
        planned("b", "a", expected=40.0, shard=1),
        planned("c", "base", expected=20.0, shard=2),
        planned("d", expected=20.0, shard=2),
        shards=4,
    )
    assert forecast.summary(plan, 2) == ("4 to build, about 1 min 40 s in 4 shards with 2 at once")
    assert forecast.shard_lines(plan, 2) == [
        "shard 1/4: 2 to build, about 1 min 40 s with 2 at once: a, b",
        "shard 2/4: 2 to build, about 20 s with 2 at once: c, d",
        "shard 3/4: 1 already built",
        "shard 4/4: empty",
        "1 shard too many: --shards 3 would do",
    ]
    one = plan_of(planned("a", expected=100.0), planned("b", state="built"))
    assert forecast.division(plan, 2, scaling.Costs(agent=60.0, merge=5.0)) == [
        "4 shards: 2 min 45 s expected on 3 agents, 1 min 40 s on one; critical path 1 min 40 s"
    ]
    first = plan_of(
        planned("base", expected=30.0, shard=0),
        planned("a", "base", expected=60.0, shard=1),
        planned("b", "base", expected=40.0, shard=2),
        shards=2,
    )
    assert forecast.summary(first, 1) == "3 to build, about 1 min 30 s in 2 shards"
    assert forecast.shard_lines(first, 1) == [
        "shard 0/2, first: 1 to build, about 30 s: base",
        "shard 1/2: 1 to build, about 1 min: a",
        "shard 2/2: 1 to build, about 40 s: b",
    ]
    assert forecast.division(first, 1, scaling.Costs(agent=10.0, merge=5.0)) == [
        "2 shards: 1 min 45 s expected on 2 agents, 2 min 10 s on one; critical path 1 min 30 s"
    ]
    assert forecast.division(one, 8, scaling.Costs()) == []
    assert forecast.summary(one, 8) == "1 to build, about 1 min 40 s"
    assert forecast.shard_lines(one, 8) == []
    assert forecast.summary(plan_of(planned("b", state="built")), 8) == "nothing needs building"
    unknown = plan_of(planned("a", expected=1.0, state="unknown"))
    assert forecast.summary(unknown, 1) == "at most 1 to build, about 1 s"


@pytest.mark.parametrize(
    ("amount", "words"),
    [(0.0, "1 s"), (0.2, "1 s"), (59.0, "59 s"), (59.2, "1 min"), (60.0, "1 min"),
     (100.0, "1 min 40 s"), (3599.5, "1 h"), (3600.0, "1 h"), (3601.0, "1 h 1 min"),
     (7500.0, "2 h 5 min"), (30.0000001, "30 s")],
)  # fmt: skip
def test_seconds_in_words(amount: float, words: str) -> None:
    assert forecast.spoken(amount) == words


def invoke(project: Any, *arguments: str) -> Any:
    return CliRunner().invoke(cli, [*arguments, "--repo", str(project.root)])


def test_shards_and_timings_on_the_command_line(project: Any, tmp_path: Path) -> None:
    given = str(lock(tmp_path / "1", base=10.0, train=20.0, x=30.0, y=30.0, z=30.0))
    done = invoke(project, "plan", "--dry-run", "--shards", "auto", "--max-shards", "3", "--json",
                  "--timings", given, "--env", "dev")  # fmt: skip
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["shards"], told["environment"]) == (2, "dev")
    assert {one["name"]: one["expected"] for one in told["components"]}["train"] == 20.0
    done = invoke(project, "plan", "--dry-run", "--shards", "4", "-j", "2", "--timings", given)
    assert done.stdout.splitlines()[-1] == (
        "at most 5 to build, about 30 s in 4 shards with 2 at once"
    )
    assert sum(line.startswith("shard ") for line in done.stdout.splitlines()) == 4


@pytest.mark.parametrize(("value", "most"), [("2", 2), ("1", 1), ("", 3), (" 2 ", 2)])
def test_the_environment_says_how_many_agents_there_are(
    project: Any, monkeypatch: pytest.MonkeyPatch, value: str, most: int
) -> None:
    monkeypatch.setenv("KFP_CI_MAX_SHARDS", value)
    plan = ["plan", "--dry-run", "--shards", "auto", "--env", "dev", "--json"]
    done = invoke(project, *plan)
    assert json.loads(done.stdout)["shards"] == most
    assert json.loads(invoke(project, *plan, "--max-shards", "1").stdout)["shards"] == 1


@pytest.mark.parametrize("value", ["0", "257", "many", "2; touch x", "$(id)", "-1", "1e1"])
def test_what_is_no_number_of_agents(
    project: Any, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("KFP_CI_MAX_SHARDS", value)
    done = invoke(project, "plan", "--dry-run", "--shards", "auto", "--env", "dev")
    assert done.exit_code == USAGE_EXIT_CODE
    assert "--max-shards" in done.output


@pytest.mark.parametrize("value", ["0", "-1", "257", "x", "", "1.5", "²"])
def test_what_is_no_number_of_shards(project: Any, value: str) -> None:
    done = invoke(project, "plan", "--dry-run", f"--shards={value}")
    assert done.exit_code == USAGE_EXIT_CODE
    assert "neither a number of 1 to 256 nor auto" in done.output


def taken(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `build` is called with from now on."""
    calls: list[dict[str, Any]] = []

    def called(_workspace: Workspace, **options: Any) -> Lock:
        calls.append(options)
        return Lock(project="p", environment="e", source=Source(), components={})

    monkeypatch.setattr(build, "build", called)
    return calls


def test_build_is_told_its_shard(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = taken(monkeypatch)
    assert invoke(project, "build", "--shard", "2/4", "--fail-fast", "-j", "3").exit_code == 0
    (call,) = calls
    assert call == {
        "jobs": 3, "fail_fast": True, "quarantine": False, "shard": (2, 4), "planned_by": None,
    }  # fmt: skip
    assert invoke(project, "build").exit_code == 0
    assert not {value for value in calls[1].values() if value}
    assert invoke(project, "build", "--shard", "0/4").exit_code == 0
    assert calls[2]["shard"] == (0, 4)


def test_build_first(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = taken(monkeypatch)
    assert isinstance(invoke(project, "build", "--first").exception, MissingInputError)  # no plan
    plan = plan_of(planned("base", shard=1), planned("a", "base", shard=1), shards=3)
    storage.write(project.root / "build" / stage.FILE, plan)
    done = invoke(project, "build", "--first")
    assert (done.exit_code, calls) == (0, [])
    assert done.stdout == "No shard waits for an image that is to be built.\n"
    written = plan_of(planned("base", shard=0), planned("a", "base", shard=1), shards=3)
    storage.write(project.root / "build" / stage.FILE, written)
    assert invoke(project, "build", "--first").exit_code == 0
    assert [call["shard"] for call in calls] == [(0, 3)]
    for more in (["--plan"], ["--shard", "1/3"]):
        assert invoke(project, "build", "--first", *more).exit_code == USAGE_EXIT_CODE


@pytest.mark.parametrize("value", ["5/4", "0/0", "1/0", "2", "a/b", "1/4/4", "-1/4", "1 /4", "²/4"])
def test_what_is_no_shard(project: Any, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    calls = taken(monkeypatch)
    done = invoke(project, "build", f"--shard={value}")
    assert done.exit_code == USAGE_EXIT_CODE
    assert f"'{value}' is no shard" in done.output
    assert calls == []


def test_what_stands_on_a_parent_that_failed_first_is_not_begun(project: Any) -> None:
    plan = plan_of(
        planned("good", shard=0, digest="sha256:1"), planned("bad", shard=0),
        planned("a", "good", shard=1), planned("b", "bad", "good", shard=1),
        planned("c", "b", shard=1), shards=2,
    )  # fmt: skip
    blocked: dict[str, list[str]] = {}

    class Work:  # of an image, as far as it is asked here
        def __init__(self, name: str) -> None:
            self.name = name

        def blocked(self, by: list[str]) -> None:
            blocked[self.name] = by

    def begin(number: int) -> None:
        mine = {one.name: one for one in shards.members(plan, (number, 2))}
        build._without_parent(plan, mine, {name: Work(name) for name in mine})  # type: ignore[misc]

    begin(1)
    assert blocked == {"b": ["bad"]}  # and c waits for b, in the same schedule
    blocked.clear()
    begin(0)
    assert blocked == {}
    plan.components[0].digest = None
    begin(0)
    with pytest.raises(MissingInputError, match="good, bad: not in the registry") as caught:
        begin(1)
    assert "build --first" in caught.value.todo


def test_run_fails_fast_too(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = taken(monkeypatch)

    class Enough(Exception):
        pass

    def stop(_lock: Lock) -> None:
        raise Enough

    monkeypatch.setattr(stage, "plan", lambda *_, **__: plan_of(planned("a")))
    monkeypatch.setattr(build, "raise_failures", stop)
    for fail_fast in (True, False):
        with pytest.raises(Enough):
            whole.run(workspace(project), jobs=2, fail_fast=fail_fast)
    assert [call.get("fail_fast", False) for call in calls] == [True, False]
    command = cli.get_command(click.Context(cli), "run")
    assert command
    options = {name for one in command.params for name in one.opts}
    assert "--fail-fast" in options


def test_an_older_plan_is_read() -> None:
    plan = plan_of(planned("a"))
    old = msgspec.to_builtins(plan)
    del old["shards"]
    for component in old["components"]:
        del component["expected"], component["shard"]
    assert msgspec.convert(old, Plan) == plan
