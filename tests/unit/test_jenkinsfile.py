"""The Jenkinsfile, executed under Groovy by a model of a controller (tests/groovy).

It proves the wiring: what runs when, with which files, credentials and time-outs, and
what becomes of failures. Sandbox, CPS and plug-ins are only seen on a controller.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from ci_tools import errors
from tests.groovy import jenkinsfile, scenarios
from tests.groovy.jenkinsfile import Run, Scenario
from tests.groovy.scenarios import EVENTS, PLAN, failing, scenario

# One start of Groovy, which takes seconds, and not one in each worker.
pytestmark = pytest.mark.xdist_group("jenkinsfile")

TEXT = jenkinsfile.JENKINSFILE.read_text()
DOCUMENT = jenkinsfile.REPOSITORY / "docs" / "jenkins.md"

# Stage -> the events for which it runs, every parameter at its default.
MATRIX = {
    "Dry run": set(),
    "Plan": {"branch", "pull request", "fork's pull request", "main", "nightly"},
    "Build": {"branch", "pull request", "fork's pull request", "main", "nightly"},
    "Lock": {"branch", "pull request", "fork's pull request", "main", "nightly"},
    "Compile": {"branch", "pull request", "fork's pull request", "main", "nightly"},
    "Upload": {"branch", "main", "nightly"},
    "Train": {"branch", "main", "nightly"},
    "Deploy": {"main", "nightly"},
    "Release": {"main", "nightly"},
    "Nightly": {"nightly"},
    "Promote": {"main", "tag"},
}
# Stage -> its command, on main.
COMMANDS = {
    "Plan": PLAN,
    "Build": 'build --shard "$SHARD"',
    "Lock": "merge",
    "Compile": "compile --pin",
    "Upload": "upload",
    "Train": "train",
    "Deploy": "deploy",
    "Release": "release --strict",
    "Promote": "promote HEAD --to prod --wait 600",
}
# Whose credentials a stage's command may see, by the beginning of their ids.
MAY_SEE = {
    **dict.fromkeys(("Plan", "Build", "Lock", "Upload", "Train", "Deploy", "Nightly"), ("dev",)),
    "Release": ("dev", "release"),
    "Promote": ("prod", "release"),
}
OPTIONAL = {"lockable-resources", "warnings-ng", "htmlpublisher"}
REQUIRED = {"credentials-binding", "junit", "pipeline-input-step", "pipeline-milestone-step"}
PLUGINS = OPTIONAL | REQUIRED

SCENARIOS: list[Scenario] = list(scenarios.BY_EVENT)


def add(name: str, event: str = "main", **more: Any) -> str:
    SCENARIOS.append(scenario(name, event, **more))
    return name


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    """Every scenario of this file in one Groovy: a start takes seconds."""
    found = jenkinsfile.run(SCENARIOS)
    broken = {
        name: (run.errors, run.problems)
        for name, run in found.items()
        if run.errors or run.problems
    }
    assert broken == {}
    return found


def pattern(stage: str) -> str:
    return {"Build": r"build --shard 1/2", "Promote": "promote"}.get(
        stage, re.escape(COMMANDS[stage]) + "$"
    )


def after(stage: str) -> list[str]:
    ran = list(COMMANDS)
    return ran[ran.index(stage) + 1 :]


# What runs --------------------------------------------------------------------------------


def test_event_by_stage(runs: dict[str, Run]) -> None:
    names = [*EVENTS, "nightly"]
    assert {
        stage: {name for name in names if stage in runs[name].ran} for stage in runs["main"].stages
    } == MATRIX
    assert {runs[name].result for name in names} == {"SUCCESS"}


def test_the_document_has_the_matrix_as_executed(runs: dict[str, Run]) -> None:
    table = scenarios.matrix(runs)
    assert table in DOCUMENT.read_text(), f"docs/jenkins.md lacks:\n{table}"


def test_every_stage_is_one_command(runs: dict[str, Run]) -> None:
    around = (
        "scripts/bootstrap.sh",
        "python -m ci jenkins describe",
        "python -m ci jenkins shards",
    )
    for stage, command in COMMANDS.items():
        own = [one for one in runs["main"].commands(stage) if one not in around]
        assert set(own) == {f"python -m ci {command}"}, stage
        assert len(own) == (2 if stage == "Build" else 1), stage


def test_every_command_is_one_of_ours(runs: dict[str, Run]) -> None:
    """Read by click itself, as far as it goes without running: options are known, too."""
    import click

    from ci.cli import cli

    texts = {one for run in runs.values() for one in run.commands()}
    ours = [
        command.removeprefix("python -m ci ")
        for text in texts
        for command in text.split(" && ")
        if command.startswith("python -m ci ")
    ]
    assert len(ours) >= len(COMMANDS)
    for text in ours:
        context = click.Context(cli)
        arguments = [{"$SHARD": "1/2"}.get(part, part) for part in shlex.split(text)]
        command: click.Command = cli
        while isinstance(command, click.Group):
            name, found, arguments = command.resolve_command(context, arguments)
            assert found is not None, text
            command, context = found, click.Context(found, parent=context, info_name=name)
        command.make_context(
            command.name, arguments, parent=context.parent, resilient_parsing=False
        )


add("nothing to share out", shards="")


def test_nothing_to_share_out_is_built_on_one_agent(runs: dict[str, Run]) -> None:
    run = runs["nothing to share out"]
    assert run.stages["Build"] == "when"
    assert run.of("agent", "Build") == []
    assert "python -m ci build" in run.commands("Lock")
    assert run.result == "SUCCESS"


def test_shards_are_one_flat_parallel_on_agents_of_their_own(runs: dict[str, Run]) -> None:
    run = runs["main"]
    assert [one["branches"] for one in run.of("parallel")] == [["shard 1/2", "shard 2/2"]]
    built = [one for one in run.of("sh", "Build") if "--shard" in one["command"]]
    assert [one["environment"]["SHARD"] for one in built] == ["1/2", "2/2"]
    assert len({one["node"] for one in built}) == 2


def test_the_newest_build_wins_on_branches_and_waits_on_main_and_tags(runs: dict[str, Run]) -> None:
    aborts = {}
    for event in EVENTS:
        options = {one["name"]: one["named"] for one in runs[event].of("options")[0]["options"]}
        aborts[event] = options["disableConcurrentBuilds"]["abortPrevious"]
    assert aborts == {
        "branch": "true",
        "pull request": "true",
        "fork's pull request": "true",
        "main": "false",
        "tag": "false",
    }


# A tag has a branch's name at will.
add("a tag that is called main", "tag", variables={"BRANCH_NAME": "main", "TAG_NAME": "main"})
add("a branch that is called like a change", "branch", variables={"BRANCH_NAME": "PR-7"})
add("a branch below main", "branch", variables={"BRANCH_NAME": "main/../main"})
add("a change that is called main", "pull request", variables={"BRANCH_NAME": "main"})
add("a branch beside main", "branch", variables={"BRANCH_NAME": "origin/main"})


def test_a_name_does_not_make_a_tag_or_branch_into_main(runs: dict[str, Run]) -> None:
    assert runs["a tag that is called main"].ran == ["Promote"]
    assert runs["a change that is called main"].ran == runs["pull request"].ran
    for name in (
        "a branch that is called like a change",
        "a branch below main",
        "a branch beside main",
    ):
        assert runs[name].ran == runs["branch"].ran


# Parameters -------------------------------------------------------------------------------

GIVEN = {
    "TRAIN": "all",
    "KFP_CI_PIPELINES": "a b/c",
    "KFP_CI_PARAMETERS": "x=1\ny=2",
    "KFP_CI_FORCE": "train",
    "KFP_CI_LOG_LEVEL": "debug",
    "KFP_CI_MAX_SHARDS": "3",
}
add("parameters", parameters=GIVEN)
add("no training", parameters={"TRAIN": "none"})
add("training by name", parameters={"TRAIN": "none", "KFP_CI_PIPELINES": "a"})
add("no deployment", parameters={"DEPLOY": "no"})
add("no promotion", parameters={"PROMOTE": "no"})
add("tag, no promotion", "tag", parameters={"PROMOTE": "no"})
for _event in ("main", "tag"):
    add(f"{_event}, promotion of tags", _event, variables={"KFP_CI_PROMOTE": "tags"})
for _event in EVENTS:
    add(f"dry run, {_event}", _event, parameters={"DRY_RUN": True})
add("first build", first_build=True)
add("undeclared", parameters={"KFP_CI_HOME": "/etc", "PATH": "/evil", "SHARD": "9/9"})


def test_parameters_reach_every_command_as_environment(runs: dict[str, Run]) -> None:
    for one in runs["parameters"].of("sh"):
        assert {name: one["environment"][name] for name in GIVEN} == GIVEN
    assert {"TRAIN", "KFP_CI_PIPELINES", "KFP_CI_PARAMETERS", "DEPLOY", "PROMOTE", "DRY_RUN"} <= {
        one["name"] for one in runs["main"].of("parameters")[0]["declared"]
    }


def test_what_each_parameter_leaves_out(runs: dict[str, Run]) -> None:
    usual = set(runs["main"].ran)
    assert usual - set(runs["no training"].ran) == {"Train"}
    assert usual == set(runs["training by name"].ran)
    assert usual - set(runs["no deployment"].ran) == {"Deploy"}
    assert usual - set(runs["no promotion"].ran) == {"Promote"}
    assert runs["tag, no promotion"].ran == []
    assert usual - set(runs["main, promotion of tags"].ran) == {"Promote"}
    assert runs["tag, promotion of tags"].ran == ["Promote"]
    assert usual == set(runs["first build"].ran)
    for name in ("no training", "training by name", "no deployment", "no promotion", "first build"):
        assert runs[name].result == "SUCCESS"


def test_a_release_sees_what_the_stages_before_it_left(runs: dict[str, Run]) -> None:
    def files(name: str) -> set[str]:
        told = [one for one in runs[name].of("sh", "Release") if "ci release" in one["command"]]
        return {"build/train.json", "build/deploy.json", "build/uploads.json"} & set(
            told[0]["files"]
        )

    assert files("main") == {"build/train.json", "build/deploy.json", "build/uploads.json"}
    assert files("no training") == {"build/deploy.json", "build/uploads.json"}
    assert files("no deployment") == {"build/train.json", "build/uploads.json"}


@pytest.mark.parametrize("event", EVENTS)
def test_a_dry_run_does_nothing_else_and_sees_no_credentials(
    runs: dict[str, Run], event: str
) -> None:
    run = runs[f"dry run, {event}"]
    assert run.ran == ["Dry run"]
    assert "python -m ci run --train --deploy --dry-run" in run.commands()
    assert [one["credentials"] for one in run.of("sh") if one["credentials"]] == []


def test_a_parameter_that_is_not_declared_changes_nothing(runs: dict[str, Run]) -> None:
    assert [
        one["environment"]["PATH"]
        for one in runs["undeclared"].of("sh")
        if "/evil" in one["environment"]["PATH"]
    ] == []
    assert runs["undeclared"].commands() == runs["main"].commands()


# Safety -----------------------------------------------------------------------------------

add("main, no credentials", variables={"KFP_CI_CREDENTIALS": ""}, credentials=[])
add("main, one of the credentials", variables={"KFP_CI_CREDENTIALS": "kfp-ci-prod-aws"})


def everything(runs: dict[str, Run]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, run in runs.items():
        for one in run.of("sh"):
            yield name, one


def test_only_a_stages_own_command_sees_its_credentials(runs: dict[str, Run]) -> None:
    for name, one in everything(runs):
        whose = {id.removeprefix("kfp-ci-").split("-")[0] for id in one["credentials"].values()}
        own = one["command"].startswith("python -m ci ") and " ci jenkins " not in one["command"]
        assert whose <= set(MAY_SEE.get(one["stage"], ()) if own else ()), (name, one["command"])
    seen = {stage: set() for stage in MAY_SEE}
    for run in (runs["main"], runs["nightly"]):
        for one in run.of("sh"):
            seen.get(one["stage"], set()).update(one["credentials"].values())
    assert seen["Promote"] == {id for id in scenarios.CREDENTIALS if "-dev-" not in id}
    assert seen["Release"] == {id for id in scenarios.CREDENTIALS if "-prod-" not in id}
    assert seen["Deploy"] == {"kfp-ci-dev-aws", "kfp-ci-dev-kubeflow"}


def test_credentials_have_the_names_that_our_commands_read(runs: dict[str, Run]) -> None:
    promoted = [one for one in runs["main"].of("sh", "Promote") if one["credentials"]]
    assert promoted[0]["credentials"] == {
        "AWS_ACCESS_KEY_ID": "kfp-ci-prod-aws",
        "AWS_SECRET_ACCESS_KEY": "kfp-ci-prod-aws",
        "KFP_TOKEN": "kfp-ci-prod-kubeflow",
        "KFP_CI_SIGNING_KEY": "kfp-ci-release-key",
        "KFP_CI_SIGNING_PASSPHRASE": "kfp-ci-release-passphrase",
    }


def test_a_pull_request_gets_no_credentials_and_stays_on_its_agent(runs: dict[str, Run]) -> None:
    for _name, one in everything(runs):
        if "CHANGE_ID" not in one["environment"]:
            continue
        assert one["credentials"] == {}
        assert one["environment"]["KFP_CI_ENVIRONMENT"] == "local"
    for name in ("branch", "main"):
        assert {one["environment"]["KFP_CI_ENVIRONMENT"] for one in runs[name].of("sh")} == {"dev"}


def test_credentials_that_the_controller_has_not_are_not_asked_for(runs: dict[str, Run]) -> None:
    assert runs["main, no credentials"].result == "SUCCESS"
    assert runs["main, no credentials"].ran == runs["main"].ran
    one = runs["main, one of the credentials"]
    assert {id for sh in one.of("sh") for id in sh["credentials"].values()} == {"kfp-ci-prod-aws"}


def test_no_command_is_put_together(runs: dict[str, Run]) -> None:
    """Every text that a shell got stands in the file, in single quotes, as a whole."""
    for name, one in everything(runs):
        assert not one["gstring"], (name, one)
        assert f"'{one['command']}'" in TEXT, (name, one["command"])
    # Other than by a literal, a command comes only through the one place that runs the stages'.
    assert [one["text"] for one in runs["main"].shells if not one["literal"]] == ["command"]
    assert runs["main"].forbidden == []


def test_our_state_is_below_the_agents_own_directory(runs: dict[str, Run]) -> None:
    for name, one in everything(runs):
        environment = one["environment"]
        assert environment["KFP_CI_HOME"].startswith(environment["WORKSPACE_TMP"] + "/"), name
        assert environment["PATH"].startswith(environment["WORKSPACE"] + "/.venv/bin:"), name


def test_workspaces_are_emptied_and_sources_are_checked_out_once(runs: dict[str, Run]) -> None:
    for name, run in runs.items():
        lost = len(run.of("retry"))
        for one in run.of("agent-end"):
            assert one["left"] == [] or one["gone"], name
        assert not any(one["auto"] for one in run.of("checkout")), name
        if not lost:
            assert len(run.of("checkout")) == len(run.of("agent")), name


# Promotion --------------------------------------------------------------------------------

add("refused", input={**scenarios.APPROVED, "abort": True})
add("not answered", input=None)
add("answered by a stranger", input={"by": "mallory"})
add("other promoters", variables={"KFP_CI_PROMOTERS": "carol"}, input={"by": "carol"})


@pytest.mark.parametrize("event", ["main", "tag"])
def test_the_question_holds_no_agent_and_no_lock_and_ends(runs: dict[str, Run], event: str) -> None:
    asked = runs[event].of("input", "Promote")
    assert len(asked) == 1
    assert (asked[0]["held"], asked[0]["locks"]) == (0, 0)
    assert asked[0]["submitter"]
    assert [one["minutes"] for one in asked[0]["timeouts"] if one["scope"] == "Promote"] == [60]
    order = [
        one["event"]
        for one in runs[event].events
        if one["stage"] == "Promote"
        and one["event"] in ("milestone", "input", "agent", "lock", "unlock")
    ]
    assert order == ["milestone", "input", "milestone", "lock", "agent", "unlock"]


def test_who_approved_is_told_to_the_promotion(runs: dict[str, Run]) -> None:
    promoted = [one for one in runs["main"].of("sh", "Promote") if "promote" in one["command"]]
    assert promoted[0]["environment"]["KFP_CI_APPROVED_BY"] == "alice"
    assert promoted[0]["locks"] == ["kfp-ci-prod"]
    assert "python -m ci promote HEAD --to prod --wait 600" in runs["other promoters"].commands()


@pytest.mark.parametrize("name", ["refused", "not answered", "answered by a stranger"])
def test_without_an_approval_all_else_stands(runs: dict[str, Run], name: str) -> None:
    assert runs[name].result == "SUCCESS"
    assert runs[name].of("agent", "Promote") == []
    assert runs[name].stages["Release"] == "ran"


def test_what_changes_dev_holds_its_lock(runs: dict[str, Run]) -> None:
    for stage in ("Deploy", "Release"):
        own = [
            one
            for one in runs["main"].of("sh", stage)
            if one["command"] == f"python -m ci {COMMANDS[stage]}"
        ]
        assert [one["locks"] for one in own] == [["kfp-ci-dev"]]


def test_who_waits_for_a_lock_holds_no_agent(runs: dict[str, Run]) -> None:
    locks = [(one["stage"], one["held"]) for one in runs["main"].of("lock")]
    assert locks == [("Deploy", 0), ("Release", 0), ("Promote", 0)]


# Failures ---------------------------------------------------------------------------------

# All but those of our client, which no stage ends with; and some that are not ours.
CODES = sorted(set(errors.exit_codes()) - {0} - set(range(60, 70)) | {99, 137, 143})
for _code in CODES:
    add(
        f"train ends with {_code}",
        "branch",
        shards="",
        first=[
            failing(
                "train",
                _code,
                always_writes=True,
                writes={"build/train.json": "{}", "build/reports/training.xml": ""},
            )
        ],
    )
for _stage in COMMANDS:
    for _code in (1, 20, 130):
        add(f"{_stage} ends with {_code}", first=[failing(pattern(_stage), _code)])
    add(f"{_stage} hangs", first=[{"match": f"^python -m ci {pattern(_stage)}", "hang": True}])
    add(
        f"{_stage} is aborted", first=[{"match": f"^python -m ci {pattern(_stage)}", "abort": True}]
    )
    add(f"{_stage} loses its set-up", first=[{"match": "bootstrap", "stage": _stage, "exit": 13}])
    add(
        f"{_stage} is not described",
        first=[{"match": "jenkins describe", "stage": _stage, "exit": 1}],
    )


def expected(code: int) -> str:
    from ci_tools.jenkins import results

    return results.result(code)


@pytest.mark.parametrize("code", CODES)
def test_an_exit_code_has_the_result_that_our_own_table_says(
    runs: dict[str, Run], code: int
) -> None:
    run = runs[f"train ends with {code}"]
    assert run.result == expected(code)
    assert {run.stages[stage] for stage in after("Train")} == {
        "unstable" if run.result == "UNSTABLE" else "failure"
    }
    assert [one["files"] for one in run.of("junit", "Train")] == [["build/reports/training.xml"]]


@pytest.mark.parametrize("stage", COMMANDS)
def test_a_stage_that_fails_ends_the_build(runs: dict[str, Run], stage: str) -> None:
    results = {code: runs[f"{stage} ends with {code}"].result for code in (1, 20, 130)}
    assert results == {1: "FAILURE", 20: "FAILURE", 130: "ABORTED"}
    for code in (1, 20, 130):
        run = runs[f"{stage} ends with {code}"]
        assert not set(run.ran) & set(after(stage))
        assert run.of("archive", stage) != []
    for how, result in (
        ("hangs", "ABORTED"),
        ("is aborted", "ABORTED"),
        ("loses its set-up", "FAILURE"),
    ):
        run = runs[f"{stage} {how}"]
        assert (run.result, set(run.ran) & set(after(stage))) == (result, set()), how
    assert runs[f"{stage} is not described"].result == "SUCCESS"


def test_jenkinsfile_document_and_table_have_the_same_codes() -> None:
    from ci_tools.jenkins import results

    rows = re.findall(r"^\| ([\d, ]+) \| (UNSTABLE|ABORTED)", DOCUMENT.read_text(), re.M)
    told = {result: {int(code) for code in codes.split(",")} for codes, result in rows}
    lists = re.findall(r"\b(UNSTABLE|ABORTED) = \[([\d, ]+)\]", TEXT)
    written = {result: {int(code) for code in codes.split(",")} for result, codes in lists}
    assert written == told == {"UNSTABLE": results.UNSTABLE, "ABORTED": results.ABORTED}


# Time -------------------------------------------------------------------------------------


def test_whatever_runs_has_a_timeout_of_its_own(runs: dict[str, Run]) -> None:
    """Not only that of the whole build."""
    for name, one in everything(runs):
        own = [limit["minutes"] for limit in one["timeouts"] if limit["scope"] == one["stage"]]
        assert own, (name, one["stage"], one["command"])
        assert min(own) < 24 * 60


add("no agents", agents={"kfp-ci": 0})


def test_a_build_without_agents_ends(runs: dict[str, Run]) -> None:
    assert (runs["no agents"].result, runs["no agents"].commands()) == ("ABORTED", [])


# Agents that are lost ---------------------------------------------------------------------

AGENTS_OF_MAIN = 10
for _number in range(1, AGENTS_OF_MAIN + 1):
    add(f"agent {_number} is lost", lost=[_number])
add("three agents are lost", lost=[1, 2, 3])
add(
    "agent is lost afterwards",
    first=[{"match": "jenkins describe", "stage": "Compile", "lost": True, "times": 1}],
)
add("aborted on a lost agent", first=[{"match": "compile --pin", "abort": True, "gone": True}])
add(
    "fails on a lost agent",
    first=[failing("compile", 20), {"match": "jenkins describe", "stage": "Compile", "lost": True}],
)


def test_main_takes_as_many_agents_as_the_losses_below_go_through(runs: dict[str, Run]) -> None:
    assert len(runs["main"].of("agent")) == AGENTS_OF_MAIN


@pytest.mark.parametrize("number", range(1, AGENTS_OF_MAIN + 1))
def test_a_lost_agent_is_replaced(runs: dict[str, Run], number: int) -> None:
    run = runs[f"agent {number} is lost"]
    assert (run.result, run.ran) == ("SUCCESS", runs["main"].ran)
    assert len(run.of("retry")) == 1
    assert len(run.of("lock")) == len(runs["main"].of("lock"))  # what it held is held on


def test_a_stage_whose_files_were_lost_is_done_again(runs: dict[str, Run]) -> None:
    run = runs["agent is lost afterwards"]
    assert (run.result, len(run.of("retry"))) == ("SUCCESS", 1)
    assert run.commands("Compile").count("python -m ci compile --pin") == 2


def test_agents_are_not_replaced_for_ever(runs: dict[str, Run]) -> None:
    run = runs["three agents are lost"]
    assert run.result == "ABORTED"
    assert len(run.of("agent")) == 3


@pytest.mark.parametrize(
    ("name", "result"),
    [("aborted on a lost agent", "ABORTED"), ("fails on a lost agent", "FAILURE")],
)
def test_what_ended_a_stage_is_not_hidden_by_the_loss_of_its_agent(
    runs: dict[str, Run], name: str, result: str
) -> None:
    run = runs[name]
    assert (run.result, run.of("retry")) == (result, [])
    assert run.commands("Compile").count("python -m ci compile --pin") == 1


# Restarts ---------------------------------------------------------------------------------

for _stage in COMMANDS:
    add(f"restart from {_stage}", restart={"of": "main", "from": _stage})
add(
    "restart from Lock, one agent",
    shards="",
    restart={"of": "nothing to share out", "from": "Lock"},
)


@pytest.mark.parametrize("stage", COMMANDS)
def test_a_restarted_stage_needs_nothing_but_the_stashes(runs: dict[str, Run], stage: str) -> None:
    run = runs[f"restart from {stage}"]
    assert run.result == "SUCCESS"
    assert [name for name in runs["main"].ran if name in (stage, *after(stage))] == run.ran
    found = [
        one for one in run.of("sh", stage) if one["command"] == f"python -m ci {COMMANDS[stage]}"
    ]
    assert {one["exit"] for one in found} == {0}


def test_a_restart_knows_whether_there_were_shards(runs: dict[str, Run]) -> None:
    assert "python -m ci merge" in runs["restart from Lock"].commands("Lock")
    assert "python -m ci build" in runs["restart from Lock, one agent"].commands("Lock")
    assert len(runs["restart from Lock"].of("agent", "Lock")) == 1  # nobody is asked for it


def test_every_stash_that_is_unpacked_was_made(runs: dict[str, Run]) -> None:
    for name, run in runs.items():
        assert all(one["found"] for one in run.of("unstash")), name


# Results where people look ----------------------------------------------------------------

REPORTS = {
    "build/reports/images.xml": "",
    "build/reports/scan.xml": "",
    "build/reports/scan.sarif": "",
}
FIRST = "build/reports/shards/images.0-of-2.xml"
add("an image of the base fails", first=[failing(PLAN, 20, always_writes=True, writes={FIRST: ""})])
add("an image fails", shards="", first=[failing("build", 21, always_writes=True, writes=REPORTS)])
add(
    "an image of a shard fails",
    first=[
        failing(
            "build --shard 1/2",
            21,
            always_writes=True,
            writes={"build/reports/shards/images.1-of-2.xml": ""},
        )
    ],
)


def shown(run: Run, event: str) -> Counter[str]:
    return Counter(file for one in run.of(event) for file in one["files"])


@pytest.mark.parametrize("name", ["main", "nothing to share out", "pull request"])
def test_tests_and_findings_are_shown_once(runs: dict[str, Run], name: str) -> None:
    shards = {f"build/reports/shards/images.{number}-of-2.xml": 1 for number in range(3)}
    tests = {"build/reports/images.xml": 1, "build/reports/scan.xml": 1}
    if name == "nothing to share out":
        tests[FIRST] = 1
    else:
        tests = dict(shards)
    if name != "pull request":
        tests["build/reports/training.xml"] = 1
    assert shown(runs[name], "junit") == tests
    assert shown(runs[name], "recordIssues") == {"build/reports/scan.sarif": 1}


def test_tests_that_fail_are_shown(runs: dict[str, Run]) -> None:
    assert "build/reports/images.xml" in shown(runs["an image fails"], "junit")
    assert FIRST in shown(runs["an image of the base fails"], "junit")
    assert "build/reports/shards/images.1-of-2.xml" in shown(
        runs["an image of a shard fails"], "junit"
    )


def test_what_was_made_is_archived_with_fingerprints(runs: dict[str, Run]) -> None:
    archived = shown(runs["main"], "archive")
    assert {"build/images.lock.json", "build/release.json", "build/pipelines/a.yaml"} <= set(
        archived
    )
    assert all(one["fingerprint"] for one in runs["main"].of("archive"))


def test_a_build_is_called_what_our_command_says(runs: dict[str, Run]) -> None:
    assert (runs["main"].display_name, runs["main"].description) == ("#1 c0ffee", "built a")


# Plug-ins ---------------------------------------------------------------------------------

add("required plug-ins only", plugins=sorted(REQUIRED))
for _plugin in sorted(PLUGINS):
    add(f"without {_plugin}", plugins=sorted(PLUGINS - {_plugin}))


def test_optional_plugins_are_optional(runs: dict[str, Run]) -> None:
    for name in ("required plug-ins only", *(f"without {plugin}" for plugin in sorted(OPTIONAL))):
        assert (runs[name].result, runs[name].commands()) == ("SUCCESS", runs["main"].commands()), (
            name
        )


def test_required_plugins_are_required(runs: dict[str, Run]) -> None:
    assert {
        plugin for plugin in PLUGINS if runs[f"without {plugin}"].result != "SUCCESS"
    } == REQUIRED


def test_the_document_names_the_optional_plugins() -> None:
    paragraph = re.search(r"^## Plugins\n(.*?)^## ", DOCUMENT.read_text(), re.M | re.S)
    assert paragraph
    optional = re.search(r"Optional.*?missing:\s*(.*?)\.", paragraph[1], re.S)
    assert optional
    assert set(re.findall(r"`([a-z-]+)`", optional[1])) == OPTIONAL
