"""The embedded Kubeflow on a real engine: images from a registry, pulled by digest.

The traps of a local run, closed one by one. The oracle is the engine: what it
still holds after a run, and what the containers really printed.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from ci_tools.errors import ConfigError, KubeflowError, UploadConflictError
from ci_tools.kubeflow import containers, ir
from ci_tools.kubeflow.wanted import Wanted
from tests.integration import kubeflow_bench, registries
from tests.integration.kubeflow_bench import Bench, wanted

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def engine() -> Iterator[Any]:
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registries.registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture(scope="module")
def tiny(engine: Any, registry: str) -> Iterator[str]:
    """A static busybox by digest, not on the engine: a run has to pull it."""
    yield from kubeflow_bench.image(engine, f"{registry}/kfp-ci-test/tiny", [])


@pytest.fixture(scope="module")
def stubborn(engine: Any, registry: str) -> Iterator[str]:
    """The same with an ENTRYPOINT that would swallow any command."""
    yield from kubeflow_bench.image(
        engine, f"{registry}/kfp-ci-test/stubborn", ['ENTRYPOINT ["/bin/echo", "ENTRYPOINT RAN"]']
    )


@pytest.fixture
def bench(tmp_path: Path, engine: Any) -> Bench:
    return Bench(tmp_path, engine)


CHAIN = """
make = step("Make", 'echo $0 rows > "$1"; echo 0.5 > "$2"', "{name: rows, type: Integer}",
            "{name: data, type: Dataset}, {name: accuracy, type: Float}",
            ", {inputValue: rows}, {outputPath: data}, {outputPath: accuracy}")
use = step("Use", 'cat "$0"; id -u; echo done > "$1"', "{name: data, type: Dataset}",
           "{name: note, type: String}", ", {inputPath: data}, {outputPath: note}")

@dsl.pipeline(name="it")
def it(rows: int = 3, note: str = None) -> float:
    made = make(rows=rows)
    use(data=made.outputs["data"])
    return made.outputs["accuracy"]
"""


def test_outputs_parameters_and_artifacts_come_back(bench: Bench, tiny: str) -> None:
    run = bench.run(tiny, CHAIN, rows="7")
    assert (run.state, run.message) == ("SUCCEEDED", "")
    assert run.parameters == {"rows": 7, "note": None}
    assert run.outputs == {"Output": 0.5}
    assert run.metrics == {"Output": 0.5}
    data = run.artifacts["make.data"]
    assert data.type == "system.Dataset"
    path = Path(data.uri.removeprefix("file://"))
    assert path.read_text() == "7 rows\n"
    assert data.sha256 == hashlib.sha256(b"7 rows\n").hexdigest()
    assert path.stat().st_uid == os.getuid()
    log = bench.log.read_text()
    assert "[use] 7 rows" in log
    assert f"[use] {os.getuid()}" in log


def test_failing_task_fails_the_run_with_code_and_last_lines(bench: Bench, tiny: str) -> None:
    run = bench.run(
        tiny,
        """
boom = step("Boom", "echo before; echo the disk is gone >&2; exit 42")
after = step("After", "echo NEVER")
@dsl.pipeline(name="it")
def it():
    after().after(boom())
""",
    )
    assert run.state == "FAILED"
    assert "'boom'" in run.message
    assert "exit code 42" in run.message
    assert "the disk is gone" in run.message
    assert "NEVER" not in bench.log.read_text().replace("echo NEVER", "")


def test_instant_exit_is_not_a_pass(bench: Bench, tiny: str) -> None:
    """kubeflow/pipelines #13332: with automatic removal this read as success."""
    run = bench.run(
        tiny,
        """
quick = step("Quick", "exit 3")
@dsl.pipeline(name="it")
def it():
    quick()
""",
    )
    assert run.state == "FAILED"
    assert "exit code 3" in run.message


def test_command_replaces_entrypoint(bench: Bench, stubborn: str) -> None:
    run = bench.run(
        stubborn,
        """
hello = step("Hello", "echo the command ran; exit 5")
@dsl.pipeline(name="it")
def it():
    hello()
""",
    )
    assert run.state == "FAILED"
    assert "exit code 5" in run.message
    log = bench.log.read_text()
    assert "[hello] the command ran" in log
    assert "ENTRYPOINT RAN" not in log


def test_without_a_command_fails_as_on_a_cluster(bench: Bench, stubborn: str) -> None:
    run = bench.run(
        stubborn,
        """
bare = components.load_component_from_text(
    f"name: Bare\\nimplementation: {{container: {{image: '{IMAGE}'}}}}")
@dsl.pipeline(name="it")
def it():
    bare()
""",
    )
    assert run.state == "FAILED"
    assert "no command" in run.message


def test_unknown_command_names_it(bench: Bench, tiny: str) -> None:
    run = bench.run(
        tiny,
        """
lost = components.load_component_from_text(
    f"name: Lost\\nimplementation: {{container: {{image: '{IMAGE}', command: [no-such-program]}}}}")
@dsl.pipeline(name="it")
def it():
    lost()
""",
    )
    assert run.state == "FAILED"
    assert "'lost'" in run.message
    assert "no-such-program" in run.message


def test_image_that_cannot_be_pulled(bench: Bench, registry: str) -> None:
    run = bench.run(
        f"{registry}/kfp-ci-test/absent@sha256:{'0' * 64}",
        """
go = step("Go", "true")
@dsl.pipeline(name="it")
def it():
    go()
""",
    )
    assert run.state == "FAILED"
    assert "kfp-ci-test/absent" in run.message


def test_declared_but_unwritten_parameter_fails(bench: Bench, tiny: str) -> None:
    run = bench.run(
        tiny,
        """
mute = step("Mute", "true", outputs="{name: score, type: Float}", extra=", {outputPath: score}")
@dsl.pipeline(name="it")
def it():
    mute()
""",
    )
    assert run.state == "FAILED"
    assert "'score'" in run.message


def test_exit_handler_runs_after_a_failure(bench: Bench, tiny: str) -> None:
    run = bench.run(
        tiny,
        """
boom = step("Boom", "exit 9")
@dsl.container_component
def tidy(status: dsl.PipelineTaskFinalStatus):
    return dsl.ContainerSpec(image=IMAGE, command=["sh", "-c", "echo tidied up: $0"], args=[status])
@dsl.pipeline(name="it")
def it():
    with dsl.ExitHandler(tidy()):
        boom()
""",
    )
    assert run.state == "FAILED"
    assert "exit code 9" in run.message
    assert "[tidy] tidied up" in bench.log.read_text()


def test_loops_keep_their_outputs_apart(bench: Bench, tiny: str) -> None:
    run = bench.run(
        tiny,
        """
make = step("Make", 'echo $0 > "$1"', "{name: n, type: Integer}", "{name: data, type: Dataset}",
            ", {inputValue: n}, {outputPath: data}")
@dsl.pipeline(name="it")
def it():
    with dsl.ParallelFor([1, 2, 3]) as n:
        make(n=n)
""",
    )
    assert run.state == "SUCCEEDED", run.message
    contents = [Path(it.uri.removeprefix("file://")).read_text() for it in run.artifacts.values()]
    assert sorted(contents) == ["1\n", "2\n", "3\n"]


def test_conditions_are_evaluated(bench: Bench, tiny: str) -> None:
    run = bench.run(
        tiny,
        """
score = step("Score", 'echo 0.9 > "$0"', outputs="{name: value, type: Float}",
             extra=", {outputPath: value}")
good = step("Good", "echo above")
bad = step("Bad", "echo below")
@dsl.pipeline(name="it")
def it():
    value = score().outputs["value"]
    with dsl.If(value > 0.5):
        good()
    with dsl.Else():
        bad()
""",
    )
    assert run.state == "SUCCEEDED", run.message
    assert "[good] above" in bench.log.read_text()
    assert "[bad]" not in bench.log.read_text()


def test_a_condition_over_any_text(bench: Bench, tiny: str) -> None:
    """kfp.local puts the text into Python code; this one it warned of, and took for false."""
    run = bench.run(
        tiny,
        """
word = step("Word", 'printf "it\\\\47s" > "$0"', outputs="{name: value, type: String}",
            extra=", {outputPath: value}")
branch = step("Branch", "echo in the branch")
@dsl.pipeline(name="it")
def it():
    with dsl.If(word().outputs["value"] != "x"):
        branch()
""",
    )
    assert run.state == "SUCCEEDED", run.message
    assert "[branch] in the branch" in bench.log.read_text()


def test_a_condition_that_kubeflow_cannot_evaluate_is_no_pass(bench: Bench, tiny: str) -> None:
    """kfp's compiler does not escape the quote, so that the expression is none."""
    run = bench.run(
        tiny,
        """
word = step("Word", 'printf x > "$0"', outputs="{name: value, type: String}",
            extra=", {outputPath: value}")
branch = step("Branch", "echo in the branch")
@dsl.pipeline(name="it")
def it():
    with dsl.If(word().outputs["value"] != "it's"):
        branch()
""",
    )
    assert "[branch]" not in bench.log.read_text()
    assert run.state == "FAILED"
    assert "'condition-1' failed: the expression" in run.message


def test_metrics_that_a_step_reports(bench: Bench, tiny: str) -> None:
    run = bench.run(
        tiny,
        r'''
FOUND = '{"artifacts": {"scores": {"artifacts": [{"name": "scores", "metadata": {"auc": 0.75}}]}}}'
SCRIPT = r"""echo "$1" > $(echo "$0" | sed 's/.*"outputFile": *"\([^"]*\)".*/\1/')"""
@dsl.container_component
def measure(scores: dsl.Output[dsl.Metrics]):
    return dsl.ContainerSpec(image=IMAGE, command=["sh", "-c", SCRIPT, "{{$}}"], args=[FOUND])
@dsl.pipeline(name="it")
def it():
    measure()
''',
    )
    assert run.state == "SUCCEEDED", run.message
    assert run.metrics == {"auc": 0.75}
    assert run.artifacts["measure.scores"].uri.endswith("/measure/scores")


IMPORT = """
use = step("Use", 'cat "$0"; echo x >> "$0"', "{name: data, type: Dataset}", "",
           ", {inputPath: data}")
@dsl.pipeline(name="it")
def it(uri: str):
    use(data=dsl.importer(artifact_uri=uri, artifact_class=dsl.Dataset).output)
"""


def test_an_earlier_runs_artifact_can_be_imported_but_not_changed(bench: Bench, tiny: str) -> None:
    data = bench.run(tiny, CHAIN).artifacts["make.data"]
    run = bench.run(tiny, IMPORT, uri=data.uri)
    assert "[use] 3 rows" in bench.log.read_text()
    assert run.state == "FAILED"
    assert "Read-only file system" in run.message
    assert Path(data.uri.removeprefix("file://")).read_text() == "3 rows\n"
    lost = bench.run(tiny, IMPORT, uri=data.uri + "-lost")
    assert lost.state == "FAILED"
    assert "data-lost to import" in lost.message


def test_containers_of_another_user_have_a_home(engine: Any, tiny: str) -> None:
    lines: list[str] = []
    ended = containers.run(
        engine, tiny, ["sh", "-c", "id -u; echo $HOME"], {}, lines.append, user="12345:12345"
    )
    assert ended == containers.Ended(0, "")
    assert lines == ["12345", "/tmp"]


SLEEP = """
slow = step("Slow", "echo sleeping; exec sleep 600")
@dsl.pipeline(name="it")
def it():
    for _ in range(3):
        slow()
"""


def test_timeout_stops_and_removes_the_containers(bench: Bench, tiny: str) -> None:
    for seconds in (12, 60, 300):  # a busy machine needs longer until they sleep
        run = bench.run(tiny, SLEEP, timeout=seconds)
        assert run.state == "TIMEOUT"
        if "sleeping" in bench.log.read_text():
            break
    assert "sleeping" in bench.log.read_text()


def test_interrupt_leaves_nothing_behind(bench: Bench, tiny: str) -> None:
    path = bench.compile(tiny, SLEEP)
    program = f"""
import signal, sys
from pathlib import Path
from ci_tools.kubeflow.wanted import Wanted
from ci_tools.kubeflow import ir
from ci_tools.kubeflow.embedded import EmbeddedKubeflow
from ci_tools import process
def stop(*_):
    process.stop_all()
signal.signal(signal.SIGTERM, stop)
path = Path({str(path)!r})
kubeflow = EmbeddedKubeflow(Path({str(bench.directory / "home")!r}))
up = kubeflow.upload(Wanted("it", path, ir.canonical_sha256(ir.load(path)), "v"))
run = kubeflow.launch("it", up, parameters={{}}, job_name="t", timeout=300,
                      log=Path({str(bench.log)!r}))
print(run.state, run.run_id)
"""
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        for _ in range(3000):
            if bench.log.exists() and "[slow] sleeping" in bench.log.read_text():
                break
            time.sleep(0.1)
        else:
            pytest.fail("the run did not start: " + bench.log.read_text())
        child.terminate()
        output, _ = child.communicate(timeout=300)
    finally:
        child.kill()
    state, run_id = output.split()
    assert state == "CANCELED"
    assert bench.left_behind(run_id) == []


def test_wrong_parameters_start_nothing(bench: Bench, tiny: str) -> None:
    path = bench.compile(tiny, CHAIN)
    upload = bench.kubeflow.upload(wanted(path, "v"))
    with pytest.raises(ConfigError, match="Did you mean 'rows'"):
        bench.kubeflow.launch(
            "it", upload, parameters={"row": 1}, job_name="t", timeout=60, log=bench.log
        )
    assert not bench.log.exists()


def test_catalogue_keeps_the_servers_rules(bench: Bench, tiny: str) -> None:
    path = bench.compile(tiny, CHAIN)
    sha256 = ir.canonical_sha256(ir.load(path))

    def upload(version: str = "v1.2") -> Any:
        return bench.kubeflow.upload(wanted(path, version))

    first = upload()
    assert (first.created, first.sha256) == (True, sha256)
    path.write_text("# another layout\n" + path.read_text())
    again = upload()
    assert (again.created, again.version_id) == (False, first.version_id)
    path.write_text(path.read_text().replace("echo $0 rows", "echo $0 lines"))
    with pytest.raises(UploadConflictError):
        upload()
    assert upload("v1.3").created
    with pytest.raises(ConfigError):
        upload("../../outside")
    with pytest.raises(KubeflowError, match="changed since"):
        bench.kubeflow.upload(Wanted("it", path, sha256, "v9"))
