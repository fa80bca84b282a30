"""JUnit XML that any parser reads."""

from __future__ import annotations

import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from ci_tools.report import junit


def written(path: Path, suites: list[junit.Suite]) -> ET.Element:
    junit.write(path, suites)
    return ET.fromstring(path.read_bytes())


def test_suites_cases_failures_and_seconds(tmp_path: Path) -> None:
    suite = junit.Suite("image.train")
    suite.passed("build", 1.25)
    suite.failed("test", "line 1\nline <2> & 'more'", 0.5)
    root = written(tmp_path / "reports" / "x.xml", [suite, junit.Suite("empty")])
    empty, one = root  # by name
    assert one.attrib == {"name": "image.train", "tests": "2", "failures": "1", "time": "1.750"}
    assert empty.attrib == {"name": "empty", "tests": "0", "failures": "0", "time": "0.000"}
    build, test = one
    assert build.attrib == {"classname": "image.train", "name": "build", "time": "1.250"}
    assert list(build) == []
    failure = test.find("failure")
    assert failure is not None
    assert failure.text == "line 1\nline <2> & 'more'"


@settings(max_examples=50, deadline=None)
@given(name=st.text(st.characters(codec=None), max_size=8), message=st.text(max_size=8))
def test_whatever_is_in_a_name_or_message_it_parses(name: str, message: str) -> None:
    suite = junit.Suite(name)
    suite.failed(name, message + "\x00\x1b[31m\ud800\uffff")

    with tempfile.TemporaryDirectory() as scratch:
        root = written(Path(scratch) / "x.xml", [suite])
    failure = root.find("testsuite/testcase/failure")
    assert failure is not None
    assert "[31m" in (failure.text or "")


def test_equal_names_are_numbered_for_jenkins_would_take_them_for_one(tmp_path: Path) -> None:
    suite = junit.Suite("image.a")
    for name in ("x", "x", "x (2)", "x\x00"):
        suite.passed(name, 0.0)
    suite.skipped("x", "no")
    (one,) = written(tmp_path / "x.xml", [suite])
    names = [case.get("name") for case in one]
    assert names[:2] == ["x", "x (2)"]
    assert len(set(names)) == len(names) == 5


def test_suites_are_sorted_whatever_order_they_came_in(tmp_path: Path) -> None:
    suites = [junit.Suite(name) for name in ("train.b", "image.b", "scan.a", "image.a")]
    names = [one.get("name") for one in written(tmp_path / "x.xml", suites)]
    assert names == ["image.a", "image.b", "scan.a", "train.b"]
