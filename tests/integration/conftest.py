"""One embedded environment for all tests that only need some environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration import repositories
from tests.integration.repositories import Machine, Spy


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with repositories.machine(tmp_path_factory.mktemp("machine") / "home") as running:
        yield running


@pytest.fixture
def spy(tmp_path: Path) -> Spy:
    return Spy(tmp_path / "spy").install()
