"""What docs/architecture.md and docs/dependencies.md say of the code is so."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text()
DEPENDENCIES = (ROOT / "docs/dependencies.md").read_text()
TOOLS = sorted(path.relative_to(ROOT) for path in (ROOT / "ci_tools").rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


@pytest.mark.parametrize("path", TOOLS, ids=str)
def test_a_tool_imports_no_stage(path: Path) -> None:
    assert not [name for name in imported(path) if name.partition(".")[0] == "ci"]


NAMED = {
    name.strip("/")
    for name in re.findall(r"`([a-z_]+(?:/[a-z_]+)*/?)`", ARCHITECTURE)
    if name != "timings"  # a field of the lock
}


THERE = [
    path.relative_to(ROOT).with_suffix("").as_posix()
    for top in ("ci", "ci_tools", "tests")
    for path in (ROOT / top).rglob("*")
    if path.suffix in ("", ".py")
]


@pytest.mark.parametrize("name", sorted(NAMED))
def test_a_module_that_is_named_is_there(name: str) -> None:
    assert any(f"/{path}".endswith(f"/{name}") for path in THERE)


TESTS = {path.stem: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
TOLD = {
    name
    for page in (ROOT / "docs").glob("*.md")
    for words in re.findall(r"`[^`]*`", page.read_text())
    for name in re.findall(r"\btest_\w+", words)
}


def test_a_test_that_a_page_names_is_there() -> None:
    there = {name for text in TESTS.values() for name in re.findall(r"def (test_\w+)", text)}
    assert len(TOLD) > 20
    assert TOLD - there - set(TESTS) == set()


def declared() -> list[str]:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = setup["options"]["install_requires"] + setup["options.extras_require"]["dev"]
    return [re.split(r"[\s\[=<>;]", line)[0] for line in lines.split("\n") if line]


def explained() -> list[str]:
    rows = re.findall(r"^\| ([^|]+) \|", DEPENDENCIES, re.MULTILINE)
    return [word.strip() for row in rows if "(Debian)" not in row for word in row.split(",")]


def test_every_dependency_has_its_why_and_none_too_many() -> None:
    apart = {"dependency", "types-*", "pip", "setuptools", "uv", "ministack"}
    told = set(explained())
    wanted = {name for name in declared() if not name.startswith("types-")}
    assert wanted - told == set()
    assert told - wanted - apart == set()
