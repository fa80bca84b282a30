"""grpc-web: one protobuf message there and one back, in an ordinary HTTP POST.

The form is that of PROTOCOL-WEB.md in grpc/grpc: a body is a row of frames, each
a flag byte and a length (4 bytes, the highest first). Flag 0 is a message, 0x80
the trailers, as lines of `name: value`. A call that fails at once has no body:
its trailers are the headers of the HTTP answer.
"""

from __future__ import annotations

import struct
import urllib.parse
from collections.abc import Iterator

from ci_tools.kubeflow.raw import Answer, header

KIND = "application/grpc-web+proto"
HEADERS = {"Content-Type": KIND, "Accept": KIND, "X-Grpc-Web": "1"}
LIMIT = 100 * 1024 * 1024  # bytes: what Kubeflow's own client of the metadata store takes
ABORTED, UNAVAILABLE = 10, 14  # statuses of a call that may well succeed the next time
_MESSAGE, _TRAILERS = 0x00, 0x80
_SAID = 500  # characters of the server's words


class Refused(Exception):
    """The call's own status is not OK."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"status {status}{': ' + said if said else ''}")
        self.status = status


class Broken(Exception):
    """What came is no answer of grpc-web."""


def framed(message: bytes) -> bytes:
    """The body of a request."""
    return struct.pack(">BI", _MESSAGE, len(message)) + message


def unframed(answer: Answer) -> bytes:
    """The message in the answer to a call with one answer.

    Raises Refused when the call failed, Broken for anything that is not exactly
    one message and its trailers.
    """
    if len(answer.body) > LIMIT:
        raise Broken(f"it is larger than {LIMIT} bytes")
    status, said = header(answer, "grpc-status"), header(answer, "grpc-message")
    messages = []
    for flag, content in _frames(answer.body):
        if flag == _MESSAGE:
            messages.append(content)
        elif flag == _TRAILERS:
            trailers = _trailers(content)
            status = trailers.get("grpc-status", status)
            said = trailers.get("grpc-message", said)
        else:
            raise Broken(f"it has a frame of kind 0x{flag:02x}")
    # A cut between two frames is seen here: the trailers are what comes last.
    if not (status.isascii() and status.isdigit() and len(status) < 4):
        raise Broken("it says no status")
    if int(status):
        raise Refused(int(status), " ".join(urllib.parse.unquote(said).split())[:_SAID])
    if len(messages) != 1:
        raise Broken(f"it has {len(messages)} messages where one is expected")
    return messages[0]


def _frames(body: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(body):
        if len(body) - at < 5:
            raise Broken("it is cut off")
        flag, length = struct.unpack_from(">BI", body, at)
        at += 5
        if len(body) - at < length:
            raise Broken("it is cut off")
        yield flag, body[at : at + length]
        at += length


def _trailers(content: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in content.decode("utf-8", "replace").splitlines())
    return {name.strip().lower(): value.strip() for name, colon, value in pairs if colon}
