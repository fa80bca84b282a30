"""The gate: facts in, refusals out, all at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_tools import documents as d
from ci_tools.config import Promotion
from ci_tools.promotion import gate
from ci_tools.promotion.gate import Facts, Scanned, judge
from tests.fakes.releases import COMMIT, made

SETTINGS = Promotion(keys=["release.pub"], after="dev", branches=("main",), approvals=1)


def sound(**changes: Any) -> Facts:
    release = made().release
    facts = Facts(
        release=release,
        signature="",
        project=release.project,
        on_branch="main",
        verified="by the build",
        scans=[Scanned(component=name, status="pass") for name in release.images],
        by="eve",
        approvals=["bob"],
    )
    return msgspec.structs.replace(facts, **changes)


def with_source(**changes: Any) -> Facts:
    facts = sound()
    facts.release.source = msgspec.structs.replace(facts.release.source, **changes)
    return facts


def test_a_sound_release_is_let_in() -> None:
    assert judge(sound(), SETTINGS, "promote") == gate.Judged(refusals=[], warnings=[])


REFUSALS: dict[str, Callable[[], Facts]] = {
    "it is not signed": lambda: sound(signature="it is not signed"),
    "it is a release of 'ml', not of 'other'": lambda: sound(project="other"),
    "it comes from no commit": lambda: with_source(commit=None),
    "it was made of a work tree with changes": lambda: with_source(dirty=True),
    f"its commit {COMMIT[:12]} is on none of the branches main": lambda: sound(on_branch=""),
    f"nobody can tell which branch commit {COMMIT[:12]} is on (origin is away)":
        lambda: sound(on_branch="", branch_problem="origin is away"),
    "it was not verified in 'dev'": lambda: sound(verified=""),
    "it was not verified in 'dev' (the record of that is not believed: it is not signed)":
        lambda: sound(verified="", unproven="it is not signed"),
    "1 approvals are needed, 0 given": lambda: sound(approvals=[]),
    "1 approvals are needed, 0 given (one's own does not count)":
        lambda: sound(approvals=[" EVE "]),
    "image 'train' does not pass today's scan (CVE-2026-1 in openssl)": lambda: sound(
        scans=[Scanned(component="train", status="fail", reason="CVE-2026-1 in openssl")]),
    "image 'train' does not pass today's scan (no database)": lambda: sound(
        scans=[Scanned(component="train", status="incomplete", reason="no database")]),
    "image 'train' cannot be scanned today (no trivy)": lambda: sound(
        scans=[], unscanned={"train": "no trivy"}),
    "image 'train' was not scanned today": lambda: sound(scans=[]),
}  # fmt: skip


@pytest.mark.parametrize("refusal", REFUSALS)
def test_each_refusal_is_told_alone(refusal: str) -> None:
    judged = judge(REFUSALS[refusal](), SETTINGS, "promote")
    assert [one[: len(refusal)] for one in judged.refusals] == [refusal]


def test_what_a_release_says_against_itself_counts() -> None:
    facts = sound()
    facts.release.problems = ["image 'train' has no tests", "it was not deployed"]
    assert judge(facts, SETTINGS, "promote").refusals == [
        "the release says of itself: image 'train' has no tests",
        "the release says of itself: it was not deployed",
    ]


@given(st.sets(st.sampled_from(["signature", "project", "branch", "verified", "approvals"])))
def test_refusals_are_told_all_at_once(bad: set[str]) -> None:
    changes: dict[str, Any] = {
        "signature": {"signature": "bad"},
        "project": {"project": "other"},
        "branch": {"on_branch": ""},
        "verified": {"verified": ""},
        "approvals": {"approvals": ()},
    }
    merged = {key: value for one in bad for key, value in changes[one].items()}
    assert len(judge(sound(**merged), SETTINGS, "promote").refusals) == len(bad)


def test_a_roll_back_is_warned_of_a_scan_and_needs_no_other_environment() -> None:
    failed = [Scanned(component="train", status="fail", reason="its waiver expired")]
    facts = sound(scans=failed, verified="", promoted_before=True)
    judged = judge(facts, SETTINGS, "rollback")
    assert judged.refusals == []
    assert judged.warnings == ["image 'train' does not pass today's scan (its waiver expired)"]


def test_a_roll_back_goes_only_where_the_environment_was() -> None:
    (refusal,) = judge(sound(), SETTINGS, "rollback").refusals
    assert refusal.startswith("the environment never ran it")


def test_a_roll_back_to_what_no_believed_record_tells_of() -> None:
    (refusal,) = judge(sound(unproven="it is not signed"), SETTINGS, "rollback").refusals
    assert refusal == "the record that it ran here is not believed: it is not signed"


AWAY = f"nobody can tell which branch commit {COMMIT[:12]} is on (origin is away)"


@pytest.mark.parametrize(
    "before", [{"on_branch": "", "signs": True}, {"on_branch": "main"}], ids=["signed", "fetched"]
)
def test_a_roll_back_that_was_on_a_branch_before_does_not_need_origin(
    before: dict[str, Any],
) -> None:
    facts = sound(branch_problem="origin is away", promoted_before=True, **before)
    assert judge(facts, SETTINGS, "rollback") == gate.Judged(refusals=[], warnings=[AWAY])


@pytest.mark.parametrize(
    ("action", "changes"),
    [
        ("promote", {"promoted_before": True, "signs": True}),
        ("promote", {"on_branch": "main"}),
        ("rollback", {"promoted_before": True}),
        ("rollback", {"signs": True, "unproven": "it is not signed"}),
        ("rollback", {"signs": True}),
    ],
    ids=["promotion", "fetched", "nobody signs", "not believed", "never ran"],
)
def test_everything_else_needs_origin(action: d.Action, changes: dict[str, Any]) -> None:
    facts = sound(**{"on_branch": "", "branch_problem": "origin is away", **changes})
    assert AWAY in judge(facts, SETTINGS, action).refusals


def test_what_origin_says_is_on_no_branch_is_not_gone_back_to() -> None:
    facts = sound(on_branch="", promoted_before=True, signs=True)
    assert len(judge(facts, SETTINGS, "rollback").refusals) == 1


@pytest.mark.parametrize("action", ["promote", "rollback"])
def test_a_roll_back_is_signed_and_approved_like_everything(action: d.Action) -> None:
    facts = sound(signature="bad", approvals=[], promoted_before=True)
    assert len(judge(facts, SETTINGS, action).refusals) == 2


def test_an_incomplete_scan_passes_where_the_environment_says_so() -> None:
    scans = [Scanned(component="train", status="incomplete")]
    assert judge(sound(scans=scans, allow_incomplete=True), SETTINGS, "promote").refusals == []


@given(st.lists(st.sampled_from(["a", "A ", " a", "b", "", "eve", "Eve"])))
def test_each_approver_counts_once_and_never_oneself(names: list[str]) -> None:
    counted = gate.approvers(sound(approvals=names))
    folded = [name.casefold() for name in counted]
    assert len(set(folded)) == len(folded)
    assert "eve" not in folded
    assert set(folded) == {n.strip().casefold() for n in names} - {"", "eve"}


# verified by its own build --------------------------------------------------------------------


def test_a_release_whose_build_verified_it_all_is_verified_there() -> None:
    release = made().release
    here = release.environment
    revision = d.Revision(
        service="svc", cluster="c", image="i", model=None, task_definition="t",
        task_definition_sha256="f", changed=True,
    )  # fmt: skip
    for one in release.servables.values():
        one.revision = revision
    for pipeline in release.pipelines.values():
        pipeline.version_id = "v"
    assert gate.verified_in(release, here)
    assert gate.verified_in(release, "another") == ""
    for one in release.servables.values():
        one.revision = None
    assert gate.verified_in(release, here) == ""
