"""Releases: named by content, honest about what is missing."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci import release
from ci.evidence import Origin
from ci_tools import documents as d
from ci_tools.errors import ReleaseError
from ci_tools.release import bundle

DIGEST = "sha256:" + "a" * 64


def everything() -> dict[str, Any]:
    """What the stages leave after a sound build of one component."""
    image = d.LockedImage(
        repository="h/ml/train", digest=DIGEST, config="sha256:c", key="k", size=1, tests="passed",
        verdict=d.Verdict(status="pass", trivy="1", database="today", policy="p"),
    )  # fmt: skip
    return {
        "lock": d.Lock(project="ml", environment="dev", source=d.Source(commit="c", branch="main"),
                       components={"train": image}),
        "compiled": d.Compiled(pipelines={"training": d.CompiledPipeline(
            path="x", source="x.py", function="f", sha256="s", images=[image.reference],
            components=["train"])}),
        "uploads": d.Uploads(environment="dev", pipelines={"training": d.Upload(
            pipeline_id="1", version_id="2", version="v", sha256="s", created=True)}),
        "runs": d.Training(environment="dev", runs=[d.Run(
            pipeline="training", run_id="r", version_id="2", state="SUCCEEDED", log="/some/log")]),
        "deployed": d.Deployed(environment="dev", services={"train": d.Revision(
            service="svc", cluster="c", image=image.reference, model=None, task_definition="arn",
            task_definition_sha256="h", changed=True)}, declared={"train": "0"}),
        "tested": ["training"],
        "declared": {"train": "svc"},
        "asked": {"train": "0"},
        "sboms": {"train": {"": "5" * 64}},
        "origin": Origin(repository="https://git.example/ml", committed="2026-01-01T00:00:00+00:00",
                         builder="https://ci.example/", build="https://ci.example/job/1/",
                         tools={"kfp-ci": "1"}),
    }  # fmt: skip


def named(**inputs: Any) -> d.Release:
    return bundle.of(release.assemble(**inputs), {}).release


def test_a_sound_release_has_no_problems() -> None:
    made = release.assemble(**everything())
    assert made.problems == []
    assert made.images["train"].reference == f"h/ml/train@{DIGEST}"
    assert made.pipelines["training"].version_id == "2"
    assert [(run.run_id, run.log) for run in made.runs] == [("r", "")]
    assert list(made.servables) == ["train"]
    assert made.servables["train"].file == "servables/train.yaml"
    assert made.pipelines["training"].file == "pipelines/training.yaml"
    assert made.images["train"].sboms == {"": "5" * 64}
    assert made.build == "https://ci.example/job/1/"
    assert len(made.lock) == 64


def test_equal_inputs_equal_name() -> None:
    one, other = named(**everything()), named(**everything())
    assert one == other
    assert one.name == bundle.content_name(one)
    assert one.name.startswith("release-")
    assert len(one.name) == len("release-") + 64


def test_the_name_survives_the_file() -> None:
    made = named(**everything())
    again = msgspec.json.decode(msgspec.json.encode(made), type=d.Release)
    assert bundle.content_name(again) == made.name


CHANGES = {
    "source": lambda e: setattr(e["lock"].source, "commit", "other"),
    "key": lambda e: setattr(e["lock"].components["train"], "key", "other"),
    "verdict": lambda e: setattr(e["lock"].components["train"].verdict, "database", "old"),
    "version": lambda e: setattr(e["uploads"].pipelines["training"], "version", "w"),
    "run": lambda e: e["runs"].runs[0].metrics.update(a=1.0),
    "service": lambda e: setattr(e["deployed"].services["train"], "task_definition", "b"),
    "no services": lambda e: e.update(deployed=None),
    "problems": lambda e: e["tested"].append("other"),
    "sbom": lambda e: e["sboms"]["train"].update({"": "6" * 64}),
    "build": lambda e: e.update(origin=Origin(build="https://ci.example/job/2/")),
    "plan": lambda e: setattr(e["lock"], "plan", "p"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_content_other_name(change: str) -> None:
    inputs = everything()
    CHANGES[change](inputs)
    assert named(**inputs).name != named(**everything()).name


def test_other_files_other_name() -> None:
    made = release.assemble(**everything())
    one, other = (bundle.of(made, {"pipelines/a.yaml": text}) for text in (b"a", b"b"))
    assert one.release.name != other.release.name


@given(st.permutations(["a", "b", "c"]))
def test_the_order_of_components_does_not_matter(names: list[str]) -> None:
    def ordered(order: list[str]) -> str:
        inputs = everything()
        image = inputs["lock"].components["train"]
        inputs["lock"].components |= dict.fromkeys(order, image)
        return named(**inputs).name

    assert ordered(names) == ordered(["a", "b", "c"])


PROBLEMS = {
    "it comes from no commit": lambda e: setattr(e["lock"].source, "commit", None),
    "the work tree had changes that are in no commit":
        lambda e: setattr(e["lock"].source, "dirty", True),
    "the scan of train is fail":
        lambda e: setattr(e["lock"].components["train"].verdict, "status", "fail"),
    "the scan of train is incomplete":
        lambda e: setattr(e["lock"].components["train"].verdict, "status", "incomplete"),
    "image 'train' has no tests": lambda e: setattr(e["lock"].components["train"], "tests", "none"),
    "the SBOM of 'train' is not known": lambda e: e["sboms"].clear(),
    "the service 'svc' was not deployed": lambda e: e.update(deployed=None),
    "the training test of 'other' was not run": lambda e: e["tested"].append("other"),
    "the training test of 'training' was not run": lambda e: e.update(runs=None),
    "the training test of 'training' was not run (but another of it)":
        lambda e: setattr(e["runs"].runs[0], "test", "smoke"),
    "the run of 'training' did not pass": lambda e: setattr(e["runs"].runs[0], "state", "FAILED"),
    "the run of 'training' did not pass (bounds)":
        lambda e: e["runs"].runs[0].unmet.append("accuracy is 0"),
}  # fmt: skip


@pytest.mark.parametrize("problem", PROBLEMS)
def test_each_problem_is_told_alone(problem: str) -> None:
    inputs = everything()
    PROBLEMS[problem](inputs)
    assert release.assemble(**inputs).problems == [problem.partition(" (")[0]]


@pytest.mark.parametrize("uploads", [None, d.Uploads(environment="dev", pipelines={})])
def test_what_was_not_uploaded_is_told(uploads: d.Uploads | None) -> None:
    inputs = everything() | {"uploads": uploads}
    made = release.assemble(**inputs)
    assert made.problems == [
        "the pipeline 'training' was not uploaded",
        "the training test of 'training' was not run",  # nor can a run be of it
    ]
    assert made.runs == []


def test_a_run_of_an_older_version_is_left_out() -> None:
    inputs = everything()
    stale = copy.deepcopy(inputs["runs"].runs[0])
    stale.version_id, stale.state = "1", "FAILED"
    inputs["runs"].runs.insert(0, stale)
    assert release.assemble(**inputs) == release.assemble(**everything())


DISAGREEMENTS = {
    "pipeline 'training' was compiled from another build":
        lambda e: setattr(e["lock"].components["train"], "digest", "sha256:b"),
    "pipeline 'training' was compiled": lambda e: e["lock"].components.clear(),
    "the uploaded pipeline 'training' is not the compiled one":
        lambda e: setattr(e["uploads"].pipelines["training"], "sha256", "t"),
    "the service 'svc' runs an image of another build":
        lambda e: setattr(e["deployed"].services["train"], "image", "h/ml/train@sha256:b"),
    "uploads.json is of environment 'prod', images.lock.json of 'dev'":
        lambda e: setattr(e["uploads"], "environment", "prod"),
    "train.json is of environment 'prod'": lambda e: setattr(e["runs"], "environment", "prod"),
    "the service 'other' runs an image of another build":
        lambda e: e["declared"].update(other="x"),
    "the service 'svc' was deployed by another declaration": lambda e: e["asked"].update(train="1"),
    "the service 'svc' was deployed by another": lambda e: e["deployed"].declared.clear(),
    "the service 'svc' was deployed by": lambda e: e.update(asked={}, declared={}),
    "deploy.json is of environment 'prod'":
        lambda e: setattr(e["deployed"], "environment", "prod"),
}  # fmt: skip


@pytest.mark.parametrize("said", DISAGREEMENTS)
def test_files_of_different_builds_make_no_release(said: str) -> None:
    inputs = everything()
    DISAGREEMENTS[said](inputs)
    with pytest.raises(ReleaseError) as caught:
        release.assemble(**inputs)
    assert said in str(caught.value)
