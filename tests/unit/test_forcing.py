"""Components that are built again though nothing changed: which, and what their keys are of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ci import build as building
from ci import explain
from ci import plan as planning
from ci.cli import cli
from ci.forcing import Force, forced
from ci.request import request_for
from ci.workspace import Workspace
from ci_tools import published, storage
from ci_tools.components import changes, keys
from ci_tools.documents import Lock, LockedImage, Plan, PlannedComponent, Verdict
from ci_tools.errors import USAGE_EXIT_CODE, ConfigError, MissingInputError
from ci_tools.images import buildx

COMPONENTS = {"base": None, "train": None, "other": None}


def test_which_are_forced() -> None:
    assert forced(None, COMPONENTS) == {}
    assert forced(Force((), "x"), COMPONENTS) == {}
    assert forced(Force(("train", "base", "train"), "x"), COMPONENTS) == {"base": "x", "train": "x"}
    assert forced(Force(("all",), "x"), COMPONENTS) == dict.fromkeys(COMPONENTS, "x")
    assert forced(Force(("train", "all"), "x"), COMPONENTS) == dict.fromkeys(COMPONENTS, "x")


def test_without_a_name_two_plans_force_different_keys() -> None:
    one, other = (forced(Force(("base",)), COMPONENTS) for _ in range(2))
    assert one != other


@pytest.mark.parametrize(
    ("names", "todo"),
    [(["trian"], "Did you mean 'train'"), (["x"], "or 'all'"), (["all", "x"], "or 'all'")],
)
def test_an_unknown_component(names: list[str], todo: str) -> None:
    with pytest.raises(ConfigError, match="there is no component") as caught:
        forced(Force(names, "x"), COMPONENTS)
    assert todo in caught.value.todo


@pytest.mark.parametrize("by", ["a\nb", "\x1b[31m", "\udcff", "x" * 201])
def test_what_names_no_build(by: str) -> None:
    with pytest.raises(ConfigError, match="cannot name"):
        forced(Force(("base",), by), COMPONENTS)


@pytest.fixture
def project(repository: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("KFP_CI_HOME", str(tmp_path / "home"))
    for name in ("KFP_CI_FORCE", "KFP_CI_FORCE_ID", "BUILD_TAG"):
        monkeypatch.delenv(name, raising=False)
    repository.write("ci.yaml", "project: ml\n")
    repository.write("base/Dockerfile", "FROM scratch\n")
    repository.write("train/Dockerfile", "FROM ml/base\nFROM scratch AS test\nFROM ml/base\n")
    repository.write("other/Dockerfile", "FROM scratch\nLABEL a=b\n")
    return repository


def invoke(project: Any, *arguments: str, **env: str) -> Any:
    return CliRunner(env=env).invoke(cli, [*arguments, "--repo", str(project.root)])


def planned(project: Any, *arguments: str, **env: str) -> dict[str, dict[str, Any]]:
    done = invoke(project, "plan", "--dry-run", "--json", *arguments, **env)
    assert done.exit_code == 0, done.output
    return {one["name"]: one for one in json.loads(done.stdout)["components"]}


def test_a_forced_component_and_its_children_have_keys_of_their_own(project: Any) -> None:
    plain = planned(project)
    again = planned(project, "--force", "base", "--force-id", "7")
    assert {name for name in plain if plain[name]["key"] != again[name]["key"]} == {"base", "train"}
    assert {name: one["forced"] for name, one in again.items()} == {
        "base": "7", "other": "", "train": "",
    }  # fmt: skip
    assert planned(project, KFP_CI_FORCE=" base ", KFP_CI_FORCE_ID="7", BUILD_TAG="8") == again
    assert planned(project, KFP_CI_FORCE="base", BUILD_TAG="7") == again
    assert planned(project, KFP_CI_FORCE="", BUILD_TAG="7") == plain
    every = planned(project, KFP_CI_FORCE="all other", BUILD_TAG="7")
    assert {one["forced"] for one in every.values()} == {"7"}


def test_people_are_told(project: Any) -> None:
    lines = invoke(project, "plan", "--dry-run", "--force", "base", "--force-id", "7").stdout
    assert [line for line in lines.splitlines() if "forced" in line] == [
        line for line in lines.splitlines() if line.startswith("base ")
    ]
    assert "forced by 7" in lines
    told = invoke(project, "run", "--dry-run", "--force", "base").stdout.splitlines()
    assert [line.partition(":")[0] for line in told if "(forced)" in line] == ["base"]


def test_build_takes_it_from_the_plan_and_not_from_a_variable(project: Any) -> None:
    done = invoke(project, "build", "--dry-run", "--force", "base")
    assert done.exit_code == USAGE_EXIT_CODE
    assert "say --plan" in done.output
    for name in ("base", "nothing-like-it"):
        done = invoke(project, "build", "--dry-run", KFP_CI_FORCE=name)
        assert done.exit_code == 0
        assert "forced" not in done.stdout
    told = invoke(project, "build", "--plan", "--dry-run", KFP_CI_FORCE="base").stdout
    assert "(forced)" in told


def workspace(project: Any) -> Workspace:
    root = project.root
    return Workspace(repository=root, build=root / "build", dry_run=True)


def plan_of(project: Any) -> Plan:
    return planning.plan(workspace(project), force=Force(("base",), "7"))


def test_a_forced_plan_is_still_of_these_sources(project: Any) -> None:
    here, plan = workspace(project), plan_of(project)
    building._check_unchanged(here, plan)
    plan.components[0].forced = ""
    with pytest.raises(MissingInputError, match="out of date"):
        building._check_unchanged(here, plan)


def lock_of(project: Any, plan: Plan) -> Lock:
    here = workspace(project)
    by_key = {one.name: one.key for one in plan.components}
    images = {
        one.name: LockedImage(
            repository="r", digest="d", config="c", key=one.key, size=1,
            verdict=Verdict(status="pass", trivy="1", database=None, policy="p"),
            ingredients=changes.recorded(keys.ingredients(
                here.repository, here.components[one.name], by_key, {}, one.forced
            )),
        )
        for one in plan.components
    }  # fmt: skip
    lock = Lock(project="ml", environment="local", source=plan.source, components=images)
    storage.write(project.root / "build/images.lock.json", lock)
    return lock


def test_explain_names_it_and_against_does(project: Any) -> None:
    lock_of(project, plan_of(project))
    said = explain.lines(explain.explain(workspace(project), "train"))
    assert "  built again by force: 7 → nothing" in said
    done = invoke(project, "plan", "--dry-run", "--against",
                  str(project.root / "build/images.lock.json"))  # fmt: skip
    assert "rebuild  base: built again by force: 7 → nothing" in done.stdout
    done = invoke(project, "plan", "--dry-run", "--force", "base", "--force-id", "8", "--against",
                  str(project.root / "build/images.lock.json"))  # fmt: skip
    assert "rebuild  base: built again by force: 7 → 8" in done.stdout


def test_a_laptop_does_not_call_what_was_forced_a_change(project: Any) -> None:
    lock = lock_of(project, plan_of(project))
    here = published.opened(project.root)
    assert published.changed(here, workspace(project).components, lock) == []
    project.write("other/file")
    assert published.changed(here, workspace(project).components, lock) == ["other"]


@pytest.mark.parametrize("by", ["", "7"])
def test_only_a_forced_build_takes_no_layer(
    project: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, by: str
) -> None:
    project.write("ci.yaml", "project: ml\nbuild: {cache: {}}\n")
    (base, *_) = plan_of(project).components
    base.forced = by
    request = _request(project, base)
    commands: list[list[str]] = []

    def run(_request: buildx.Request, command: list[str], _watch: object) -> Any:
        commands.append(list(command))
        raise KeyboardInterrupt  # nobody is asked

    monkeypatch.setattr(buildx, "_run", run)
    watch = buildx.Watch(1.0, tmp_path / "log")
    for does in (
        lambda: buildx.build(request, [], watch),
        lambda: buildx.test(request, "test", watch),
    ):
        with pytest.raises(KeyboardInterrupt):
            does()
    build, test = commands
    assert ("--no-cache" in build) == bool(by)
    assert any(one.startswith("--cache-from") for one in build) == (not by)
    assert any(one.startswith("--cache-to") for one in build)  # for who comes next
    assert ("--no-cache-filter=test" in test) == bool(by)
    assert "--no-cache" not in test


def _request(project: Any, planned: PlannedComponent) -> buildx.Request:
    return request_for(workspace(project), planned, {}, {}, exports_cache=True)
