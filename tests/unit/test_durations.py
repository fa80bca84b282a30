"""What an image is expected to take."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ci_tools import durations
from ci_tools.documents import Lock, LockedImage, Source, Verdict

VERDICT = Verdict(status="pass", trivy="1", database=None, policy="p")


def image(*, built: bool = True, seconds: float = 0.0, **timings: float) -> LockedImage:
    return LockedImage(
        repository="r/p/x", digest="sha256:1", config="sha256:2", key="k", size=1,
        verdict=VERDICT, built=built, seconds=seconds, timings=timings,
    )  # fmt: skip


def lock(project: str = "p", **components: LockedImage) -> Lock:
    return Lock(project=project, environment="e", source=Source(), components=components)


def test_a_lock_tells_only_of_builds() -> None:
    told = durations.of_lock(
        lock(
            made=image(seconds=9.0, build=4.0, scan=2.5),
            kept=image(built=False, seconds=0.1, build=8.0),
            found=image(built=False, seconds=3.0),
            of_before_timings=image(seconds=7.0),
        )
    )
    assert told == {"made": 6.5, "kept": 8.0, "of_before_timings": 7.0}


def test_the_first_source_that_knows_counts() -> None:
    sources = [{"a": 1.0}, {"a": 2.0, "b": 20.0}, {"b": 3.0, "gone": 300.0}]
    assert durations.expected(["a", "b", "new"], sources) == {"a": 1.0, "b": 20.0, "new": 20.0}


def test_where_nothing_is_known() -> None:
    assert durations.expected(["a"], [{}, {}]) == {"a": durations.DEFAULT_SECONDS}
    assert durations.expected([], []) == {}


@given(
    st.sets(st.sampled_from("abcdef")),
    st.lists(st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1e6)), max_size=4),
)
def test_every_name_has_a_duration(names: set[str], sources: list[dict[str, float]]) -> None:
    found = durations.expected(names, sources)
    assert found.keys() == names
    first: dict[str, float] = {}
    for source in sources:
        for name, seconds in source.items():
            first.setdefault(name, seconds)
    for name, seconds in found.items():
        expected = first.get(name, median(first.values()) if first else durations.DEFAULT_SECONDS)
        assert seconds == expected


def test_what_was_recorded_is_told_by_project(tmp_path: Path) -> None:
    durations.record(tmp_path, lock(x=image(build=10.0), y=image(build=1.0, test=2.0)))
    durations.record(tmp_path, lock("other", x=image(build=99.0)))
    durations.record(tmp_path, lock(x=image(build=20.0), y=image(built=False, build=1.0)))
    assert durations.stored(tmp_path, "p") == {"x": 15.0, "y": 3.0}
    assert durations.stored(tmp_path, "other") == {"x": 99.0}
    assert durations.load(tmp_path).components["p/x"].last == 20.0


def test_nothing_built_writes_nothing(tmp_path: Path) -> None:
    durations.record(tmp_path, lock(x=image(built=False, build=1.0)))
    assert list(tmp_path.iterdir()) == []
    assert durations.stored(tmp_path / "nowhere", "p") == {}


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[]", b'{"version": 2, "components": {}}', b'{"unknown": 1}',
     b'{"components": {"p/x": {"last": -1, "smoothed": -1, "at": 0}}}'],
)  # fmt: skip
def test_a_damaged_store_is_a_new_start(tmp_path: Path, content: bytes) -> None:
    (tmp_path / durations.FILE).write_bytes(content)
    assert durations.stored(tmp_path, "p") == {}
    durations.record(tmp_path, lock(x=image(build=5.0)))
    assert durations.stored(tmp_path, "p") == {"x": 5.0}


def test_a_store_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / durations.FILE).mkdir(parents=True)
    durations.record(home, lock(x=image(build=5.0)))
    assert durations.stored(home, "p") == {}
    (tmp_path / "file").touch()
    durations.record(tmp_path / "file", lock(x=image(build=5.0)))
    assert (tmp_path / "file").read_bytes() == b""


def test_the_store_is_bounded_and_the_oldest_go(tmp_path: Path, monkeypatch: Any) -> None:
    old = {f"old/{n}": durations.Duration(last=1, smoothed=1, at=n) for n in range(durations.KEPT)}
    (tmp_path / durations.FILE).write_bytes(
        msgspec.json.encode(durations.Durations(components=old))
    )
    durations.record(tmp_path, lock(x=image(build=5.0)))
    kept = durations.load(tmp_path).components
    assert len(kept) == durations.KEPT
    assert "p/x" in kept
    assert "old/0" not in kept
    assert "old/1" in kept
