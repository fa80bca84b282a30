"""What BuildKit is doing, read from the lines of `--progress=plain`.

The lines are written by buildkit's util/progress/progressui (printer.go):
`#7 [runtime 2/5] RUN x` heads a vertex and is repeated whenever BuildKit turns
back to it, `#7 12.3 text` is its output, `#7 CACHED`, `#7 DONE 0.3s`, `#7 ERROR
why` and `#7 CANCELED` end it, `#7 ...` means that another one speaks next. Any
other line of a vertex is about its own progress. What a RUN prints always
follows the seconds, so that it cannot be mistaken for one of the others.
"""

from __future__ import annotations

import re

import msgspec


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One vertex of a build: an instruction, or something BuildKit does itself.

    number, total: its place in its stage; 0 for what is no instruction.
    stage:   as the Dockerfile calls it, behind the platform where there are
             several; "" where there is one stage only. `internal` and
             `context NAME` are BuildKit's own.
    seconds: what it took, once it is done.
    failed:  BuildKit's reason; "canceled" where another step failed.
    """

    text: str
    stage: str = ""
    number: int = 0
    total: int = 0
    cached: bool = False
    seconds: float | None = None
    failed: str = ""

    @property
    def ended(self) -> bool:
        return self.cached or self.seconds is not None or bool(self.failed)

    @property
    def minor(self) -> bool:
        """BuildKit's own preparations, which are many and mostly short."""
        return self.stage == "internal" or self.stage.startswith("context ")

    @property
    def label(self) -> str:
        """As BuildKit heads it: `[runtime 2/5] RUN pip install x`."""
        place = f"{self.number}/{self.total}" if self.total else ""
        where = " ".join(filter(None, (self.stage, place)))
        return f"[{where}] {self.text}" if where else self.text


_LINE = re.compile(r"#(?P<vertex>[1-9]\d{0,5}) (?P<rest>.+)", re.DOTALL)
_OUTPUT = re.compile(r"\d+\.\d+ ", re.ASCII)
_DONE = re.compile(r"DONE (\d{1,9}\.\d{1,9})s", re.ASCII)
_INSTRUCTION = re.compile(
    r"\[(?:(?P<stage>[^\]]+) )?(?P<number>\d{1,6})/(?P<total>\d{1,6})\] (?P<text>.+)",
    re.ASCII | re.DOTALL,
)
_OWN = re.compile(r"\[(?P<stage>[^\]]+)\] (?P<text>.+)", re.DOTALL)


class Progress:
    """One build. steps: vertex -> its step, in the order BuildKit began them."""

    def __init__(self) -> None:
        self.steps: dict[int, Step] = {}
        self._open: dict[int, None] = {}  # the one that spoke last is the last

    @property
    def current(self) -> Step | None:
        """The step under way: of several the one that spoke last. None between steps."""
        return self.steps[next(reversed(self._open))] if self._open else None

    def read(self, line: str) -> Step | None:
        """Take a line; the step it is about, as that now stands.

        None for a line that is about none. Never raises.
        """
        match = _LINE.fullmatch(line.rstrip("\r\n"))
        if match is None:
            return None
        vertex, rest = int(match["vertex"]), match["rest"]
        known = self.steps.get(vertex)
        if known is None:
            if _is_status(rest):
                return None  # its head was lost
            step = _headed(rest)
        else:
            step = _after(known, rest)
        self.steps[vertex] = step
        if rest != "...":
            self._open.pop(vertex, None)
            if not step.ended:
                self._open[vertex] = None
        return step


def _is_status(rest: str) -> bool:
    return (
        rest in ("...", "CACHED", "CANCELED")
        or rest.startswith("ERROR: ")
        or _DONE.fullmatch(rest) is not None
        or _OUTPUT.match(rest) is not None
    )


def _headed(rest: str) -> Step:
    if (found := _INSTRUCTION.fullmatch(rest)) is not None:
        return Step(
            text=found["text"],
            stage=found["stage"] or "",
            number=int(found["number"]),
            total=int(found["total"]),
        )
    if (found := _OWN.fullmatch(rest)) is not None:
        return Step(text=found["text"], stage=found["stage"])
    return Step(text=rest)


def _after(step: Step, rest: str) -> Step:
    if rest == "...":
        return step
    if rest == "CACHED":
        return msgspec.structs.replace(step, cached=True)
    if rest == "CANCELED":
        return msgspec.structs.replace(step, failed="canceled")
    if rest.startswith("ERROR: "):
        return msgspec.structs.replace(step, failed=rest.removeprefix("ERROR: ") or "unknown")
    if (done := _DONE.fullmatch(rest)) is not None:
        return msgspec.structs.replace(step, seconds=float(done[1]))
    # A base image is DONE when it is found, and again when it is pulled.
    return msgspec.structs.replace(step, cached=False, seconds=None, failed="")
