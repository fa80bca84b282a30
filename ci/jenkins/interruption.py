"""What Ctrl-C means for something that goes on elsewhere: asked, or decided before."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Literal

import click

Choice = Literal["ask", "detach", "abort"]


@contextlib.contextmanager
def again() -> Iterator[None]:
    """In the block, another Ctrl-C raises KeyboardInterrupt, too.

    Our own handler raises it once only, for the sake of what is being written then.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def decide(choice: Choice, what: str) -> Literal["detach", "abort"]:
    """`detach` leaves it as it is. On a terminal `ask` asks; elsewhere nobody is there,
    and another Ctrl-C, or no answer, means to detach.
    """
    if choice != "ask":
        return choice
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return "detach"
    try:
        answer = click.prompt(
            f"\n{what} goes on. Detach from it, or abort it?",
            type=click.Choice(["detach", "abort"]),
            default="detach",
            err=True,
        )
    except (click.Abort, KeyboardInterrupt):
        return "detach"
    return "abort" if answer == "abort" else "detach"
