"""Images in Jenkins' test view, and the logs of those that failed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci import cases, logs
from ci.cases import Cases
from ci_tools.documents import FailedImage, Lock, Source
from ci_tools.errors import WriteError
from ci_tools.report import junit

STEPS = ["build", "test", "scan", "push"]


def told(suite: junit.Suite) -> dict[str, str]:
    """Case -> what became of it."""
    done = {name: "passed" if why is None else f"failed: {why}" for name, _, why in suite.cases}
    assert len(done) == len(suite.cases)
    return done | {name: f"skipped: {why}" for name, why in suite.skips}


@given(
    st.booleans(),
    st.lists(st.sampled_from(STEPS), max_size=6),
    st.none() | st.sampled_from([*STEPS, "parent", "cancelled"]),
)
def test_names_are_the_same_whatever_became_of_it(
    tested: bool, passed: list[str], failed: str | None
) -> None:
    one = Cases("a", tested=tested)
    for step in passed:
        if tested or step != "test":
            one.passed(step, 1.0)
    if failed is not None:
        one.failed(failed, "why")
    suite = one.suite()
    assert suite.name == "image.a"
    assert set(told(suite)) == {step for step in STEPS if tested or step != "test"}
    failures = [name for name, _, why in suite.cases if why is not None]
    assert len(failures) == (failed is not None)


def test_what_was_taken_and_what_was_not_reached() -> None:
    one = Cases("a", tested=True)
    one.passed("scan", 0.0)
    assert told(one.suite()) == {
        "build": "skipped: the registry has the image",
        "test": "skipped: the registry has the image",
        "scan": "passed",
        "push": "skipped: the registry has the image",
    }
    one = Cases("a", tested=True)
    one.passed("build", 2.0)
    one.failed("test", "1 != 2")
    assert told(one.suite()) == {
        "build": "passed",
        "test": "failed: 1 != 2",
        "scan": "skipped: an earlier step failed",
        "push": "skipped: an earlier step failed",
    }
    one = Cases("a", tested=False)
    one.failed("scan", "a refused verdict is kept")
    assert told(one.suite())["build"] == "skipped: the registry has the image"


def test_an_image_that_is_scanned_twice_has_one_case() -> None:
    one = Cases("a", tested=False)
    for step in ("build", "scan", "push", "scan"):
        one.passed(step, 1.0)
    assert one.suite().cases == [("build", 1.0, None), ("scan", 2.0, None), ("push", 1.0, None)]
    one.failed("scan", "theirs is bad")
    assert told(one.suite())["scan"] == "failed: theirs is bad"


def test_an_orphan_fails_at_its_first_step() -> None:
    suite = cases.orphan("a", "its parent failed", tested=True)
    assert list(told(suite)) == STEPS
    assert told(suite)["build"] == "failed: its parent failed"


def lock(*failed: str) -> Lock:
    why = FailedImage(step="build", message="m", todo="t", exit_code=20)
    return Lock(project="p", environment="e", source=Source(), components={},
                failed=dict.fromkeys(failed, why))  # fmt: skip


@pytest.mark.parametrize("links", [True, False])
def test_logs_of_failed_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    for name in ("a", "b", "failed"):
        (tmp_path / "logs").mkdir(exist_ok=True)
        (tmp_path / f"logs/{name}.log").write_text(f"of {name}")
    kept = tmp_path / "logs/failed"

    def there() -> dict[str, str]:
        return {one.name: one.read_text() for one in kept.iterdir()}

    logs.keep_failed(tmp_path, ["a", "b", "failed", "c"], lock("a", "failed", "c"))
    assert there() == {"a.log": "of a", "failed.log": "of failed"}  # c has none: it was not begun
    (kept / "other.log").write_text("of another shard")
    logs.keep_failed(tmp_path, ["a", "b", "failed", "c"], lock("b"))
    assert there() == {"b.log": "of b", "other.log": "of another shard"}


def test_nothing_is_made_where_nothing_failed(tmp_path: Path) -> None:
    logs.keep_failed(tmp_path, ["a"], lock())
    assert not list(tmp_path.iterdir())


def test_logs_that_cannot_be_kept(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/a.log").touch()
    (tmp_path / "logs/failed").touch()
    with pytest.raises(WriteError, match="could not be written"):
        logs.keep_failed(tmp_path, ["a"], lock("a"))
