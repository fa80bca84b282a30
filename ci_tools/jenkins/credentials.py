"""Who we are to a controller: from the environment, netrc or the keyring, never a file here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from ci_tools.errors import CredentialsError

USER, TOKEN = "JENKINS_USER", "JENKINS_TOKEN"
HOW = (
    f"Set {USER} and {TOKEN} (an API token: your page in Jenkins, Security), write the "
    "controller's host into ~/.netrc, or run 'keyring set URL USER'"
)


class Credentials(NamedTuple):
    """source: where they were found, for messages. The token is in no text of ours."""

    user: str
    token: str
    source: str

    def __repr__(self) -> str:
        return f"Credentials({self.user!r}, '***', {self.source!r})"

    def hidden(self, text: str) -> str:
        """Text of somebody else's, without our token."""
        return text.replace(self.token, "***")


def find(url: str, environment: Mapping[str, str] | None = None) -> Credentials | None:
    """Those for a controller, None where there are none: then we are anonymous.

    url: without a slash at its end; the keyring's service has this name.

    Raises CredentialsError for half of a pair, or what no header can carry.
    """
    environment = os.environ if environment is None else environment
    user, token = environment.get(USER, "").strip(), environment.get(TOKEN, "").strip()
    if token and not user:
        raise CredentialsError(f"{TOKEN} is set and {USER} is not", f"Set {USER}, too")
    found = None
    if token:
        found = Credentials(user, token, f"${TOKEN}")
    found = found or _of_netrc(url, user) or _of_keyring(url, user)
    if user and found is None:
        raise CredentialsError(f"there is no token for Jenkins' user '{user}'", HOW)
    if found and not (found.token.isprintable() and found.user.isprintable()):
        raise CredentialsError(
            f"Jenkins' user or token from {found.source} holds a line end or a control character",
            "Take them anew from Jenkins",
        )
    return found


def _of_netrc(url: str, user: str) -> Credentials | None:
    from requests.utils import get_netrc_auth

    pair = get_netrc_auth(url)
    if not pair or not pair[1] or (user and pair[0] != user):
        return None
    return Credentials(pair[0], pair[1], "netrc")


def _of_keyring(url: str, user: str) -> Credentials | None:
    import keyring
    import keyring.errors

    try:
        found = keyring.get_credential(url, user or None)
    except (keyring.errors.KeyringError, RuntimeError, OSError):
        return None  # locked, or no keyring on this machine
    if found is None or not found.username or not found.password:
        return None
    return Credentials(found.username, found.password, "the keyring")
