"""What the compilation of a pipeline file read, so that it need not be done again.

A pipeline file is a program, and what it compiles to depends on whatever it looks at.
In the process that compiles it (`Watch`) all of that is noted: files, the names in
folders, whether a path is there, environment variables. Nothing changed means the
same IR (`hold`). What cannot be followed (a process, the network, a file written)
is said, and such a file is compiled every time. The clock and random numbers are
not seen: IR that depends on them is that of the first time.

Source of the events: https://docs.python.org/3/library/audit_events.html
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any, Literal, NamedTuple

import ci_tools

_MACHINE = ("/proc/", "/sys/", "/dev/")
_UNSEEN = ("/dev/null", "/dev/urandom", "/dev/random", "/dev/zero")
# Given by us, another one each time, or about how Python runs and not what it runs.
_OURS = frozenset({"HOME", "XDG_CONFIG_HOME", "TMPDIR", "TEMP", "TMP"})
_BEYOND = {
    "subprocess.Popen": "starts a process",
    "os.system": "starts a process",
    "os.exec": "starts a process",
    "os.posix_spawn": "starts a process",
    "os.spawn": "starts a process",
    "os.fork": "starts a process",
    "os.forkpty": "starts a process",
    "sqlite3.connect": "reads a database",
    "socket.connect": "uses the network",
    "socket.sendto": "uses the network",
    "socket.getaddrinfo": "uses the network",
    "socket.gethostbyname": "uses the network",
    "socket.gethostname": "asks for this machine's name",
}


class Read(NamedTuple):
    """kind: what was looked at. name: a variable's, or a path: relative to the pinned
    templates, to the repository, or absolute elsewhere. value: what was seen, as a hash;
    for `kind`, one of file, folder, other and missing."""

    what: Literal["template", "file", "names", "kind", "variable"]
    name: str
    value: str


class Places(NamedTuple):
    """repository, specs: where relative names are looked for. salt: of variables' hashes,
    for their values may be secrets."""

    repository: Path
    specs: Path
    salt: str


class World:
    """The present values of what can be read, each looked at once."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._known: dict[tuple[str, str], str] = {}

    def value(self, what: str, name: str) -> str:
        """A value as `Read` has it."""
        key = (what, name)
        if key not in self._known:
            self._known[key] = self._value(what, name)
        return self._known[key]

    def _value(self, what: str, name: str) -> str:
        if what == "variable":
            value = os.environ.get(name)
            return "" if value is None else _hash(f"{self._places.salt}\0{name}\0{value}".encode())
        path = (self._places.specs if what == "template" else self._places.repository) / name
        if what == "kind":
            return _kind(path)
        try:
            if what == "names":
                names = sorted(it.name for it in path.iterdir() if it.name != "__pycache__")
                return _hash("\0".join(names).encode("utf-8", "surrogateescape"))
            return _hash(path.read_bytes())
        except OSError:
            return "missing"


def hold(reads: Sequence[Sequence[str]], world: World) -> bool:
    """Whether everything that was read is as it was."""
    return all(world.value(what, name) == value for what, name, value in reads)


class Watch:
    """Notes what this process reads from `start` on. For a process of its own: Python
    does not take back what it is told here.

    why_not: why what is made must not be kept, "" where it may be.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._seen: dict[tuple[str, str], None] = {}
        self._own: set[str] = set()
        self._on = False
        self._busy = threading.local()  # looking at a path asks for paths in its turn
        self.why_not = ""
        ours = Path(ci_tools.__file__).parent
        self._ignored = tuple(
            f"{os.path.realpath(it)}/"
            for it in {sys.prefix, sys.base_prefix, sys.exec_prefix, str(ours), *_site_packages()}
        )
        self._temporary = f"{os.path.realpath(tempfile.gettempdir())}/"

    def start(self) -> None:
        self._on = True
        sys.addaudithook(self._heard)
        for name in ("stat", "lstat"):
            setattr(os, name, self._noting_kind(getattr(os, name)))
        os.environ.__class__ = _noting_variables(self)

    def stop(self) -> list[Read]:
        """All that was read, with the values that it has now."""
        self._on = False
        # No Path in this loop: kfp's modules are 1500, in few folders.
        real = functools.cache(os.path.realpath)
        for module in list(sys.modules.values()):
            file = getattr(module, "__file__", None)
            if not isinstance(file, str):
                continue
            folder = f"{real(os.path.dirname(file))}/"  # noqa: PTH120
            if not folder.startswith(self._ignored) or os.path.islink(file):  # noqa: PTH114
                self._note_path("file", file)  # its source may have been read as a .pyc
        world = World(self._places)
        found = []
        for what, name in self._seen:
            value = world.value(what, name)
            if what in ("file", "template") and value == "missing":
                what, value = "kind", world.value("kind", name)
            found.append(Read(what, name, value))  # type: ignore[arg-type]
        return found

    def note_variable(self, name: str) -> None:
        if self._on and name not in _OURS and not name.startswith("PYTHON"):
            self._seen["variable", name] = None

    def refuse(self, why: str) -> None:
        if self._on and not self.why_not:
            self.why_not = why

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            if not isinstance(path, int):
                writes = any(it in mode for it in "wax+") if isinstance(mode, str) else False
                writes = writes or bool(flags & (os.O_WRONLY | os.O_RDWR))
                self._apart(self._opened, path, writes)
        elif event in ("os.listdir", "os.scandir"):
            self._apart(self._note_path, "names", arguments[0] or ".")
        elif event in _BEYOND:
            self.refuse(f"it {_BEYOND[event]}")

    def _apart(self, note: Callable[..., None], *arguments: Any) -> None:
        """Note something without noting what that takes."""
        if not self._on or getattr(self._busy, "now", False):
            return
        self._busy.now = True
        try:
            note(*arguments)
        finally:
            self._busy.now = False

    def _opened(self, path: Any, writes: bool) -> None:
        real = os.path.realpath(os.fsdecode(path))
        if real in self._own or real in _UNSEEN or real.endswith(".pyc"):
            return
        inside = real.startswith(f"{self._places.repository}/")
        if writes and real.startswith(self._temporary) and not inside:
            self._own.add(real)
        elif writes:
            self.refuse(f"it writes {real}")
        elif real.startswith(_MACHINE):
            self.refuse(f"it reads {real}")
        else:
            self._note_path("file", path)

    def _note_path(self, what: str, path: Any) -> None:
        """Both by the name that was asked for and by the one behind its links: either
        may lead elsewhere the next time."""
        if isinstance(path, int):
            return
        asked = os.fsdecode(path)
        whole = os.path.abspath(asked)  # noqa: PTH100 - resolve() follows links
        for one in dict.fromkeys((os.path.realpath(asked), whole)):
            self._note(what, one)

    def _note(self, what: str, path: str) -> None:
        specs, repository = str(self._places.specs), str(self._places.repository)
        if path in self._own:
            return
        if path.startswith(specs + os.sep):
            if what == "file":
                self._seen["template", os.path.relpath(path, specs)] = None
            return
        inside = path == repository or path.startswith(repository + os.sep)
        # A repository may lie below the prefix of a Python, as /usr/src does.
        libraries = [it for it in self._ignored if not (inside and repository.startswith(it))]
        if any(f"{path}/".startswith(it) for it in libraries):
            return
        if inside:
            self._seen[what, os.path.relpath(path, repository)] = None
        elif what == "file" or not path.startswith((self._temporary, *_MACHINE)):
            self._seen[what, path] = None

    def _noting_kind(self, original: Any) -> Any:
        def stat(path: Any, *given: Any, **keywords: Any) -> Any:
            self._apart(self._note_path, "kind", path)
            return original(path, *given, **keywords)

        return stat


def _noting_variables(watch: Watch) -> type:
    """os.environ's own class, which tells who is asked for."""

    class Noting(os._Environ):  # type: ignore[type-arg]
        def __getitem__(self, key: str) -> str:
            watch.note_variable(key)
            return str(super().__getitem__(key))

        def __iter__(self) -> Iterator[str]:
            watch.refuse("it reads the whole environment")
            return super().__iter__()

    return Noting


def _site_packages() -> list[str]:
    return [it for it in sys.path if it.endswith(("site-packages", "dist-packages"))]


def _kind(path: Path) -> str:
    try:
        mode = path.stat().st_mode
    except OSError:
        return "missing"
    return "folder" if S_ISDIR(mode) else "file" if S_ISREG(mode) else "other"


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
