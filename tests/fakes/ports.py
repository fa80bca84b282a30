"""Ports on loopback for servers that a test starts later."""

from __future__ import annotations

import socket
from pathlib import Path

from ci_tools.local import state

_HELD: list[socket.socket] = []


def reserved() -> int:
    """A port that nobody else on this machine is given while this process lives.

    Its socket is bound and does not listen: the kernel gives the port to nobody who asks
    for any, and a server that asks for this one gets it.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    _HELD.append(held)
    return int(held.getsockname()[1])


def of_an_environment(home: Path) -> dict[str, int]:
    """Let the environment in `home` have ports of its own: a person's keeps the usual ones."""
    ports = {part: reserved() for part in ("registry", "aws")}
    parts = {part: state.Part(port=port) for part, port in ports.items()}
    state.save(home, state.State(parts=parts))
    return ports
