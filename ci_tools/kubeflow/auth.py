"""Who we are to a Kubeflow server: headers for each request, renewed when refused.

`ci.yaml` names variables and files, never a secret. What they hold goes into
headers and nowhere else: no sentence of ours shows it.
"""

from __future__ import annotations

import html
import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

from ci_tools import config
from ci_tools.errors import CredentialsError
from ci_tools.kubeflow import declared

TOKEN_ENV = "KFP_TOKEN"  # noqa: S105 - the name of a variable
# Where kfp's ServiceAccountTokenVolumeCredentials looks, and Kubeflow's PodDefault
# mounts a token of audience pipelines.kubeflow.org, which the kubelet renews.
SERVICE_ACCOUNT = Path("/var/run/secrets/kubeflow/pipelines/token")

# Visible ASCII: it becomes part of a header, which a line end would split in two.
_TOKEN = re.compile(r"[\x21-\x7e]+")
# RFC 6265's cookie-string, a little wider in its values, as browsers send it.
_PAIR = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+=[\x20-\x3a\x3c-\x7e]*"
_COOKIES = re.compile(rf"{_PAIR}(; *{_PAIR})*;?")
_SHORTEST = 8  # characters of a cookie's value that may be a secret


class Credentials:
    """Headers that show who asks. Safe with threads.

    obtain:  reads or makes the headers; raises CredentialsError, ConfigError, Away.
    what:    what they are and where they are from, for sentences.
    trouble: what is wrong with them when they are refused.
    remedy:  what to do then.
    """

    def __init__(
        self, obtain: Callable[[], Mapping[str, str]], *, what: str, trouble: str, remedy: str
    ) -> None:
        self._obtain = obtain
        self.what, self.trouble, self.remedy = what, trouble, remedy
        self._lock = threading.Lock()
        self._headers: Mapping[str, str] | None = None
        self._secrets: set[str] = set()

    def headers(self) -> Mapping[str, str]:
        """What is shown now. Raises as `obtain`, the first time."""
        with self._lock:
            return self._obtained() if self._headers is None else self._headers

    def renew(self, refused: Mapping[str, str]) -> bool:
        """Whether there are others than `refused`, which are obtained anew for that.

        Of many threads that were refused at once the first renews for all.
        """
        with self._lock:
            if self._headers == refused:
                self._obtained()
            return self._headers != refused

    def hidden(self, text: str) -> str:
        """A server's text, in which it may have repeated our secrets, without them."""
        with self._lock:
            secrets = list(self._secrets)
        return hidden(text, secrets)

    def _obtained(self) -> Mapping[str, str]:
        self._headers = self._obtain()
        for name, value in self._headers.items():
            if name == "cookie":
                values = (cookie.partition("=")[2].strip() for cookie in value.split(";"))
                self._secrets.update(it for it in values if len(it) >= _SHORTEST)
            else:
                self._secrets.add(value.partition(" ")[2])
        return self._headers


def hidden(text: str, secrets: Iterable[str]) -> str:
    """Text without the secrets, however it spells them: in an address, a page, JSON, Python."""
    spellings = {
        spelling
        for it in secrets
        for spelling in (
            it,
            quote(it),
            quote(it, safe=""),
            html.escape(it),
            json.dumps(it)[1:-1],
            repr(it)[1:-1],
        )
    }
    for spelling in sorted(spellings, key=len, reverse=True):
        text = text.replace(spelling, "***")
    return text


def chosen(settings: config.KubeflowServer) -> Credentials:
    """The credentials that are declared, or those that are at hand. Asks nobody yet."""
    where = f" for namespace '{settings.namespace}'" if settings.namespace else ""
    if settings.dex:
        return _dex(settings, settings.dex, where)
    if settings.cookies_env or settings.cookies_file:
        return _cookies(settings, where)
    if file := settings.token_file:
        return bearer(
            lambda: declared.secret("token_file", declared.place("token_file", file)),
            what=f"the bearer token in the file {file}",
            remedy=f"Let a valid token{where} be written to that file",
        )
    name = settings.token_env or TOKEN_ENV
    remedy = f"Set the environment variable {name} to a valid token{where}"
    if token := os.environ.get(name, "").strip():
        return bearer(lambda: token, what=f"the bearer token in ${name}", remedy=remedy)
    if settings.token_env is None and declared.readable(SERVICE_ACCOUNT):
        return bearer(
            lambda: declared.secret("token_file", SERVICE_ACCOUNT),
            what=f"the service account's token ({SERVICE_ACCOUNT})",
            remedy=f"Allow this pod's service account to use pipelines{where}, and see that its "
            "token has the audience pipelines.kubeflow.org",
        )
    return Credentials(
        dict,
        what="requests without credentials",
        trouble=f"no credentials were given (${name} is not set)",
        remedy=f"{remedy}, or declare token_file, cookies_env or dex of 'kubeflow' in ci.yaml",
    )


def bearer(read: Callable[[], str], *, what: str, remedy: str) -> Credentials:
    """A token. read: gets it; the others: see `Credentials`."""

    def obtain() -> Mapping[str, str]:
        token = read().strip()
        if not _TOKEN.fullmatch(token):
            raise CredentialsError(_malformed(what, token, "spaces"), remedy)
        return {"authorization": f"Bearer {token}"}

    return Credentials(obtain, what=what, trouble=f"{what} has expired or is wrong", remedy=remedy)


def cookies(read: Callable[[], str], *, what: str, remedy: str) -> Credentials:
    """Cookies, as the text of a Cookie header. read: gets it; the others: see `Credentials`."""

    def obtain() -> Mapping[str, str]:
        text = read().strip()
        if not _COOKIES.fullmatch(text):
            raise CredentialsError(
                _malformed(what, text, "other things than 'name=value; name=value'"), remedy
            )
        return {"cookie": text}

    return Credentials(obtain, what=what, trouble=f"{what} has expired or is wrong", remedy=remedy)


def _malformed(what: str, text: str, wrong: str) -> str:
    """Never with the text itself."""
    if not text:
        return f"{what} is empty"
    return f"{what} holds line ends, {wrong} or characters outside of ASCII"


def _cookies(settings: config.KubeflowServer, where: str) -> Credentials:
    remedy = f"Log in{where} with a browser and copy the text of its Cookie header anew"
    if file := settings.cookies_file:
        return cookies(
            lambda: declared.secret("cookies_file", declared.place("cookies_file", file)),
            what=f"the session cookie in the file {file}",
            remedy=f"{remedy} into that file",
        )
    name = str(settings.cookies_env)
    return cookies(
        lambda: os.environ.get(name, ""),
        what=f"the session cookie in ${name}",
        remedy=f"{remedy} into the environment variable {name}",
    )


def _dex(settings: config.KubeflowServer, dex: config.DexLogin, where: str) -> Credentials:
    what = f"the session of the Dex user in ${dex.user_env}"
    remedy = f"Set {dex.user_env} and {dex.password_env} to a user of Dex with access{where}"

    def obtain() -> Mapping[str, str]:
        from ci_tools.kubeflow import login_dex

        user, password = (os.environ.get(it, "") for it in (dex.user_env, dex.password_env))
        if not user or not password:
            name = dex.password_env if user else dex.user_env
            raise CredentialsError(f"the environment variable {name} is not set", remedy)
        return {"cookie": login_dex.session_cookies(settings, dex, user, password)}

    return Credentials(
        obtain, what=what, trouble=f"{what} is refused right after its login", remedy=remedy
    )
