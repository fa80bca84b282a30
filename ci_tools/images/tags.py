"""The tags of a repository. Source: OCI distribution specification 1.1, "Listing Tags"."""

from __future__ import annotations

from urllib.parse import urljoin

import msgspec

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
            page = msgspec.json.decode(bounded.judged(registry, answer, path).content, type=_Page)
        except msgspec.MsgspecError as error:
            raise RegistryError(
                f"{registry.host} answers for the tags of {repository} with no list",
                "Check the registry and any proxy before it",
            ) from error
        found |= {*(page.tags or [])}
        path = _next(path, answer.headers.get("Link", ""))
    return sorted(found)


def _next(path: str, link: str) -> str:
    """Where a list goes on, "" where it ends."""
    if not link:
        return ""
    from requests.utils import parse_header_links

    following = (one for one in parse_header_links(link) if one.get("rel") == "next")
    url = next(following, {}).get("url", "")
    return urljoin(path, url) if url else ""
