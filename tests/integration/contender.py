"""A machine that wants the lock of an environment, as a program of its own.

    python -m tests.integration.contender s3://bucket/prefix STATE_DIRECTORY NAME

It reads a command a line and answers each with one:

    claim OBJECT [wait=SECONDS] [take]   "in", or "away: " and why
    check                                "ours", or "out: " and why
    leave                                "left"
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from ci_tools.errors import CIError
from ci_tools.promotion.bucket_claims import BucketClaims
from ci_tools.promotion.lease import Lease, Timing
from ci_tools.promotion.s3_slot import S3Slot

TIMING = Timing(ttl=10.0, beat=0.5, settle=0.0, look=0.2)


def answers(uri: str, directory: Path, name: str) -> None:
    inside = contextlib.ExitStack()
    alive = None
    for line in sys.stdin:
        what, *rest = line.split()
        try:
            if what == "claim":
                slot = S3Slot(uri, rest[0])
                lease = Lease(BucketClaims(slot, str(slot), TIMING), "prod", directory, TIMING)
                waits = [float(one.partition("=")[2]) for one in rest if one.startswith("wait=")]
                held = lease.held(
                    lambda: "", who=name, release="release-1", wait=sum(waits), take="take" in rest
                )
                alive = inside.enter_context(held)
                told = "in"
            elif what == "check":
                assert alive is not None
                alive()
                told = "ours"
            else:
                inside.close()
                told = "left"
        except CIError as error:
            told = f"{'away' if what == 'claim' else 'out'}: {error.what}"
        print(told, flush=True)


if __name__ == "__main__":
    print("ready", flush=True)
    answers(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
