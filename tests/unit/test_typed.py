"""Types are learnt once, whoever asks for them at the same time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from ci_tools import typed

ROOT = Path(__file__).resolve().parents[2]

# Both threads want `Outer`. The first is held in the middle of learning it: that is when
# msgspec evaluates what the annotation of `Inner.number` says.
BOTH = """
import threading
import time
import msgspec
from ci_tools import typed

learning = threading.Event()

def number():
    learning.set()
    time.sleep(0.5)  # long enough for the other to begin
    return int

class Inner(msgspec.Struct):
    number: "number()"

class Outer(msgspec.Struct):
    inner: "Inner"

told = []
TEXT, VALUE = b'{"inner": {"number": 7}}', {"inner": {"number": 7}}

def want():
    told.append(HOW)

first = threading.Thread(target=want)
first.start()
assert learning.wait(60)
want()
first.join()
assert told == [Outer(Inner(7))] * 2, told
"""


@pytest.mark.parametrize("how", ["typed.decode(TEXT, Outer)", "typed.convert(VALUE, Outer)"])
def test_two_threads_want_a_type_that_neither_knows(how: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BOTH.replace("HOW", how)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


class Named(msgspec.Struct):
    name: str


def test_what_is_not_of_the_type_is_refused() -> None:
    assert typed.decode('{"name": "x"}', Named) == typed.convert({"name": "x"}, Named)
    with pytest.raises(msgspec.ValidationError, match=r"Expected `str`, got `int` - at `\$.name`"):
        typed.decode(b'{"name": 7}', Named)
    with pytest.raises(msgspec.ValidationError, match="missing required field"):
        typed.convert({}, Named)


def test_nothing_else_teaches_msgspec_a_type() -> None:
    """Where each type is learnt in its own place, two threads may do it at once."""
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for package in ("ci", "ci_tools")
        for path in sorted((ROOT / package).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if ("msgspec.json.decode(" in line and "type=" in line)
        or "json.Decoder(" in line
        or ("msgspec.convert(" in line and not line.rstrip().endswith(("datetime)", "datetime))")))
    ]
    assert [one for one in found if not one.startswith("ci_tools/typed.py")] == []
