"""What `--log-level debug` tells besides: programs that are started, requests that are sent.

Both come through the standard library's logging: of programs from
`ci_tools.process`, of requests from urllib3, which is under every client that we
have (registries, Kubeflow, botocore, the engine's). Of a request only what is known
to be harmless is told: neither its query, which may hold a signature, nor headers
or bodies.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from urllib.parse import urlsplit

from ci.console import Console
from ci_tools import process

_REQUESTS = "urllib3.connectionpool"
_ANSWERED = 8  # fields of urllib3's line about an answer
_SENT = "http.client.send"  # https://docs.python.org/3/library/audit_events.html

_sent = threading.local()  # when this thread sent something last
_hooked: list[bool] = []


def begin(console: Console) -> None:
    """Tell it to `console` from now on, and to no other any more."""
    if not _hooked:  # an audit hook stays
        _hooked.append(True)
        sys.addaudithook(_audit)
    for name in (process.LOGGER, _REQUESTS):
        logger = logging.getLogger(name)
        for handler in [one for one in logger.handlers if isinstance(one, _Teller)]:
            logger.removeHandler(handler)
        logger.addHandler(_Teller(console))
        logger.setLevel(logging.DEBUG)


class _Teller(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        text = _request(record) if record.name == _REQUESTS else record.getMessage()
        if text:
            self._console.event(f"debug: {text}")


def _request(record: logging.LogRecord) -> str:
    """urllib3's line about an answer in our words; "" for all else that it says, such as
    where it was sent on to, query and all."""
    fields = record.args
    if not isinstance(fields, tuple) or len(fields) != _ANSWERED:
        return ""
    scheme, host, port, method, target, _, status, _ = fields
    sent = getattr(_sent, "at", None)
    took = "" if sent is None else f" {(time.monotonic() - sent) * 1000:.0f} ms"
    where = f"{host}:{port}" if port else f"{host}"
    return f"{method} {scheme}://{where}{urlsplit(str(target)).path} {status}{took}"


def _audit(event: str, _arguments: tuple[object, ...]) -> None:
    if event == _SENT:
        _sent.at = time.monotonic()
