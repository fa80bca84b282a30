"""`python -m ci`, and the console script `kfp-ci`."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
import time
from typing import NoReturn

import click

from ci_tools import process
from ci_tools.errors import CIError, InterruptedRunError
from ci_tools.printable import printable

# SIGTERM is how Jenkins aborts, SIGHUP how a terminal goes away.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Threads that end by themselves once their children are gone get so long, to
# remove their temporary files.
_THREADS_SECONDS = 0.5
_INTERRUPTED = InterruptedRunError(
    "interrupted; nothing is left half-written", "Run the same command again"
)
_SHOW_CURSOR = b"\x1b[?25h"  # a live view hides it, and is not asked to go when we leave at once


def main() -> None:
    """Run the command line; every failure becomes one sentence and an exit code."""
    gc.set_threshold(100_000)  # a command makes much, keeps it and ends: there is little to find
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _interrupted)
    try:
        from ci.cli import cli  # here, so that Ctrl-C meanwhile is met

        code = cli.main(prog_name="kfp-ci", standalone_mode=False)
    except (KeyboardInterrupt, click.Abort):
        _leave(str(_INTERRUPTED), _INTERRUPTED.exit_code)
    except CIError as error:
        if process.stopping() or isinstance(error, InterruptedRunError):
            _leave(str(error), error.exit_code)
        _tell(str(error))
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:  # `ci plan --json | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    if process.stopping():  # somebody on the way took the exception for himself
        _leave(str(_INTERRUPTED), _INTERRUPTED.exit_code)
    gc.freeze()  # the process ends: to look through all that it made is for nothing
    sys.exit(code if isinstance(code, int) else 0)


def _tell(sentence: str) -> None:
    print(f"ERROR: {printable(sentence, keep=chr(10))}", file=sys.stderr)


def _leave(sentence: str, code: int) -> NoReturn:
    """End now: Python itself would wait for a thread that waits for a socket."""
    process.stop_all()
    until = time.monotonic() + _THREADS_SECONDS
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(0.0, until - time.monotonic()))
    with contextlib.suppress(OSError):  # the terminal may be gone
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        _tell(sentence)
        sys.stderr.flush()
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
