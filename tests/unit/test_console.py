"""What a person sees while work is under way, on a terminal and without one."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console as RichConsole

from ci.console import Console, draws
from ci.view import View, duration
from ci_tools.printable import printable

ROOT = Path(__file__).parents[2]
RUN = "[2/5] RUN pip install --no-cache-dir -r requirements.txt"
HOSTILE = "[red]x[/red]\x1b]0;title\x07\x1b[2J\n[  1.0] forged\u202e:smile:"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def drawn(view: View, width: int = 80, height: int = 24) -> list[str]:
    console = RichConsole(
        file=io.StringIO(), width=width, height=height, record=True, color_system=None,
        force_terminal=True, legacy_windows=False, _environ={},
    )  # fmt: skip
    console.print(view)
    return [line.rstrip() for line in console.export_text(styles=False).splitlines()]


# The view -------------------------------------------------------------------------


def test_a_row_and_the_last_line() -> None:
    clock = Clock()
    view = View(12, lambda: 250.0, clock)
    view.finished("base", True)
    view.finished("odd", False)
    view.begin("train", "build")
    clock.now += 12
    view.end("train")
    view.begin("train", "scan")  # its time runs on
    view.detail("train", RUN)
    clock.now += 60
    row, last = drawn(view, 100)
    assert re.split(" {2,}", row) == ["train", "scan", RUN, "1:12"]
    assert re.fullmatch("━{4} {23}2/12 · failed 1 · waiting 9 · 1:12 · ETA 4:10", last)


def test_what_is_nought_or_unknown_is_not_told() -> None:
    view = View(1, lambda: None, Clock())
    view.begin("train", "build")
    assert view.counts() == "0/1 · 0:00"
    assert View(2, None, Clock()).counts() == "0/2 · waiting 2 · 0:00"


def test_between_two_steps_an_image_does_not_wait() -> None:
    view = View(2, None, Clock())
    view.begin("train", "build")
    view.end("train")
    assert view.counts() == "0/2 · waiting 1 · 0:00"
    assert len(drawn(view)) == 1


def test_a_guess_that_fails_ends_nothing() -> None:
    def fails() -> float:
        raise ZeroDivisionError

    assert View(1, fails, Clock()).counts() == "0/1 · waiting 1 · 0:00"


def test_without_a_total_there_are_rows_only() -> None:
    view = View(clock=Clock())
    assert drawn(view) == []
    view.begin("service", "deploying")
    assert [line.split() for line in drawn(view)] == [["service", "deploying", "0:00"]]


def test_rows_keep_their_place() -> None:
    clock = Clock()
    view = View(2, None, clock)
    for name in ("one", "two"):
        view.begin(name, "build")
        clock.now += 1
    view.end("one")
    view.begin("one", "scan")
    assert [line.split()[0] for line in drawn(view)[:2]] == ["one", "two"]


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("images", [1, 40])
@pytest.mark.parametrize("height", [1, 2, 5, 24, 60])
def test_it_fits(width: int, images: int, height: int) -> None:
    view = View(50, lambda: 3000, Clock())
    for number in range(images):
        name = f"{number:02}-日本語-{HOSTILE}" if number % 2 else f"image-{number:02}"
        view.begin(name, "build")
        view.detail(name, RUN * 9)
    lines = drawn(view, width, height)
    assert all(cell_len(line) <= width for line in lines)
    assert len(lines) <= max(height, 3)
    rows = [line for line in lines if re.search(r"build .+0:00$", line)]
    hidden = images - len(rows)
    assert len(rows) == min(images, max(1, height - 3))
    assert (f"and {hidden} more" in lines) == (hidden > 0)
    assert lines[-1].lstrip().startswith("0/50 · waiting")
    assert all("[2/5] RUN" in row for row in rows if width >= 80)


@given(st.text(), st.text())
def test_nothing_is_acted_upon(name: str, detail: str) -> None:
    view = View(1, None, Clock())
    view.begin(name, "build")
    view.detail(name, detail)
    lines = drawn(view, 500)
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    shown = printable(name).rstrip()[:100]
    # What has no width of its own (a lone skin tone) gets no room in a table.
    assert shown in lines[0] or not all(map(cell_len, shown))


@given(st.text())
def test_printable(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert (shown == text) == text.isprintable()
    shown.encode()
    kept = printable(text, keep="\n")
    assert kept.count("\n") == text.count("\n")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00"), (-3, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (3599.9, "1:00:00"),
     (36_000, "10:00:00")],
)  # fmt: skip
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_many_threads() -> None:
    view = View(400, None)

    def work(number: int) -> None:
        for image in range(100):
            name = f"{number}-{image}"
            view.begin(name, "build")
            view.detail(name, "x")
            drawn(view)
            view.end(name)
            view.finished(name, image % 10 != 0)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (view.done, view.failed) == (400, 40)
    assert view.counts().startswith("400/400 · failed 40 · ")
    assert "waiting" not in view.counts()


# Without a terminal ---------------------------------------------------------------


def told(text: str) -> list[str]:
    """Lines without their seconds."""
    lines = text.splitlines()
    assert all(re.match(r"\[ *\d+\.\d\] ", line) for line in lines)
    return [line.partition("] ")[2] for line in lines]


def test_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    with console.live(2, lambda: 3.0), console.working("train", "build"):
        for text in ("[1/2] FROM x", "[2/2] RUN y", "[2/2] RUN y", "[1/2] FROM x", "[2/2] RUN y"):
            console.detail("train", text)
        console.detail("train", "[internal] load x", minor=True)
        console.event("hello")
    with console.working("train", "test"):
        console.detail("train", "[2/2] RUN y")
    console.finished("train", True)
    console.detail("train", "too late")
    assert told(capsys.readouterr().err) == [
        "train | build", "train | [1/2] FROM x", "train | [2/2] RUN y", "hello",
        "train | test", "train | [2/2] RUN y",
    ]  # fmt: skip


def test_a_long_step_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    with console.working("train", "build"):
        console.detail("train", "x" * 5000)
    assert told(capsys.readouterr().err)[1] == "train | " + "x" * 199 + "…"


def test_hostile_names_make_no_lines_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    with console.working(HOSTILE, "build"):
        console.detail(HOSTILE, HOSTILE)
    console.event(HOSTILE)
    console.error("two\nlines")
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    lines = shown.splitlines()
    assert len(lines) == 6  # the event and the error have a second line each
    assert [line for line in lines if not line.startswith("[")] == [
        "          [  1.0] forged\\u202e:smile:",
        "          lines",
    ]


def test_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(quiet=True)
    with console.live(1), console.working("train", "build"):
        console.detail("train", "x")
        console.event("x")
        console.stage("x")
        console.warn("mind")
        console.warn("mind")
        console.error("bad")
    console.finished("train", False)
    assert told(capsys.readouterr().err) == ["WARNING: mind", "WARNING: mind", "ERROR: bad"]
    assert console.warnings == ["mind"]


def test_a_reader_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stderr", Gone())
    Console().error("nobody hears it")


# On a terminal --------------------------------------------------------------------

PROGRAM = f"""
import sys, time
from ci.console import Console
console = Console()
name = {HOSTILE!r}
with console.live(3, lambda: 75.0):
    with console.live(9):  # of two the outer one
        console.finished("other", False)
        with console.working(name, "build"):
            console.detail(name, {RUN!r})
            time.sleep(0.6)
            console.warn("mind [bold]this[/bold] :smile:")
            print("on stdout")
            print("on stderr", file=sys.stderr)
            time.sleep(0.6)
console.event("after")
"""
PLAIN = {"CI": "", "NO_COLOR": "", "JENKINS_URL": "", "TERM": "xterm-256color", "COLUMNS": "",
         "LINES": ""}  # fmt: skip


def on_a_terminal(program: str = PROGRAM, **environment: str) -> str:
    """Everything that a terminal gets from a program."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "PYTHONPATH": str(ROOT), **PLAIN, **environment},
    )  # fmt: skip
    os.close(theirs)
    got = b""
    try:
        while piece := os.read(ours, 65536):
            got += piece
    except OSError:  # how Linux tells that the other end is closed
        pass
    os.close(ours)
    assert child.wait(300) == 0, got.decode()
    return got.decode()


def test_live() -> None:
    got = on_a_terminal()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", got)
    assert "\x1b[?25l" in got  # the cursor goes, and comes back
    assert got.rindex("\x1b[?25h") > got.rindex("\x1b[?25l")
    assert "\x1b" not in text  # nothing but colours and cursor movements
    assert "\x07" not in got
    assert "\x1b[2J" not in got
    assert "[red]x[/red]\\x1b]" in text
    assert re.search(r"1/3 · failed 1 · waiting 1 · \d+:\d\d · ETA 1:15", text)
    assert "[2/5] RUN pip" in text
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in ("WARNING: mind [bold]this[/bold] :smile:", "on stdout", "on stderr", "after"):
        assert lines.count(line) == 1
    assert lines[-1] == "after"


CROWD = """
import threading
from ci.console import Console
console = Console()

def work(number):
    for image in range(150):
        name = f"row-{number}-{image}"
        with console.working(name, "build"):
            console.event(f"event-{number}-{image}")
        console.finished(name, True)

with console.live(600):
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_of_the_view_nothing_is_left_over() -> None:
    """Though many speak while it is drawn: what is erased is what was there."""
    shown = screen(on_a_terminal(CROWD, COLUMNS="200", LINES="50"))
    assert sorted(line for line in shown if line) == sorted(
        f"event-{number}-{image}" for number in range(4) for image in range(150)
    )


def screen(got: str) -> list[str]:
    """The lines that stand on an endless terminal which knows what rich makes use of."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|\r|\n|[^\x1b\r\n]+", got):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part == "\x1b[2K":
            lines[row] = ""
        elif up := re.fullmatch(r"\x1b\[(\d+)A", part):
            row -= int(up[1])
        elif part == "\r" or (part[0] == "\x1b" and part[-1] in "mhl"):
            continue
        else:
            assert part[0] != "\x1b"
            lines[row] += part
    return [line.rstrip() for line in lines]


@pytest.mark.parametrize(
    "environment",
    [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"TERM": ""}, {"CI": "true"}, {"JENKINS_URL": "x"}],
)
def test_a_terminal_that_wants_none_of_it(environment: dict[str, str]) -> None:
    got = on_a_terminal(**environment)
    assert "\x1b" not in got
    assert f" | {RUN}" in got
    assert "] WARNING: mind [bold]this[/bold] :smile:" in got


def test_where_nothing_is_drawn() -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    assert draws(terminal, {"TERM": "xterm"})
    assert draws(terminal, {"TERM": "xterm", "CI": "false", "NO_COLOR": ""})
    assert not draws(terminal, {})
    assert not draws(io.StringIO(), {"TERM": "xterm"})
