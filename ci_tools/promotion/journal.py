"""The journal of a promotion, kept twice: on this machine and in the environment's registry.

The registry's copy lets another machine go on; ours is there when the registry is not.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from ci_tools import storage, typed
from ci_tools.documents import SCHEMA, Journal
from ci_tools.errors import CIError, MissingInputError
from ci_tools.images import moving
from ci_tools.images.registry import Registry

TYPE = "application/vnd.kfp-ci.promotion-journal.v1+json"
_CLOSING, _LOOK = 20.0, 0.2  # seconds


def newest(here: Journal | None, there: Journal | None) -> Journal | None:
    """The journal that counts, of our copy and the registry's. Pure.

    Of one promotion, the one written last. Of two, the registry's: what another machine
    promoted since is nothing that we know of. Ours alone counts while it is open, since
    the registry may have been away when it was written.
    """
    if here is None or there is None:
        return there or (here if here is not None and here.open else None)
    if here.id == there.id:
        return max(here, there, key=lambda one: one.serial)
    return there


class Journals:
    """The journals of one environment. path: of our copy."""

    def __init__(self, path: Path, registry: Registry, repository: str, environment: str) -> None:
        self._path, self._registry, self._repository = path, registry, repository
        self._tag = moving.tag_of(f"{environment}__journal")

    def read(self) -> Journal | None:
        """The newest. Raises RegistryError, CredentialsError, MissingInputError."""
        content = moving.get(self._registry, self._repository, self._tag, TYPE)
        there = None if content is None else _decoded(content, f"{self._repository}:{self._tag}")
        here = None
        if self._path.exists():
            here = storage.read(self._path, Journal, made_by="promote")
        return newest(here, there)

    def read_closed(self, seconds: float) -> Journal | None:
        """As `read`. Where it is in its last step it will be closed in a moment, which is waited
        for: a claim in a registry is free with the record, and who put that writes on.

        seconds: at most, and never longer than `_CLOSING`.
        """
        from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

        def closing(one: Journal | None) -> bool:
            if one is None or not one.open or one.undoing or not one.steps:
                return False
            # That the last one is done is written with the end of all.
            before, last = one.steps[:-1], one.steps[-1]
            return all(step.state == "done" for step in before) and last.state != "pending"

        return Retrying(
            retry=retry_if_result(closing),
            stop=stop_after_delay(min(seconds, _CLOSING)),
            wait=wait_fixed(_LOOK),
            retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        )(self.read)

    def keep(self, journal: Journal) -> None:
        """Write it, here first. Raises WriteError, RegistryError, CredentialsError."""
        journal.serial += 1
        storage.write(self._path, journal)
        moving.put(self._registry, self._repository, self._tag, TYPE, storage.encode(journal))

    def keep_if_possible(self, journal: Journal) -> str:
        """As `keep`; why it could not be written, "" where it was."""
        try:
            self.keep(journal)
        except CIError as error:
            return error.what
        return ""


def _decoded(content: bytes, name: str) -> Journal:
    try:
        found = typed.decode(content, Journal)
    except msgspec.MsgspecError as error:
        raise MissingInputError(
            f"the journal {name} is damaged ({error})",
            "Look at it with the version of this tool that wrote it",
        ) from error
    if found.schema != SCHEMA:
        raise MissingInputError(
            f"the journal {name} has schema version {found.schema}, this tool reads {SCHEMA}",
            "Use the version of this tool that wrote it",
        )
    return found
