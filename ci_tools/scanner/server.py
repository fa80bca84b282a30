"""One place where all scans of a run keep what they learn of layers.

Two Trivy programs cannot have one cache directory, but each can be a client of a
server that does. What a layer holds is then looked at once, and an image whose
layers another scan is just looking at waits for it: twenty images on one base
cost one look at the base (benchmarks/results.md, S1).
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from ci_tools import process
from ci_tools.errors import CIError
from ci_tools.scanner import alone

_START_SECONDS = 60.0  # of a busy machine; one that died is not waited for
_LOOK_SECONDS = 0.02


class Cache(NamedTuple):
    """A cache directory of Trivy's. lock: descriptor of the lock that it is held by."""

    directory: Path
    lock: int


class Server:
    """A Trivy server on this machine alone. It starts when it is first needed."""

    def __init__(self, program: str, log: Path) -> None:
        self._program = program
        self._log = log
        self._stack = ExitStack()
        self._lock = threading.Lock()
        self._begun = False
        self._alive: Callable[[], bool] | None = None
        self._address = ""
        # Others on this machine may reach the port, but not use it.
        self._token = secrets.token_urlsafe(16)

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which clients and server know each other."""
        return {"TRIVY_TOKEN": self._token}

    def address(self, cache: Callable[[ExitStack], Cache]) -> str | None:
        """Where it listens; None where it cannot be had, once and for all.

        cache: gives its cache directory, held as long as the stack is open, and by the
        server as long as that lives, should we be killed.
        """
        with self._lock:
            if not self._begun:
                self._begun = True
                with contextlib.suppress(CIError, OSError):
                    self._start(cache)
            return self._address if self.alive else None

    @property
    def alive(self) -> bool:
        return self._alive is not None and self._alive()

    def close(self) -> None:
        with self._lock:
            self._stack.close()

    def _start(self, cache: Callable[[ExitStack], Cache]) -> None:
        directory, lock = cache(self._stack)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        alive = self._stack.enter_context(
            process.beside(
                [
                    self._program,
                    "server",
                    alone.NO_CONFIG,
                    "--quiet",
                    "--skip-db-update",
                    f"--listen=127.0.0.1:{port}",
                    f"--cache-dir={directory}",
                ],
                log=self._log,
                env=alone.variables(self.environment),
                keep=(lock,),
            )
        )
        import urllib.request  # loads more than all of an unchanged run needs

        address = f"http://127.0.0.1:{port}"
        until = time.monotonic() + _START_SECONDS
        # No proxy may come between us and ourselves.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while alive() and time.monotonic() < until:
            try:
                opener.open(f"{address}/healthz", timeout=1).close()
            except OSError:  # of which URLError is one
                time.sleep(_LOOK_SECONDS)
            else:
                if alive():  # else another's server answers, which was given the port first
                    self._address, self._alive = address, alive
                return


class Layers:
    """Which layers are being looked at, so that none is looked at twice at once."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._busy: set[str] = set()
        self._done: set[str] = set()

    @contextmanager
    def claimed(self, layers: Collection[str]) -> Iterator[None]:
        """Wait until nobody looks at any of these layers, then do.

        Whoever fails frees them all the same.
        """
        wanted = set(layers)
        with self._changed:
            while not wanted.isdisjoint(self._busy) and not process.stopping():
                self._changed.wait(timeout=0.5)
            mine = wanted - self._done - self._busy
            self._busy |= mine
        try:
            yield
            with self._changed:
                self._done |= mine
        finally:
            with self._changed:
                self._busy -= mine
                self._changed.notify_all()
