"""Who we are to a Kubeflow server: headers for each request, renewed when refused.

`ci.yaml` names variables and files, never a secret. What they hold goes into
headers and nowhere else: no sentence of ours shows it.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Mapping

from ci_tools import config
from ci_tools.errors import CredentialsError

_TOKEN = re.compile(r"[\x21-\x7e]+")  # visible ASCII: it becomes a part of a header


class Credentials:
    """Headers that show who asks. Safe with threads.

    obtain:  reads or makes the headers; raises CredentialsError.
    what:    what they are and where they are from, for sentences.
    trouble: what is wrong with them when they are refused.
    remedy:  what to do then.
    """

    def __init__(
        self,
        obtain: Callable[[], Mapping[str, str]],
        *,
        what: str,
        trouble: str,
        remedy: str,
    ) -> None:
        self._obtain = obtain
        self.what, self.trouble, self.remedy = what, trouble, remedy
        self._lock = threading.Lock()
        self._headers: Mapping[str, str] | None = None
        self._secrets: set[str] = set()

    def headers(self) -> Mapping[str, str]:
        """What is shown now. Raises CredentialsError when there is nothing to show."""
        with self._lock:
            return self._headers if self._headers is not None else self._obtained()

    def renew(self, refused: Mapping[str, str]) -> bool:
        """Whether there are others than `refused`; they are obtained at most once.

        Of many threads that were refused at once the first renews for all.
        """
        with self._lock:
            if self._headers == refused:
                self._obtained()
            return self._headers != refused

    def hidden(self, text: str) -> str:
        """A server's text, in which it may have repeated our secrets, without them."""
        with self._lock:
            secrets = sorted(self._secrets, key=len, reverse=True)
        for secret in secrets:
            text = text.replace(secret, "***")
        return text

    def _obtained(self) -> Mapping[str, str]:
        self._headers = self._obtain()
        for value in self._headers.values():
            self._secrets.update(it for it in re.split(r"[\s;=]+", value) if len(it) > 7)
        return self._headers


def chosen(settings: config.KubeflowServer) -> Credentials:
    """The credentials that are declared. Reads nothing yet."""
    name = settings.token_env
    token = os.environ.get(name, "")
    remedy = f"Set the environment variable {name} to a valid token" + (
        f" for namespace '{settings.namespace}'" if settings.namespace else ""
    )
    if not token:
        return Credentials(
            dict, what="no credentials", trouble="no credentials were given", remedy=remedy
        )
    return bearer(lambda: token, f"the bearer token in ${name}", remedy)


def bearer(read: Callable[[], str], what: str, remedy: str) -> Credentials:
    """A token. read: gets it; what, remedy: see `Credentials`."""

    def obtain() -> Mapping[str, str]:
        token = read().strip()
        if not _TOKEN.fullmatch(token):
            raise CredentialsError(
                f"{what} is empty or holds spaces, line ends or other characters that no token has",
                remedy,
            )
        return {"authorization": f"Bearer {token}"}

    return Credentials(obtain, what=what, trouble=f"{what} has expired or is wrong", remedy=remedy)
