"""`python -m ci`, and the console script `kfp-ci`."""

from __future__ import annotations

import gc
import os
import signal
import sys

import click

from ci.cli import cli
from ci_tools import process
from ci_tools.errors import CIError, InterruptedRunError


def main() -> None:
    """Run the command line; every failure becomes one sentence and an exit code."""
    gc.set_threshold(100_000)  # a command makes much, keeps it and ends: there is little to find
    signal.signal(signal.SIGTERM, _interrupt)  # Jenkins aborts with SIGTERM
    try:
        code = cli.main(prog_name="kfp-ci", standalone_mode=False)
    except CIError as error:
        _fail(str(error), error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        process.stop_all()
        _fail("interrupted; nothing is left half-written", InterruptedRunError.exit_code)
    except BrokenPipeError:  # `ci plan --json | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(sentence: str, code: int) -> None:
    print(f"ERROR: {sentence}", file=sys.stderr)
    sys.exit(code)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
