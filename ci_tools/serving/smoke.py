"""Requests to a new revision before it counts as verified."""

from __future__ import annotations

import ipaddress
import json
import math
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from msgspec import UNSET

from ci_tools.documents import Json
from ci_tools.serving.declaration import SmokeTest
from ci_tools.serving.rollout import text

_MOST_BYTES = 1 << 20
_SHOWN = 2000  # characters of an answer kept in deploy.json


class SmokeFailure(Exception):
    """What did not answer as declared, in one line. Caught inside this package."""


def check(
    tests: Sequence[SmokeTest],
    url: str,
    *,
    deadline: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Json:
    """Send every request to `url` until all answers are as declared.

    deadline: on `clock`, in seconds; each request is tried at least once. A
    wrong answer is tried again like a refused connection: a load balancer
    takes a while to see a new target.

    Returns the requests sent and the answers got. Raises SmokeFailure.
    """
    import tenacity

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(SmokeFailure),
        wait=tenacity.wait_exponential(multiplier=0.25, max=5),
        stop=lambda _: clock() >= deadline,
        sleep=sleep,
        reraise=True,
    )
    answers = [retrying(_ask, test, url, clock) for test in tests]
    return {"url": url, "requests": [*answers]}


def prepare() -> None:
    """Import what a check will need, which takes longer than a check."""
    import requests
    import tenacity

    _ = requests, tenacity


def _ask(test: SmokeTest, url: str, clock: Callable[[], float]) -> Json:
    import requests
    from urllib3.exceptions import HTTPError  # what reading the body raises

    where = f"{test.method} {test.path}"
    sent = None if test.body is UNSET else json.dumps(test.body).encode()
    began = clock()
    with requests.Session() as session:
        # A proxy of this machine's environment cannot reach a private address.
        session.trust_env = not _is_private(url)
        try:
            with session.request(
                test.method,
                url.rstrip("/") + test.path,
                data=sent,
                headers={"Content-Type": "application/json"} if sent is not None else {},
                timeout=test.timeout,
                allow_redirects=False,
                stream=True,
            ) as response:
                body = response.raw.read(_MOST_BYTES + 1, decode_content=True)
                status = response.status_code
        except (requests.RequestException, HTTPError, OSError) as error:
            raise SmokeFailure(f"{where}: no answer ({_cause(error)})") from error
    seconds = clock() - began  # to the answer's last byte
    if len(body) > _MOST_BYTES:
        raise SmokeFailure(f"{where}: the answer is larger than {_MOST_BYTES} bytes")
    said = body.decode("utf-8", "replace")
    if status != test.status:
        raise SmokeFailure(f"{where}: status {status} instead of {test.status}: {text(said, 200)}")
    try:
        answer = json.loads(said)
    except (ValueError, RecursionError):
        answer = UNSET
    if test.expect is not UNSET:
        if answer is UNSET:
            raise SmokeFailure(f"{where}: the answer is not JSON: {text(said, 200)}")
        wrong = mismatch(test.expect, answer)
        if wrong:
            raise SmokeFailure(f"{where}: {wrong}")
    if test.max_seconds is not None and seconds > test.max_seconds:
        raise SmokeFailure(
            f"{where}: answered in {seconds:.3f} s, more than the {test.max_seconds:g} s allowed"
        )
    small = len(said) <= _SHOWN and answer is not UNSET
    return {
        "method": test.method,
        "path": test.path,
        "status": status,
        "seconds": round(seconds, 3),
        "answer": answer if small else text(said, _SHOWN),
    }


def mismatch(expected: Any, actual: Any, where: str = "answer") -> str | None:
    """How `actual` is not what was expected, or None.

    An object may hold more than was expected; lists are equally long; numbers
    are equal to one part in a million, and true is not 1.
    """
    if isinstance(expected, dict) and isinstance(actual, dict):
        for key, value in expected.items():
            if key not in actual:
                return f"{where} has no {text(key)!r}"
            wrong = mismatch(value, actual[key], f"{where}.{text(key)}")
            if wrong:
                return wrong
        return None
    if isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            return f"{where} has {len(actual)} items instead of {len(expected)}"
        for index, (want, got) in enumerate(zip(expected, actual, strict=True)):
            wrong = mismatch(want, got, f"{where}[{index}]")
            if wrong:
                return wrong
        return None
    if _is_number(expected) and _is_number(actual):
        equal = math.isclose(expected, actual, rel_tol=1e-6)
    else:
        equal = type(expected) is type(actual) and expected == actual
    return None if equal else f"{where} is {text(actual, 100)!r} instead of {text(expected, 100)!r}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_private(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost"


def _cause(error: BaseException) -> str:
    """The innermost exception's name: requests wraps its own several times."""
    while error.__context__ is not None:
        error = error.__context__
    return type(error).__name__
