"""Contexts hashed by several processes: the same as by one, whatever befalls them."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from ci import plan as planning
from ci.workspace import Workspace
from ci_tools.components import context, hashing, keys
from ci_tools.components.hashing import Hashes, Hashing, Pair
from ci_tools.errors import ConfigError, DockerfileError


@pytest.fixture
def wanted(repository: Any) -> list[Pair]:
    pairs = []
    for number in range(70):
        folder = f"c {number}\n" + os.fsdecode(b"\xff")
        dockerfile = repository.write(f"{folder}/Dockerfile", f"FROM a:{number}\n")
        repository.write(f"{folder}/src/x", str(number))
        repository.write(f"{folder}/.dockerignore", "Dockerfile\n" if number % 2 else "")
        pairs.append((str(dockerfile.parent), str(dockerfile)))
    return pairs


def expected(wanted: list[Pair]) -> list[Hashes]:
    return [hashing.of(*pair) for pair in wanted]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_workers_change_nothing(wanted: list[Pair], workers: int) -> None:
    with Hashing(wanted, workers=workers) as begun:
        assert list(hashing.many(wanted, begun)) == expected(wanted)
        others = [*wanted[5:], ("/nowhere", "/nowhere/Dockerfile")]
    with Hashing(others, workers=workers) as begun:  # begun on others than those asked for
        assert list(hashing.many(wanted, begun)) == expected(wanted)


def test_workers_can_do_it_alone(wanted: list[Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    right = expected(wanted)
    monkeypatch.setattr(hashing, "_work", lambda *_: iter(()))
    monkeypatch.setattr(hashing, "of", lambda *_: pytest.fail("asked here"))
    with Hashing(wanted, workers=2) as begun:
        assert list(hashing.many(wanted, begun)) == right


@pytest.mark.parametrize("program", ["/bin/false", "/nonexistent", ""])
def test_workers_that_do_not_start_are_no_harm(
    wanted: list[Pair], monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    with Hashing(wanted, workers=2) as begun:
        assert list(hashing.many(wanted, begun)) == expected(wanted)


def test_a_worker_that_is_killed_is_no_harm(
    wanted: list[Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Hashing(wanted, workers=2) as begun:
        for process in begun._workers:
            process.kill()  # wherever it is
        assert list(hashing.many(wanted, begun)) == expected(wanted)


def test_a_line_that_is_not_finished_does_not_count() -> None:
    with tempfile.TemporaryFile() as answer:
        answer.write(b"0 aa bb\n1 cc d")
        assert hashing._read(answer) == {0: Hashes("aa", "bb")}


@pytest.mark.parametrize("workers", [0, 2])
def test_the_first_mistake_is_told(wanted: list[Pair], workers: int) -> None:
    for number in (20, 60):
        Path(wanted[number][0], ".git").touch()
    Path(wanted[40][1]).unlink()
    with Hashing(wanted, workers=workers) as begun:
        found = hashing.many(wanted, begun)
        assert [next(found) for _ in range(20)] == expected(wanted[:20])
        with pytest.raises(ConfigError, match=r"c 20\n.*/\.git would be sent"):
            next(found)
    Path(wanted[20][0], ".git").unlink()
    with Hashing(wanted, workers=workers) as begun, pytest.raises(DockerfileError, match="c 40"):
        list(hashing.many(wanted, begun))


def interrupted(begun: Hashing) -> None:
    with begun:
        raise KeyboardInterrupt


def test_nothing_runs_on_after_an_interrupt(wanted: list[Pair]) -> None:
    begun = Hashing(wanted, workers=2)
    with pytest.raises(KeyboardInterrupt):
        interrupted(begun)
    assert len(begun._workers) == 2
    assert all(process.returncode is not None for process in begun._workers)


def test_the_dockerfile_is_hashed_wherever_it_is(repository: Any) -> None:
    inside = repository.write("c/Dockerfile", "FROM a\n")
    outside = repository.write("d/Dockerfile", "FROM a\n")
    (repository.root / "c/link").symlink_to("Dockerfile")
    folder = str(inside.parent)
    hashes = {hashing.of(folder, str(path)).dockerfile for path in (inside, outside)}
    assert hashes == {hashing.of(folder, f"{folder}/link").dockerfile}
    repository.write("c/.dockerignore", "*\n")
    assert {hashing.of(folder, str(inside)).dockerfile} == hashes
    assert context.entries(folder, str(inside)) == {}


def test_a_plan_is_the_same_with_workers(repository: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        base = f"ml/c{number - 1}" if number % 7 else "python:3"
        repository.write(f"c{number}/Dockerfile", f"FROM {base}\n")
        repository.write(f"c{number}/x", str(number))
    repository.write("ci.yaml", "project: ml\ncomponents: {c3: {context: c4}}\n")

    def computed() -> dict[str, tuple[str, bool]]:
        workspace = Workspace(repository=repository.root, build=repository.root / "build")
        return keys.compute(repository.root, workspace.components, {})

    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    alone = computed()
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(hashing, "MANY", 10)
    assert computed() == alone
    planned = planning.plan(
        Workspace(repository=repository.root, build=repository.root / "build", dry_run=True)
    )
    assert {one.name: (one.key, one.provisional) for one in planned.components} == alone
