"""Promotions and the undoing of them, killed at every action: whoever comes then goes on or
back, and the whole world is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest

from ci_tools.errors import PromotionUndoneError
from tests.integration import promoting, worlds
from tests.integration.worlds import Driver, Parts, World, name

pytestmark = pytest.mark.integration
parts, world = worlds.fixtures()


AT_ONCE = 4


def all_of(commands: Sequence[Callable[[], int]]) -> list[int]:
    """The exit codes of some of the driver's commands, several at once."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda one: one(), commands))


def killed(driver: Driver, start: World, release: str, numbers: range) -> dict[int, World]:
    """Action -> a world that is as `start` was, but for a promotion that was killed there."""
    worlds = {number: start.copied() for number in numbers}
    codes = all_of([
        lambda number=number, one=one: driver(one, "promote", release, kill=number)  # type: ignore[misc]
        for number, one in worlds.items()
    ])  # fmt: skip
    assert set(codes) == {promoting.KILLED}, driver.errors.read_text()
    return worlds


def ended(driver: Driver, worlds: dict[int, World], then: str, release: str) -> None:
    codes = all_of([
        lambda one=one: driver(one, then, release) for one in worlds.values()  # type: ignore[misc]
    ])  # fmt: skip
    assert set(codes) == {0}, driver.errors.read_text()


class Everywhere(NamedTuple):
    """start: a world that runs `a`. actions: those of a promotion of `b` there. before,
    after: what is seen of it before and after that."""

    start: World
    actions: list[str]
    before: dict[str, Any]
    after: dict[str, Any]


@pytest.fixture(scope="module")
def everywhere(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Everywhere:
    start = parts.world(tmp_path_factory.mktemp("killed"))
    assert parts.driver(start, "promote", name(parts, "a")) == 0
    undisturbed = start.copied()
    assert parts.driver(undisturbed, "promote", name(parts, "b")) == 0
    actions = undisturbed.actions()
    assert {"before put", "after copy_all", "after publish", "after upload_all", "registered",
            "updated"} <= set(actions)  # fmt: skip
    return Everywhere(start, actions, start.seen(), undisturbed.seen())


def contents(seen: dict[str, Any]) -> dict[str, Any]:
    """With services by what they run, and not by the revision's number."""
    services = {
        name: (arn.partition("#")[2], desired) for name, (arn, desired) in seen["services"].items()
    }
    return {**seen, "services": services}


def test_killed_at_every_action_and_run_again(
    parts: Parts, world: World, everywhere: Everywhere
) -> None:
    actions = range(1, len(everywhere.actions) + 1)
    worlds = killed(parts.driver, everywhere.start, name(parts, "b"), actions)
    ended(parts.driver, worlds, "promote", name(parts, "b"))
    for number, one in worlds.items():
        # A revision that was registered and never used stays; what serves is the same.
        assert contents(one.seen()) == contents(everywhere.after), number


def test_killed_at_every_action_and_undone(
    parts: Parts, world: World, everywhere: Everywhere
) -> None:
    actions = range(1, len(everywhere.actions) + 1)
    worlds = killed(parts.driver, everywhere.start, name(parts, "b"), actions)
    ended(parts.driver, worlds, "undo", "")
    states = [one.seen() for one in worlds.values()]
    # Once its record is there and its journal closed, nothing is left to undo.
    assert all(one in (everywhere.before, everywhere.after) for one in states)
    undone = [one == everywhere.before for one in states]
    assert undone == sorted(undone, reverse=True)
    assert undone.count(False) == 2  # our journal is closed; and the registry's, too


def test_killed_while_undoing(parts: Parts, world: World, everywhere: Everywhere) -> None:
    sick = everywhere.start.copied()
    (sick.folder / "unhealthy").touch()
    whole = sick.copied()
    assert parts.driver(whole, "promote", name(parts, "b")) == PromotionUndoneError.exit_code
    actions = whole.actions()
    assert "after delete_version" in actions
    first = actions.index("registered") + 1  # which then fails
    worlds = killed(parts.driver, sick, name(parts, "b"), range(first, len(actions) + 1))
    for one in worlds.values():
        (one.folder / "unhealthy").unlink()
    ended(parts.driver, worlds, "undo", "")
    for number, one in worlds.items():
        assert one.seen() == everywhere.before, number
