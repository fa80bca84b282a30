"""Reading from a registry what may be anything, within bounds."""

from __future__ import annotations

from urllib.parse import urljoin

from ci_tools.errors import CredentialsError, RegistryError
from ci_tools.images.direct import Answer
from ci_tools.images.registry import Registry
from ci_tools.images.transient import transient
from ci_tools.images.transport import said


def got(registry: Registry, path: str, accept: str, limit: int) -> bytes | None:
    """What is there, cut off a byte after `limit`: then it is neither of its digest nor a list."""
    answer = registry.http.ask("GET", path, headers={"Accept": accept}, limit=limit)
    return None if answer.status_code == 404 else judged(registry, answer, path).content


def judged(registry: Registry, answer: Answer, path: str) -> Answer:
    """The answer. Raises the error that it is."""
    if answer.status_code in (401, 403):
        if registry.ecr is None:
            raise registry.http.refused(said(answer))
        raise CredentialsError(
            f"the registry {registry.host} refuses us {path} ({said(answer)})",
            # Those of listing referrers too, says the documentation of ListImageReferrers.
            "Allow ecr:BatchGetImage and ecr:GetDownloadUrlForLayer on its repositories",
        )
    if not answer.ok:
        why = said(answer)
        raise RegistryError(
            f"the registry {registry.host} answers {why} to {path}",
            "Look into the registry's log",
            again=transient(why),
        )
    return answer


def next_page(path: str, answer: Answer) -> str:
    """Where a list goes on that began at `path`, "" where it ends (RFC 8288)."""
    link = answer.headers.get("Link", "")
    if not link:
        return ""
    from requests.utils import parse_header_links

    following = (one for one in parse_header_links(link) if one.get("rel") == "next")
    url = next(following, {}).get("url", "")
    try:
        return urljoin(path, url) if url else ""
    except ValueError:  # such as "http://[": whoever asks for it is told
        return str(url)
