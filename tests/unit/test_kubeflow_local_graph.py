"""Which task runs when, and with what: graphs compiled by kfp, on an engine that is a script."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ci_tools.kubeflow.containers import Ended
from ci_tools.kubeflow.local import supported
from ci_tools.kubeflow.local.dag import Graph, Retries
from ci_tools.kubeflow.local.limits import Machine
from ci_tools.kubeflow.local.resolve import Collected, Outcome, Values, collected
from ci_tools.kubeflow.local.step import Job, StepError, Steps, expanded, variables
from ci_tools.kubeflow.progress import Task
from ci_tools.kubeflow.recorder import Recorder

MACHINE = Machine(2, 1 << 33, gpus=False)
HEADER = """
from kfp import compiler, dsl
@dsl.container_component
def say(text: str, word: dsl.OutputPath(str)):
    return dsl.ContainerSpec(image="i", command=["say", text, word])
@dsl.container_component
def join(a: str, b: str, word: dsl.OutputPath(str)):
    return dsl.ContainerSpec(image="i", command=["say", dsl.ConcatPlaceholder([a, b]), word])
@dsl.container_component
def count(n: int):
    return dsl.ContainerSpec(image="i", command=["count", n])
@dsl.container_component
def maybe(text: str = "its default"):
    return dsl.ContainerSpec(image="i", command=["maybe", text,
        dsl.IfPresentPlaceholder("text", ["given"], ["not", "given"])])
@dsl.container_component
def words(all: list):
    return dsl.ContainerSpec(image="i", command=["words", all])
@dsl.container_component
def tidy(status: dsl.PipelineTaskFinalStatus):
    return dsl.ContainerSpec(image="i", command=["tidy", status])
@dsl.container_component
def last():
    return dsl.ContainerSpec(image="i", command=["last"])
"""


def compiled(body: str, directory: Path) -> dict[str, Any]:
    import yaml

    names: dict[str, Any] = {}
    exec(compile(HEADER + body, "it.py", "exec", dont_inherit=True), names)
    names["compiler"].Compiler().compile(names["it"], str(directory / "it.yaml"))
    spec: dict[str, Any] = yaml.safe_load((directory / "it.yaml").read_text())
    return spec


class Script:
    """Satisfies `step.Engine`: `say` writes its text, what is in `failing` fails."""

    machine = MACHINE

    def __init__(self, *failing: str) -> None:
        self.failing, self.ran = failing, list[tuple[str, list[str]]]()
        self.during: Callable[[str], None] = lambda task: None
        self.commands: list[list[str]] = []
        self._lock = threading.Lock()

    def run(self, image: str, command: list[str], *, task: str, **_: Any) -> Ended:
        with self._lock:
            self.ran.append((task, command[1:]))
            self.commands.append(command)
        self.during(task)
        if task in self.failing:
            return Ended(1, "exit code 1")
        if command[0] == "say":
            Path(command[2]).write_text(command[1])
        return Ended(0, "")

    def given(self, task: str) -> list[list[str]]:
        return [arguments for name, arguments in self.ran if name == task]


class Ran:
    def __init__(
        self, spec: Mapping[str, Any], engine: Script, root: Path, slots: int = 4, **arguments: Any
    ) -> None:
        self.told: list[tuple[str, str]] = []
        self.states: dict[str, str] = {}
        self.recorder = Recorder(self._changed, lambda label, line: self.told.append((label, line)))
        steps = Steps(
            engine,
            spec["deploymentSpec"]["executors"],
            {},
            root=root / "runs" / "run",
            cluster=root / "cluster",
            tell=lambda label, line: self.told.append((label, line)),
        )
        constants = {"{{$.pipeline_job_resource_name}}": "it-1", "{{$.pipeline_job_name}}": "it"}
        self.outcome = Graph(spec, steps.attempt, self.recorder, constants, slots).run(arguments)
        self.message = self.recorder.message()

    def _changed(self, task: Task) -> None:
        self.states[task.name] = task.state


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Ran]:
    def start(body: str, engine: Script, **arguments: Any) -> Ran:
        return Ran(compiled(body, tmp_path), engine, tmp_path, **arguments)

    return start


TWO = """
@dsl.pipeline(name="it")
def it():
    say(text="a")
    say(text="b")
"""


def test_branches_run_at_once(run: Callable[..., Ran]) -> None:
    engine, together = Script(), threading.Barrier(2, timeout=300)
    engine.during = lambda _: together.wait() and None
    assert run(TWO, engine).outcome.state == "SUCCEEDED"


def test_never_more_steps_than_slots(run: Callable[..., Ran]) -> None:
    engine, running, most = Script(), 0, 0
    lock = threading.Lock()

    def during(_: str) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.02)
        with lock:
            running -= 1

    engine.during = during
    body = """
@dsl.pipeline(name="it")
def it():
    with dsl.ParallelFor([1, 2, 3]) as a:
        with dsl.ParallelFor([1, 2, 3]) as b:
            count(n=b)
"""
    run(body, engine, slots=2)
    assert most == 2
    assert len(engine.ran) == 9


CHAIN = """
@dsl.pipeline(name="it")
def it() -> str:
    first = say(text="a")
    second = say(text=first.outputs["word"])
    say(text="alone")
    maybe(text=first.outputs["word"]).ignore_upstream_failure()
    return say(text=second.outputs["word"]).outputs["word"]
"""


def test_outputs_are_handed_on(run: Callable[..., Ran]) -> None:
    engine = Script()
    ended = run(CHAIN, engine)
    assert ended.outcome == Outcome("SUCCEEDED", Values({"Output": "a"}, {}))
    assert engine.given("maybe") == [["a", "given"]]


def test_a_failure_skips_what_needs_it_only(run: Callable[..., Ran]) -> None:
    engine = Script("say")
    ended = run(CHAIN, engine)
    assert ended.states == {
        "say": "FAILED",
        "say-2": "SKIPPED",
        "say-3": "SUCCEEDED",
        "say-4": "SKIPPED",
        "maybe": "SUCCEEDED",  # ignore_upstream_failure
    }
    assert engine.given("maybe") == [["its default", "not", "given"]]
    assert ended.message == "task 'say' failed: exit code 1"
    assert ended.outcome.state == "FAILED"


EXIT = """
@dsl.pipeline(name="it")
def it():
    with dsl.ExitHandler(tidy()):
        say(text="a")
"""


@pytest.mark.parametrize(("failing", "state"), [((), "COMPLETE"), (("say",), "FAILED")])
def test_exit_task_gets_the_state_in_the_backend_s_words(
    run: Callable[..., Ran], failing: tuple[str, ...], state: str
) -> None:
    engine = Script(*failing)
    ended = run(EXIT, engine)
    ((status,),) = engine.given("tidy")
    assert status == (
        f'{{"state":"{state}","pipelineTaskName":"exit-handler-1",'
        '"pipelineJobResourceName":"it-1","error":{}}'
    )
    assert ended.outcome.state == ("FAILED" if failing else "SUCCEEDED")


def test_an_exit_task_that_fails_fails_the_run(run: Callable[..., Ran]) -> None:
    ended = run(EXIT, Script("tidy"))
    assert ended.outcome.state == "FAILED"
    assert ended.message == "task 'tidy' failed: exit code 1"


def test_a_false_condition_skips_and_is_no_failure(run: Callable[..., Ran]) -> None:
    body = """
@dsl.pipeline(name="it")
def it(n: int = 1):
    with dsl.If(n > 1):
        say(text="in")
    last()
"""
    engine = Script()
    ended = run(body, engine)
    assert ended.outcome.state == "SUCCEEDED"
    assert ended.states == {"say": "SKIPPED", "last": "SUCCEEDED"}
    assert run(body, engine, n=2).states == {"say": "SUCCEEDED", "last": "SUCCEEDED"}


@pytest.mark.parametrize(
    "strategy",
    [{}, {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}],
)
def test_what_waits_for_a_skipped_task_is_skipped(strategy: dict[str, str]) -> None:
    """Argo depends on `.Succeeded`, and has no exit hook for a task that did not run."""
    spec = ir_of({0: set(), 1: {0}})
    tasks = spec["root"]["dag"]["tasks"]
    tasks["t0"]["triggerPolicy"] = {"condition": "1 > 2"}
    tasks["t1"]["triggerPolicy"] = strategy
    states: dict[str, str] = {}
    recorder = Recorder(lambda task: states.__setitem__(task.name, task.state), lambda *_: None)
    outcome = Graph(spec, lambda _: Values({}, {}), recorder, {}, 1).run({})
    assert states == {"t0": "SKIPPED", "t1": "SKIPPED"}
    assert outcome.state == "SUCCEEDED"


LOOPS = """
@dsl.pipeline(name="it")
def it(outer: list[str] = ["a", "b"], inner: list[str] = ["1", "2"]):
    with dsl.ParallelFor(outer) as x:
        with dsl.ParallelFor(inner) as y:
            said = join(a=x, b=y)
    words(all=dsl.Collected(said.outputs["word"]))
"""


def test_nested_loops_collect_one_flat_list_in_order(run: Callable[..., Ran]) -> None:
    engine = Script()
    assert run(LOOPS, engine).message == ""
    assert engine.given("words") == [['["a1","a2","b1","b2"]']]
    assert engine.given("join#1.0")[0][0] == "b1"


def test_a_loop_over_nothing_collects_nothing(run: Callable[..., Ran]) -> None:
    engine = Script()
    assert run(LOOPS, engine, outer=[]).outcome.state == "SUCCEEDED"
    assert engine.given("words") == [["[]"]]


def test_a_failed_iteration_fails_the_loop_and_lets_the_others_end(
    run: Callable[..., Ran],
) -> None:
    engine = Script("join#0.1")
    ended = run(LOOPS, engine)
    assert ended.message == "task 'join#0.1' failed: exit code 1"
    assert ended.states["join#1.1"] == "SUCCEEDED"
    assert ended.states["for-loop-1"] == "FAILED"
    assert ended.states["words"] == "SKIPPED"


def test_a_long_loop(run: Callable[..., Ran]) -> None:
    body = """
@dsl.pipeline(name="it")
def it(items: list[int] = []):
    with dsl.ParallelFor(items, parallelism=3) as n:
        count(n=n)
"""
    engine = Script()
    assert run(body, engine, items=list(range(500))).outcome.state == "SUCCEEDED"
    assert sorted(int(arguments[0]) for _, arguments in engine.ran) == list(range(500))


def test_an_item_of_another_type_fails_as_the_driver_does(run: Callable[..., Ran]) -> None:
    body = """
@dsl.pipeline(name="it")
def it(items: list = [1]):
    with dsl.ParallelFor(items) as n:
        count(n=n)
"""
    ended = run(body, Script())
    assert "'count#0' failed: its input 'n' is a NUMBER_INTEGER, and gets the str" in ended.message


def test_parts_of_items(run: Callable[..., Ran]) -> None:
    body = """
@dsl.pipeline(name="it")
def it(items: list = [{"a": "x", "n": 1}, {"a": "y", "n": 2}]):
    with dsl.ParallelFor(items) as item:
        say(text=item.a)
        count(n=item.n)
"""
    engine = Script()
    assert run(body, engine).message == ""
    assert sorted(arguments[0] for _, arguments in engine.ran) == ["1", "2", "x", "y"]


def test_a_nested_pipeline_s_own_defaults(run: Callable[..., Ran]) -> None:
    body = """
@dsl.pipeline
def inner(text: str = "inner", other: str = None):
    maybe(text=text)
    maybe(text=other)
@dsl.pipeline(name="it")
def it():
    inner()
"""
    engine = Script()
    assert run(body, engine).states == {"inner/maybe": "SUCCEEDED", "inner/maybe-2": "SUCCEEDED"}
    assert engine.given("inner/maybe") == [["inner", "given"]]
    assert engine.given("inner/maybe-2") == [["its default", "not", "given"]]


def test_a_defect_is_a_failure_and_exit_tasks_still_run(
    run: Callable[..., Ran], capsys: pytest.CaptureFixture[str]
) -> None:
    engine = Script()

    def during(task: str) -> None:
        if task == "say":
            raise ZeroDivisionError("ours")

    engine.during = during
    ended = run(EXIT, engine)
    assert ended.message == "task 'say' failed: ZeroDivisionError: ours"
    assert ended.states["tidy"] == "SUCCEEDED"
    assert "Traceback" in capsys.readouterr().err


def test_a_condition_on_an_output_of_any_name(run: Callable[..., Ran]) -> None:
    body = """
@dsl.pipeline(name="it")
def it(n: int = 3):
    with dsl.If(say(text="a").outputs["word"] == "a"):
        maybe(text=f"<{n}>")
"""
    engine = Script()
    assert run(body, engine).message == ""
    assert engine.given("maybe") == [["<3>", "given"]]


SAME = {
    "values": """
@dsl.pipeline(name="it")
def it(n: int = 3, text: str = "t"):
    count(n=n)
    said = say(text=f"<{text}>")
    maybe(text=said.outputs["word"])
""",
    "nested": """
@dsl.pipeline
def inner(text: str) -> str:
    return say(text=text).outputs["word"]
@dsl.pipeline(name="it")
def it():
    maybe(text=inner(text="deep").output)
""",
    "conditions": """
@dsl.pipeline(name="it")
def it(n: int = 5, text: str = "a"):
    with dsl.If(text == "a"):
        count(n=1)
        with dsl.If(n > 4):
            count(n=2)
        with dsl.Elif(n > 3):
            count(n=3)
        with dsl.Else():
            count(n=4)
    with dsl.If(n < 5):
        count(n=5)
""",
    "loops": """
@dsl.pipeline(name="it")
def it(items: list[str] = ["x", "y", "z"]):
    with dsl.ParallelFor(items, parallelism=1) as x:
        said = say(text=x)
        maybe(text=said.outputs["word"])
    words(all=dsl.Collected(said.outputs["word"]))
    with dsl.ParallelFor([{"a": "1"}, {"a": "2"}]) as y:
        say(text=y.a)
""",
    "exit": """
@dsl.pipeline(name="it")
def it():
    with dsl.ExitHandler(last()):
        say(text="a")
""",
}


@pytest.mark.parametrize("name", SAME)
def test_what_kfp_local_gets_right_is_the_same_here(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oracle is kfp.local with a script for an engine: which commands are run, how often.

    What it gets wrong is not among these: it prints an integer in an f-string as
    3.0, and takes a condition on an output that is not called `Output` for false.
    """
    from google.protobuf import json_format
    from kfp import local
    from kfp.local import docker_task_handler, pipeline_orchestrator
    from kfp.pipeline_spec import pipeline_spec_pb2

    spec = compiled(SAME[name], tmp_path)
    theirs, ours = Script(), Script()

    def run_docker_container(command: list[str], **_: Any) -> int:
        for word in command:  # kfp.local leaves the directories to the step
            if word.startswith(str(tmp_path)):
                Path(word).parent.mkdir(parents=True, exist_ok=True)
        return theirs.run("i", command, task=command[0]).code

    class NoClient:
        def info(self) -> dict[str, Any]:
            return {}

        def close(self) -> None:
            pass

    monkeypatch.setattr(docker_task_handler, "run_docker_container", run_docker_container)
    monkeypatch.setattr("docker.from_env", NoClient)
    monkeypatch.setattr("kfp.local.config.LocalExecutionConfig.instance", None)
    local.init(local.DockerRunner(), pipeline_root=str(tmp_path / "theirs"), raise_on_error=True)
    pipeline_orchestrator.run_local_pipeline(
        json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec()), {}
    )
    assert Ran(spec, ours, tmp_path / "ours").message == ""

    def commands(engine: Script) -> list[list[str]]:
        """Without the paths, which are another run's, and as kfp.local prints lists."""
        return sorted(
            [word.replace('","', '", "') for word in command if not word.startswith("/")]
            for command in engine.commands
        )

    assert commands(ours) == commands(theirs)
    assert theirs.commands


def attempted(spec: dict[str, Any], root: Path, platforms: Mapping[str, Any]) -> tuple[str, Script]:
    """The message of a run of a hand-made IR, and its engine."""
    engine, tell = Script(), lambda *_: None
    executors = spec["deploymentSpec"]["executors"]
    steps = Steps(
        engine, executors, platforms, root=root / "runs" / "run", cluster=root / "c", tell=tell
    )
    recorder = Recorder(lambda _: None, tell)
    Graph(spec, steps.attempt, recorder, {}, 1).run({})
    return recorder.message(), engine


def test_a_secret_never_gets_on_a_command_line(tmp_path: Path) -> None:
    spec = ir_of({0: set()})
    secret = {"secretName": "s", "keyToEnv": [{"secretKey": "k", "envVar": "TOKEN"}]}
    platforms = {
        "platforms": {
            "kubernetes": {"deploymentSpec": {"executors": {"e": {"secretAsEnv": [secret]}}}}
        }
    }
    (tmp_path / "c" / "secrets" / "s").mkdir(parents=True)
    (tmp_path / "c" / "secrets" / "s" / "k").write_text("opensesame")
    container = spec["deploymentSpec"]["executors"]["e"]["container"]
    container["command"] = ["login", "--token=$(TOKEN)"]
    message, engine = attempted(spec, tmp_path, platforms)
    assert message.startswith("task 't0' failed: its command line has the secret $(TOKEN) in it")
    assert engine.commands == []
    container["command"] = ["login", "$(HOST)"]
    container["env"] = [{"name": "HOST", "value": "h"}]
    message, engine = attempted(spec, tmp_path, platforms)
    assert (message, engine.commands) == ("", [["login", "h"]])


@pytest.mark.parametrize("workspace", [False, True])
def test_imports(tmp_path: Path, workspace: bool) -> None:
    body = """
@dsl.container_component
def use(data: dsl.Input[dsl.Dataset]):
    return dsl.ContainerSpec(image="i", command=["use", data.path])
@dsl.pipeline(name="it")
def it(uri: str):
    imported = dsl.importer(artifact_uri=uri, artifact_class=dsl.Dataset, metadata={"from": uri})
    use(data=imported.output)
"""
    spec = compiled(body, tmp_path)
    importer = spec["deploymentSpec"]["executors"]["exec-importer"]["importer"]
    importer["downloadToWorkspace"] = workspace
    data = tmp_path / "what is there"
    data.mkdir()
    (data / "x").write_text("1")
    engine = Script()
    ended = Ran(spec, engine, tmp_path, uri=data.as_uri())
    assert ended.message == ""
    ((path,),) = engine.given("use")
    assert (path == str(data)) is not workspace
    assert (Path(path) / "x").read_text() == "1"
    lost = Ran(spec, engine, tmp_path, uri=data.as_uri() + "-not")
    assert f"there is no {data}-not to import" in lost.message
    remote = Ran(spec, engine, tmp_path, uri="s3://bucket/data")
    assert (remote.message == "") is not workspace


def ir_of(edges: Mapping[int, set[int]]) -> dict[str, Any]:
    """One component, run by a task a node; `edges`: node -> nodes before it."""
    tasks = {
        f"t{node}": {
            "componentRef": {"name": "comp-s"},
            "dependentTasks": [f"t{other}" for other in sorted(before)],
        }
        for node, before in edges.items()
    }
    return {
        "root": {"dag": {"tasks": tasks}},
        "components": {"comp-s": {"executorLabel": "e"}},
        "deploymentSpec": {"executors": {"e": {"container": {"image": "i"}}}},
    }


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[int, set[int]], set[int]]:
    size = draw(st.integers(1, 9))
    edges = {
        node: draw(st.sets(st.integers(0, node - 1), max_size=3)) if node else set[int]()
        for node in range(size)
    }
    order = draw(st.permutations(range(size)))  # as they stand in the IR
    return {node: edges[node] for node in order}, draw(st.sets(st.sampled_from(range(size))))


@settings(deadline=None, max_examples=60)
@given(graphs(), st.integers(1, 3))
def test_any_graph(drawn: tuple[dict[int, set[int]], set[int]], slots: int) -> None:
    """The oracle is the rule itself: a task runs when all before it succeeded."""
    edges, failing = drawn
    expected: dict[int, str] = {}
    for node in sorted(edges):
        if all(expected[other] == "SUCCEEDED" for other in edges[node]):
            expected[node] = "FAILED" if node in failing else "SUCCEEDED"
        else:
            expected[node] = "SKIPPED"
    ended: list[str] = []

    def attempt(job: Job) -> Values:
        node = int(job.name[1:])
        assert {f"t{other}" for other in edges[node]} <= set(ended)
        ended.append(job.name)
        if node in failing:
            raise StepError("no", again=True)
        return Values({}, {})

    states: dict[str, str] = {}
    recorder = Recorder(lambda task: states.__setitem__(task.name, task.state), lambda *_: None)
    outcome = Graph(ir_of(edges), attempt, recorder, {}, slots).run({})
    assert states == {f"t{node}": state for node, state in expected.items()}
    assert outcome.state == ("FAILED" if "FAILED" in expected.values() else "SUCCEEDED")


@pytest.mark.parametrize(("again", "attempts"), [(True, 3), (False, 1)])
def test_only_what_ran_and_failed_is_tried_again(again: bool, attempts: int) -> None:
    spec = ir_of({0: set()})
    spec["root"]["dag"]["tasks"]["t0"]["retryPolicy"] = {"maxRetryCount": 2}
    tried: list[str] = []

    def attempt(job: Job) -> Values:
        tried.append(job.name)
        raise StepError("no", again=again)

    recorder = Recorder(lambda _: None, lambda *_: None)
    Graph(spec, attempt, recorder, {}, 1).run({})
    assert (len(tried), recorder.message()) == (attempts, "task 't0' failed: no")


@pytest.mark.parametrize("limit", [1, 3])
def test_a_loop_runs_as_many_iterations_at_once_as_it_says(
    run: Callable[..., Ran], limit: int
) -> None:
    engine, lock, together = Script(), threading.Lock(), threading.Barrier(limit, timeout=300)
    running, most = 0, 0

    def during(_: str) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait()
        threading.Event().wait(0.02)  # for one too many to come
        with lock:
            running -= 1

    engine.during = during
    body = """
@dsl.pipeline(name="it")
def it():
    with dsl.ParallelFor([1, 2, 3, 4, 5, 6], parallelism=LIMIT) as n:
        count(n=n)
"""
    ended = run(body.replace("LIMIT", str(limit)), engine, slots=6)
    assert (ended.message, most, len(engine.ran)) == ("", limit, 6)


def test_pauses_between_attempts() -> None:
    task = {
        "retryPolicy": {
            "maxRetryCount": 3,
            "backoffDuration": "3s",
            "backoffFactor": 2.0,
            "backoffMaxDuration": "20s",
        }
    }
    retries = Retries.of(task)
    assert [retries.wait(attempt, 0) for attempt in range(4)] == [3, 6, 12, None]
    assert retries.wait(2, 9) is None  # 9 + 12 s is past the longest
    assert Retries.of({}).wait(0, 0) is None
    assert Retries.of({"retryPolicy": {"maxRetryCount": 1}}).wait(0, 5) == 0


@pytest.mark.parametrize(
    ("edges", "sentence"),
    [({0: {1}, 1: {0}}, "tasks wait for each other: t0, t1"), ({0: {7}}, "waits for 't7'")],
)
def test_graphs_that_could_never_end_are_refused(edges: dict[int, set[int]], sentence: str) -> None:
    (problem,) = supported.problems(ir_of(edges), {}, MACHINE)
    assert sentence in problem


def test_what_is_refused() -> None:
    def problems(spec: dict[str, Any], **kubernetes: Any) -> str:
        executors = {"e": kubernetes} if kubernetes else {}
        platforms = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}}
        return "; ".join(supported.problems(spec, platforms, MACHINE))

    assert problems(ir_of({0: set()})) == ""
    assert problems(ir_of({0: set()}), nodeSelector={"labels": {"a": "b"}}) == ""
    assert "Kubernetes' fieldPathAsEnv" in problems(ir_of({0: set()}), fieldPathAsEnv=[{}])
    hostile = ir_of({0: set()})
    hostile["root"]["dag"]["tasks"]["../../x"] = hostile["root"]["dag"]["tasks"].pop("t0")
    assert "'../../x' is not a name of a task" in problems(hostile)
    endless = ir_of({0: set()})
    endless["components"]["comp-s"] = {"dag": endless["root"]["dag"]}
    assert "task 't0' contains itself" in problems(endless)
    absent = ir_of({0: set()})
    absent["components"] = {}
    assert "component that is not there" in problems(absent)
    other = ir_of({0: set()})
    other["deploymentSpec"]["executors"]["e"] = {"customJob": {}}
    assert "neither a container nor an importer" in problems(other)


def test_an_output_that_an_iteration_did_not_make_is_not_collected() -> None:
    component = {"outputDefinitions": {"parameters": {"a": {}, "b": {}}, "artifacts": {"c": {}}}}
    each = [Values({"a": 1, "b": [1]}, {"c": [{"uri": "1"}]}), Values({"b": Collected([2, 3])}, {})]
    assert collected(component, each) == Values({"b": [[1], 2, 3]}, {})


@pytest.mark.parametrize(
    ("text", "result"),
    [("$(A)/$(B)", "1/$(B)"), ("$$(A)", "$(A)"), ("$$", "$"), ("$A ${A} $(", "$A ${A} $(")],
)
def test_variables_in_commands_as_kubernetes(text: str, result: str) -> None:
    assert expanded(text, {"A": "1"}) == result


def test_a_variable_refers_to_those_before_it() -> None:
    env = [
        {"name": "B", "value": "$(A)"},
        {"name": "A", "value": "1"},
        {"name": "C"},
        {"name": "D", "value": "$(A)2"},
    ]
    assert variables(env) == {"B": "$(A)", "A": "1", "C": "", "D": "12"}
