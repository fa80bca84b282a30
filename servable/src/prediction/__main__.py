"""Start the service: `python3 -m prediction`.

Environment: MODEL_URI (`file://` or `s3://`), MODEL_SHA256 (64 hex digits),
LOG_LEVEL (default info), PORT (default 8080). Exit code 3, and one line on
stderr, when the model may not be served or a variable is wrong.
"""

from __future__ import annotations

import os
import sys

import uvicorn

from prediction.model import ModelError, obtain
from prediction.service import create

REFUSED_EXIT_CODE = 3
_LOG_LEVELS = ("critical", "error", "warning", "info", "debug")


def main() -> int:
    try:
        for name in ("MODEL_URI", "MODEL_SHA256"):
            if not os.environ.get(name):
                raise ModelError(f"{name} is not set")
        log_level = os.environ.get("LOG_LEVEL", "info").lower()
        if log_level not in _LOG_LEVELS:
            raise ModelError(f"LOG_LEVEL must be one of {', '.join(_LOG_LEVELS)}")
        port = os.environ.get("PORT", "8080")
        if not port.isdecimal():
            raise ModelError("PORT is not a number")
        model = obtain(os.environ["MODEL_URI"], os.environ["MODEL_SHA256"])
    except ModelError as error:
        print(f"prediction: refused to start: {error}", file=sys.stderr)
        return REFUSED_EXIT_CODE
    # A container's whole network is its own; what may reach it is set outside.
    uvicorn.run(
        create(model),
        host="0.0.0.0",
        port=int(port),
        log_level=log_level,
        timeout_graceful_shutdown=20,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
