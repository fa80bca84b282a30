"""Exit codes, and the page that tells them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ci_tools import errors
from ci_tools.errors import CIError
from ci_tools.jenkins import results

ROOT = Path(__file__).parents[2]
DECLARED = [
    cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, CIError)
]


def test_every_class_has_a_code_and_a_meaning_of_its_own() -> None:
    codes = [cls.exit_code for cls in DECLARED]
    assert len(codes) == len(set(codes))
    assert len({cls.summary for cls in DECLARED}) == len(DECLARED)
    assert not {0, errors.USAGE_EXIT_CODE} & set(codes)
    assert all(0 < code < 256 for code in codes)


def test_every_code_is_listed_in_order_and_leads_back_to_its_class() -> None:
    listed = errors.exit_codes()
    assert list(listed) == sorted(listed)
    assert set(listed) == {0, errors.USAGE_EXIT_CODE, *(cls.exit_code for cls in DECLARED)}
    for cls in DECLARED:
        assert errors.error_for(cls.exit_code) is cls
    assert errors.error_for(99) is CIError


def test_the_page_is_what_the_code_says() -> None:
    rows = [
        line.strip("| \n").split(" | ")
        for line in (ROOT / "docs/exit-codes.md").read_text().splitlines()
        if line.startswith("| ") and line[2].isdigit()
    ]
    assert {int(code): meaning for code, meaning, _ in rows} == errors.exit_codes()
    assert [result for *_, result in rows] == [results.result(int(code)) for code, *_ in rows]


def test_a_sentence_and_what_to_do_next() -> None:
    error = CIError("it broke.", "Mend it.", log=Path("x.log"))
    assert str(error) == "it broke. Mend it. Log: x.log"
    assert str(CIError("it broke", "Mend it")) == "it broke. Mend it."
    for asked in ("Did you mean 'x'", "Did you mean 'x'?"):
        assert str(CIError("it broke", asked)) == "it broke. Did you mean 'x'?"


@pytest.mark.parametrize("package", ["ci", "ci_tools"])
def test_only_the_entry_point_exits(package: str) -> None:
    exits = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("sys.exit", "os._exit", "exit")
    ]
    assert set(exits) <= {"ci/__main__.py"} | {p for p in exits if p.endswith("child.py")}
