"""The list of what is attached to an image, where the registry keeps none.

It is an image index under the tag `sha256-<hex of the image's digest>`, kept by
whoever attaches. Source: OCI distribution specification 1.1, "Referrers Tag Schema".
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence

from ci_tools.errors import RegistryError
from ci_tools.images import artifacts, bounded, manifests, upload
from ci_tools.images.artifacts import Attached, Descriptor
from ci_tools.images.attempts import persistently
from ci_tools.images.registry import Registry
from ci_tools.images.transport import said

LARGEST = 8 << 20  # bytes
_ATTEMPTS = 6
# An index has no lock. Somebody else who read it before we wrote will have written,
# almost always, when we look again after so many seconds.
_SETTLED = (0.1, 0.3)
_locks: dict[tuple[str, str, str], threading.Lock] = {}


def content(registry: Registry, repository: str, subject: str) -> bytes | None:
    """What the list's tag names, be it a list or not."""
    path = f"/v2/{repository}/manifests/{artifacts.tag(subject)}"
    # All kinds: distribution says 404 for one that we do not accept, and we would replace it.
    return bounded.got(registry, path, manifests.ACCEPTED, LARGEST)


def put(
    registry: Registry,
    repository: str,
    subject: str,
    ours: Descriptor,
    replaces: Callable[[Attached], bool],
) -> list[Attached]:
    """Put our entry into the list that clients keep; what was taken out.

    Nobody in this process writes meanwhile. Another one may, and there is no
    way to forbid it: so we look again, and write again if ours has gone.
    """
    name = f"{registry.host}/{repository}:{artifacts.tag(subject)}"
    dropped: dict[str, Attached] = {}

    def once() -> None:
        made = artifacts.relisted(content(registry, repository, subject), ours, replaces)
        if made is None:
            raise _no_list(name)
        index, old = made
        _write(registry, repository, subject, index)
        dropped.update({one.digest: one for one in old})
        time.sleep(random.uniform(*_SETTLED))  # noqa: S311
        now = artifacts.listed(content(registry, repository, subject) or b"") or []
        if all(one.digest != ours.digest for one in now):
            raise RegistryError(
                f"{name} is being written by others, who overwrite our entry",
                "Run the stage again",
                again=True,
            )

    with _locks.setdefault((registry.host, repository, subject), threading.Lock()):
        persistently(once, attempts=_ATTEMPTS, told=lambda _: None)
    return list(dropped.values())


def add(registry: Registry, repository: str, subject: str, entries: Sequence[Descriptor]) -> None:
    """Put entries that are not there yet into the list that clients keep.

    What it holds already stays. Whoever calls sees that nobody else writes meanwhile,
    or looks again afterwards. Raises RegistryError, CredentialsError.
    """
    with _locks.setdefault((registry.host, repository, subject), threading.Lock()):
        index = content(registry, repository, subject)
        known = {one.digest for one in artifacts.listed(index or b"") or []}
        missing = [entry for entry in entries if entry.digest not in known]
        for entry in missing:
            made = artifacts.relisted(index, entry, lambda _: False)
            if made is None:
                raise _no_list(f"{registry.host}/{repository}:{artifacts.tag(subject)}")
            index = made[0]
        if index is not None and missing:
            _write(registry, repository, subject, index)


def _no_list(name: str) -> RegistryError:
    return RegistryError(
        f"{name} is not the list of what refers to the image, which others keep there",
        "Take that tag away: it is named so by the OCI distribution specification",
    )


def _write(registry: Registry, repository: str, subject: str, index: bytes) -> None:
    tag = artifacts.tag(subject)
    answer = upload.manifest(registry, repository, tag, index, artifacts.INDEX)
    if answer.status_code in (400, 404):
        # distribution takes no list that names what is not there any more.
        gone = {
            one.digest
            for one in artifacts.listed(index) or []
            if not upload.there(registry, repository, "manifests", one.digest)
        }
        if gone:
            index = artifacts.without(index, gone)
            answer = upload.manifest(registry, repository, tag, index, artifacts.INDEX)
    if answer.status_code in (409, 412) or "TAG_INVALID" in said(answer):
        raise RegistryError(
            f"{registry.host}/{repository}:{tag} cannot be replaced ({said(answer)})",
            "Except the tags sha256-* from immutability: such a registry lists there what "
            "is attached to an image",
        )
    if not answer.ok:
        raise upload.refused(registry, repository, answer)
