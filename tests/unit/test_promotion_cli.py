"""The commands `promote` and `rollback`: what they ask for, and what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ci import promote as stage
from ci.cli import cli
from ci.promotion.plan import Copy, Planned, ServiceChange, Version
from ci_tools.errors import ConfigError, PromotionRefusedError
from tests.unit.test_promotion_engine import record


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the stages were asked for."""
    seen: dict[str, Any] = {}

    def promote(workspace: Any, what: str, request: Any) -> Any:
        seen.update(environment=workspace.environment_name, what=what, request=request)
        return record("release-1")

    def plan(workspace: Any, what: str | None, action: str, request: Any) -> Planned:
        seen.update(what=what, action=action, request=request)
        return Planned(
            action=action, release="release-1", environment=workspace.environment_name,  # type: ignore[arg-type]
            runs="", refusals=["it is not signed"], warnings=[],
            copies=[Copy(component="train", source="a", target="b", present=True)],
            pipelines=[Version(pipeline="training", version="v", equal=[])],
            services=[ServiceChange(component="serve", service="answers", lines=["image: a -> b"])],
        )  # fmt: skip

    monkeypatch.setattr(stage, "promote", promote)
    monkeypatch.setattr(stage, "rollback", promote)
    monkeypatch.setattr(stage, "plan_of", plan)
    monkeypatch.setattr(stage, "undo", lambda *_: None)
    return seen


def run(*arguments: str, **env: str) -> Result:
    return CliRunner().invoke(cli, arguments, env=env)


def test_who_approved_and_how_long_it_waits(asked: dict[str, Any]) -> None:
    done = run("promote", "abc1234", "--to", "prod", "--approved-by", "ann", "--approved-by", "bob",
               "--wait", "60")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert (asked["environment"], asked["what"]) == ("prod", "abc1234")
    assert asked["request"].approvals == ("ann", "bob")
    assert asked["request"].wait == 60
    assert "'prod' runs release-1" in done.output


def test_jenkins_names_who_approved_in_a_variable(asked: dict[str, Any]) -> None:
    assert run("promote", "abc1234", "--to", "prod", KFP_CI_APPROVED_BY="ann").exit_code == 0
    assert asked["request"].approvals == ("ann",)


@pytest.mark.parametrize(
    "arguments", [["promote", "--to", "prod"], ["promote", "abc1234"],
                  ["promote", "abc1234", "--to", "prod", "--undo"],
                  ["promote", "--to", "prod", "--undo", "--dry-run"],
                  ["promote", "abc1234", "--to", "prod", "--wait", "-1"]],
)  # fmt: skip
def test_a_wrong_command_line(asked: dict[str, Any], arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2
    assert asked == {}


def test_nothing_to_undo_is_json_where_that_was_asked(asked: dict[str, Any]) -> None:
    done = run("promote", "--to", "prod", "--undo", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout) is None


def test_nothing_to_undo(asked: dict[str, Any]) -> None:
    done = run("promote", "--to", "prod", "--undo")
    assert (done.exit_code, done.output) == (0, "no promotion is unfinished\n")


@pytest.mark.parametrize("command", ["promote", "rollback"])
def test_a_plan_is_shown_and_its_refusal_is_an_error(asked: dict[str, Any], command: str) -> None:
    done = run(command, "abc1234", "--to", "prod", "--dry-run")
    assert isinstance(done.exception, PromotionRefusedError)
    for line in (
        "REFUSED: it is not signed",
        "image     train  present  b",
        "pipeline  training  new version v",
        "service   answers  changes",
        "    image: a -> b",
    ):
        assert line in done.output
    assert asked["action"] == command
    as_json = run(command, "abc1234", "--to", "prod", "--dry-run", "--json")
    assert json.loads(as_json.output)["refusals"] == ["it is not signed"]


@pytest.mark.parametrize("command", [["promote", "abc1234"], ["rollback"]])
def test_an_environment_that_trusts_no_key_takes_nothing(
    tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "ci.yaml").write_text("environments: {prod: {registry: {host: 'h.example'}}}\n")
    done = run(*command, "--to", "prod", "--repo", str(tmp_path))
    assert isinstance(done.exception, ConfigError)
    assert "environments.prod.promotion.keys" in str(done.exception)
    unknown = run(*command, "--to", "prodd", "--repo", str(tmp_path))
    assert "environment 'prodd' is not declared" in str(unknown.exception)
