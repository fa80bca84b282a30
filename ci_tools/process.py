"""Child processes: no shell, a bounded time, a log, and nothing left running.

On an interruption (`interrupt`, the handler of SIGINT, SIGTERM and SIGHUP) every
child is gone within four seconds: its process group is asked to end, and killed
when it has not done so after three.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import selectors
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from ci_tools.errors import ToolError, WriteError
from ci_tools.output import Log, Output

_GRACE_SECONDS = 3.0  # between SIGTERM and SIGKILL
_KILL_SECONDS = 0.5  # what the kernel gets to end what was killed
_DRAIN_SECONDS = 0.5  # how long the end of a stopped child's output is waited for
_LOOK_SECONDS = 0.5  # how often a thread that reads looks whether we are stopping
_PIECE = 64 * 1024  # bytes

LOGGER = __name__  # gets each command and how it ended, at level DEBUG
_logger = logging.getLogger(LOGGER)
_NAMES = r"(?:pass(?:word|wd|phrase)?|token|secret|credential|api[-_]?key|private[-_]?key)"
# What follows such a name, in the same argument or in the next; --secret's are names.
_NAMED = re.compile(rf"(?i)([\w.-]*{_NAMES}[\w.-]*=)(?!id=)(.+)")
_OPTION = re.compile(rf"(?i)--?[\w-]*{_NAMES}[\w-]*")
_USERINFO = re.compile(r"(://)[^/@\s]+@")
_MASK = "***"
_numbers = itertools.count(1)

_running: set[subprocess.Popen[bytes]] = set()
_lock = threading.Lock()
_stop_lock = threading.Lock()
_stopping = False  # no Event: a signal's handler may come while its lock is held
_interrupts: list[int] = []
_holding = False  # the main thread is where an exception would lose a child


class Finished(NamedTuple):
    """returncode: None when the time ran out. output: both streams, mixed; with a
    log at most its first 64 KiB and last 1 MiB, for the log has all of it.
    """

    returncode: int | None
    output: str

    @property
    def ok(self) -> bool:
        return self.returncode == 0

    def tail(self, lines: int = 12) -> str:
        """The last lines that say something."""
        return "\n".join([line for line in self.output.splitlines() if line.strip()][-lines:])


def which(program: str, *, todo: str) -> str:
    """The path of a program. Raises ToolError, whose advice is `todo`."""
    path = shutil.which(program)
    if path is None:
        raise ToolError(f"the program '{program}' is not on PATH", todo)
    return path


def run(
    command: Sequence[str | os.PathLike[str]],
    *,
    timeout: float | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str | None] | None = None,
    log: Path | None = None,
    stdin: bytes | None = None,
    secrets: Iterable[str] = (),
    on_line: Callable[[str], None] | None = None,
    keep: Collection[int] = (),
) -> Finished:
    """Run a command to its end.

    env:     variables added to this process' own; None takes one out.
    timeout: seconds; the whole process group is then stopped.
    log:     every line is appended to it as it comes.
    secrets: strings that are blanked out in output, log and lines.
    on_line: called with every line, in the thread that called `run`.
    keep:    descriptors that the program inherits.

    Raises ToolError when the program cannot be started, WriteError when the
    log cannot be written (the child is then stopped). A non-zero exit is
    returned, not raised. Once we are stopping nothing is started: it is as if
    the time had run out.
    """
    arguments = [os.fspath(part) for part in command]
    deadline = None if timeout is None else time.monotonic() + timeout
    hidden = tuple(secrets)
    with Output(log, on_line, hidden) as output, told(arguments, hidden) as ended:
        output.head(f"$ {' '.join(arguments)}")
        if _stopping:
            return Finished(None, "")
        child: subprocess.Popen[bytes] | None = None
        try:
            with _held():
                child = _start(arguments, cwd, env, stdin is not None, keep=keep)
                with _lock:
                    _running.add(child)
            if _stopping:  # since just now, so stop_all may not have seen it
                _signal(child, signal.SIGKILL)
            try:
                _follow(child, stdin, output, deadline)
                returncode: int | None = child.returncode
            except subprocess.TimeoutExpired:
                _end(child, output)
                returncode = None
            output.end()
            ended(returncode)
        except BaseException:  # Ctrl-C: what the child said so far belongs in the log
            if child is not None:
                try:
                    with contextlib.suppress(Exception):
                        _end(child, output)
                        output.end()
                finally:  # Ctrl-C only now
                    _signal(child, signal.SIGKILL)
            raise
        finally:
            if child is not None:
                with _lock:
                    _running.discard(child)
                for pipe in filter(None, (child.stdin, child.stdout)):
                    with contextlib.suppress(OSError):
                        pipe.close()
        return Finished(returncode, output.text)


@contextlib.contextmanager
def beside(
    command: Sequence[str | os.PathLike[str]],
    *,
    log: Path,
    env: Mapping[str, str | None] | None = None,
    keep: Collection[int] = (),
) -> Iterator[Callable[[], bool]]:
    """A program that runs beside the block and is stopped after it.

    log: where it says what it says. keep: descriptors that it inherits.
    Yields whether it still runs.
    Raises ToolError when it cannot be started, WriteError for the log.
    """
    with contextlib.ExitStack() as stack:
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            stream = stack.enter_context(log.open("ab"))
        except OSError as error:
            raise WriteError(
                f"{log} could not be written ({error.strerror})",
                "Free some disk space or mend the permissions",
            ) from error
        arguments = [os.fspath(part) for part in command]
        ended = stack.enter_context(told(arguments))
        children: list[subprocess.Popen[bytes]] = []
        try:
            with _held():
                children.append(_start(arguments, None, env, False, stream, keep))
                with _lock:
                    _running.update(children)
            child = children[0]
            if _stopping:  # since just now, so stop_all may not have seen it
                _signal(child, signal.SIGKILL)
            yield lambda: child.poll() is None and not _stopping
        finally:
            _stop(children)
            for one in children:
                ended(one.returncode)
            with _lock:
                _running.difference_update(children)


@contextlib.contextmanager
def told(
    arguments: Sequence[str], secrets: Iterable[str] = ()
) -> Iterator[Callable[[int | None], None]]:
    """Log a command that the block runs, and how long that took. Yields what is to be
    told its exit code, None where there is none."""
    codes: list[int | None] = []
    if not _logger.isEnabledFor(logging.DEBUG):
        yield codes.append
        return
    number, began = next(_numbers), time.monotonic()
    _logger.debug("program %d: %s", number, shown(arguments, secrets))
    try:
        yield codes.append
    finally:
        code = codes[-1] if codes else None
        how = "was stopped" if code is None else f"ended with {code}"
        _logger.debug("program %d %s after %.2f s", number, how, time.monotonic() - began)


def shown(arguments: Sequence[str], secrets: Iterable[str] = ()) -> str:
    """A command for people, without what may be a secret: what was said to be one, what
    has a name like one, and who a URL is for."""
    words: list[str] = []
    hides = False
    for argument in arguments:
        word = argument
        for secret in secrets:
            word = word.replace(secret, _MASK) if secret else word
        if hides and not word.startswith("-"):
            word = _MASK
        hides = _OPTION.fullmatch(argument) is not None
        word = _USERINFO.sub(rf"\1{_MASK}@", _NAMED.sub(rf"\1{_MASK}", word))
        words.append(shlex.quote(word) if word.isprintable() else repr(word))
    return " ".join(words)


def append(log: Path, text: str) -> None:
    """Add to a log file, made when missing. Raises WriteError."""
    with contextlib.closing(Log(log)) as file:
        file.write(text if text.endswith("\n") else text + "\n")


def stopping() -> bool:
    """Whether we are about to end: whoever waits for something may give up."""
    return _stopping


def stop_all() -> None:
    """Stop every child that `run` started; later ones are not started.

    They are gone when it returns, whoever else is stopping them already.
    """
    global _stopping
    _stopping = True
    with _stop_lock:
        with _lock:
            children = list(_running)
        _stop(children)


def interrupt() -> int:
    """To be called by the handler of a signal that ends us; how often it was.

    The first time all children are being stopped and KeyboardInterrupt is
    raised, in the main thread, which is where Python runs handlers. The second
    time they are killed at once, and nothing is raised: what is being written
    because of the first gets written.
    """
    global _stopping
    _interrupts.append(1)
    if len(_interrupts) == 1:
        _stopping = True
        threading.Thread(target=stop_all, daemon=True).start()
        if not _holding:
            raise KeyboardInterrupt
    else:
        for child in list(_running):  # no lock: the main thread may be in it
            _signal(child, signal.SIGKILL)
    return len(_interrupts)


def _start(
    arguments: list[str],
    cwd: Path | None,
    env: Mapping[str, str | None] | None,
    talks: bool,
    into: IO[bytes] | None = None,
    keep: Collection[int] = (),
) -> subprocess.Popen[bytes]:
    variables = {**os.environ, **(env or {})}
    try:
        return subprocess.Popen(
            arguments,
            bufsize=0,
            stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
            stdout=into or subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env={name: value for name, value in variables.items() if value is not None},
            pass_fds=tuple(keep),
            start_new_session=True,  # so that stop_all reaches grandchildren too
        )
    except OSError as error:
        raise ToolError(
            f"the program '{Path(arguments[0]).name}' cannot be started ({error.strerror})",
            "Install it, or put it on PATH",
        ) from error


@contextlib.contextmanager
def _held() -> Iterator[None]:
    """In the main thread an interruption waits until the block's end: raised
    between a child's start and its entry in our books it would leave it alone.
    """
    global _holding
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = len(_interrupts)
    _holding = True
    try:
        yield
    finally:
        _holding = False
    if before == 0 and _interrupts:
        raise KeyboardInterrupt


def _follow(
    child: subprocess.Popen[bytes], stdin: bytes | None, output: Output, deadline: float | None
) -> None:
    """Pass on what a child says until it has ended.

    Raises TimeoutExpired at the deadline, or when we are stopping and somebody
    who fled the group still holds the pipe.
    """
    unsaid = memoryview(stdin or b"")
    with selectors.DefaultSelector() as selector:
        if child.stdout is not None and not child.stdout.closed:
            selector.register(child.stdout, selectors.EVENT_READ)
        if child.stdin is not None and not child.stdin.closed:
            os.set_blocking(child.stdin.fileno(), False)
            selector.register(child.stdin, selectors.EVENT_WRITE)
        while selector.get_map():
            for key, _ in selector.select(_patience(deadline)):
                if key.fileobj is child.stdin:
                    unsaid = _said(key.fd, unsaid)
                    if not unsaid:
                        selector.unregister(child.stdin)
                        child.stdin.close()
                elif data := os.read(key.fd, _PIECE):
                    output.feed(data)
                else:
                    selector.unregister(key.fileobj)
            deadline = _checked(child, deadline)
    child.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))


def _said(pipe: int, unsaid: memoryview) -> memoryview:
    """Write what the pipe takes; what is left. Nobody has to listen."""
    try:
        return unsaid[os.write(pipe, unsaid[:_PIECE]) :]
    except BlockingIOError:
        return unsaid
    except BrokenPipeError:
        return unsaid[:0]


def _patience(deadline: float | None) -> float:
    left = _LOOK_SECONDS if deadline is None else deadline - time.monotonic()
    return max(0.0, min(left, _LOOK_SECONDS))


def _checked(child: subprocess.Popen[bytes], deadline: float | None) -> float | None:
    """The deadline, which comes nearer once we are stopping. Raises TimeoutExpired."""
    if _stopping:
        last = time.monotonic() + _GRACE_SECONDS + _KILL_SECONDS
        deadline = last if deadline is None else min(deadline, last)
    if deadline is not None and time.monotonic() >= deadline:
        raise subprocess.TimeoutExpired(child.args, 0)
    return deadline


def _end(child: subprocess.Popen[bytes], output: Output) -> None:
    """Stop a child and pass on the rest of what it said. A process that fled its
    group may hold the pipe open for ever, so that is not waited for long.
    """
    _stop([child])
    with contextlib.suppress(subprocess.TimeoutExpired):
        _follow(child, None, output, time.monotonic() + _DRAIN_SECONDS)


def _stop(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """End the children's process groups, all at once: politely, then not."""
    for number, seconds in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, _KILL_SECONDS)):
        for child in children:
            _signal(child, number)
        until = time.monotonic() + seconds
        while any(_signal(child, 0) for child in children) and time.monotonic() < until:
            time.sleep(0.02)


def _signal(child: subprocess.Popen[bytes], number: int) -> bool:
    """Send a signal to a child's group; whether the group still has a member."""
    child.poll()  # reaps the leader, which as a zombie would count as a member
    try:
        os.killpg(child.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
