"""What a command takes from variables, as Jenkins hands its parameters over."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ci.cli import cli, options, parsed
from ci.console import Console
from ci_tools.errors import USAGE_EXIT_CODE, ConfigError


def asked(*arguments: str, **env: str) -> dict[str, Any]:
    """What the options of `train` come to."""
    found: dict[str, Any] = {}

    @click.command()
    @options.parameters
    @options.again
    @options.log
    def command(**values: Any) -> None:
        found.update(values)

    clean = {"KFP_CI_PARAMETERS": None, "TRAIN": None, "KFP_CI_LOG_LEVEL": None}
    done = CliRunner(env={**clean, **env}).invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return found


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("  \n\r\n ", {}),
        ("a=1", {"a": "1"}),
        ("a=1 b=2", {"a": "1", "b": "2"}),
        ("a=1 \t b=2\n", {"a": "1", "b": "2"}),
        ("note=two words", {"note": "two words"}),
        ("note=two or words=x", {"note": "two or words=x"}),  # "or" is no NAME=VALUE
        ("a=1 b=2\nc=3", {"a": "1 b=2", "c": "3"}),
        ("a=1\r\nb=x y\r\n", {"a": "1", "b": "x y"}),  # as a browser's form sends it
        ("# of the demo\na=1\n\n  # b=2\n", {"a": "1"}),
        ("a=#1", {"a": "#1"}),
        ("a=[1, 2]\nb={c: d e}", {"a": "[1, 2]", "b": "{c: d e}"}),
        ("a=$(touch x)\nb='; rm -rf'", {"a": "$(touch x)", "b": "; rm -rf"}),
    ],
)
def test_parameters_of_a_variable(text: str, values: dict[str, object]) -> None:
    assert parsed(asked(KFP_CI_PARAMETERS=text)["parameters"]) == values


def test_an_option_is_never_split_and_comes_before_the_variable() -> None:
    given = asked("-p", "a=1 b=2", "-p", "c=x\ny", KFP_CI_PARAMETERS="d=4")
    assert given["parameters"] == ("a=1 b=2", "c=x\ny")


@pytest.mark.parametrize("text", ["x", "a=1\nx", "-p a=1", "a-b=1 c=2"])
def test_a_line_that_is_no_parameter_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match="is no parameter"):
        parsed(asked(KFP_CI_PARAMETERS=text)["parameters"])


WORD = st.text("abc =#'\"$\\", min_size=1, max_size=8).map(str.strip).filter(bool)


@given(st.dictionaries(st.sampled_from("abcd"), WORD, min_size=2))
def test_one_a_line_comes_through_whole(values: dict[str, str]) -> None:
    text = "\n".join(f"{name}={value}" for name, value in values.items())
    assert asked(KFP_CI_PARAMETERS=text)["parameters"] == tuple(text.split("\n"))


@pytest.mark.parametrize(
    ("train", "again"),
    [("all", True), ("changed", False), ("none", False), ("", False), ("/data/train", False),
     ("1", False)],
)  # fmt: skip
def test_train(train: str, again: bool) -> None:
    assert asked(TRAIN=train)["again"] is again
    assert asked("--again", TRAIN=train)["again"] is True
    assert asked("--changed", TRAIN=train)["again"] is False


@pytest.mark.parametrize(
    ("arguments", "env", "level"),
    [
        ([], {}, "normal"),
        (["-q"], {}, "quiet"),
        (["--log-level", "debug"], {}, "debug"),
        (["--log-level", "normal"], {"KFP_CI_LOG_LEVEL": "debug"}, "normal"),
        ([], {"KFP_CI_LOG_LEVEL": "quiet"}, "quiet"),
        (["-q"], {"KFP_CI_LOG_LEVEL": "debug"}, "quiet"),
    ],
)
def test_how_much_is_told(arguments: list[str], env: dict[str, str], level: str) -> None:
    assert asked(*arguments, **env)["log"].level == level


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    options.Log("quiet").console().event("heard")
    assert capsys.readouterr().err == ""
    options.Log("normal").console().event("heard")
    assert "heard" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [["plan"], ["promote", "x", "--to", "prod"], ["service", "status"], ["rollback", "--to", "x"]],
)
def test_a_level_that_is_none(command: list[str]) -> None:
    done = CliRunner(env={"KFP_CI_LOG_LEVEL": "loud"}).invoke(cli, command)
    assert done.exit_code == USAGE_EXIT_CODE
    assert "'loud' is not one of" in done.output


def test_max_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KFP_CI_MAX_SHARDS", "0")
    done = CliRunner().invoke(cli, ["plan", "--dry-run"])
    assert done.exit_code == USAGE_EXIT_CODE
    assert "--max-shards" in done.output


def test_every_stage_says_its_level_and_has_a_console() -> None:
    assert isinstance(options.Log("normal").console(), Console)
