"""What a controller's answer means when it is no answer: which of our errors it is."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from urllib.parse import urljoin, urlsplit

import jenkins
import requests
import urllib3.exceptions

from ci_tools.errors import CIError, CredentialsError, JenkinsError
from ci_tools.jenkins.credentials import HOW

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_AWAY = frozenset({429, 502, 503, 504})
_LOGIN = re.compile(r"(?:^|/)(?:login|commenceLogin|signin|oauth2?|saml|authorize)(?:/|$)", re.I)
_PAGES = ("/api/json", "/progressiveText")  # what is never a page of HTML
_FORM = re.compile(rb"<form[^>]*(?:j_spring_security_check|login|signin)|type=.password", re.I)
_MOST = 500_000  # bytes of a page that are looked at
_TAGS = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^>]*>", re.S | re.I)


class Away(JenkinsError):
    """Nobody answered, or only to say that the controller is away.

    maybe_done: what was asked may have been done. starting: it is, as it says.
    """

    def __init__(
        self, what: str, todo: str, *, maybe_done: bool = True, starting: bool = False
    ) -> None:
        super().__init__(what, todo, again=True)
        self.maybe_done, self.starting = maybe_done, starting


class Unanswered(Away):
    """Something that changes the controller was sent, and its answer was lost."""


class NotThere(JenkinsError, jenkins.NotFoundException):  # type: ignore[misc]
    """404; python-jenkins' methods know it as theirs."""


class BadRequestError(JenkinsError):
    """400: of a build's parameters, mostly."""


def unsent(url: str, error: Exception, words: str, method: str | None = "GET") -> CIError:
    """The error for a request that has no answer. words: of `error`, made harmless."""
    if isinstance(error, requests.exceptions.SSLError):
        return JenkinsError(
            f"no TLS connection to Jenkins at {url} ({_tls(words)})",
            "Where a company's authority signed its certificate, set REQUESTS_CA_BUNDLE to "
            "the PEM file of that authority",
        )
    if isinstance(error, (requests.exceptions.ProxyError,)):
        words = "the proxy refuses, or does not answer"
    inside = [error, *_inside(error)]
    never = any(isinstance(it, urllib3.exceptions.NewConnectionError) for it in inside)
    never = never or isinstance(error, requests.exceptions.ConnectTimeout)
    if isinstance(error, OSError) and getattr(error, "errno", None) is not None and not never:
        words = str(error.strerror)
    if isinstance(error, requests.exceptions.Timeout):
        words = "no answer in time"
    elif never:
        words = _short(inside)
    elif isinstance(error, requests.exceptions.ConnectionError):
        words = "it hung up"
    kind = Away if method == "GET" or never else Unanswered
    return kind(
        f"Jenkins at {url} does not answer ({words})",
        "Check the address, and that this machine reaches it",
        maybe_done=not never,
    )


def sent_nowhere(url: str) -> JenkinsError:
    """A redirect to what is no address, such as `http://[`."""
    return JenkinsError(
        f"Jenkins at {url} sends us to an address that is none",
        "Ask who runs it, or a proxy before it",
    )


def wants_crumb(answer: requests.Response) -> bool:
    """Its pages all have bread crumbs, and none but this sentence means it."""
    return answer.status_code == 403 and b"no valid crumb" in answer.content[:_MOST].lower()


def login_page(url: str, answer: requests.Response) -> str:
    """What a login is called that came instead of an answer; "" where none came."""
    if answer.status_code in REDIRECTS:
        place = urlsplit(urljoin(url, answer.headers.get("Location", "")))
        asked = urlsplit(url)
        if _LOGIN.search(place.path):
            return f"a login page at {place.scheme}://{place.netloc.rpartition('@')[2]}"
        moved = place.path.split("/")[-2:] == asked.path.split("/")[-2:]
        elsewhere = place.hostname != asked.hostname and asked.path.endswith(_PAGES)
        return f"a redirect to {place.hostname}" if elsewhere and not moved else ""
    markup = "html" in answer.headers.get("Content-Type", "").lower()
    if answer.status_code != 200 or not markup or not urlsplit(url).path.endswith(_PAGES):
        return ""
    form = _FORM.search(answer.content[:_MOST])
    return "a login page" if form else "a page of HTML (a login, mostly)"


def denied(
    url: str,
    answer: requests.Response,
    source: str | None,
    user: str,
    hidden: Callable[[object], str],
    login: str,
) -> CIError:
    """The error for 401, 403 and login pages. source: of our credentials, if we have any.
    user: as the controller knows us.
    """
    if login:
        return CredentialsError(
            f"{url} shows {hidden(login)} instead of Jenkins' API",
            HOW if source is None else f"Check the address, and the token from {source}",
        )
    if answer.status_code == 401:
        return CredentialsError(
            f"Jenkins at {url} refuses the user or the token from {source or 'nowhere'} (401)",
            HOW if source is None else "Make a new API token in Jenkins (your page, Security)",
        )
    if wants_crumb(answer):
        return CredentialsError(
            f"Jenkins at {url} wants a crumb that it does not accept afterwards (403)",
            "Use an API token instead of a password: it needs no crumb",
        )
    said = _text(answer)
    permission = answer.headers.get("X-Required-Permission", "")
    if found := re.search(r"is missing the ([\w/ ]{1,60}) permission", said):
        permission = found[1]
    if source is None and not user:
        return CredentialsError(f"Jenkins at {url} refuses who has no credentials (403)", HOW)
    why = f"may not: {hidden(said)}"
    if permission:
        why = f"{'lacks' if user else 'lack'} the permission {hidden(permission)}"
    return CredentialsError(
        f"Jenkins at {url} forbids it (403): {user or 'we'} {why}",
        "Ask who runs Jenkins for that permission, or use another user's token",
    )


def failed(
    url: str, req: requests.Request, answer: requests.Response, hidden: Callable[[object], str]
) -> CIError:
    """The error for a status that is none of those above."""
    status, said = answer.status_code, hidden(_text(answer))
    path = urlsplit(req.url).path
    if status == 404:
        return NotThere(
            f"Jenkins at {url} has no {hidden(path)}, or no permission to see it is ours (404)",
            "Check the name, and the permissions of the token's user",
        )
    if status in _AWAY:
        starting = status == 503
        return (Away if starting or req.method == "GET" else Unanswered)(
            f"Jenkins at {url} is away ({status} {said})",
            "Try again later, or ask who runs it",
            maybe_done=not starting,
            starting=starting and "jenkins" in said.lower(),
        )
    kind = BadRequestError if status == 400 else JenkinsError
    return kind(
        f"Jenkins at {url} answers {status} to {req.method} {hidden(path)} ({said})",
        "Look into Jenkins' log, or ask who runs it",
    )


def no_jenkins(url: str) -> JenkinsError:
    return JenkinsError(
        f"what answers at {url} is not Jenkins", "Check the address, with the path it is under"
    )


def _text(answer: requests.Response) -> str:
    """An answer's own words: of a page of HTML the text of its main part."""
    if said := answer.headers.get("X-Error", ""):
        return said
    text = answer.content[:_MOST].decode("utf-8", "replace")
    if "html" in answer.headers.get("Content-Type", "").lower():
        _, main, rest = text.partition('id="main-panel"')
        text = html.unescape(_TAGS.sub(" ", f"<{rest}" if main else text))
    return " ".join(text.split()) or answer.reason or ""


def _inside(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    for inner in (getattr(error, "reason", None), *error.args):
        if isinstance(inner, BaseException):
            found += [inner, *_inside(inner)]
    return found


def _short(inside: list[BaseException]) -> str:
    text = " ".join(map(str, inside))
    if "refused" in text:
        return "connection refused"
    if "resolve" in text or "Name or service" in text:
        return "its host's name is not known"
    return "no connection"


def _tls(words: str) -> str:
    found = re.search(r"certificate verify failed: ([^(]{1,120})|\[SSL: (\w{1,60})", words)
    return (found[1] or found[2]).strip() if found else words
