"""The hashes of many contexts, on all processors.

Each is worked out anew from the files: no cache could be trusted as far as a key
is. A worker is a Python of its own and not a fork, since the parser's Go runtime
and threads that wait for a registry may be there by now. What a worker does not
give back, for whatever reason, is done here, where it raises what it has to.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from ci_tools.components import context
from ci_tools.errors import CIError

if TYPE_CHECKING:
    import subprocess

MANY = 250  # components that are worth the start of a worker
_CHUNK = 16  # components that a process takes at once
_TICKET = 4  # bytes of a chunk's number
_TICKETS = 4096 // _TICKET  # as many as any pipe takes without a reader
_WORKERS = 7

Pair = tuple[str, str]  # paths of a context and of its Dockerfile


class Hashes(NamedTuple):
    """Of a context's entries, and of a Dockerfile's bytes: 64 hex each."""

    context: str
    dockerfile: str


def of(folder: str, dockerfile: str) -> Hashes:
    """Raises DockerfileError and ConfigError, as `context.entries`."""
    found = context.entries(folder, dockerfile)
    return Hashes(context.entries_hash(found), context.file_hash(dockerfile, folder, found))


class Hashing:
    """Workers that have begun on contexts before anybody asks for their hashes.

    wanted:  contexts and their Dockerfiles. workers: processes beside this one, by
             default none for a few contexts. They are gone when it is closed.
    """

    def __init__(self, wanted: Sequence[Pair], *, workers: int | None = None) -> None:
        if workers is None:
            workers = min((os.cpu_count() or 1) - 1, _WORKERS, len(wanted) // MANY)
        self._wanted = wanted
        self._size = max(_CHUNK, -(-len(wanted) // _TICKETS))
        self._tickets = -1
        self._stack = ExitStack()
        self._answers: list[IO[bytes]] = []
        self._workers: list[subprocess.Popen[bytes]] = []
        if workers > 0:
            try:
                with self._stack:
                    self._start(workers)
                    self._stack = self._stack.pop_all()
            except OSError:  # no process to be had: everything is done here
                self._workers = []

    def __enter__(self) -> Hashing:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def finish(self) -> dict[Pair, Hashes]:
        """Help until all is begun on, and wait: those that could be read by anybody."""
        if not self._workers:
            return {}
        known = dict(_work(self._wanted, self._tickets, self._size))
        for process in self._workers:
            process.wait()
        for answer in self._answers:
            known |= _read(answer)
        return {self._wanted[number]: found for number, found in known.items()}

    def _start(self, workers: int) -> None:
        import tempfile

        # A pipe filled with the numbers of chunks: to read one is to take it.
        self._tickets, fill = os.pipe()
        self._stack.callback(os.close, self._tickets)
        with os.fdopen(fill, "wb") as pipe:
            for number in range(-(-len(self._wanted) // self._size)):
                pipe.write(number.to_bytes(_TICKET, "little"))
        task = self._stack.enter_context(tempfile.TemporaryFile("w+b"))  # noqa: SIM115
        task.write(b"\0".join(os.fsencode(path) for pair in self._wanted for path in pair))
        task.flush()
        for _ in range(workers):
            answer = self._stack.enter_context(tempfile.TemporaryFile("w+b"))  # noqa: SIM115
            self._answers.append(answer)
            self._workers.append(self._worker(task, answer))

    def _worker(self, task: IO[bytes], answer: IO[bytes]) -> subprocess.Popen[bytes]:
        import subprocess

        code = f"import sys; sys.path.insert(0, sys.argv[1]); import {__name__} as own; own.main()"
        given = (Path(__file__).parents[2], self._tickets, self._size, task.fileno())
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code, *map(str, given)],
            stdin=subprocess.DEVNULL,
            stdout=answer,
            stderr=subprocess.DEVNULL,
            pass_fds=[self._tickets, task.fileno()],
        )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process


def many(wanted: Iterable[Pair], begun: Hashing) -> Iterator[Hashes]:
    """The hashes of contexts and their Dockerfiles, in the order they are given.

    begun: what workers may have done of it. Raises as `of`, for the first that
    cannot be read.
    """
    known = begun.finish()
    for pair in wanted:
        yield known.pop(pair) if pair in known else of(*pair)


def _read(answer: IO[bytes]) -> dict[int, Hashes]:
    """What a worker wrote, but for a line that it did not finish."""
    answer.seek(0)
    lines = [line.split() for line in answer if line.endswith(b"\n")]
    return {
        int(number): Hashes(tree.decode(), dockerfile.decode())
        for number, tree, dockerfile in lines
    }


def _work(wanted: Sequence[Pair], tickets: int, size: int) -> Iterator[tuple[int, Hashes]]:
    """Take chunks as long as there are any; what cannot be read is left out."""
    while ticket := os.read(tickets, _TICKET):
        begin = int.from_bytes(ticket, "little") * size
        for number, (folder, dockerfile) in enumerate(wanted[begin : begin + size], begin):
            try:
                yield number, of(folder, dockerfile)
            except CIError:
                continue


def main() -> None:
    """What a worker does: argv[2:] are two file descriptors with a size between them."""
    tickets, size, task = map(int, sys.argv[2:])
    paths = os.fsdecode(os.pread(task, os.fstat(task).st_size, 0)).split("\0")
    wanted = list(zip(paths[::2], paths[1::2], strict=True))
    for number, found in _work(wanted, tickets, size):
        print(number, *found, flush=number % _CHUNK == 0)
