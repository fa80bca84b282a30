"""What the embedded environment remembers: its directory, its ports, its lock.

Everything is below one directory, `$KFP_CI_HOME` or `~/.local/share/kfp-ci`:

    local.json   ports and processes (this module)
    bases.json   stand-in base images (`bases`)
    registry/    the registry's storage
    stand-in/    the virtual environment of the AWS stand-in
    artifacts/   what local runs put out
    catalogue/   local pipeline versions
    launches/    what was launched by hand, a directory each
    logs/        one file a part
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from ci_tools import locks, storage
from ci_tools.documents import Document
from ci_tools.errors import LocalEnvironmentError, MissingInputError, WriteError

HOME_VARIABLE = "KFP_CI_HOME"
OWN = (
    "local.json",
    "bases.json",
    "registry",
    "registry.yml",
    "stand-in",
    "stand-in-data",
    "artifacts",
    "catalogue",
    "launches",
    "logs",
)  # what `down --wipe` removes, and nothing else

_LOCK_SECONDS = 300.0  # a first start installs packages; a base image takes half a minute


class Process(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A process we started. identity: see `daemon.identity`."""

    pid: int
    identity: str


class Part(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One server on loopback. Its port is kept when it is stopped, so that image
    references stay valid from one day to the next.

    container: id, when the server runs on the engine instead of as a process.
    """

    port: int
    process: Process | None = None
    container: str | None = None


class Probe(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Whether a public registry answered, and when it was asked (Unix seconds)."""

    reachable: bool
    asked: float


class State(Document, kw_only=True):
    """local.json"""

    parts: dict[str, Part] = {}
    probes: dict[str, Probe] = {}


def home_directory() -> Path:
    """`$KFP_CI_HOME`, or `~/.local/share/kfp-ci`; absolute, perhaps not there yet."""
    configured = os.environ.get(HOME_VARIABLE)
    return Path(configured or "~/.local/share/kfp-ci").expanduser().absolute()


def name(home: Path) -> str:
    """The environment's own name, told to each server and asked back from it.

    It follows from the directory, so two environments on one machine never take
    each other's servers for their own, and a lost local.json does not matter.
    """
    return "kfp-ci-" + hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:12]


def load(home: Path) -> State:
    """Read local.json; empty when there is none. Raises LocalEnvironmentError."""
    path = home / "local.json"
    try:
        return storage.read_if_there(path, State, made_by="local up") or State()
    except MissingInputError as error:
        raise LocalEnvironmentError(
            error.what, f"Delete {path} and run 'python -m ci local up'"
        ) from error


def save(home: Path, state: State) -> None:
    """Write local.json atomically. Raises WriteError."""
    storage.write(home / "local.json", state)


@contextmanager
def locked(home: Path, what: str = "environment") -> Iterator[None]:
    """Hold the environment's lock, so that two sessions never start a part twice.

    Raises LocalEnvironmentError when another holds it for five minutes,
    WriteError when the directory cannot be written.
    """
    path = home / f".{what}.lock"
    with ExitStack() as stack:
        try:
            stack.enter_context(locks.held(path, seconds=_LOCK_SECONDS))
        except OSError as error:
            raise WriteError(
                f"{path} could not be written ({error.strerror})",
                f"Mend the permissions, or name another directory in {HOME_VARIABLE}",
            ) from error
        except locks.HeldElsewhereError:
            raise LocalEnvironmentError(
                f"another session has held {path} for {_LOCK_SECONDS:.0f} seconds",
                "Wait for it, or end it, and try again",
            ) from None
        yield
