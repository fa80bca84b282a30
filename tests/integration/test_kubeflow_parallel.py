"""Local runs on a real engine: what runs at once, what a failure stops, what limits do.

Steps meet in the workspace, which all of a run share: one that waits for the
other's file passes only if both run at the same time. No test reads a clock.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import docker
import pytest

from ci_tools.errors import KubeflowError
from ci_tools.kubeflow import containers
from ci_tools.kubeflow.progress import Task
from tests.integration import kubeflow_bench, registries
from tests.integration.kubeflow_bench import Bench

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="module")
def tiny(engine: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registries.registry(tmp_path_factory.mktemp("registry")) as host:
        yield from kubeflow_bench.image(engine, f"{host}/kfp-ci-test/parallel", [])


@pytest.fixture
def bench(tmp_path: Path, engine: Any) -> Bench:
    return Bench(tmp_path, engine, parallel=4)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


MEET = """
meet = step("Meet", 'cd /kfp-workspace; touch "$0"; n=0; until [ -e "$1" ]; do '
            'n=$((n+1)); [ $n -lt "$2" ] || exit 4; sleep 0.1; done; echo met "$1"',
            "{name: me, type: String}, {name: other, type: String}, {name: tries, type: Integer}",
            "", ", {inputValue: me}, {inputValue: other}, {inputValue: tries}")
@dsl.pipeline(name="it")
def it(tries: int = 3000):
    meet(me="a", other="b", tries=tries)
    meet(me="b", other="a", tries=tries)
"""


def test_branches_run_at_the_same_time(bench: Bench, tiny: str) -> None:
    run = bench.run(tiny, MEET)
    assert run.state == "SUCCEEDED", run.message
    assert "[meet] met b" in bench.log.read_text()
    tasks = bench.log.with_suffix(".tasks")
    assert lines(tasks / "meet.log") == ["met b"]
    assert lines(tasks / "meet-2.log") == ["met a"]


def test_no_more_steps_at_once_than_allowed(tmp_path: Path, engine: Any, tiny: str) -> None:
    run = Bench(tmp_path, engine, parallel=1).run(tiny, MEET, tries=5)
    assert run.state == "FAILED"
    assert "'meet' failed: exit code 4" in run.message


def test_a_diamond_keeps_its_order(bench: Bench, tiny: str) -> None:
    run = bench.run(
        tiny,
        """
mark = step("Mark", 'echo "$0" >> /kfp-workspace/order', "{name: me, type: String}", "",
            ", {inputValue: me}")
@dsl.pipeline(name="it")
def it():
    top = mark(me="top")
    left, right = mark(me="left").after(top), mark(me="right").after(top)
    mark(me="bottom").after(left, right)
""",
    )
    assert run.state == "SUCCEEDED", run.message
    first, *middle, last = lines(bench.workspace() / "order")
    assert (first, sorted(middle), last) == ("top", ["left", "right"], "bottom")


def test_a_failure_stops_what_depends_on_it_and_nothing_else(bench: Bench, tiny: str) -> None:
    seen: list[Sequence[Task]] = []
    run = bench.run(
        tiny,
        """
boom = step("Boom", "echo the disk is gone; exit 9")
crash = step("Crash", "exit 8")
fine = step("Fine", "echo fine >> /kfp-workspace/ran")
after = step("After", "echo after >> /kfp-workspace/ran")
tidy = step("Tidy", "echo tidy >> /kfp-workspace/ran")
@dsl.pipeline(name="it")
def it():
    with dsl.ExitHandler(tidy()):
        broken = boom()
        after().after(after().after(broken))
        fine().after(fine())
        crash()
""",
        watch=seen.append,
    )
    assert run.state == "FAILED"
    assert "task 'boom' failed: exit code 9\nthe disk is gone" in run.message
    assert "task 'crash' failed: exit code 8" in run.message
    assert lines(bench.workspace() / "ran") == ["fine", "fine", "tidy"]
    assert {task.name: task.state for task in seen[-1]} == {
        "boom": "FAILED",
        "after": "SKIPPED",
        "after-2": "SKIPPED",
        "crash": "FAILED",
        "fine": "SUCCEEDED",
        "fine-2": "SUCCEEDED",
        "tidy": "SUCCEEDED",
    }


LOOP = """
inside = step("Inside", 'mkdir -p /kfp-workspace/in; cd /kfp-workspace; touch "in/$0"; '
              'ls in | wc -l >> counts; n=0; '
              'while [ "$1" != 1 ] && [ ! -e met ] && [ $n -lt 3000 ]; do n=$((n+1)); sleep 0.1; '
              '[ $(ls in | wc -l) -lt "$1" ] || touch met; done; '
              '[ "$1" = 1 ] || [ -e met ] || exit 4; ls in | wc -l >> counts; rm "in/$0"',
              "{name: n, type: Integer}, {name: limit, type: Integer}", "",
              ", {inputValue: n}, {inputValue: limit}")
@dsl.pipeline(name="it")
def it(limit: int = LIMIT):
    with dsl.ParallelFor([1, 2, 3, 4, 5], parallelism=LIMIT) as n:
        inside(n=n, limit=limit)
"""


@pytest.mark.parametrize("limit", [1, 2])
def test_a_loop_keeps_its_parallelism(bench: Bench, tiny: str, limit: int) -> None:
    run = bench.run(tiny, LOOP.replace("LIMIT", str(limit)))
    assert run.state == "SUCCEEDED", run.message
    counts = [int(line) for line in lines(bench.workspace() / "counts")]
    assert (len(counts), max(counts)) == (10, limit)


def test_conditions_in_loops_and_what_loops_collect(bench: Bench, tiny: str) -> None:
    run = bench.run(
        tiny,
        """
big = step("Big", 'echo "$0" >> /kfp-workspace/big', "{name: n, type: Integer}", "",
           ", {inputValue: n}")
make = step("Make", 'echo "$0" > "$1"; printf "$0" > "$2"', "{name: n, type: Integer}",
            "{name: data, type: Dataset}, {name: word, type: Integer}",
            ", {inputValue: n}, {outputPath: data}, {outputPath: word}")
@dsl.container_component
def total(words: list, data: dsl.Input[list[dsl.Dataset]]):
    return dsl.ContainerSpec(image=IMAGE, command=["sh", "-c", 'echo "$0"; echo "$1"', words, data])
@dsl.pipeline(name="it")
def it(items: list[int] = [3, 1, 2]):
    with dsl.ParallelFor(items) as n:
        made = make(n=n)
        with dsl.If(n >= 2):
            big(n=n)
    total(words=dsl.Collected(made.outputs["word"]), data=dsl.Collected(made.outputs["data"]))
""",
    )
    assert run.state == "SUCCEEDED", run.message
    assert sorted(lines(bench.workspace() / "big")) == ["2", "3"]
    words, data = lines(bench.log.with_suffix(".tasks") / "total.log")
    assert words == "[3,1,2]"
    assert [Path(it["uri"]).read_text() for it in json.loads(data)] == ["3\n", "1\n", "2\n"]
    uris = [run.artifacts[name].uri for name in ("make.data", "make.data-2", "make.data-3")]
    assert [Path(uri.removeprefix("file://")).read_text() for uri in uris] == ["3\n", "1\n", "2\n"]


@pytest.mark.parametrize(("n", "word"), [(3, "more"), (2, "less")])
def test_the_output_of_whichever_branch_ran(bench: Bench, tiny: str, n: int, word: str) -> None:
    run = bench.run(
        tiny,
        """
say = step("Say", 'printf "$0" > "$1"', "{name: text, type: String}",
           "{name: word, type: String}", ", {inputValue: text}, {outputPath: word}")
@dsl.pipeline
def choose(n: int, greeting: str = None) -> str:
    with dsl.If(n > 2):
        one = say(text="more")
    with dsl.Else():
        two = say(text="less")
    return dsl.OneOf(one.outputs["word"], two.outputs["word"])
@dsl.pipeline(name="it")
def it(n: int) -> str:
    chosen = choose(n=n)
    return say(text=f"it is {chosen.output}").outputs["word"]
""",
        n=n,
    )
    assert run.outputs == {"Output": f"it is {word}"}, run.message


def test_a_retry_begins_anew(bench: Bench, tiny: str) -> None:
    run = bench.run(
        tiny,
        """
shaky = step("Shaky", '[ ! -e "$0.left" ] || exit 5; touch "$0.left"; '
             '[ -e /kfp-workspace/tried ] || { touch /kfp-workspace/tried; exit 7; }; '
             'echo second > "$0"', "", "{name: data, type: Dataset}", ", {outputPath: data}")
hopeless = step("Hopeless", "echo again >> /kfp-workspace/hopeless; exit 3")
@dsl.pipeline(name="it")
def it():
    shaky().set_retry(2)
    hopeless().set_retry(2)
""",
    )
    assert "shaky" not in run.message
    assert "task 'hopeless' failed: exit code 3" in run.message
    assert lines(bench.workspace() / "hopeless") == ["again"] * 3
    assert "[shaky] attempt 1 of 3 failed: exit code 7" in bench.log.read_text()
    assert Path(run.artifacts["shaky.data"].uri.removeprefix("file://")).read_text() == "second\n"


def test_out_of_memory_is_told_with_its_limit(bench: Bench, tiny: str) -> None:
    run = bench.run(
        tiny,
        """
greedy = step("Greedy", "exec dd if=/dev/zero of=/dev/null bs=256M count=2")
@dsl.pipeline(name="it")
def it(limit: str = "24Mi"):
    greedy().set_memory_limit(limit)
""",
    )
    assert run.state == "FAILED"
    assert "out of memory (limit 24Mi)" in run.message


LIMITED = """
wait = step("Wait", 'n=0; until [ -e /kfp-workspace/go ]; do n=$((n+1)); '
            '[ $n -lt 6000 ] || exit 4; sleep 0.1; done')
@dsl.pipeline(name="it")
def it():
    wait().set_cpu_limit("250m").set_memory_limit("100G").set_memory_request("50Mi")
"""


def test_limits_reach_the_container_and_no_more_than_the_machine_has(
    bench: Bench, engine: Any, tiny: str
) -> None:
    found: list[dict[str, Any]] = []

    def inspect(tasks: Sequence[Task]) -> None:
        while not found and tasks[0].state == "RUNNING":
            for container in engine.containers.list(
                filters={"label": f"{containers.TASK_LABEL}=wait"}, ignore_removed=True
            ):
                if container.attrs["Config"]["Image"] == tiny:
                    found.append(container.attrs["HostConfig"])
                    (bench.workspace() / "go").touch()

    run = bench.run(tiny, LIMITED, watch=inspect)
    assert run.state == "SUCCEEDED", run.message
    total = engine.info()["MemTotal"]
    assert found[0]["NanoCpus"] == 250_000_000
    assert found[0]["Memory"] == found[0]["MemorySwap"] == total < 100 * 10**9
    assert "[wait] note: its limit of 100G of memory is capped" in bench.log.read_text()


def test_an_accelerator_that_is_not_there_is_refused(bench: Bench, tiny: str) -> None:
    with pytest.raises(KubeflowError, match=r"step 'learn': it asks for 1 x example\.com/tpu"):
        bench.run(
            tiny,
            """
learn = step("Learn", "echo RAN")
@dsl.pipeline(name="it")
def it():
    learn().set_accelerator_type("example.com/tpu").set_accelerator_limit(1)
""",
        )
    assert "RAN" not in bench.log.read_text()


KUBERNETES = """
from kfp import kubernetes
show = step("Show", 'cat /etc/settings/colour; cat /scratch/x || echo empty > /scratch/x; '
            'echo ${#TOKEN} letters; echo kept >> /claim/kept; cat /claim/kept')
slow = step("Slow", "exec sleep 600")
@dsl.pipeline(name="it")
def it():
    task = show()
    kubernetes.use_secret_as_env(task, "service", {"token": "TOKEN"})
    kubernetes.use_config_map_as_volume(task, "settings", mount_path="/etc/settings")
    kubernetes.mount_pvc(task, pvc_name="claim", mount_path="/claim")
    kubernetes.empty_dir_mount(task, volume_name="scratch", mount_path="/scratch")
    kubernetes.add_node_selector(task, "disk", "fast")
    kubernetes.set_timeout(slow(), 1)
"""


def test_what_a_cluster_would_give(bench: Bench, tiny: str) -> None:
    cluster = bench.directory / "home" / "cluster"
    run = bench.run(tiny, KUBERNETES)
    missing = cluster / "secrets" / "service" / "token"
    assert f"task 'show' failed: it needs service/token of the cluster; put it at {missing}" in (
        run.message
    )
    missing.parent.mkdir(parents=True)
    missing.write_text("opensesame")
    (cluster / "config_maps" / "settings").mkdir(parents=True)
    (cluster / "config_maps" / "settings" / "colour").write_text("blue\n")
    run = bench.run(tiny, KUBERNETES)
    assert run.message.startswith("task 'slow' failed: stopped at its time-out of 1 s")
    assert "show" not in run.message
    log = bench.log.read_text()
    for line in (
        "blue",
        "10 letters",
        "kept",
        "note: this machine has no use for its node selector",
    ):
        assert f"[show] {line}\n" in log
    assert (cluster / "volumes" / "claim" / "kept").read_text() == "kept\n"
    assert "opensesame" not in log


def test_nothing_is_taken_from_a_cache(bench: Bench, tiny: str) -> None:
    body = """
again = step("Again", "echo really ran")
@dsl.pipeline(name="it")
def it():
    again().set_caching_options(True)
"""
    for _ in range(2):
        assert bench.run(tiny, body).state == "SUCCEEDED"
        assert "[again] really ran" in bench.log.read_text()


def test_whoever_watches_sees_every_change(bench: Bench, tiny: str) -> None:
    seen: list[Sequence[Task]] = []
    run = bench.run(
        tiny,
        """
first = step("First", "true")
second = step("Second", "true")
@dsl.pipeline(name="it")
def it():
    with dsl.ParallelFor([1, 2]) as n:
        second().after(first())
""",
        watch=seen.append,
    )
    assert run.state == "SUCCEEDED", run.message
    order = ["PENDING", "RUNNING", "SUCCEEDED"]
    for name in ("for-loop-2", "first#0", "second#0", "first#1", "second#1"):
        states = [task.state for tasks in seen for task in tasks if task.name == name]
        assert states == sorted(states, key=order.index)
        assert states[-1] == "SUCCEEDED"
    assert all(task.seconds is not None for task in seen[-1])


def test_a_timeout_ends_all_that_runs(bench: Bench, tiny: str) -> None:
    seen: list[Sequence[Task]] = []
    run = bench.run(
        tiny,
        """
slow = step("Slow", "exec sleep 600")
@dsl.pipeline(name="it")
def it():
    slow()
    slow()
    slow().after(slow())
""",
        timeout=12,
        watch=seen.append,
    )
    assert run.state == "TIMEOUT"
    assert [task.state for task in seen[-1]] == ["CANCELED"] * 4


def test_what_a_watcher_raises_is_not_lost(bench: Bench, tiny: str) -> None:
    def refuse(tasks: Sequence[Task]) -> None:
        raise RuntimeError(f"cannot show {len(tasks)}")

    with pytest.raises(RuntimeError, match="cannot show 2"):
        bench.run(tiny, MEET, watch=refuse)
