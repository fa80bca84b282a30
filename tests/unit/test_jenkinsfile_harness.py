"""The harness keeps Declarative's rules: small files whose outcome Jenkins' documentation tells."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.groovy import jenkinsfile
from tests.groovy.jenkinsfile import Run

# One start of Groovy, which takes seconds, and not one in each worker.
pytestmark = pytest.mark.xdist_group("harness")

ANY = [{"match": ""}]


def pipeline(stages: str, *, head: str = "agent { label 'a' }", tail: str = "") -> str:
    return f"pipeline {{\n{head}\nstages {{\n{textwrap.dedent(stages)}\n}}\n{tail}\n}}\n"


def play(text: str, **scenario: Any) -> Run:
    one = {"name": "one", "env": {"BRANCH_NAME": "main"}, "commands": ANY, **scenario}
    return jenkinsfile.run([one], text)["one"]


CASES: dict[str, tuple[str, dict[str, Any]]] = {}


def case(name: str, text: str, **scenario: Any) -> str:
    CASES[name] = (text, scenario)
    return name


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    """Every case of this file in one Groovy: a start takes seconds."""
    return jenkinsfile.run(
        [
            {
                "name": name,
                "text": text,
                "env": {"BRANCH_NAME": "main"},
                "commands": ANY,
                **scenario,
            }
            for name, (text, scenario) in CASES.items()
        ]
    )


# Validation ----------------------------------------------------------------------------

REFUSED = {
    "two sections on a line": (
        "stage('S') {\n when { branch 'main' } steps { sh 'x' }\n}",
        "two items on one line in 'stage'",
    ),
    "two conditions of post on a line": (
        "stage('S') {\nsteps { sh 'x' }\npost { always { sh 'x' } failure { sh 'y' } }\n}",
        "two items on one line in 'post'",
    ),
    "no steps": ("stage('S') {\nwhen { branch 'main' }\n}", "exactly one of steps"),
    "unknown section": (
        "stage('S') {\nstep { sh 'x' }\nsteps { sh 'x' }\n}",
        "unknown section 'step'",
    ),
    "code in steps": ("stage('S') { steps { def x = 1 } }", "expected a step in 'steps'"),
    "if in steps": ("stage('S') { steps { if (true) { sh 'x' } } }", "expected a step in 'steps'"),
    "unknown condition": (
        "stage('S') {\nwhen { brnch 'main' }\nsteps { sh 'x' }\n}",
        "unknown condition",
    ),
    "empty when": ("stage('S') {\nwhen { beforeAgent true }\nsteps { sh 'x' }\n}", "no condition"),
    "two of not": (
        "stage('S') {\nwhen { not { branch 'a'; branch 'b' } }\nsteps { sh 'x' }\n}",
        "'not' takes one condition",
    ),
    "unknown option": (
        "stage('S') {\noptions { timeuot(1) }\nsteps { sh 'x' }\n}",
        "unknown option",
    ),
    "option of the pipeline in a stage": (
        "stage('S') {\noptions { disableConcurrentBuilds() }\nsteps { sh 'x' }\n}",
        "unknown option",
    ),
    "computed environment": (
        "stage('S') {\nenvironment { A = params.B ? 'a' : 'b' }\nsteps { sh 'x' }\n}",
        "must be a string or a function call",
    ),
    "same stage twice": (
        "stage('S') { steps { sh 'x' } }\nstage('S') { steps { sh 'x' } }",
        "more than one stage 'S'",
    ),
    "agent beside parallel": (
        "stage('S') {\nagent { label 'a' }\nparallel { stage('T') { steps { sh 'x' } } }\n}",
        "'agent' is not allowed beside 'parallel'",
    ),
    "nested parallel": (
        "stage('S') { parallel { stage('T') { parallel { stage('U') { steps { sh 'x' } } } } } }",
        "cannot be nested",
    ),
    "input without a message": (
        "stage('S') {\ninput { ok 'Go' }\nsteps { sh 'x' }\n}",
        "needs a message",
    ),
    "unknown condition of post": (
        "stage('S') {\nsteps { sh 'x' }\npost { allways { sh 'x' } }\n}",
        "unknown condition 'allways'",
    ),
}
for _name, (_stages, _) in REFUSED.items():
    case(f"refused: {_name}", pipeline(_stages))
case("refused: no agent", pipeline("stage('S') { steps { sh 'x' } }", head=""))
case("refused: no stages", "pipeline {\nagent any\n}")
case("refused: not Groovy", "pipeline {")


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_validator_refuses_does_not_run(runs: dict[str, Run], name: str) -> None:
    run = runs[f"refused: {name}"]
    assert any(REFUSED[name][1] in error for error in run.errors), run.errors
    assert run.events == []


def test_missing_sections_and_broken_groovy_are_refused(runs: dict[str, Run]) -> None:
    assert "missing section 'agent'" in runs["refused: no agent"].errors[0]
    assert "missing section 'stages'" in runs["refused: no stages"].errors[0]
    assert "Jenkinsfile.groovy: 1" in runs["refused: not Groovy"].errors[0]


case(
    "accepted: a semicolon",
    pipeline("stage('S') { when { branch 'main' }; steps { sh 'x'; sh 'y' } }"),
)
case(
    "refused: timestamps without its plug-in",
    pipeline("stage('S') { steps { sh 'x' } }", head="agent any\noptions { timestamps() }"),
    plugins=[],
)


def test_a_semicolon_divides_what_a_line_may_hold(runs: dict[str, Run]) -> None:
    run = runs["accepted: a semicolon"]
    assert (run.errors, run.commands("S")) == ([], ["x", "y"])


def test_an_option_needs_its_plugin(runs: dict[str, Run]) -> None:
    assert "plugin timestamper" in runs["refused: timestamps without its plug-in"].errors[0]


# Results -------------------------------------------------------------------------------

TWO = """
stage('A') { steps { sh 'a' } }
stage('B') { steps { sh 'b' } }
"""
POST = """post {
always { sh 'always' }
success { sh 'success' }
unstable { sh 'unstable' }
failure { sh 'failure' }
aborted { sh 'aborted' }
unsuccessful { sh 'unsuccessful' }
cleanup { sh 'cleanup' }
}"""
case("failure", pipeline(TWO, tail=POST), commands=[{"match": "^a$", "exit": 3}, *ANY])
case("success", pipeline(TWO, tail=POST))
case("abort", pipeline(TWO, tail=POST), commands=[{"match": "^a$", "abort": True}, *ANY])
UNSTABLE = """
stage('A') { steps { unstable 'tests' } }
stage('B') { steps { sh 'b' } }
"""
case("unstable", pipeline(UNSTABLE, tail=POST))
case(
    "unstable, then skipped",
    pipeline(UNSTABLE, head="agent any\noptions { skipStagesAfterUnstable() }"),
)


def test_a_failure_skips_what_follows_and_posts_in_order(runs: dict[str, Run]) -> None:
    run = runs["failure"]
    assert (run.result, run.stages) == ("FAILURE", {"A": "failed", "B": "failure"})
    assert run.commands() == ["a", "always", "failure", "unsuccessful", "cleanup"]


def test_the_other_results(runs: dict[str, Run]) -> None:
    assert runs["success"].commands() == ["a", "b", "always", "success", "cleanup"]
    assert runs["abort"].result == "ABORTED"
    assert runs["abort"].commands() == ["a", "always", "aborted", "unsuccessful", "cleanup"]
    assert runs["unstable"].result == "UNSTABLE"
    assert runs["unstable"].commands() == ["b", "always", "unstable", "unsuccessful", "cleanup"]
    assert runs["unstable, then skipped"].stages == {"A": "ran", "B": "unstable"}


case(
    "worse only",
    pipeline("stage('A') { steps { script { currentBuild.result = 'ABORTED'; error 'no' } } }"),
)
case(
    "caught",
    pipeline("stage('A') { steps { catchError(buildResult: 'UNSTABLE') { sh 'a' }; sh 'b' } }"),
    commands=[{"match": "^a$", "exit": 1}, *ANY],
)
case(
    "status",
    pipeline(
        "stage('A') { steps { script {\n"
        "if (sh(script: 'a', returnStatus: true) == 7) { sh 'seven' }\n} } }"
    ),
    commands=[{"match": "^a$", "exit": 7}, *ANY],
)
case(
    "stdout",
    pipeline(
        "stage('A') { steps { script {\n"
        "sh(script: 'a', returnStdout: true).trim().split('\\n').each { echo it }\n} } }"
    ),
    commands=[{"match": "^a$", "stdout": "1/2\n2/2\n"}, *ANY],
)
case(
    "no such step",
    pipeline(
        "stage('A') { steps { script {\n"
        "try { recordIssues() } catch (NoSuchMethodError e) { sh 'without' }\n} } }"
    ),
    plugins=[],
)
case(
    "no such step, not caught",
    pipeline(
        "stage('A') { steps { script {\n"
        "try { recordIssues() } catch (Exception e) { sh 'without' }\n} } }"
    ),
    plugins=[],
)


def test_steps_answer_as_jenkins_does(runs: dict[str, Run]) -> None:
    assert runs["worse only"].result == "ABORTED"
    assert (runs["caught"].result, runs["caught"].commands()) == ("UNSTABLE", ["a", "b"])
    assert runs["status"].commands() == ["a", "seven"]
    assert [one["text"] for one in runs["stdout"].of("echo")] == ["1/2", "2/2"]


def test_a_step_without_its_plugin_is_an_error_and_no_exception(runs: dict[str, Run]) -> None:
    assert runs["no such step"].commands() == ["without"]
    assert runs["no such step, not caught"].result == "FAILURE"
    assert runs["no such step, not caught"].commands() == []


# Order ---------------------------------------------------------------------------------

ASKING = """
stage('A') {
agent { label 'b' }
when { FLAG expression { sh 'when'; false } }
input { message 'Go?' }
steps { sh 'a' }
}
"""
for _flag in ("beforeAgent", "beforeInput", "beforeOptions"):
    case(
        f"order: {_flag}",
        pipeline(
            ASKING.replace("expression { sh 'when'; false }", "branch 'other'").replace(
                "FLAG", f"{_flag} true;"
            ),
            head="agent none",
        ),
        input={"by": "alice"},
    )
case("order: none", pipeline(ASKING.replace("FLAG", ""), head="agent none"), input={"by": "alice"})
case(
    "order: of all",
    pipeline(
        """
stage('A') {
agent { label 'b' }
options { timeout(5) }
environment { X = "${WHO}" }
input { message 'Go?'; submitter 'alice,bob'; submitterParameter 'WHO' }
steps { sh 'a' }
post { always { sh 'post' } }
}
""",
        head="agent none",
    ),
    input={"by": "bob"},
)


def test_when_is_asked_where_its_flag_says(runs: dict[str, Run]) -> None:
    def seen(name: str) -> list[str]:
        return [
            one["event"] for one in runs[name].events if one["event"] in ("input", "agent", "when")
        ]

    assert seen("order: none") == ["input", "agent", "when"]
    assert seen("order: beforeAgent") == ["input", "when"]
    assert seen("order: beforeInput") == ["when"]
    assert seen("order: beforeOptions") == ["when"]
    assert runs["order: none"].commands() == ["when"]


def test_input_is_inside_the_options_and_outside_the_agent(runs: dict[str, Run]) -> None:
    run = runs["order: of all"]
    asked = run.of("input")[0]
    assert (asked["held"], asked["timeouts"]) == (0, [{"scope": "A", "minutes": 5}])
    assert [one["environment"]["X"] for one in run.of("sh")] == ["bob", "bob"]
    assert run.commands() == ["a", "post"]


case("hangs", pipeline("stage('A') { steps { sh 'a' } }"), commands=[{"match": "a", "hang": True}])
case(
    "ends",
    pipeline("stage('A') {\noptions { timeout(time: 1, unit: 'HOURS') }\nsteps { sh 'a' }\n}"),
    commands=[{"match": "a", "hang": True}],
)
case("asks for ever", pipeline("stage('A') {\ninput { message 'Go?' }\nsteps { sh 'a' }\n}"))
case(
    "asked of others",
    pipeline(
        "stage('A') {\noptions { timeout(1) }\n"
        "input { message 'Go?'; submitter 'alice' }\nsteps { sh 'a' }\n}"
    ),
    input={"by": "mallory"},
)


def test_what_no_timeout_ends_is_a_problem(runs: dict[str, Run]) -> None:
    assert "hangs for ever" in runs["hangs"].problems[0]
    assert "hangs for ever" in runs["asks for ever"].problems[0]
    assert (runs["ends"].problems, runs["ends"].result) == ([], "ABORTED")
    assert (runs["asked of others"].result, runs["asked of others"].commands()) == ("ABORTED", [])


# When ----------------------------------------------------------------------------------

CONDITIONS = {
    "branch 'main'": "main tagged-main",
    "branch 'release/*'": "release",
    "branch pattern: 'PR-\\\\d+', comparator: 'REGEXP'": "change fork",
    "not { branch 'main' }": "release change fork tag nothing",
    "changeRequest()": "change fork",
    "changeRequest target: 'main'": "change",
    "allOf { changeRequest(); environment name: 'CHANGE_FORK', value: 'them' }": "fork",
    "buildingTag()": "tag tagged-main",
    "tag 'v*'": "tag",
    "anyOf { branch 'main'; tag 'v*' }": "main tag tagged-main",
    "expression { env.BRANCH_NAME == 'main' && !env.TAG_NAME }": "main",
    "equals expected: 'main', actual: env.BRANCH_NAME": "main tagged-main",
}
EVENTS = {
    "main": {"BRANCH_NAME": "main"},
    "release": {"BRANCH_NAME": "release/1"},
    "change": {"BRANCH_NAME": "PR-1", "CHANGE_ID": "1", "CHANGE_TARGET": "main"},
    "fork": {
        "BRANCH_NAME": "PR-2",
        "CHANGE_ID": "2",
        "CHANGE_TARGET": "next",
        "CHANGE_FORK": "them",
    },
    "tag": {"BRANCH_NAME": "v1", "TAG_NAME": "v1"},
    "tagged-main": {"BRANCH_NAME": "main", "TAG_NAME": "main"},
    "nothing": {},
}
_ALL = "\n".join(
    f"stage('{number}') {{\nwhen {{ {condition} }}\nsteps {{ sh 'x' }}\n}}"
    for number, condition in enumerate(CONDITIONS)
)
for _event, _environment in EVENTS.items():
    case(f"when: {_event}", pipeline(_ALL), env=_environment)


def test_conditions_of_when(runs: dict[str, Run]) -> None:
    seen = {
        condition: " ".join(
            name for name in EVENTS if runs[f"when: {name}"].stages[str(number)] == "ran"
        )
        for number, condition in enumerate(CONDITIONS)
    }
    assert seen == CONDITIONS


# Agents, files, credentials ------------------------------------------------------------

FAN_OUT = """
stage('A') { steps { sh 'make'; stash name: 'made', includes: 'build/**' } }
stage('B') { steps { script {
    def branches = [:]
    ['1/2', '2/2'].each { shard -> branches["Build ${shard}"] = {
        RETRY { node('b') { unstash 'made'; withEnv(["SHARD=${shard}"]) { sh 'build "$SHARD"' } } }
    } }
    parallel branches
} } }
stage('C') { steps { unstash 'other' } }
"""
MAKES = [
    {"match": "^make$", "writes": {"build/plan.json": "{}"}},
    {
        "match": r"^build (\d)/(\d)$",
        "reads": ["build/plan.json"],
        "writes": {"build/lock.$1-of-$2": "x"},
    },
]
RETRY = "retry(count: 2, conditions: [agent(), nonresumable()])"
case("fan out", pipeline(FAN_OUT.replace("RETRY", RETRY)), commands=MAKES)
case("fan out, one lost", pipeline(FAN_OUT.replace("RETRY", RETRY)), commands=MAKES, lost=[3])
case(
    "fan out, not retried",
    pipeline(FAN_OUT.replace("RETRY { node", "script { node")),
    commands=MAKES,
    lost=[3],
)
case(
    "retried on the lost agent",
    pipeline("stage('A') { steps { retry(3) { sh 'a' } } }"),
    lost=[1],
)
case(
    "agent with retries",
    pipeline(
        "stage('A') { agent { node { label 'b'; retries 2 } }\nsteps { sh 'a' } }",
        head="agent none",
    ),
    lost=[1],
)
case("no agent", pipeline("stage('A') { steps { sh 'a' } }", head="agent none"))
case("no such agent", pipeline("stage('A') { steps { sh 'a' } }"), agents={"a": 0})


def test_branches_have_agents_and_environments_of_their_own(runs: dict[str, Run]) -> None:
    run = runs["fan out"]
    built = run.of("sh", "B")
    assert [one["environment"]["SHARD"] for one in built] == ["1/2", "2/2"]
    assert [one["branch"] for one in built] == ["Build 1/2", "Build 2/2"]
    assert len({one["node"] for one in built}) == 2
    assert not any(one["gstring"] for one in built)
    assert run.result == "FAILURE"
    assert "No such saved stash 'other'" in run.of("stage", "C")[-1]["error"]


def test_a_lost_agent_is_replaced_where_the_file_says_so(runs: dict[str, Run]) -> None:
    assert runs["fan out, one lost"].stages["B"] == "ran"
    assert len(runs["fan out, one lost"].of("retry")) == 1
    assert runs["fan out, not retried"].stages["B"] == "failed"
    assert runs["fan out, not retried"].result == "ABORTED"
    assert runs["retried on the lost agent"].stages["A"] == "failed"
    assert runs["agent with retries"].stages["A"] == "ran"


def test_a_command_needs_an_agent(runs: dict[str, Run]) -> None:
    assert "runs on no agent" in runs["no agent"].problems[0]
    assert "no agent with label 'a' is free" in runs["no such agent"].problems[0]


SECRETS = """
stage('A') { steps {
    withCredentials([
        usernamePassword(credentialsId: 'aws', usernameVariable: 'U', passwordVariable: 'P')
    ]) { sh 'a' }
    sh 'b'
} }
stage('B') {
environment { TOKEN = credentials('token') }
steps { sh 'c' }
}
"""
case("credentials", pipeline(SECRETS), credentials=["aws", "token"])
case("no credentials", pipeline(SECRETS), credentials=[])


def test_credentials_are_seen_where_they_are_bound(runs: dict[str, Run]) -> None:
    seen = [one["credentials"] for one in runs["credentials"].of("sh")]
    assert seen == [{"U": "aws", "P": "aws"}, {}, {"TOKEN": "token"}]
    assert (
        "Could not find credentials entry with ID 'aws'"
        in runs["no credentials"].of("stage", "A")[-1]["error"]
    )


TEXTS = """
stage('A') { steps {
    sh 'literal'
    sh "echo ${params.P}"
    script { sh(script: 'x ' + params.P) }
} }
"""
case(
    "interpolated",
    pipeline(TEXTS, head="agent any\nparameters { string(name: 'P', defaultValue: '') }"),
    parameters={"P": "$(touch x)", "Q": "dropped"},
)


def test_interpolation_is_seen(runs: dict[str, Run]) -> None:
    run = runs["interpolated"]
    assert [one["literal"] for one in run.shells] == [True, False, False]
    assert [one["values"] for one in run.of("sh")] == [[], ["$(touch x)"], []]
    assert run.of("parameters")[0]["dropped"] == ["Q"]
    assert run.of("sh")[0]["environment"]["P"] == "$(touch x)"


RESTART = """
stage('A') { steps { sh 'make'; stash name: 'made', includes: 'build/**' } }
stage('B') { steps { unstash 'made'; sh 'use' } }
"""
USES = [MAKES[0], {"match": "use", "reads": ["build/plan.json"]}]
for _kept in ("preserveStashes()", "timestamps()"):
    _head = f"agent any\noptions {{ {_kept} }}"
    case(f"first, {_kept}", pipeline(RESTART, head=_head), commands=USES)
    case(
        f"again, {_kept}",
        pipeline(RESTART, head=_head),
        commands=USES,
        restart={"of": f"first, {_kept}", "from": "B"},
    )


def test_a_restarted_stage_has_the_stashes_that_are_preserved(runs: dict[str, Run]) -> None:
    assert runs["again, preserveStashes()"].stages == {"A": "restart", "B": "ran"}
    assert runs["again, preserveStashes()"].result == "SUCCESS"
    assert runs["again, timestamps()"].stages == {"A": "restart", "B": "failed"}


COPIED = """
stage('A') { steps { script { env.SET = params.P + env.BUILD_NUMBER } } }
stage('B') { steps { sh 'use "$SET" "$P"' } }
"""
_head = "agent any\nparameters { string(name: 'P', defaultValue: 'default') }"
case(
    "first, given",
    pipeline(COPIED, head=_head),
    parameters={"P": "given"},
    env={"BUILD_NUMBER": "1"},
)
case(
    "again, given",
    pipeline(COPIED, head=_head),
    restart={"of": "first, given", "from": "B"},
    env={"BUILD_NUMBER": "2"},
)


def test_a_restart_has_the_parameters_and_variables_of_its_build(runs: dict[str, Run]) -> None:
    """As FlowCopier.StandardActions and EnvActionImpl.Copier copy them."""
    told = runs["again, given"].of("sh")[0]["environment"]
    assert {name: told[name] for name in ("SET", "P", "BUILD_NUMBER")} == {
        "SET": "given1",
        "P": "given",
        "BUILD_NUMBER": "2",
    }


def test_a_missing_groovy_says_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jenkinsfile.shutil, "which", lambda _: None)
    with pytest.raises(jenkinsfile.HarnessError, match=r"Run: scripts/bootstrap.sh --tests"):
        play("pipeline {}")


def test_a_java_home_without_java_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert (jenkinsfile.java_home() / "bin" / "java").exists()
    for place in (tmp_path / "bin", tmp_path / "bin" / "java"):
        assert jenkinsfile.java_home() != tmp_path
        place.mkdir() if place.name == "bin" else place.touch(0o755)
    assert jenkinsfile.java_home() == tmp_path


def test_names_of_scenarios_are_told_apart() -> None:
    with pytest.raises(jenkinsfile.HarnessError, match="two scenarios have one name"):
        jenkinsfile.run([{"name": "one"}, {"name": "one"}], "")
