"""The tags of a repository. Source: OCI distribution specification 1.1, "Listing Tags"."""

from __future__ import annotations

import msgspec

from ci_tools import typed
from ci_tools.errors import RegistryError
from ci_tools.images import bounded
from ci_tools.images.registry import Registry

_LARGEST = 8 << 20  # bytes of a page
_PAGES = 1000


class _Page(msgspec.Struct):
    tags: list[str] | None = None


def listed(registry: Registry, repository: str) -> list[str]:
    """All tags, sorted; none where there is no such repository.

    Raises RegistryError, CredentialsError.
    """
    found: set[str] = set()
    path, seen = f"/v2/{repository}/tags/list?n=1000", set[str]()
    while path and path not in seen and len(seen) < _PAGES:
        seen.add(path)
        answer = registry.http.ask("GET", path, limit=_LARGEST)
        if answer.status_code == 404:
            break
        try:
            page = typed.decode(bounded.judged(registry, answer, path).content, _Page)
        except msgspec.MsgspecError as error:
            raise RegistryError(
                f"{registry.host} answers for the tags of {repository} with no list",
                "Check the registry and any proxy before it",
            ) from error
        found |= {*(page.tags or [])}
        path = bounded.next_page(path, answer)
    return sorted(found)
