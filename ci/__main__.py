"""`python -m ci`, and the console script `kfp-ci`."""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import NoReturn, TextIO

from ci_tools import process
from ci_tools.errors import (
    CIError,
    InterruptedRunError,
    OutputClosedError,
    ToolError,
    WriteError,
)
from ci_tools.printable import printable

# SIGTERM is how Jenkins aborts, SIGHUP how a terminal goes away.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Threads that end by themselves once their children are gone get so long, to
# remove their temporary files.
_THREADS_SECONDS = 0.5
_INTERRUPTED = InterruptedRunError(
    "interrupted; nothing is left half-written", "Run the same command again"
)
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_SHOW_CURSOR = b"\x1b[?25h"  # a live view hides it, and is not asked to go when we leave at once


def main() -> None:
    """Run the command line; every failure becomes one sentence and an exit code."""
    _open_streams()
    gc.set_threshold(100_000)  # a command makes much, keeps it and ends: there is little to find
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _interrupted)
    try:
        code = _command()
    except KeyboardInterrupt:
        _leave(str(_INTERRUPTED), _INTERRUPTED.exit_code)
    except ModuleNotFoundError as error:
        if (error.name or "ci").partition(".")[0] in ("ci", "ci_tools"):
            raise  # a defect of ours
        missing = ToolError(
            f"the Python package '{error.name}' is not installed for {sys.executable}",
            "Activate the environment that has this tool (after 'make run' here: "
            "'. .venv/bin/activate'), or install it with pip",
        )
        _tell(str(missing))
        sys.exit(missing.exit_code)
    except OutputClosedError as error:  # `ci plan --json | head`: nobody is to be told
        _discard(sys.stdout)
        sys.exit(error.exit_code)
    except CIError as error:
        if process.stopping() or isinstance(error, InterruptedRunError):
            _leave(str(error), error.exit_code)
        _tell(str(error))
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        _discard(sys.stdout)
        full = WriteError(
            f"{error.filename or 'the output'} could not be written ({error.strerror})",
            "Free some disk space, then run the same command again",
        )
        _tell(str(full))
        sys.exit(full.exit_code)
    if process.stopping():  # somebody on the way took the exception for himself
        _leave(str(_INTERRUPTED), _INTERRUPTED.exit_code)
    gc.freeze()  # the process ends: to look through all that it made is for nothing
    sys.exit(code if isinstance(code, int) else 0)


def _command() -> object:
    """What the command line asks for; its exit code where it has one. Imports are here,
    so that Ctrl-C meanwhile is met, and a package that is not there."""
    import click

    from ci.cli import cli

    try:
        return cli.main(prog_name="kfp-ci", standalone_mode=False)
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as error:
        with _whoever_reads():
            error.show()
        return error.exit_code


def _open_streams() -> None:
    """Give us the standard streams that we were started without, as a daemon does: what
    is opened next would get their numbers, and be written into."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper):  # as stderr does, whatever the locale lacks
        sys.stdout.reconfigure(errors="backslashreplace")


def _tell(sentence: str) -> None:
    with _whoever_reads():
        print(f"ERROR: {printable(sentence, keep=chr(10))}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _whoever_reads() -> Iterator[None]:
    """An error that cannot be told still has its exit code."""
    try:
        yield
    except OSError:
        _discard(sys.stderr)


def _discard(stream: TextIO) -> None:
    """Let go of what a stream still holds: Python would write it when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _leave(sentence: str, code: int) -> NoReturn:
    """End now: Python itself would wait for a thread that waits for a socket."""
    process.stop_all()
    until = time.monotonic() + _THREADS_SECONDS
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(0.0, until - time.monotonic()))
    with contextlib.suppress(OSError):  # the terminal may be gone
        sys.stdout.flush()
    _tell(sentence)
    os._exit(code)


def _interrupted(_number: int, _frame: object) -> None:
    """The first interruption raises KeyboardInterrupt, the third ends us at once."""
    if process.interrupt() > 2:
        with contextlib.suppress(OSError):
            shown = _SHOW_CURSOR if os.isatty(2) else b""
            os.write(2, shown + b"\nERROR: interrupted three times; left at once.\n")
        os._exit(_INTERRUPTED.exit_code)


if __name__ == "__main__":
    main()
