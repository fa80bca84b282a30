"""What the registry keeps of training tests: what is unchanged, and main's last run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ci import records, release, train
from ci_tools.config_kubeflow import Bound
from ci_tools.config_training import Expect
from ci_tools.documents import Artifact
from ci_tools.errors import (
    ExpectationError,
)
from tests.fakes import registry as fake_registry
from tests.fakes.training import TWO, World, declaring, made
from tests.unit.test_kubeflow_server import spec


@pytest.fixture
def world(repository: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with made(repository, monkeypatch) as one:
        yield one


# unchanged ----------------------------------------------------------------------------------


def test_what_passed_is_not_run_again_until_something_that_it_depends_on_changes(
    world: World,
) -> None:
    world.tests = {"training": TWO}
    world.commit()
    first = world.train()
    assert not any(run.unchanged for run in first.runs)
    second = world.train()
    assert [run.unchanged for run in second.runs] == [True, True]
    assert [run.run_id for run in second.runs] == [run.run_id for run in first.runs]
    assert second.runs[0].notes[0].startswith(f"unchanged since run {first.runs[0].run_id} of")
    assert second.runs[0].log == ""
    assert len(world.kubeflow.runs) == 2
    assert world.cases()["train.training/smoke.run"].startswith("skipped: unchanged since run")
    train.raise_failures(second)


def test_a_changed_component_changes_the_ir_and_with_it_the_verdict(world: World) -> None:
    """The IR names every component's image by digest."""
    world.tests = {"training": TWO}
    world.commit()
    world.train()
    digest = "sha256:" + "a" * 64
    assert digest in world.pipelines["training"]
    world.pipelines["training"] = spec().replace(digest, "sha256:" + "b" * 64)
    world.commit()
    assert [run.unchanged for run in world.train().runs] == [False, False]
    world.pipelines["training"] = "# another comment\n" + world.pipelines["training"]
    world.commit()
    assert [run.unchanged for run in world.train().runs] == [True, True]


def test_only_the_test_that_changed_runs(world: World) -> None:
    world.tests = {"training": TWO}
    world.commit()
    world.train()
    world.tests["training"] = TWO.replace("rows: 2", "rows: 3")
    world.commit()
    assert [(run.test, run.unchanged) for run in world.train().runs] == [
        ("smoke", True), ("full", False),
    ]  # fmt: skip
    assert [run.unchanged for run in world.train(parameters={"rows": 1}).runs] == [True, True]


def test_again_and_a_name_run_it_all_the_same(world: World) -> None:
    world.tests = {"training": TWO}
    world.commit()
    world.train()
    assert [run.unchanged for run in world.train(again=True).runs] == [False, False]
    assert [run.unchanged for run in world.train("training/smoke").runs] == [False]
    assert len(world.kubeflow.runs) == 5


def test_what_failed_or_was_not_good_enough_runs_again(world: World) -> None:
    world.tests = {"training": declaring(smoke="{expect: {metrics: {accuracy: {min: 0.99}}}}")}
    world.commit()
    world.train()
    world.kubeflow.states = ["FAILED"]
    world.train()
    world.train()
    assert len(world.kubeflow.runs) == 3


def test_what_was_made_on_another_machine_is_made_again(world: World, tmp_path: Path) -> None:
    world.tests = {"training": declaring(smoke="{expect: {outputs: {model: {min_bytes: 3}}}}")}
    world.commit()
    model = tmp_path / "my model"
    model.write_bytes(b"1234")
    world.artifacts = {"model": Artifact(uri=model.as_uri(), sha256="0" * 64)}
    (run,) = world.train().runs
    assert run.artifacts["model"].size == 4
    assert world.train().runs[0].unchanged
    model.unlink()
    (run,) = world.train().runs
    assert not run.unchanged
    assert run.unmet == ["output model was not written"]


def test_an_unchanged_run_counts_for_the_release_though_its_version_is_another() -> None:
    from tests.unit.test_release import everything

    inputs = everything()
    inputs["runs"].runs[0].version_id = "of an earlier commit"
    assert release.assemble(**inputs).problems == ["the training test of 'training' was not run"]
    inputs["runs"].runs[0].unchanged = True
    inputs["runs"].runs[0].sha256 = "s"
    assert release.assemble(**inputs).problems == []
    inputs["runs"].runs[0].sha256 = "another"
    assert release.assemble(**inputs).problems != []


def test_the_key_depends_on_all_that_decides_a_verdict_and_on_nothing_else() -> None:
    base = ("dev", "p", "0" * 64, {"a": 1, "b": [2]}, Expect())
    keys = {records.key(*base)}
    for number, other in enumerate(
        ("prod", "q", "1" * 64, {"a": 2, "b": [2]}, Expect(metrics={"m": Bound(min=1)}))
    ):
        keys.add(records.key(*base[:number], other, *base[number + 1 :]))  # type: ignore[arg-type]
    assert len(keys) == 6
    assert records.key("dev", "p", "0" * 64, {"b": [2], "a": 1}, Expect()) in keys


# the baseline -------------------------------------------------------------------------------


COMPARED = declaring(
    smoke="{expect: {metrics: {accuracy: {main: {relative: 0.01, better: higher}}}}}"
)


def test_mains_last_passed_run_is_what_a_branch_is_compared_with(world: World) -> None:
    world.tests = {"training": COMPARED}
    world.commit()
    (run,) = world.train().runs
    assert run.baseline is None
    assert run.notes == ["metrics.accuracy.main: main has no passed run of this test yet"]
    case = world.cases()["train.training/smoke.metrics.accuracy.main"]
    assert case == "skipped: main has no passed run of this test yet"
    world.repository.git("checkout", "-q", "-b", "feature")
    world.metrics = {"accuracy": 0.90}
    training = world.train("training")
    assert training.runs[0].baseline is not None
    assert training.runs[0].baseline.run_id == run.run_id
    assert training.runs[0].baseline.commit == world.workspace().source.commit
    with pytest.raises(ExpectationError, match=r"behind main's 0\.95"):
        train.raise_failures(training)


def _branch(world: World) -> None:
    world.repository.git("checkout", "-q", "-b", "feature")


def _dirty(world: World) -> None:
    world.repository.write("pipelines/new.py", "")


@pytest.mark.parametrize(
    ("change", "environment", "options", "metrics"),
    [
        (_branch, {}, {}, {"accuracy": 0.9}),
        (_dirty, {}, {}, {"accuracy": 0.9}),
        (lambda _: None, {"CHANGE_ID": "7"}, {}, {"accuracy": 0.9}),
        (lambda _: None, {}, {"parameters": {"rows": 4}}, {"accuracy": 0.9}),
        (lambda _: None, {}, {}, {}),  # a run that does not pass
    ],
)
def test_nobody_else_writes_the_baseline(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    change: Any,
    environment: Any,
    options: Any,
    metrics: dict[str, float],
) -> None:
    world.tests = {"training": declaring(smoke="{expect: {metrics: {accuracy: {}}}}")}
    world.commit()
    change(world)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    world.metrics = metrics
    world.train(again=True, **options)
    kept = records.Records(world.workspace())
    assert kept.baseline("training", "smoke")[0] is None


def test_a_build_of_main_writes_it(world: World) -> None:
    world.tests = {"training": declaring(smoke="{expect: {metrics: {accuracy: {}}}}")}
    world.commit()
    (run,) = world.train().runs
    found, why = records.Records(world.workspace()).baseline("training", "smoke")
    assert found is not None
    assert (found.run_id, found.metrics, found.test, why) == (
        run.run_id, {"accuracy": 0.95}, "smoke", "",
    )  # fmt: skip
    assert records.Records(world.workspace()).baseline("training", "other")[0] is None


def test_branches_that_are_kept_apart_keep_their_verdicts_apart(world: World) -> None:
    world.tests = {"training": TWO}
    world.branches = ", branches: {main: [trunk], prefix: theirs}"
    world.commit()  # the branch is called main, which is not trunk
    world.train()
    paths = {path.split("/manifests/")[0] for method, path in world.registry.asked
             if method == "PUT" and "/manifests/" in path}  # fmt: skip
    assert paths == {"/v2/theirs/ml/reports/training"}
    assert all(run.unchanged for run in world.train().runs)
    assert records.of_main(world.workspace()) is False


def test_main_believes_no_branch_and_branches_believe_main(world: World) -> None:
    world.tests = {"training": TWO}
    world.branches = ", branches: {main: [main], prefix: theirs}"
    world.commit()
    world.repository.git("checkout", "-q", "-b", "feature")
    world.train()
    world.repository.git("checkout", "-q", "main")
    assert not any(run.unchanged for run in world.train().runs)
    world.repository.git("checkout", "-q", "-b", "other")
    assert all(run.unchanged for run in world.train().runs)


def test_an_unchanged_run_that_main_has_overtaken_runs_again(world: World) -> None:
    world.tests = {"training": COMPARED}
    world.commit()
    world.repository.git("checkout", "-q", "-b", "feature")
    assert not world.train().runs[0].unchanged
    assert world.train().runs[0].unchanged
    world.repository.git("checkout", "-q", "main")
    world.pipelines["training"] = spec("better")
    world.metrics = {"accuracy": 0.99}
    world.commit()
    world.train()
    world.repository.git("checkout", "-q", "feature")
    world.pipelines["training"] = spec()
    world.commit()
    (run,) = world.train().runs
    assert not run.unchanged  # with 0.95 it would not have passed
    assert run.passed


def test_what_a_branch_ran_is_mains_baseline_once_it_is_merged(world: World) -> None:
    world.tests = {"training": COMPARED}
    world.commit()
    world.repository.git("checkout", "-q", "-b", "feature")
    (run,) = world.train().runs
    assert records.Records(world.workspace()).baseline("training", "smoke")[0] is None
    world.repository.git("checkout", "-q", "main")
    assert world.train().runs[0].unchanged
    found, _ = records.Records(world.workspace()).baseline("training", "smoke")
    assert found is not None
    assert found.run_id == run.run_id


def test_a_baseline_with_other_parameters_is_said(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.tests = {"training": COMPARED}
    world.commit()
    world.train()
    (run,) = world.train("training", parameters={"rows": 8}).runs
    assert run.notes == ["main's last run had other parameters"]
    # It is compared all the same.
    assert "] training/smoke: main's last run had other parameters\n" in capsys.readouterr().err


@pytest.mark.parametrize("status", [401, 403, 405, 500])
def test_a_registry_that_refuses_fails_no_build(world: World, status: int) -> None:
    world.tests = {"training": COMPARED}
    world.commit()
    world.registry.before = lambda method, path: fake_registry.error(status, "DENIED")
    workspace = world.workspace()
    training = train.train(workspace)
    assert training.runs[0].passed
    assert "the registry could not be asked" in training.runs[0].notes[0]
    assert any("training tests" in warning for warning in workspace.console.warnings)
    train.raise_failures(training)


@pytest.mark.parametrize("content", [b"", b"{", b'{"schema": 1}', b"[" * 100_000])
def test_what_the_registry_keeps_may_be_anything(world: World, content: bytes) -> None:
    from ci_tools.images import moving
    from ci_tools.images.registry import Registry

    world.tests = {"training": COMPARED}
    world.commit()
    kept = records.Records(world.workspace())
    tag = kept._baseline_tag("training", "smoke")
    registry = Registry.of(world.workspace().registry)
    moving.put(registry, "ml/reports/training", tag, records.BASELINE, content)
    (run,) = world.train().runs
    assert run.passed
    assert "another version of this tool" in run.notes[0]
